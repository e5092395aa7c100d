"""Run ingestion against simulators and wait for what it publishes, in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from connectors.ingest import supervisor
from connectors.settings import ingest as settings_of
from models.events import Event, decode_event
from models.messages import Bar, DeadLetter, Message, Trade, encode
from simulators.base import Simulator


class Collected:
    """A sink that keeps what it gets; events as a reader of their bytes has them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.letters: list[DeadLetter] = []
        self.checks: list[Message] = []

    def publish(self, message: Message, topic: str | None = None) -> None:
        """Keep a message."""
        if isinstance(message, Event):
            message = decode_event(encode(message))
        (self.checks if topic else self.messages).append(message)

    def dead(self, letter: DeadLetter, time_ms: int) -> None:
        """Keep a dead letter."""
        self.letters.append(letter)

    def poll(self) -> None:
        """Nothing waits."""

    def flush(self, timeout_s: float = 0) -> None:
        """Nothing waits."""

    @property
    def trade_ids(self) -> list[int]:
        """Ids of trades as published."""
        return [int(m.trade_id) for m in self.messages if isinstance(m, Trade) and m.kind == "new"]

    @property
    def bars(self) -> list[Bar]:
        """Bars as published."""
        return [m for m in self.messages if isinstance(m, Bar)]

    def events(self, *kinds: type[Event]) -> list[Event]:
        """Events of these kinds."""
        return [m for m in self.messages if isinstance(m, kinds)]


#: Patience that suits loopback.
QUICK: dict[str, Any] = {
    "calendar": "24/7", "connect_timeout_s": 2, "handshake_timeout_s": 2, "ping_interval_s": 5, "ping_timeout_s": 5,
    "backoff_min_s": 0.02, "backoff_max_s": 0.2, "cool_down_s": 0.5, "wait_s": 0.02, "stale_s": {}, "reorder_ms": 150,
    "margin_ms": 1000, "overlap_s": 1,
}  # fmt: skip


def settings(simulator: Simulator, venue: str, **options: Any) -> settings_of.Base:
    """Settings that point one venue at its simulator."""
    section = QUICK | {"host": simulator.ws, "rest": simulator.rest, "symbols": ["AAPL"]}
    if venue in ("alpaca", "polygon"):
        section["key"] = "key"
    if venue == "alpaca":
        section["secret"] = "secret"
    section |= {"channels": ["trades", "bars"]} | options
    return settings_of.load(None, venues=[venue], **{venue: section})


async def until(condition: Callable[[], Any], timeout_s: float = 15, what: str = "") -> None:
    """Wait until something holds; AssertionError after the time limit."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or condition}"
        await asyncio.sleep(0.01)


class Running:
    """A running ingestion: its sink and, once ended, the refusals."""

    def __init__(self, sink: Collected, task: asyncio.Task[list[str]], stop: asyncio.Event) -> None:
        self.sink, self.task, self.stop = sink, task, stop


@contextlib.asynccontextmanager
async def ingesting(config: settings_of.Base) -> AsyncIterator[Running]:
    """Ingest while the block runs."""
    sink, stop = Collected(), asyncio.Event()
    task = asyncio.create_task(supervisor.run(config, stop, sink))
    try:
        yield Running(sink, task, stop)
        if task.done():
            task.result()
    finally:
        stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await task
