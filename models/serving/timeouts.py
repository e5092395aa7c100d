"""Running models that may raise or hang without hanging with them.

All models of a batch run one after the other on one worker thread (one hand-off per batch, some 20 us). When a model
exceeds its time, the caller gives it up, leaves that thread behind and lets a new one do the rest; the model stays
skipped until its stuck call returns.

>>> runner = Runner()
>>> runner.run([("a", lambda: 1), ("b", lambda: 1 / 0)], timeout_s=1.0)
({'a': 1}, {'b': 'raised ZeroDivisionError: division by zero'})
>>> runner.close()
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

Call = tuple[str, Callable[[], Any]]


class _Batch:
    """One batch's calls and what came of them, shared by the caller and the worker under ``lock``."""

    def __init__(self, calls: Sequence[Call], stuck: dict[str, float]) -> None:
        self.calls = calls
        self.stuck = stuck
        self.results: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.current = ""
        self.started_s = 0.0
        self.abandoned = False
        self.lock = threading.Lock()
        self.done = threading.Lock()  # held until the batch is done: cheaper to wait for than an Event
        self.done.acquire()

    def run(self) -> None:
        for name, call in self.calls:
            self.current, self.started_s = name, time.monotonic()
            result, error = None, ""
            try:
                result = call()
            except Exception as raised:
                error = f"raised {type(raised).__name__}: {raised}"
            with self.lock:
                if self.abandoned:
                    self.stuck.pop(name, None)
                    return
                if error:
                    self.errors[name] = error
                else:
                    self.results[name] = result
                self.current = ""
        self.done.release()

    def abandon_if_late(self, timeout_s: float) -> str:
        """The model that has been running longer than ``timeout_s``, now given up; "" if none is late."""
        with self.lock:
            if not self.current or time.monotonic() - self.started_s < timeout_s:
                return ""
            self.abandoned = True
            self.stuck[self.current] = self.started_s
            return self.current


class Runner:
    """Runs named calls with a time limit each. For one caller at a time; ``close`` ends its thread."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Batch | None] | None = None
        self._stuck: dict[str, float] = {}

    def run(self, calls: Sequence[Call], timeout_s: float) -> tuple[dict[str, Any], dict[str, str]]:
        """Results by name, and for each name without one the reason."""
        results: dict[str, Any] = {}
        errors: dict[str, str] = {}
        todo = []
        for name, call in calls:
            since = self._stuck.get(name)
            if since is None:
                todo.append((name, call))
            else:
                errors[name] = f"timed out: a call made {time.monotonic() - since:.0f} s ago has not returned"
        while todo:
            batch = _Batch(todo, self._stuck)
            self._worker().put(batch)
            late = ""
            while not late and not batch.done.acquire(timeout=timeout_s):
                late = batch.abandon_if_late(timeout_s)
            results |= batch.results
            errors |= batch.errors
            if not late:
                break
            self._queue = None
            errors[late] = f"timed out after {timeout_s * 1000:.0f} ms"
            todo = todo[[name for name, _ in todo].index(late) + 1 :]
        return results, errors

    def close(self) -> None:
        """Ends the worker thread once its queue is empty."""
        if self._queue is not None:
            self._queue.put(None)
            self._queue = None

    def _worker(self) -> queue.SimpleQueue[_Batch | None]:
        if self._queue is None:
            self._queue = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._queue,), name="models", daemon=True).start()
        return self._queue


def _serve(batches: queue.SimpleQueue[_Batch | None]) -> None:
    while (batch := batches.get()) is not None:
        batch.run()
        if batch.abandoned:
            return
