"""Mirrors Redis into the relay's state: loads it, follows the signal stream, appends the expiry of signals to it.

:class:`Mirror` applies what was read (without I/O), :class:`Follower` reads and writes.

An expiry is a stream entry like any other (one relay of several writes it, by an atomic script), so it has a number
and a client that was disconnected receives it. If Redis goes away the relay reports it to its clients and reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from connectors.redis import keys as redis_keys
from connectors.redis.bars import unpack
from connectors.redis.client import connect_asyncio
from models.messages import News, Outcome, Signal, decode
from relay.bundles import facts
from relay.hub import Hub
from relay.state import Event, Expired, position

log = logging.getLogger("relay.follow")

#: Marks the expiry as written, drops the signal from the active set (unless it ends for one risk profile only) and
#: appends the entry: all or nothing.
_EXPIRE = """
if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[4]) then
  if ARGV[3] == '{}' then redis.call('ZREM', KEYS[2], ARGV[1]) end
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'id', ARGV[1], 'kind', 'expired', 'data', ARGV[3])
  return 1
end
return 0
"""
_BATCH = 500


def was_cut(before: str, first: str, added: int, length: int) -> bool:
    """Whether entries of a stream after number ``before`` are no longer kept.

    ``first`` is the number of the oldest entry kept (empty: none), ``added`` how many there ever were, ``length`` how
    many are kept.

    >>> was_cut("5-0", "9-0", added=10, length=4), was_cut("5-0", "3-0", added=10, length=8)
    (True, False)
    """
    return bool(first) and position(first) > position(before) and added > length


class Mirror:
    """Applies the content of Redis to the hub and its state; what cannot be read is skipped and counted."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.skipped = 0
        #: Called with every event, after it was sent to the clients.
        self.listeners: list[Callable[[Event], None]] = []
        self._prices: dict[str, bytes] = {}

    def fold(self, number: str, fields: dict[bytes, bytes]) -> Event | None:
        """Apply one stream entry; the event it makes, or None."""
        try:
            return self.hub.state.apply(
                number, fields[b"id"].decode(), fields[b"kind"].decode(), fields.get(b"data", b"{}")
            )
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
            self.skipped += 1
            named = {"signal_id": fields.get(b"id", b"").decode(errors="replace")}
            log.warning("skipped stream entry %s: %s", number, error, extra=named)
            return None

    def publish(self, event: Event) -> None:
        """Send an event to the clients and the listeners."""
        self.hub.publish(event)
        log.debug("%s published", event.kind, extra={"symbol": event.symbol, "signal_id": event.signal_id})
        for listener in self.listeners:
            listener(event)

    def take_system(self, fields: dict[bytes, bytes]) -> None:
        """Renew what processes report."""
        system = {}
        for name, value in fields.items():
            with contextlib.suppress(msgspec.DecodeError):
                system[name.decode(errors="replace")] = msgspec.json.decode(value)
        if self.hub.state.set_system(system):  # they are part of signals already sent to clients
            self.hub.send_snapshots()

    def take_context(self, symbol: str, bars: list[bytes], news: list[bytes]) -> None:
        """Renew the bars and news that a symbol's signals carry."""
        with contextlib.suppress(msgspec.DecodeError):
            self.hub.state.set_bars(symbol, unpack(bars))
        with contextlib.suppress(msgspec.DecodeError):
            self.hub.state.set_news(symbol, [decode(item, News) for item in news])

    def take_price(self, symbol: str, value: bytes) -> None:
        """Publish a price, if it has changed."""
        if self._prices.get(symbol) == value:
            return
        self._prices[symbol] = value
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError, ValueError):
            latest = msgspec.json.decode(value)
            price, timestamp_ms = float(latest["price"]), int(latest["timestamp_ms"])
            self.hub.state.see_price(symbol, timestamp_ms)
            self.hub.publish_price(symbol, price, timestamp_ms)

    def report(self, ok: bool, changed: bool = False) -> None:
        """Notify the clients if Redis went away or came back, or the data mode has ``changed``."""
        if ok != self.hub.pipeline_ok or changed:
            self.hub.pipeline_ok = ok
            self.hub.publish_status()


class Follower:
    """Keeps the hub's state equal to Redis."""

    def __init__(self, redis_url: str, hub: Hub) -> None:
        self.hub = hub
        self.redis: Redis = connect_asyncio(redis_url)
        self.mirror = Mirror(hub)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load and start to follow; raises RedisError when Redis does not answer."""
        await self._load()
        self._tasks = [
            asyncio.create_task(self._follow(), name="follow"),
            asyncio.create_task(self._tick(), name="tick"),
        ]

    async def stop(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.redis.aclose()

    # Loading

    async def _load(self) -> None:
        await self._load_system()
        unstreamed = await self._unstreamed()
        with contextlib.suppress(ResponseError):  # no stream yet
            stream: Any = await self.redis.xinfo_stream(redis_keys.SIGNALS_STREAM)
            if stream["first-entry"] and stream.get("entries-added", 0) > stream["length"]:
                self.hub.forget_until(stream["first-entry"][0].decode())
        start = "-"
        while entries := await self.redis.xrange(redis_keys.SIGNALS_STREAM, min=start, count=2_000):
            for number, fields in entries:
                if event := self.mirror.fold(number.decode(), fields):
                    self.hub.remember(event)
            start = "(" + entries[-1][0].decode()
        await self._adopt(*unstreamed)

    async def _unstreamed(self) -> tuple[list[Outcome], list[str]]:
        """What Redis has in addition to the stream: outcomes, and the ids of active signals.

        Read it before the stream: state newer than the stream's end, once applied, would turn its entry into a no-op
        when that is read, and clients would never receive the event.
        """
        outcomes = []
        async for key in self.redis.scan_iter(match=redis_keys.outcomes_key("*"), count=1_000):
            for value in (await self._hash(key)).values():
                with contextlib.suppress(msgspec.DecodeError):
                    outcomes.append(decode(value, Outcome))
        return outcomes, [i.decode() for i in await self.redis.zrange(redis_keys.SIGNALS_ACTIVE, 0, -1)]

    async def _adopt(self, outcomes: list[Outcome], active: list[str]) -> None:
        """Apply outcomes and active signals whose entries the stream no longer keeps."""
        state = self.hub.state
        for outcome in outcomes:
            state.adopt_outcome(outcome)
        missing = [signal_id for signal_id in active if signal_id not in state.signals]
        for at in range(0, len(missing), _BATCH):
            for value in await self.redis.mget([redis_keys.signal_key(i) for i in missing[at : at + _BATCH]]):
                if value is not None:
                    with contextlib.suppress(msgspec.DecodeError):
                        state.adopt(decode(value, Signal))
        await self._load_context({signal.symbol: signal.timeframe for signal in state.signals.values()})

    async def _hash(self, key: str | bytes) -> dict[bytes, bytes]:
        redis: Any = self.redis
        return dict(await redis.hgetall(key))

    async def _load_system(self) -> None:
        self.mirror.take_system(await self._hash(redis_keys.SYSTEM_STATUS))

    async def _load_context(self, symbols: dict[str, str]) -> None:
        """Renew the bars and news that the signals of these symbols carry."""
        if not symbols:
            return
        pipeline = self.redis.pipeline(transaction=False)
        for symbol, timeframe in symbols.items():
            pipeline.lrange(redis_keys.bars_key(symbol, timeframe), -redis_keys.BARS_MAX, -1)
            pipeline.lrange(redis_keys.news_key(symbol), 0, redis_keys.NEWS_MAX - 1)
        for bundle in self.hub.state.unknown_bundles():
            self.hub.state.set_base_rates(bundle, facts(bundle).get("base_rates", {}))
        replies = await pipeline.execute()
        for symbol, bars, news in zip(symbols, replies[::2], replies[1::2], strict=True):
            self.mirror.take_context(symbol, bars, news)

    # Following

    async def _follow(self) -> None:
        state = self.hub.state
        unproven = ""  # a number after which entries may have been trimmed; not checked yet
        while True:
            try:
                reply = await self.redis.xread({redis_keys.SIGNALS_STREAM: state.number}, count=_BATCH, block=1_000)
                entries = reply[0][1] if reply else []
                mode, before = state.mode, state.number
                events = [
                    e for number, fields in entries if (e := self.mirror.fold(number.decode(), fields)) is not None
                ]
                # What was folded in is not read again: it must reach the clients, even if Redis fails meanwhile.
                with contextlib.suppress(RedisError, OSError):
                    await self._load_context({e.symbol: e.signal.timeframe for e in events if e.signal is not None})
                for event in events:
                    self.mirror.publish(event)
                    await asyncio.sleep(0)  # yield to sockets and commands in a burst
                if entries:
                    unproven = unproven or before
                    await self._recover(unproven)
                    unproven = ""
                self.mirror.report(True, changed=state.mode != mode)
            except (RedisError, OSError) as error:
                self.mirror.report(False)
                log.warning("Redis is away (%s); trying again", error)
                await asyncio.sleep(0.5)

    async def _recover(self, before: str) -> None:
        """If entries after ``before`` were trimmed before they were read, send every client a new snapshot."""
        stream: Any = await self.redis.xinfo_stream(redis_keys.SIGNALS_STREAM)
        first = stream["first-entry"] and stream["first-entry"][0].decode()
        if not was_cut(before, first or "", stream.get("entries-added", 0), stream["length"]):
            return
        log.warning("stream trimmed from %s to %s before it was read: clients get new snapshots", before, first)
        unstreamed = await self._unstreamed()
        stream = await self.redis.xinfo_stream(redis_keys.SIGNALS_STREAM)
        self.hub.forget_until(stream["last-generated-id"].decode())  # what is applied now makes no event of its entry
        await self._adopt(*unstreamed)
        self.hub.send_snapshots()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            with contextlib.suppress(RedisError, OSError):
                mode = self.hub.state.mode
                await self._load_system()
                await self._poll_prices()
                await self._expire()
                self.mirror.report(self.hub.pipeline_ok, changed=self.hub.state.mode != mode)

    async def _poll_prices(self) -> None:
        symbols = sorted({signal.symbol for signal in self.hub.state.signals.values()})
        if not symbols:
            return
        values = await self.redis.mget([redis_keys.price_key(symbol) for symbol in symbols])
        for symbol, value in zip(symbols, values, strict=True):
            if value is not None:
                self.mirror.take_price(symbol, value)

    async def _expire(self) -> None:
        due = self.hub.state.due(int(time.time() * 1_000))
        for at in range(0, len(due), _BATCH):
            pipeline = self.redis.pipeline(transaction=False)
            for signal_id, profile in due[at : at + _BATCH]:
                pipeline.eval(
                    _EXPIRE, 3, redis_keys.expired_key(signal_id, profile),
                    redis_keys.SIGNALS_ACTIVE, redis_keys.SIGNALS_STREAM, signal_id, str(redis_keys.STREAM_MAXLEN),
                    msgspec.json.encode(Expired(profile)).decode() if profile else "{}",
                    str(redis_keys.EXPIRED_TTL_S),
                )  # fmt: skip
            for (signal_id, profile), written in zip(due[at : at + _BATCH], await pipeline.execute(), strict=True):
                if profile and not written:  # its entry is older than the stream
                    self.hub.state.mark_over(signal_id, profile)
