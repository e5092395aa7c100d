"""Alpaca market-data stream: US stocks, the test feed, news, options and crypto; arrays of messages tagged ``T``.

Source: docs.alpaca.markets streaming-market-data, real-time-stock-pricing-data, streaming-real-time-news, and the
``marketdata/stream`` package of Alpaca's Go SDK (codes 407 to 411).

Units: ``t`` is RFC 3339 up to nanoseconds (cut to ms); a bar's ``t`` is its left edge; stock quote sizes are round
lots, converted to shares here; the rest is in units of the instrument.
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
    check_bar,
    check_price,
    check_sides,
    check_size,
    rfc3339_ms,
)
from connectors.venues.tagged_frames import TaggedArrays, condition_texts
from models.events import Halt, Imbalance, Pause, PriceBands, QuotationResume, Resume, TradingState, TradingStatus
from models.messages import TIMEFRAME_MS, Bar, Message, News, Quote, Trade

#: Shares in a round lot of a US stock quote.
ROUND_LOT = 100
#: Our channel names, as the subscribe frame spells them.
CHANNELS = {
    "trades": "trades",
    "quotes": "quotes",
    "bars": "bars",
    "updated_bars": "updatedBars",
    "daily_bars": "dailyBars",
    "statuses": "statuses",
    "lulds": "lulds",
    "news": "news",
}
_TAGS = Tags(
    "T",
    {"t": "trades", "c": "trades", "x": "trades", "q": "quotes", "b": "bars", "u": "bars", "d": "bars", "n": "news",
     "s": "statuses", "l": "statuses", "i": "statuses"},
)  # fmt: skip
#: Policy by code; an unknown code is logged. 405 comes after a successful login and leaves subscriptions as they were.
POLICY: dict[str, Action] = {
    "400": Action.LOG,
    "401": Action.RECONNECT,
    "402": Action.FATAL,
    "403": Action.LOG,
    "404": Action.RECONNECT,
    "405": Action.SHRINK,
    "406": Action.WAIT,
    "407": Action.LOG,
    "408": Action.FATAL,
    "409": Action.FATAL,
    "410": Action.FATAL,
    "411": Action.FATAL,
    "412": Action.FATAL,
    "413": Action.FATAL,
    "500": Action.RECONNECT,
}
#: Status codes of the UTP (letters) and CTA (digits) tapes.
TRADING_STATES: dict[str, type[TradingState]] = {
    "H": Halt, "2": Halt, "P": Pause, "Q": QuotationResume, "T": Resume, "3": Resume,
}  # fmt: skip


Conditions = list[str] | str | None


class _Wire(msgspec.Struct, tag_field="T", gc=False):
    pass


class _Trade(_Wire, tag="t"):
    S: str
    p: float
    s: float
    t: str
    i: int | str = ""
    x: str = ""
    c: Conditions = None
    z: str = ""


class _SoundTrade(_Wire, tag="t"):
    """A trade whose limits were checked while decoding."""

    S: str
    p: Price
    s: Size
    t: str
    i: int | str = ""
    x: str = ""
    c: Conditions = None
    z: str = ""


class _Quote(_Wire, tag="q"):
    S: str
    t: str
    bp: float
    bs: float
    ap: float
    as_: float = msgspec.field(name="as")
    bx: str = ""
    ax: str = ""
    c: Conditions = None


class _Bar(_Wire, tag="b"):
    S: str
    t: str
    o: float
    h: float
    l: float  # noqa: E741 - the venue's name
    c: float
    v: float
    n: int | None = None
    vw: float | None = None


class _UpdatedBar(_Bar, tag="u"):
    pass


class _DailyBar(_Bar, tag="d"):
    pass


class _Correction(_Wire, tag="c"):
    S: str
    oi: int | str
    ci: int | str
    cp: float
    cs: float
    t: str
    x: str = ""
    cc: Conditions = None
    z: str = ""


class _Cancel(_Wire, tag="x"):
    S: str
    i: int | str
    p: float
    s: float
    t: str
    x: str = ""
    a: str = ""
    z: str = ""


class _Luld(_Wire, tag="l"):
    S: str
    u: float
    d: float
    t: str
    i: str = ""
    z: str = ""


class _TradingStatus(_Wire, tag="s"):
    S: str
    sc: str
    t: str
    sm: str = ""
    rc: str = ""
    rm: str = ""
    z: str = ""


class _Imbalance(_Wire, tag="i"):
    S: str
    p: float
    t: str
    z: str = ""


class _News(_Wire, tag="n"):
    id: int | str
    headline: str
    created_at: str
    updated_at: str
    symbols: list[str]
    summary: str | None = None
    author: str | None = None
    url: str | None = None
    source: str | None = None


class _Success(_Wire, tag="success"):
    msg: str = ""


class _Error(_Wire, tag="error"):
    code: int = 0
    msg: str = ""


class _Subscription(_Wire, tag="subscription"):
    trades: list[str] = []
    quotes: list[str] = []
    bars: list[str] = []
    updatedBars: list[str] = []
    dailyBars: list[str] = []
    statuses: list[str] = []
    lulds: list[str] = []
    corrections: list[str] = []
    cancelErrors: list[str] = []
    news: list[str] = []


_Any = (
    _Trade | _Quote | _Bar | _UpdatedBar | _DailyBar | _Correction | _Cancel | _Luld | _TradingStatus
    | _Imbalance | _News | _Success | _Error | _Subscription
)  # fmt: skip
_Sound = (
    _SoundTrade | _Quote | _Bar | _UpdatedBar | _DailyBar | _Correction | _Cancel | _Luld | _TradingStatus
    | _Imbalance | _News | _Success | _Error | _Subscription
)  # fmt: skip


class Adapter(TaggedArrays):
    """Alpaca's protocol. ``feed`` is the path after the host: ``v2/iex``, ``v2/sip``, ``v2/test``, ``v1beta1/news``."""

    tags = _TAGS
    known_tags = "t q b u d c x l s i n"
    item_decoder = msgspec.json.Decoder(_Any)
    frame_decoder = msgspec.json.Decoder(list[_Sound])
    frames_decoder = msgspec.json.Decoder(list[list[_Sound]])
    greets = True
    authenticates = True
    contiguous_ids = False
    overlaps = False

    def __init__(
        self,
        host: str = "wss://stream.data.alpaca.markets",
        feed: str = "v2/iex",
        key: str = "",
        secret: str = "",
        source: str = "alpaca",
        round_lot: int = ROUND_LOT,
    ) -> None:
        self.source = source
        self._url, self._key, self._secret, self._lot = f"{host.rstrip('/')}/{feed}", key, secret, round_lot
        self._convert: dict[type, Callable[[Any, int | None], Message]] = {
            _Quote: self._quote,
            _Bar: self._bar,
            _UpdatedBar: self._bar,
            _DailyBar: self._bar,
            _Correction: self._correction,
            _Cancel: self._cancel,
            _Luld: self._luld,
            _TradingStatus: self._status,
            _Imbalance: self._imbalance,
        }

    def url(self) -> str:
        """One connection per endpoint: most plans do not allow a second."""
        return self._url

    def login(self) -> str:
        """The ``auth`` frame (to be sent within 10 s)."""
        return msgspec.json.encode({"action": "auth", "key": self._key, "secret": self._secret}).decode()

    def subscribe(self, channels: dict[str, list[str]]) -> list[str]:
        """One ``subscribe`` frame; corrections and cancels come with trades by themselves.

        >>> Adapter().subscribe({"trades": ["AAPL"], "bars": ["*"]})
        ['{"action":"subscribe","trades":["AAPL"],"bars":["*"]}']
        """
        body = {CHANNELS[name]: symbols for name, symbols in channels.items() if name in CHANNELS and symbols}
        return [msgspec.json.encode({"action": "subscribe", **body}).decode()]

    def action(self, error: ConnectionEvent, streaming: bool = False) -> Action:
        """See :data:`POLICY`; 410 (a subscription this feed lacks) is fatal only at the start."""
        if streaming and error.code == "410":
            return Action.LOG
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
                conditions = item.c
                add(
                    Trade(
                        symbol=item.S.upper(),
                        source=source,
                        ingestion_timestamp_ms=now_ms,
                        timestamp_ms=rfc3339_ms(item.t),
                        price=item.p,
                        size=item.s,
                        trade_id=str(item.i),
                        exchange=item.x,
                        conditions=tuple(conditions) if type(conditions) is list else condition_texts(conditions),
                        tape=item.z,
                    )
                )
            elif kind in convert:
                add(convert[kind](item, now_ms))
            elif kind is _News:
                parsed.messages += self._news(item, now_ms)
            else:
                parsed.connection_events.append(_connection_event(item))

    def _quote(self, item: _Quote, now_ms: int | None) -> Message:
        symbol = item.S.upper()
        bid, ask, bid_size, ask_size = item.bp, item.ap, item.bs, item.as_
        check_sides("bp, ap", bid, ask, "bs, as", bid_size, ask_size)
        # options (OCC symbols) and crypto pairs quote in units, stocks in round lots
        lot = 1 if len(symbol) > 14 or "/" in symbol else self._lot
        return Quote(
            symbol=symbol,
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=rfc3339_ms(item.t),
            bid_price=bid or None,  # 0 is how the venue writes an empty side
            bid_size=bid_size * lot,
            ask_price=ask or None,
            ask_size=ask_size * lot,
            bid_exchange=item.bx,
            ask_exchange=item.ax,
            conditions=condition_texts(item.c),
        )

    def _bar(self, item: _Bar, now_ms: int | None) -> Message:
        check_bar(item.o, item.h, item.l, item.c, item.v)
        timeframe = "1d" if type(item) is _DailyBar else "1m"
        start = rfc3339_ms(item.t)
        return Bar(
            symbol=item.S.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timeframe=timeframe,
            start_ms=start,
            end_ms=start + TIMEFRAME_MS[timeframe],
            open=item.o,
            high=item.h,
            low=item.l,
            close=item.c,
            volume=item.v,
            trade_count=item.n,
            vwap=item.vw,
            revision=1 if type(item) is _UpdatedBar else 0,
            final=timeframe != "1d",  # a day's bar is re-sent each minute while it forms
        )

    def _correction(self, item: _Correction, now_ms: int | None) -> Message:
        check_price("cp", item.cp)
        check_size("cs", item.cs)
        return Trade(
            symbol=item.S.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=rfc3339_ms(item.t),
            price=item.cp,
            size=item.cs,
            trade_id=str(item.ci),
            corrects_id=str(item.oi),
            exchange=item.x,
            conditions=condition_texts(item.cc),
            tape=item.z,
            kind="correction",
        )

    def _cancel(self, item: _Cancel, now_ms: int | None) -> Message:
        check_price("p", item.p)
        check_size("s", item.s)
        return Trade(
            symbol=item.S.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=rfc3339_ms(item.t),
            price=item.p,
            size=item.s,
            trade_id=str(item.i),
            exchange=item.x,
            tape=item.z,
            kind="cancel",
        )

    def _luld(self, item: _Luld, now_ms: int | None) -> Message:
        return PriceBands(
            symbol=item.S.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=rfc3339_ms(item.t),
            upper=item.u,
            lower=item.d,
            indicators=(item.i,) if item.i else (),
            tape=item.z,
        )

    def _status(self, item: _TradingStatus, now_ms: int | None) -> Message:
        return TRADING_STATES.get(item.sc, TradingStatus)(
            symbol=item.S.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=rfc3339_ms(item.t),
            reason=item.rm or item.rc or item.sm,
            code=item.sc,
            text=item.sm,
            reason_code=item.rc,
            tape=item.z,
        )

    def _imbalance(self, item: _Imbalance, now_ms: int | None) -> Message:
        return Imbalance(
            symbol=item.S.upper(),
            source=self.source,
            ingestion_timestamp_ms=now_ms,
            timestamp_ms=rfc3339_ms(item.t),
            price=item.p,
            tape=item.z,
        )

    def _news(self, item: _News, now_ms: int | None) -> list[Message]:
        created, updated = rfc3339_ms(item.created_at), rfc3339_ms(item.updated_at)
        return [
            News(
                symbol=symbol.upper(),
                source=self.source,
                ingestion_timestamp_ms=now_ms,
                news_id=str(item.id),
                created_ms=created,
                updated_ms=updated,
                headline=item.headline,
                summary=item.summary or "",
                author=item.author or "",
                url=item.url or "",
                publisher=item.source or "",
            )
            for symbol in item.symbols or ["*"]
        ]


def _connection_event(item: Any) -> ConnectionEvent:
    if isinstance(item, _Success):
        kinds = {"connected": "welcome", "authenticated": "authenticated"}
        return ConnectionEvent(kind=kinds.get(item.msg, "info"), text=item.msg)
    if isinstance(item, _Error):
        return ConnectionEvent(kind="error", code=str(item.code), text=item.msg)
    held = msgspec.structs.asdict(item)
    channels = {name: held[wire] for name, wire in CHANNELS.items() if held.get(wire)}
    return ConnectionEvent(kind="subscribed", channels=channels)
