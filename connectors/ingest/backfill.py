"""Backfill: gaps of a stream, declared when due and filled from the venue's history."""

from __future__ import annotations

import asyncio
import logging

from connectors.ingest.connection import now_ms
from connectors.ingest.gaps import Gap
from connectors.ingest.stream_run import TICK_S, StreamRun
from connectors.venues.backoff import Backoff
from connectors.venues.history import History
from connectors.venues.http import RefusedError, UnavailableError
from models.messages import Message

log = logging.getLogger("ingest")
#: Attempts to fill a gap while the venue's history does not answer.
_FILL_TRIES = 5


async def watch_gaps(run: StreamRun, stop: asyncio.Event) -> None:
    """Declare gaps that are due and pass them to the filler."""
    while not stop.is_set():
        run.ingest.note_ages(now_ms())
        for gap in run.ingest.gaps(now_ms()):
            if run.settings.backfill:
                run.gaps.put_nowait(gap)
        await asyncio.sleep(TICK_S)


async def fill_gaps(run: StreamRun) -> None:
    """Fill one gap after the other from the venue's history."""
    while True:
        gap = await run.gaps.get()
        await _fill(run, gap)
        run.gaps.task_done()


async def _fill(run: StreamRun, gap: Gap) -> None:
    backoff = Backoff(0.2, 30)
    published = failures = 0
    parts = list(gap.parts())
    while parts:
        try:
            messages = await _fetch(run.history, parts[0])
        except (NotImplementedError, RefusedError, ValueError) as error:
            log.warning(
                "%s: gap in %s of %s cannot be filled: %s", run.stream.name, gap.channel, gap.symbol, error,
                extra={"venue": run.ingest.source, "symbol": gap.symbol},
            )  # fmt: skip
            run.ingest.give_up(gap, str(error), now_ms())
            return
        except UnavailableError as error:
            failures += 1
            if failures == _FILL_TRIES:
                run.ingest.give_up(gap, str(error), now_ms())
                return
            await asyncio.sleep(backoff.next_s())
            continue
        published += run.ingest.fill(gap, messages, now_ms())
        parts.pop(0)
    run.ingest.close(gap, published, now_ms())


async def _fetch(history: History, gap: Gap) -> list[Message]:
    if gap.numbering == "ids":
        return list(await history.trades_by_id(gap.symbol, gap.first, gap.last))
    if gap.channel == "news":
        return list(await history.news(["*"], gap.first, gap.last))
    if gap.channel == "bars":
        return list(await history.bars(gap.symbol, "1m", gap.first, gap.last))
    if gap.channel in ("quotes", "ticker"):
        return list(await history.quotes(gap.symbol, gap.first, gap.last))
    return list(await history.trades(gap.symbol, gap.first, gap.last))
