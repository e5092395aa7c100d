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
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from connectors.ingest import metrics
from connectors.ingest.connection import Connection, Ending, FatalError, now_ms
from connectors.ingest.cross_check import CrossCheck
from connectors.ingest.dedupe import Dedupe
from connectors.ingest.feeds import KafkaFeed
from connectors.ingest.gaps import Gap
from connectors.ingest.sentiment import Scorer, scorer, text_of
from connectors.ingest.stream_ingest import CHECK_TOPIC, Sink, StreamIngest
from connectors.kafka.publisher import Publisher
from connectors.kafka.read import read_to_end
from connectors.kafka.security import kafka_client
from connectors.redis.client import connect
from connectors.redis.status import SystemStatus
from connectors.settings.ingest import Base
from connectors.venues.backoff import Backoff
from connectors.venues.base import Stream, VenueSettings
from connectors.venues.history import History
from connectors.venues.http import RefusedError, UnavailableError
from models.dead_letters import dead_letter
from models.events import Disconnected, Event, Refused
from models.messages import TOPICS, Bar, Message, News, OptionSummary, Quote, Trade, decode
from models.trade.calendar import calendar

log = logging.getLogger("ingest")
_TICK_S = 0.1
#: Attempts to fill a gap while the venue's history does not answer, and gaps of a stream filled at a time.
_FILL_TRIES, _FILLERS = 5, 4
#: Attempts to read a topic at the start.
_RESUME_TRIES = 10
#: Topics whose newest records show where ingestion was before a restart.
RESUMED = {kind: TOPICS[kind] for kind in (Trade, Quote, Bar, News, OptionSummary, Event)}


@dataclass
class Held:
    """A stream and what belongs to it."""

    stream: Stream
    settings: VenueSettings
    ingest: StreamIngest
    history: History
    gaps: asyncio.Queue[Gap]
    fatal: str = ""


async def hold(held: Held, stop: asyncio.Event, rng: random.Random | None = None) -> None:
    """Keep one stream connected until ``stop``, or until the venue refuses for good."""
    limits, ingest = held.settings, held.ingest
    backoff = Backoff(limits.backoff_min_s, limits.backoff_max_s, rng)
    connection, task = _open(held)
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
            _count_reconnect(held, "replaced")
            if held.stream.adapter.overlaps:
                connection, task = await _succeed(held, connection, task)
                continue
            connection.stop()
        try:
            ending = await task
        except FatalError as error:
            held.fatal = str(error)
            log.error("%s", error)
            ingest.publish_event(Refused, now_ms(), str(error))
            return
        if connection.live.is_set():
            backoff.reset()
        ingest.lost(now_ms())
        pause = _pause_s(ending, limits, backoff)
        log.warning("%s: %s; again in %.2f s", held.stream.name, ending.reason, pause)
        ingest.publish_event(Disconnected, now_ms(), ending.reason, again_in_s=round(pause, 3))
        _count_reconnect(held, "cool_down" if ending.cool_down else "lost")
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
            return
        except TimeoutError:
            connection, task = _open(held, connection.channels)


def _count_reconnect(held: Held, reason: str) -> None:
    held.ingest.reconnects += 1
    for channel in held.stream.counted:
        metrics.RECONNECTS.labels(held.ingest.source, channel, reason).inc()


def _open(held: Held, channels: dict[str, list[str]] | None = None) -> tuple[Connection, asyncio.Task[Ending]]:
    stream = held.stream
    if channels is not None:  # what a symbol limit left is what is asked for again
        stream = Stream(stream.name, stream.adapter, channels)
    connection = Connection(stream, held.settings, held.ingest, _TICK_S)
    return connection, asyncio.create_task(connection.run())


async def _succeed(
    held: Held, old: Connection, old_task: asyncio.Task[Ending]
) -> tuple[Connection, asyncio.Task[Ending]]:
    """Open a successor, wait until it has data, then end the old connection."""
    new, new_task = _open(held, old.channels)
    live = asyncio.create_task(new.live.wait())
    await asyncio.wait({live, new_task}, timeout=held.settings.overlap_s, return_when=asyncio.FIRST_COMPLETED)
    live.cancel()
    old.stop()
    await asyncio.gather(old_task, return_exceptions=True)
    return new, new_task


def _pause_s(ending: Ending, limits: VenueSettings, backoff: Backoff) -> float:
    pause = backoff.next_s()
    return max(pause, ending.after_s, limits.cool_down_s) if ending.cool_down else pause


async def watch_gaps(held: Held, stop: asyncio.Event) -> None:
    """Declare gaps that are due and pass them to the filler."""
    while not stop.is_set():
        held.ingest.note_ages(now_ms())
        for gap in held.ingest.gaps(now_ms()):
            if held.settings.backfill:
                held.gaps.put_nowait(gap)
        await asyncio.sleep(_TICK_S)


async def fill_gaps(held: Held) -> None:
    """Fill one gap after the other from the venue's history."""
    while True:
        gap = await held.gaps.get()
        await _fill(held, gap)
        held.gaps.task_done()


async def _fill(held: Held, gap: Gap) -> None:
    backoff = Backoff(0.2, 30)
    published = failures = 0
    parts = list(gap.parts())
    while parts:
        try:
            messages = await _fetch(held.history, parts[0])
        except (NotImplementedError, RefusedError, ValueError) as error:
            log.warning(
                "%s: gap in %s of %s cannot be filled: %s", held.stream.name, gap.channel, gap.symbol, error,
                extra={"venue": held.ingest.source, "symbol": gap.symbol},
            )  # fmt: skip
            held.ingest.give_up(gap, str(error), now_ms())
            return
        except UnavailableError as error:
            failures += 1
            if failures == _FILL_TRIES:
                held.ingest.give_up(gap, str(error), now_ms())
                return
            await asyncio.sleep(backoff.next_s())
            continue
        published += held.ingest.fill(gap, messages, now_ms())
        parts.pop(0)
    held.ingest.close(gap, published, now_ms())


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


def polls(held: Held, stop: asyncio.Event) -> list[Awaitable[None]]:
    """The polls a venue's settings ask for: option chains, and news where no socket brings it."""
    settings, ingest, history = held.settings, held.ingest, held.history

    async def chain(underlying: str) -> None:
        summary: OptionSummary = await history.options(underlying, now_ms())
        ingest.accept([summary], now_ms())

    async def news(symbols: list[str], since: dict[str, int]) -> None:
        until = now_ms()
        found: list[News] = await history.news(symbols, since["ms"], until)
        ingest.accept(list(found), now_ms())
        since["ms"] = until - 3_600_000  # edits and late stories; repeats are dropped by id

    wanted: list[Awaitable[None]] = [
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


async def resume(holds: list[Held], dedupes: dict[str, Dedupe], bootstrap: str, newest: int) -> None:
    """Read the newest records of our own topics, so that data missed while down becomes a gap and nothing doubles.

    ``dedupes`` are those of Kafka feeds, by source.
    """
    by_source: dict[str, list[StreamIngest]] = {}
    for held in holds:
        by_source.setdefault(held.ingest.source, []).append(held.ingest)
    from confluent_kafka import KafkaException

    count = 0

    def read(kind: type[Message], topic: str) -> None:
        nonlocal count
        for _, _, value in read_to_end(bootstrap, topic, committed_only=False, newest=newest):
            with contextlib.suppress(msgspec.DecodeError):
                message = decode(value, kind)
                for ingest in by_source.get(message.source, ()):
                    ingest.remember(message, now_ms())
                    count += 1
                if message.source in dedupes:
                    dedupes[message.source].new(message)

    for kind, topic in [*RESUMED.items(), (Bar, CHECK_TOPIC)]:
        for attempt in range(_RESUME_TRIES):
            try:
                await asyncio.to_thread(read, kind, topic)
                break
            except (ConnectionError, KafkaException):  # a new topic has no leader yet
                if attempt == _RESUME_TRIES - 1:
                    raise
                await asyncio.sleep(0.5)
    for held in holds:
        for gap in held.ingest.resume(now_ms()):
            held.gaps.put_nowait(gap)
    log.info("resumed from %d records of our own", count)


async def report_venues(holds: list[Held], url: str, stop: asyncio.Event) -> None:
    """Report each stream to the relay's system page, once per second."""
    client = connect(url)
    status = SystemStatus(client)
    try:
        while not stop.is_set():
            for held in holds:
                fields = held.ingest.report() | {"waiting_gaps": held.gaps.qsize()}
                await asyncio.to_thread(status.report, f"venue:{held.stream.name}", **fields)
            await asyncio.sleep(1)
    finally:
        client.close()


async def follow_feed(
    feed: KafkaFeed, bootstrap: str, sink: Sink, stop: asyncio.Event, dedupe: Dedupe, score: Scorer
) -> None:
    """Read a Kafka topic through its mapping. Offsets are committed after what they became is on the broker.

    A failed commit is covered by the next one: ``dedupe`` drops what is read again meanwhile.
    """
    from confluent_kafka import Consumer, KafkaException

    consumer = Consumer(
        kafka_client(
            feed.bootstrap or bootstrap,
            group_id=f"signals-feed-{feed.source}",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # The successor of a killed process waits this long for its partitions (45 s by default).
            session_timeout_ms=10_000,
        )
    )
    consumer.subscribe([feed.topic])
    try:
        while not stop.is_set():
            records = await asyncio.to_thread(consumer.consume, 1000, 0.2)
            for record in records:
                if record.error():
                    log.warning("feed %s: %s", feed.source, record.error())
                    continue
                parsed = feed.parse(record.value() or b"", now_ms())
                for message in parsed.messages:
                    fresh = dedupe.new(message)
                    if fresh is None:
                        metrics.DUPLICATES.labels(f"feed:{feed.source}", feed.topic).inc()
                        continue
                    if isinstance(fresh, News) and fresh.sentiment is None:
                        fresh = msgspec.structs.replace(fresh, sentiment=round(score(text_of(fresh)), 6))
                    sink.publish(fresh)
                    metrics.MESSAGES.labels(f"feed:{feed.source}", feed.topic).inc()
                for refused in parsed.rejects:
                    letter = dead_letter(
                        refused.payload, refused.reason, feed.topic, refused.field, record.partition(), record.offset()
                    )
                    sink.dead(letter, now_ms())
                    metrics.REJECTED.labels(f"feed:{feed.source}", feed.topic).inc()
            if records:
                await asyncio.to_thread(sink.flush)  # type: ignore[attr-defined]
                try:
                    await asyncio.to_thread(consumer.commit, asynchronous=False)
                except KafkaException as error:
                    log.warning("feed %s: offsets not committed: %s", feed.source, error)
    finally:
        consumer.close()


async def check_bars(bootstrap: str, stop: asyncio.Event) -> None:
    """Follow chosen and compared bars and keep the metrics of how they agree."""
    from confluent_kafka import Consumer

    consumer = Consumer(kafka_client(bootstrap, group_id="signals-bars-check", auto_offset_reset="latest"))
    consumer.subscribe([TOPICS[Bar], CHECK_TOPIC])
    check = CrossCheck()
    try:
        while not stop.is_set():
            for record in await asyncio.to_thread(consumer.consume, 1000, 0.2):
                if record.error():
                    continue
                with contextlib.suppress(msgspec.DecodeError):
                    check.see(decode(record.value() or b"", Bar))
    finally:
        consumer.close()


async def _flush_often(sink: Any, stop: asyncio.Event) -> None:
    while not stop.is_set():
        sink.poll()
        await asyncio.sleep(_TICK_S)


def streams(settings: Base, sink: Sink) -> list[Held]:
    """Every stream of the chosen venues, with its ingest and history."""
    found = []
    for name in settings.venues:
        venue = settings.venue(name)
        history = venue.history()
        for stream in venue.streams():
            ingest = StreamIngest(
                stream, venue, sink, calendar(venue.calendar), now_ms(), scorer(settings.sentiment), settings.bars.use
            )
            found.append(Held(stream, venue, ingest, history, asyncio.Queue()))
    return found


async def run(settings: Base, stop: asyncio.Event, sink: Publisher | None = None) -> list[str]:
    """Ingest until ``stop``; returns the refusals met. Raises SettingsError if something is missing."""
    settings.require()
    own = sink is None
    sink = sink or Publisher(settings.kafka)
    holds = streams(settings, sink)
    feeds = [KafkaFeed(path) for path in settings.feeds]
    dedupes = {feed.source: Dedupe() for feed in feeds}
    if own and settings.resume:
        await resume(holds, dedupes, settings.kafka, settings.resume_records)
    work = [asyncio.create_task(hold(held, stop)) for held in holds]
    beside = [asyncio.create_task(watch_gaps(held, stop)) for held in holds]
    beside += [asyncio.create_task(fill_gaps(held)) for held in holds for _ in range(_FILLERS)]
    if settings.redis:
        beside.append(asyncio.create_task(report_venues(holds, settings.redis, stop)))
    seen: set[str] = set()
    for held in holds:  # one set of polls per venue, not per stream
        if held.ingest.source not in seen:
            seen.add(held.ingest.source)
            beside += [asyncio.ensure_future(ask) for ask in polls(held, stop)]
    score = scorer(settings.sentiment)
    work += [
        asyncio.create_task(follow_feed(feed, settings.kafka, sink, stop, dedupes[feed.source], score))
        for feed in feeds
    ]
    beside.append(asyncio.create_task(_flush_often(sink, stop)))
    if own:
        beside.append(asyncio.create_task(check_bars(settings.kafka, stop)))
    guard, done = asyncio.gather(*beside), asyncio.gather(*work)
    try:
        await asyncio.wait({guard, done}, return_when=asyncio.FIRST_COMPLETED)
        if guard.done():
            guard.result()
        await done
    finally:
        stop.set()
        for task in [*work, *beside]:
            task.cancel()
        await asyncio.gather(*work, *beside, guard, done, return_exceptions=True)
        for history in {id(held.history): held.history for held in holds}.values():
            await history.close()
        sink.flush()
    return [held.fatal for held in holds if held.fatal]
