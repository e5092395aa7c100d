"""Polls of a venue's REST interface: option chains, splits, and news where no socket brings it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from connectors.ingest.connection import now_ms
from connectors.ingest.stream_run import StreamRun
from connectors.venues.http import RefusedError, UnavailableError
from models.messages import News, OptionSummary

log = logging.getLogger("ingest")


async def poll(every_s: float, ask: Callable[[], Awaitable[None]], what: str, stop: asyncio.Event) -> None:
    """Poll repeatedly; a failure is logged and never ends the poll, a refusal does."""
    while not stop.is_set():
        try:
            await ask()
        except UnavailableError as error:
            log.warning("%s: %s", what, error)
        except (RefusedError, NotImplementedError, ValueError) as error:
            log.error("%s: stopped: %s", what, error)
            return
        try:
            async with asyncio.timeout(every_s):
                await stop.wait()
        except TimeoutError:
            continue


def polls(run: StreamRun, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
    """The polls a venue's settings ask for: option chains, and news where no socket brings it."""
    settings, ingest, history = run.settings, run.ingest, run.history

    async def chain(underlying: str) -> None:
        summary: OptionSummary = await history.options(underlying, now_ms())
        ingest.accept([summary], now_ms())

    async def news(symbols: list[str], since: dict[str, int]) -> None:
        until = now_ms()
        found: list[News] = await history.news(symbols, since["ms"], until)
        ingest.accept(list(found), now_ms())
        since["ms"] = until - 3_600_000  # edits and late stories; repeats are dropped by id

    wanted: list[Coroutine[Any, Any, None]] = [
        poll(settings.options_every_s, lambda symbol=underlying: chain(symbol), f"options of {underlying}", stop)  # type: ignore[misc]
        for underlying in settings.options
    ]
    symbols = getattr(settings, "news", [])
    if symbols and settings.capabilities.news == "poll":
        since = {"ms": now_ms() - 24 * 3_600_000}
        wanted.append(poll(settings.news_every_s, lambda: news(symbols, since), f"{ingest.source} news", stop))

    async def splits() -> None:
        ingest.accept(list(await history.splits(settings.symbols, now_ms())), now_ms())

    if settings.splits_every_s and settings.capabilities.splits:
        wanted.append(poll(settings.splits_every_s, splits, f"{ingest.source} splits", stop))
    return wanted
