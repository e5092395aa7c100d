"""Binance spot streams, raw (``/ws``) or combined (``/stream``, wrapped in ``{"stream": .., "data": ..}``).

Source: binance-spot-api-docs ``web-socket-streams.md``. Prices and sizes are strings; times are milliseconds unless
``timeUnit=MICROSECOND`` was asked for (``time_unit="us"`` here). Trade ids (``t``) and aggregate ids (``a``) are
contiguous for each symbol. A kline is final only when ``x`` is true. ``bookTicker`` carries no event time: its arrival
is taken. A connection lives at most 24 hours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connectors.venues.base import (
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
    reject,
    time_ms,
)
from connectors.venues.tagged_frames import UNREADABLE, TaggedFrames
from models.messages import TIMEFRAME_MS, Bar, Message, Quote, Trade

#: Our channel names, as stream suffixes.
CHANNELS = {
    "trades": "trade",
    "agg_trades": "aggTrade",
    "ticker": "ticker",
    "quotes": "bookTicker",
    "bars": "kline_1m",
    "second_bars": "kline_1s",
}
_TAGS = Tags("e", {"trade": "trades", "aggTrade": "trades", "kline": "bars", "24hrTicker": "ticker"})
#: Streams in one SUBSCRIBE: short of any frame limit; five frames a second are allowed.
STREAMS_PER_FRAME = 200
#: Maximum streams of one connection.
STREAMS_MAX = 1024
#: Policy by code: 2 invalid request, 3 invalid JSON (both ours to fix), -1121 invalid symbol, 1008 too many messages.
POLICY: dict[str, Action] = {
    "2": Action.FATAL,
    "3": Action.FATAL,
    "-1121": Action.FATAL,
    "1008": Action.COOL_DOWN,
    "418": Action.COOL_DOWN,
    "429": Action.COOL_DOWN,
}


class _Event(msgspec.Struct, tag_field="e", gc=False):
    pass


class _Trade(_Event, tag="trade"):
    s: str
    t: int
    p: float
    q: float
    T: int


class _SoundTrade(_Event, tag="trade"):
    """A trade whose limits were checked while decoding."""

    s: str
    t: int
    p: Price
    q: Size
    T: TimeMs


class _AggTrade(_Event, tag="aggTrade"):
    s: str
    a: int
    p: float
    q: float
    T: int


class _K(msgspec.Struct, gc=False):
    t: int
    T: int
    i: str
    o: float
    c: float
    h: float
    l: float  # noqa: E741 - the venue's name
    v: float
    n: int
    x: bool
    q: float = 0.0


class _Kline(_Event, tag="kline"):
    s: str
    k: _K


class _Ticker(_Event, tag="24hrTicker"):
    E: int
    s: str
    c: float
    b: float
    B: float
    a: float
    A: float
    v: float


class _SoundTicker(_Event, tag="24hrTicker"):
    """A ticker whose limits were checked while decoding."""

    E: TimeMs
    s: str
    c: Price
    b: Size
    B: Size
    a: Size
    A: Size
    v: Size


class _Shutdown(_Event, tag="serverShutdown"):
    E: int = 0


class _BookTicker(msgspec.Struct, gc=False):
    s: str
    b: float
    B: float
    a: float
    A: float


_Events = _Trade | _AggTrade | _Kline | _Ticker | _Shutdown
_SoundEvents = _SoundTrade | _AggTrade | _Kline | _SoundTicker | _Shutdown


class _Wrapped(msgspec.Struct, gc=False):
    data: _SoundEvents


class _RawWrapped(msgspec.Struct):
    data: msgspec.Raw
    stream: str


# strict=False is what reads numbers from strings
_frame = msgspec.json.Decoder(_Wrapped, strict=False)
_frames = msgspec.json.Decoder(list[_Wrapped], strict=False)
_raw_frames = msgspec.json.Decoder(list[_SoundEvents], strict=False)
_event = msgspec.json.Decoder(_Events, strict=False)
_wrapped = msgspec.json.Decoder(_RawWrapped)
_book_ticker = msgspec.json.Decoder(_BookTicker, strict=False)
_anything = msgspec.json.Decoder(dict[str, Any])
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class Adapter(TaggedFrames):
    """Binance's protocol, always as combined streams when it subscribes itself; both forms are parsed."""

    tags = _TAGS
    known_tags = "trade aggTrade kline 24hrTicker (or bookTicker)"
    greets = False
    authenticates = False
    contiguous_ids = True
    overlaps = True

    def __init__(
        self,
        host: str = "wss://stream.binance.com:9443",
        source: str = "binance",
        time_unit: str = "ms",
    ) -> None:
        if time_unit not in ("ms", "us"):
            raise fail("time_unit", time_unit, "ms or us")
        self.source = source
        self._divide = 1 if time_unit == "ms" else 1000
        self._url = f"{host.rstrip('/')}/stream" + ("" if time_unit == "ms" else "?timeUnit=MICROSECOND")
        self._convert: dict[type, Callable[[Any, int | None], Message]] = {
            _AggTrade: self._agg_trade,
            _Kline: self._bar,
            _Ticker: self._ticker,
        }

    def url(self) -> str:
        """The combined-stream endpoint; streams are added by SUBSCRIBE."""
        return self._url

    def login(self) -> None:
        """Market data is public."""
        return

    def subscribe(self, channels: dict[str, list[str]]) -> list[str]:
        """SUBSCRIBE frames of at most :data:`STREAMS_PER_FRAME` streams; ids number them from 1.

        >>> Adapter().subscribe({"trades": ["BTCUSDT"], "ticker": ["BTCUSDT"]})
        ['{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@ticker"],"id":1}']
        """
        streams = [
            f"{symbol.lower()}@{CHANNELS[name]}"
            for name, symbols in channels.items()
            if name in CHANNELS
            for symbol in symbols
        ]
        if len(streams) > STREAMS_MAX:
            raise fail("streams", len(streams), f"at most {STREAMS_MAX} on one connection: split the symbols")
        return [
            msgspec.json.encode(
                {"method": "SUBSCRIBE", "params": streams[at : at + STREAMS_PER_FRAME], "id": number}
            ).decode()
            for number, at in enumerate(range(0, len(streams), STREAMS_PER_FRAME), start=1)
        ]

    def action(self, error: ConnectionEvent, streaming: bool = False) -> Action:
        """See :data:`POLICY`."""
        return POLICY.get(error.code, Action.LOG)

    def _decode(self, frame: bytes) -> list[Any]:
        return [_frame.decode(frame).data]

    def _decode_many(self, frames: list[bytes]) -> list[list[Any]]:
        joined = b"[" + b",".join(frames) + b"]"
        events: list[Any]
        if frames and frames[0].startswith(b'{"e"'):
            events = _raw_frames.decode(joined)
        else:
            events = [wrapped.data for wrapped in _frames.decode(joined)]
        if len(events) != len(frames):
            raise ValueError(f"{len(frames)} frames hold {len(events)} events")
        return [events]

    def _take(self, events: list[Any], now_ms: int | None, parsed: Parsed) -> None:
        add = parsed.messages.append
        source, divide = self.source, self._divide
        for item in events:
            kind = type(item)
            if kind is _SoundTrade or kind is _Trade:  # by far the most frequent: no call, no lookup
                stamp = item.T
                if kind is _Trade:
                    stamp //= divide
                    check_price("p", item.p)
                    check_size("q", item.q)
                    time_ms("T", stamp)
                add(
                    Trade(
                        symbol=item.s.upper(),
                        source=source,
                        ingestion_timestamp_ms=now_ms,
                        timestamp_ms=stamp,
                        price=item.p,
                        size=item.q,
                        trade_id=str(item.t),
                    )
                )
            elif kind is _SoundTicker:
                add(
                    Quote(
                        symbol=item.s.upper(),
                        source=source,
                        ingestion_timestamp_ms=now_ms,
                        timestamp_ms=item.E,
                        bid_price=item.b or None,
                        bid_size=item.B,
                        ask_price=item.a or None,
                        ask_size=item.A,
                        last_price=item.c,
                        volume_24h=item.v,
                    )
                )
            elif kind is _Shutdown:
                parsed.connection_events.append(ConnectionEvent(kind="shutdown", text="serverShutdown"))
            else:
                add(self._convert[kind](item, now_ms))

    def _parse_slowly(self, frame: bytes, now_ms: int | None) -> Parsed:
        """A raw event, an answer to a request, a ``bookTicker`` (which has no type), or a reject."""
        parsed = Parsed()
        try:
            payload = frame
            if b'"stream"' in frame[:64] or b'"data"' in frame[:16]:
                payload = bytes(_wrapped.decode(frame).data)
            if payload.lstrip().startswith(b"["):  # many events at once, as some streams and recorders write them
                parsed = self._each(payload, now_ms)
                if payload is not frame and parsed == Parsed():
                    raise fail("data", [], "an event, or some")
                return parsed
            held = _anything.decode(payload)
            if "e" in held:
                self._take([_event.decode(payload)], now_ms, parsed)
            elif "u" in held and "B" in held:
                parsed.messages.append(self._book_ticker(_book_ticker.decode(payload), now_ms))
            else:
                parsed.connection_events.append(_connection_event(held))
        except UNREADABLE as error:
            parsed = Parsed(rejects=[self.explain(error, frame)])
        return parsed

    def _each(self, payload: bytes, now_ms: int | None) -> Parsed:
        parsed = Parsed()
        for raw in map(bytes, _raws.decode(payload)):
            if raw.startswith(b"["):
                parsed.rejects.append(reject(ValueError("Expected `object`, got `array`"), raw))
            else:
                parsed.extend(self.parse(raw, now_ms))
        return parsed

    def _agg_trade(self, item: _AggTrade, now_ms: int | None) -> Message:
        check_price("p", item.p)
        check_size("q", item.q)
        return Trade(
            symbol=item.s.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=time_ms("T", item.T // self._divide),
            price=item.p,
            size=item.q,
            trade_id=str(item.a),
        )

    def _bar(self, item: _Kline, now_ms: int | None) -> Message:
        kline = item.k
        if kline.i not in TIMEFRAME_MS:
            raise fail("i", kline.i, f"one of {', '.join(TIMEFRAME_MS)}")
        check_bar(kline.o, kline.h, kline.l, kline.c, kline.v)
        start = time_ms("t", kline.t // self._divide)
        return Bar(
            symbol=item.s.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timeframe=kline.i,
            start_ms=start,
            end_ms=start + TIMEFRAME_MS[kline.i],
            open=kline.o,
            high=kline.h,
            low=kline.l,
            close=kline.c,
            volume=kline.v,
            trade_count=kline.n,
            vwap=kline.q / kline.v if kline.v else None,
            final=kline.x,
        )

    def _ticker(self, item: _Ticker, now_ms: int | None) -> Message:
        check_price("c", item.c)
        check_size("v", item.v)
        return self._quote(item, time_ms("E", item.E // self._divide), now_ms, item.c, item.v)

    def _book_ticker(self, item: _BookTicker, now_ms: int | None) -> Message:
        if now_ms is None:
            raise ValueError("E is missing: a bookTicker carries no event time and its arrival was not recorded")
        return self._quote(item, now_ms, now_ms, None, None)

    def _quote(self, item: Any, stamp: int, now_ms: int | None, last: float | None, volume: float | None) -> Quote:
        check_sides("b, a", item.b, item.a, "B, A", item.B, item.A)
        return Quote(
            symbol=item.s.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=stamp,
            bid_price=item.b or None,
            bid_size=item.B,
            ask_price=item.a or None,
            ask_size=item.A,
            last_price=last,
            volume_24h=volume,
        )


def _connection_event(held: dict[str, Any]) -> ConnectionEvent:
    error = held.get("error", held)
    if isinstance(error, dict) and "code" in error and "msg" in error:
        return ConnectionEvent(kind="error", code=str(error["code"]), text=str(error["msg"]))
    if "result" in held and "id" in held:
        return ConnectionEvent(kind="subscribed" if held["result"] is None else "info", code=str(held["id"]))
    raise ValueError("e is missing: neither an event nor an answer to a request")
