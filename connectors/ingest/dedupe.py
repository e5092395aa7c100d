"""Drops duplicates by the venue's own ids; numbers the versions of a bar. Memory is bounded.

A trade is known by symbol, exchange, id, kind and time; an article by id, symbol and update time; a bar by symbol,
timeframe and start (a second version with other content is a revision, with the same content a duplicate). Quotes and
statuses carry no id: the same content at the same time is the same event.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from models.events import Event, Split, UnknownEvent
from models.messages import Bar, Message, News, Quote, Trade


class Seen:
    """A bounded set: keeps at least the last ``keep`` keys and at most twice as many.

    >>> seen = Seen(keep=2)
    >>> [seen.add(key) for key in "aab"]
    [True, False, True]
    """

    def __init__(self, keep: int = 200_000) -> None:
        self._keep = keep
        self._new: set[Hashable] = set()
        self._old: set[Hashable] = set()

    def add(self, key: Hashable) -> bool:
        """Remember a key; False if it is known."""
        if key in self._new or key in self._old:
            return False
        if len(self._new) >= self._keep:
            self._old, self._new = self._new, set()
        self._new.add(key)
        return True


def key_of(message: Message) -> Hashable:
    """Key by which two messages of one source are the same event."""
    match message:
        case Trade():
            if not message.trade_id:  # a feed without ids cannot resend recognisably
                return (
                    message.symbol,
                    message.timestamp_ms,
                    message.price,
                    message.size,
                    message.ingestion_timestamp_ms,
                )
            return (message.symbol, message.trade_id, message.exchange, message.kind, message.timestamp_ms)
        case News():
            return (message.symbol, message.news_id, message.updated_ms)
        case Quote():
            return (
                message.symbol, message.timestamp_ms, message.bid_price, message.ask_price, message.bid_size,
                message.ask_size, message.last_price, message.bid_exchange, message.ask_exchange,
            )  # fmt: skip
        case Split():  # its time is that of the poll, so it differs at each
            return (message.symbol, "split", message.ratio, message.effective_ms)
        case Event():  # whichever connection brought it, and when
            content = msgspec.to_builtins(message.fields if isinstance(message, UnknownEvent) else message)
            for arrival in ("ingestion_timestamp_ms", "backfilled"):
                content.pop(arrival, None)
            return (message.symbol, msgspec.json.encode(content, order="sorted"))
    return (message.symbol, type(message).__name__, msgspec.json.encode(message))


class Revisions:
    """Numbers the versions of each bar; remembers the last ``keep`` bars.

    >>> bars = Revisions()
    >>> bar = Bar(symbol="A", timeframe="1m", start_ms=0, end_ms=60_000, open=1, high=2, low=1, close=2, volume=9)
    >>> bars.number(bar).revision, bars.number(bar), bars.number(msgspec.structs.replace(bar, volume=10)).revision
    (0, None, 1)
    """

    def __init__(self, keep: int = 200_000) -> None:
        self._keep = keep
        self._held: dict[tuple[str, str, int], tuple[int, tuple[float | int | None, ...]]] = {}

    def number(self, bar: Bar) -> Bar | None:
        """The bar with its revision, or None if this version is known. A forming bar passes as it is."""
        if not bar.final:
            return bar
        key = (bar.symbol, bar.timeframe, bar.start_ms)
        content = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count, bar.vwap)
        held = self._held.pop(key, None)
        if held is None:
            if len(self._held) >= self._keep:
                del self._held[next(iter(self._held))]
            self._held[key] = (bar.revision, content)
            return bar
        revision, known = held
        if known == content:
            self._held[key] = held
            return None
        revision = max(revision + 1, bar.revision)
        self._held[key] = (revision, content)
        return msgspec.structs.replace(bar, revision=revision)


class Dedupe:
    """Passes each event of one source once."""

    def __init__(self, keep: int = 200_000) -> None:
        self._seen: dict[type, Seen] = {}
        self._bars = Revisions(keep)
        self._keep = keep

    def new(self, message: Message) -> Message | None:
        """The message (a bar with its revision), or None if it was seen."""
        if isinstance(message, Bar):
            return self._bars.number(message)
        kind = type(message)
        if kind not in self._seen:
            self._seen[kind] = Seen(self._keep)
        return message if self._seen[kind].add(key_of(message)) else None
