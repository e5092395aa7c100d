"""Polygon, called Massive since October 2025: arrays of events tagged ``ev``; stocks, and crypto trades.

Source: massive.com/docs/websocket/stocks and the client library's ``websocket/models``. The old hosts still answer.

Units are fixed by event kind, and checked: ``T Q AM A XT`` in milliseconds; ``LULD`` in microseconds (as its sample,
though its text says milliseconds); ``NOI`` in nanoseconds. Quote sizes are taken as shares. ``q`` rises but has holes,
so it proves no gap. A bar with the same symbol and start replaces the earlier one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connectors.venues.base import (
    TIME_MS_MAX,
    TIME_MS_MIN,
    Action,
    ConnectionEvent,
    Parsed,
    Price,
    Size,
    Tags,
    TimeMs,
    check_bar,
    check_price,
    check_sides,
    check_size,
    fail,
    time_ms,
)
from connectors.venues.tagged_frames import TaggedArrays, condition_texts
from models.events import Imbalance, PriceBands
from models.messages import TIMEFRAME_MS, Bar, Message, Quote, Trade

#: Our channel names, as the subscribe frame's prefix.
CHANNELS = {"trades": "T", "quotes": "Q", "bars": "AM", "second_bars": "A", "lulds": "LULD", "imbalances": "NOI"}
_TAGS = Tags(
    "ev",
    {"T": "trades", "XT": "trades", "Q": "quotes", "A": "bars", "AM": "bars", "LULD": "statuses", "NOI": "statuses"},
)
#: Policy by status word. ``max_connections`` may come after a successful login and subscription, so the pause after it
#: does not shrink on either; an ``error`` answers one request and leaves the connection as it was.
POLICY: dict[str, Action] = {
    "auth_failed": Action.FATAL,
    "auth_timeout": Action.RECONNECT,
    "max_connections": Action.COOL_DOWN,
    "not_authorized": Action.FATAL,
    "error": Action.LOG,
}
TAPES = {1: "A", 2: "B", 3: "C"}
Conditions = list[int] | int | None


class _Wire(msgspec.Struct, tag_field="ev", gc=False):
    pass


class _Trade(_Wire, tag="T"):
    sym: str
    p: float
    s: float
    t: int
    i: str | int = ""
    x: int = 0
    z: int = 0
    c: Conditions = None


class _SoundTrade(_Wire, tag="T"):
    """A trade whose limits were checked while decoding."""

    sym: str
    p: Price
    s: Size
    t: TimeMs
    i: str | int = ""
    x: int = 0
    z: int = 0
    c: Conditions = None


class _Quote(_Wire, tag="Q"):
    sym: str
    t: int
    bp: float = 0.0
    bs: float = 0.0
    ap: float = 0.0
    as_: float = msgspec.field(name="as", default=0.0)
    bx: int | None = None
    ax: int | None = None
    c: Conditions = None


class _Minute(_Wire, tag="AM"):
    sym: str
    o: float
    h: float
    l: float  # noqa: E741 - the venue's name
    c: float
    v: float
    s: int
    e: int
    vw: float | None = None


class _Second(_Minute, tag="A"):
    pass


class _Luld(_Wire, tag="LULD"):
    T: str
    h: float
    l: float  # noqa: E741 - the venue's name
    t: int
    i: Conditions = None
    z: int = 0


class _Imbalance(_Wire, tag="NOI"):
    T: str
    t: int
    o: float = 0.0
    p: float = 0.0
    b: float = 0.0
    a: str = ""


class _CryptoTrade(_Wire, tag="XT"):
    pair: str
    p: float
    s: float
    t: int
    i: str | int = ""
    x: int = 0
    c: Conditions = None


class _Status(_Wire, tag="status"):
    status: str
    message: str = ""


_Any = _Trade | _Quote | _Minute | _Second | _Luld | _Imbalance | _CryptoTrade | _Status
_Sound = _SoundTrade | _Quote | _Minute | _Second | _Luld | _Imbalance | _CryptoTrade | _Status


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


class Adapter(TaggedArrays):
    """Polygon's protocol. ``path`` is the asset class: ``stocks`` or ``crypto``."""

    tags = _TAGS
    known_tags = "T Q AM A LULD NOI XT"
    item_decoder = msgspec.json.Decoder(_Any)
    frame_decoder = msgspec.json.Decoder(list[_Sound])
    frames_decoder = msgspec.json.Decoder(list[list[_Sound]])
    greets = True
    authenticates = True
    contiguous_ids = False
    overlaps = False

    def __init__(
        self,
        host: str = "wss://socket.massive.com",
        path: str = "stocks",
        key: str = "",
        source: str = "polygon",
    ) -> None:
        self.source = source
        self._url, self._key = f"{host.rstrip('/')}/{path}", key
        self._convert: dict[type, Callable[[Any, int | None], Message]] = {
            _Quote: self._quote,
            _Minute: self._bar,
            _Second: self._bar,
            _Luld: self._luld,
            _Imbalance: self._imbalance,
            _CryptoTrade: self._crypto_trade,
        }

    def url(self) -> str:
        """One connection for each asset class: a second is refused."""
        return self._url

    def login(self) -> str:
        """The ``auth`` frame."""
        return msgspec.json.encode({"action": "auth", "params": self._key}).decode()

    def subscribe(self, channels: dict[str, list[str]]) -> list[str]:
        """One ``subscribe`` frame.

        >>> Adapter().subscribe({"trades": ["AAPL"], "bars": ["*"]})
        ['{"action":"subscribe","params":"T.AAPL,AM.*"}']
        """
        params = [
            f"{CHANNELS[name]}.{symbol}" for name, symbols in channels.items() if name in CHANNELS for symbol in symbols
        ]
        return [msgspec.json.encode({"action": "subscribe", "params": ",".join(params)}).decode()]

    def action(self, error: ConnectionEvent, streaming: bool = False) -> Action:
        """See :data:`POLICY`; a refusal for lack of entitlement comes as ``error`` with a text."""
        if error.code == "error" and "not authorized" in error.text.lower():
            return Action.FATAL
        return POLICY.get(error.code, Action.LOG)

    def _take(self, items: list[Any], now_ms: int | None, parsed: Parsed) -> None:
        add = parsed.messages.append
        convert = self._convert
        source = self.source
        for item in items:
            kind = type(item)
            if kind is _SoundTrade or kind is _Trade:  # by far the most frequent: no call, no lookup
                if kind is _Trade:
                    check_price("p", item.p)
                    check_size("s", item.s)
                    time_ms("t", item.t)
                conditions = item.c
                add(
                    Trade(
                        symbol=item.sym.upper(),
                        source=source,
                        ingestion_timestamp_ms=now_ms,
                        timestamp_ms=item.t,
                        price=item.p,
                        size=item.s,
                        trade_id=str(item.i),
                        exchange=str(item.x),
                        conditions=condition_texts(conditions) if conditions is not None else (),
                        tape=TAPES.get(item.z, ""),
                    )
                )
            elif kind in convert:
                add(convert[kind](item, now_ms))
            else:
                parsed.connection_events.append(_connection_event(item))

    def _quote(self, item: _Quote, now_ms: int | None) -> Message:
        check_sides("bp, ap", item.bp, item.ap, "bs, as", item.bs, item.as_)
        return Quote(
            symbol=item.sym.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=time_ms("t", item.t),
            bid_price=item.bp or None,  # 0 is how the venue writes an empty side
            bid_size=item.bs,
            ask_price=item.ap or None,
            ask_size=item.as_,
            bid_exchange=_number(item.bx),
            ask_exchange=_number(item.ax),
            conditions=condition_texts(item.c),
        )

    def _bar(self, item: _Minute, now_ms: int | None) -> Message:
        check_bar(item.o, item.h, item.l, item.c, item.v)
        timeframe = "1s" if type(item) is _Second else "1m"
        start, end = time_ms("s", item.s), time_ms("e", item.e)
        if end - start != TIMEFRAME_MS[timeframe]:
            raise fail("e", item.e, f"s + {TIMEFRAME_MS[timeframe]} for a {timeframe} bar")
        return Bar(
            symbol=item.sym.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timeframe=timeframe,
            start_ms=start,
            end_ms=end,
            open=item.o,
            high=item.h,
            low=item.l,
            close=item.c,
            volume=item.v,
            vwap=item.vw,
        )

    def _luld(self, item: _Luld, now_ms: int | None) -> Message:
        return PriceBands(
            symbol=item.T.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=_scaled("t", item.t, 1_000, "micro"),
            upper=item.h,
            lower=item.l,
            indicators=condition_texts(item.i),
            tape=TAPES.get(item.z, ""),
        )

    def _imbalance(self, item: _Imbalance, now_ms: int | None) -> Message:
        return Imbalance(
            symbol=item.T.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=_scaled("t", item.t, 1_000_000, "nano"),
            imbalance=item.o,
            paired=item.p,
            clearing_price=item.b,
            auction=item.a,
        )

    def _crypto_trade(self, item: _CryptoTrade, now_ms: int | None) -> Message:
        check_price("p", item.p)
        check_size("s", item.s)
        return Trade(
            symbol=item.pair.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=time_ms("t", item.t),
            price=item.p,
            size=item.s,
            trade_id=str(item.i),
            exchange=str(item.x),
            conditions=condition_texts(item.c),
        )


def _scaled(field: str, value: int, parts: int, prefix: str) -> int:
    if not TIME_MS_MIN <= value // parts < TIME_MS_MAX:
        raise fail(field, value, f"epoch {prefix}seconds between 2000 and 2100 for this kind of event")
    return value // parts


def _connection_event(item: _Status) -> ConnectionEvent:
    kinds = {"connected": "welcome", "auth_success": "authenticated"}
    if item.status in kinds:
        return ConnectionEvent(kind=kinds[item.status], text=item.message)
    if item.status == "success":
        if item.message.startswith("subscribed to: "):
            prefix, _, symbol = item.message.removeprefix("subscribed to: ").partition(".")
            names = {wire: name for name, wire in CHANNELS.items()}
            return ConnectionEvent(kind="subscribed", text=item.message, channels={names.get(prefix, prefix): [symbol]})
        return ConnectionEvent(kind="info", text=item.message)
    return ConnectionEvent(kind="error", code=item.status, text=item.message)
