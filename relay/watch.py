"""Polls Flink and Kafka for the system page, in a thread, so that a slow answer delays nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.concurrency import run_in_threadpool

from connectors.kafka.lag import GroupLag, KafkaLag
from relay.flink_status import FlinkStatus, JobStatus
from relay.settings import RelaySettings

log = logging.getLogger("relay.watch")


class Watch:
    """The last answers of each; ``None`` where the relay was given no address.

    A failed request leaves an error message for the page (addresses go to the log only) and no old figures.
    """

    def __init__(self, settings: RelaySettings) -> None:
        self._every_s = settings.watch_every_s
        self._flink = [FlinkStatus(url) for url in settings.flink_urls]
        self._kafka = KafkaLag(settings.kafka, settings.kafka_groups) if settings.kafka else None
        self.jobs: list[JobStatus] | None = [] if self._flink else None
        self.groups: list[GroupLag] | None = [] if self._kafka else None
        self.errors: dict[str, str] = {}
        self.read_ms: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start, if there is anything to poll."""
        if self._flink or self._kafka:
            self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for one in self._flink:
            one.close()
        if self._kafka is not None:
            self._kafka.close()

    def report(self) -> dict[str, Any]:
        """What the system page shows: ``jobs`` and ``groups`` (null: no address given), ``errors``, ``read_ms``."""
        return {"jobs": self.jobs, "groups": self.groups, "errors": self.errors, "read_ms": self.read_ms}

    async def _run(self) -> None:
        while True:
            jobs, groups, errors = await run_in_threadpool(self._look)
            for part, texts in errors.items():
                if part not in self.errors:
                    log.warning("%s", "; ".join(texts))
            mute = f"{len(errors.get('flink', []))} of {len(self._flink)} Flink addresses do not answer"
            words = {"flink": mute if len(self._flink) > 1 else "Flink does not answer",
                     "kafka": "Kafka gives no offsets"}  # fmt: skip
            self.jobs, self.groups, self.errors = jobs, groups, {part: words[part] for part in errors}
            self.read_ms = int(time.time() * 1_000)
            await asyncio.sleep(self._every_s)

    def _look(self) -> tuple[list[JobStatus] | None, list[GroupLag] | None, dict[str, list[str]]]:
        errors: dict[str, list[str]] = {}
        jobs: list[JobStatus] | None = [] if self._flink else None
        for one in self._flink:
            try:
                jobs = [*(jobs or []), *one.read()]
            except ConnectionError as error:
                errors.setdefault("flink", []).append(str(error))
        groups: list[GroupLag] | None = None
        if self._kafka is not None:
            groups = []
            try:
                groups = self._kafka.read()
            except ConnectionError as error:
                errors["kafka"] = [str(error)]
        return jobs, groups, errors
