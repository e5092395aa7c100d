"""Ingestion: every source at once in one asyncio process, into Kafka. No Flink.

    venue sockets ──> Connection ──> StreamIngest (parse, dedupe, score, gaps) ──> Publisher ──> market-data-*
    Kafka feeds ───────────────────> StreamIngest                                         status, dead-letter
    REST history <── gaps, polls (options, news) ── fill ──> StreamIngest

Each stream has a supervisor: it reconnects with backoff (reset only by data), lets two connections overlap when one
is about to be cut and the venue allows it, and stops only when the venue refuses the key or plan. One stream's
end never ends another's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any

from connectors.ingest import metrics
from connectors.ingest.backfill import fill_gaps, watch_gaps
from connectors.ingest.connection import Connection, Ending, FatalError, now_ms
from connectors.ingest.cross_check import check_bars
from connectors.ingest.dedupe import Dedupe
from connectors.ingest.feeds import KafkaFeed, follow_feed
from connectors.ingest.polls import polls
from connectors.ingest.report import report_venues
from connectors.ingest.resume import resume
from connectors.ingest.sentiment import scorer
from connectors.ingest.stream_ingest import Sink, StreamIngest
from connectors.ingest.stream_run import TICK_S, StreamRun
from connectors.kafka.publisher import Publisher
from connectors.settings.ingest import Base
from connectors.venues.backoff import Backoff
from connectors.venues.base import Stream, VenueSettings
from models.events import Disconnected, Refused
from models.trade.calendar import calendar

log = logging.getLogger("ingest")
#: Gaps of a stream filled at a time.
_FILLERS = 4

#: What runs as a task.
Work = Coroutine[Any, Any, None]


async def keep_connected(run: StreamRun, stop: asyncio.Event, rng: random.Random | None = None) -> None:
    """Keep one stream connected until ``stop``, or until the venue refuses for good."""
    limits, ingest = run.settings, run.ingest
    backoff = Backoff(limits.backoff_min_s, limits.backoff_max_s, rng)
    connection, task = _open(run)
    while True:
        expiring = asyncio.create_task(connection.expiring.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({task, expiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
        expiring.cancel()
        stopping.cancel()
        if stop.is_set():
            connection.stop()
            await asyncio.gather(task, return_exceptions=True)
            return
        if not task.done():  # it will be cut: start a successor next to it, where the venue allows two
            _count_reconnect(run, "replaced")
            if run.stream.adapter.overlaps:
                connection, task = await _succeed(run, connection, task)
                continue
            connection.stop()
        try:
            ending = await task
        except FatalError as error:
            run.fatal = str(error)
            log.error("%s", error)
            ingest.publish_event(Refused, now_ms(), str(error))
            return
        if connection.live.is_set():
            backoff.reset()
        ingest.lost(now_ms())
        pause = _pause_s(ending, limits, backoff)
        log.warning("%s: %s; again in %.2f s", run.stream.name, ending.reason, pause)
        ingest.publish_event(Disconnected, now_ms(), ending.reason, again_in_s=round(pause, 3))
        _count_reconnect(run, "cool_down" if ending.cool_down else "lost")
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
            return
        except TimeoutError:
            connection, task = _open(run, connection.channels)


def _count_reconnect(run: StreamRun, reason: str) -> None:
    run.ingest.reconnects += 1
    for channel in run.stream.counted:
        metrics.RECONNECTS.labels(run.ingest.source, channel, reason).inc()


def _open(run: StreamRun, channels: dict[str, list[str]] | None = None) -> tuple[Connection, asyncio.Task[Ending]]:
    stream = run.stream
    if channels is not None:  # what a symbol limit left is what is asked for again
        stream = Stream(stream.name, stream.adapter, channels)
    connection = Connection(stream, run.settings, run.ingest, TICK_S)
    return connection, asyncio.create_task(connection.run())


async def _succeed(
    run: StreamRun, old: Connection, old_task: asyncio.Task[Ending]
) -> tuple[Connection, asyncio.Task[Ending]]:
    """Open a successor, wait until it has data, then end the old connection."""
    new, new_task = _open(run, old.channels)
    live = asyncio.create_task(new.live.wait())
    await asyncio.wait({live, new_task}, timeout=run.settings.overlap_s, return_when=asyncio.FIRST_COMPLETED)
    live.cancel()
    old.stop()
    await asyncio.gather(old_task, return_exceptions=True)
    return new, new_task


def _pause_s(ending: Ending, limits: VenueSettings, backoff: Backoff) -> float:
    pause = backoff.next_s()
    return max(pause, ending.after_s, limits.cool_down_s) if ending.cool_down else pause


async def _flush_often(sink: Sink, stop: asyncio.Event) -> None:
    while not stop.is_set():
        sink.poll()
        await asyncio.sleep(TICK_S)


def streams_of(settings: Base, sink: Sink) -> list[StreamRun]:
    """Every stream of the chosen venues, with its ingest and history."""
    found = []
    for name in settings.venues:
        venue = settings.venue(name)
        history = venue.history()
        for stream in venue.streams():
            ingest = StreamIngest(
                stream, venue, sink, calendar(venue.calendar), now_ms(), scorer(settings.sentiment), settings.bars.use
            )
            found.append(StreamRun(stream, venue, ingest, history, asyncio.Queue()))
    return found


async def run(settings: Base, stop: asyncio.Event, sink: Sink | None = None) -> list[str]:
    """Ingest until ``stop``; returns the refusals met. Raises SettingsError if something is missing.

    With a sink of the caller's own, the broker is not read: no resumption, no check of bars.
    """
    settings.require()
    own = sink is None
    sink = sink or Publisher(settings.kafka)
    streams = streams_of(settings, sink)
    feeds = [KafkaFeed(path) for path in settings.feeds]
    dedupes = {feed.source: Dedupe() for feed in feeds}
    if own and settings.resume:
        await resume(streams, dedupes, settings.kafka, settings.resume_records)
    score = scorer(settings.sentiment)
    work = [keep_connected(stream, stop) for stream in streams]
    work += [follow_feed(feed, settings.kafka, sink, stop, dedupes[feed.source], score) for feed in feeds]
    helpers = [watch_gaps(stream, stop) for stream in streams]
    helpers += [fill_gaps(stream) for stream in streams for _ in range(_FILLERS)]
    helpers += _polls_per_venue(streams, stop)
    helpers.append(_flush_often(sink, stop))
    if settings.redis:
        helpers.append(report_venues(streams, settings.redis, stop))
    if own:
        helpers.append(check_bars(settings.kafka, stop))
    try:
        await _until_done(work, helpers, stop)
    finally:
        for history in {id(stream.history): stream.history for stream in streams}.values():
            await history.close()
        sink.flush()
    return [stream.fatal for stream in streams if stream.fatal]


def _polls_per_venue(streams: list[StreamRun], stop: asyncio.Event) -> list[Work]:
    """One set of polls per venue, not per stream."""
    first: dict[str, StreamRun] = {}
    for stream in streams:
        first.setdefault(stream.ingest.source, stream)
    return [poll for stream in first.values() for poll in polls(stream, stop)]


async def _until_done(work: list[Work], helpers: list[Work], stop: asyncio.Event) -> None:
    """Run all; return when ``work`` is done. The first error of either is raised as it is, and ends the others.

    Helpers never end by themselves, and errors reach the caller unwrapped: that is why this is no ``TaskGroup``.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    helping = [asyncio.ensure_future(one) for one in helpers]
    guard, done = asyncio.gather(*helping), asyncio.gather(*tasks)
    try:
        await asyncio.wait({guard, done}, return_when=asyncio.FIRST_COMPLETED)
        if guard.done():
            guard.result()
        await done
    finally:
        stop.set()
        for task in [*tasks, *helping]:
            task.cancel()
        await asyncio.gather(*tasks, *helping, guard, done, return_exceptions=True)
