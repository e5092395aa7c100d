"""Alpaca: arrays tagged ``T``, login by key, one connection allowed, history at ``/v2/stocks`` and ``/v1beta1``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from models.events import PriceBands, TradingState
from models.messages import Bar, Message, News, Quote, Trade
from simulators.base import Session, Simulator, event_ms

_NAMES = {"trades": "trades", "quotes": "quotes", "bars": "bars", "news": "news", "statuses": "statuses",
          "updatedBars": "updated_bars", "dailyBars": "daily_bars", "lulds": "lulds"}  # fmt: skip
_STATUS = {"halt": "H", "pause": "P", "quotation_resume": "Q", "resume": "T"}
#: Most rows in one page of history, so that paging is met.
PAGE = 500


def iso(time_ms: int) -> str:
    """RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms(text: str) -> int:
    """Epoch milliseconds of RFC 3339."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def wire(message: Message) -> dict[str, Any]:
    """An event as Alpaca writes it."""
    match message:
        case Trade(kind="correction"):
            return {"T": "c", "S": message.symbol, "x": message.exchange, "oi": int(message.corrects_id),
                    "op": message.price, "os": message.size, "oc": ["@"], "ci": int(message.trade_id),
                    "cp": message.price, "cs": message.size, "cc": ["@"], "z": "C",
                    "t": iso(message.timestamp_ms)}  # fmt: skip
        case Trade(kind="cancel"):
            return {"T": "x", "S": message.symbol, "i": int(message.trade_id), "x": message.exchange, "a": "C",
                    "p": message.price, "s": message.size, "z": "C", "t": iso(message.timestamp_ms)}  # fmt: skip
        case Trade():
            return {"T": "t", "i": int(message.trade_id), "S": message.symbol, "x": message.exchange or "V",
                    "p": message.price, "s": message.size, "t": iso(message.timestamp_ms),
                    "c": list(message.conditions) or ["@"], "z": message.tape or "C"}  # fmt: skip
        case Bar():
            return {"T": {0: "b"}.get(message.revision, "u") if message.timeframe != "1d" else "d",
                    "S": message.symbol, "o": message.open, "h": message.high, "l": message.low, "c": message.close,
                    "v": message.volume, "n": message.trade_count or 1, "vw": message.vwap or message.close,
                    "t": iso(message.start_ms)}  # fmt: skip
        case Quote():
            return {"T": "q", "S": message.symbol, "bx": "U", "bp": message.bid_price or 0, "ax": "Q",
                    "bs": int(message.bid_size or 0) // 100, "ap": message.ask_price or 0,
                    "as": int(message.ask_size or 0) // 100, "c": ["R"], "z": "C",
                    "t": iso(message.timestamp_ms)}  # fmt: skip
        case PriceBands():
            return {"T": "l", "S": message.symbol, "u": message.upper, "d": message.lower, "i": "B",
                    "z": "C", "t": iso(message.timestamp_ms)}  # fmt: skip
        case TradingState():
            return {"T": "s", "S": message.symbol, "sc": _STATUS[message.kind], "sm": message.kind, "rc": "T12",
                    "rm": message.reason, "z": "C", "t": iso(message.timestamp_ms)}  # fmt: skip
        case News():
            return {"T": "n", "id": int(message.news_id), "headline": message.headline, "summary": message.summary,
                    "author": message.author, "created_at": iso(message.created_ms), "content": "",
                    "updated_at": iso(message.updated_ms), "url": message.url, "symbols": [message.symbol],
                    "source": message.publisher}  # fmt: skip
    raise TypeError(type(message))


class AlpacaSimulator(Simulator):
    """One endpoint for every feed path."""

    secret = "secret"
    limit_on_login = True

    def is_socket(self, path: str) -> bool:
        """Feeds have two parts; history has more."""
        return path in ("/v2/iex", "/v2/sip", "/v2/test", "/v1beta1/news")

    async def greet(self, session: Session) -> None:
        """Connected."""
        await self.send(session, '[{"T":"success","msg":"connected"}]')

    async def _error(self, session: Session, code: int, text: str) -> None:
        await self.send(session, json.dumps([{"T": "error", "code": code, "msg": text}]))

    async def answer(self, session: Session, text: str) -> None:
        """Login and subscriptions."""
        try:
            held = json.loads(text)
            action = held["action"]
        except (ValueError, KeyError):
            await self._error(session, 400, "invalid syntax")
            return
        if action == "auth":
            if self.limit_next > 0:
                self.limit_next -= 1
                await self._error(session, 406, "connection limit exceeded")
            elif self.refuse_next > 0 or (held.get("key"), held.get("secret")) != (self.key, self.secret):
                self.refuse_next -= 1
                await self._error(session, 402, "auth failed")
                await session.socket.close(1008)
            elif self.errors_next:
                await self._error(session, self.errors_next.pop(0), "as commanded")
            else:
                session.authenticated = True
                await self.send(session, '[{"T":"success","msg":"authenticated"}]')
        elif not session.authenticated:
            await self._error(session, 401, "not authenticated")
        elif action == "subscribe":
            wanted = {_NAMES[name]: set(symbols) for name, symbols in held.items() if name in _NAMES}
            total = {symbol for symbols in wanted.values() for symbol in symbols}
            if self.symbol_limit and len(total) > self.symbol_limit:
                await self._error(session, 405, "symbol limit exceeded")
                return
            if self.errors_next:
                await self._error(session, self.errors_next.pop(0), "as commanded")
                return
            for name, symbols in wanted.items():
                session.channels.setdefault(name, set()).update(symbols)
            ack = {wire_name: sorted(session.channels.get(ours, ())) for wire_name, ours in _NAMES.items()}
            trades = sorted(session.channels.get("trades", ()))
            await self.send(session, json.dumps([{"T": "subscription", **ack, "corrections": trades,
                                                  "cancelErrors": trades}]))  # fmt: skip

    def encode(self, messages: Sequence[Message]) -> list[str]:
        """One array holds them all."""
        return [json.dumps([wire(message) for message in messages], separators=(",", ":"))]

    def wrong_units(self, message: Message) -> str:
        """Epoch milliseconds where RFC 3339 belongs."""
        return json.dumps([wire(message) | {"t": str(event_ms(message))}])

    async def correct(self, count: int) -> None:
        """Each trade corrected to another price, then cancelled; each bar updated."""
        await self._to_all(self._correction, count)
        for (channel, _), held in list(self.history.items()):
            if channel == "bars":
                updated = [
                    msgspec.structs.replace(m, volume=(m.volume or 0.0) + 1, revision=1)
                    for m in held[-count:]
                    if isinstance(m, Bar)
                ]
                for session in [s for s in self.sessions if "updated_bars" in s.channels]:
                    await self._send(session, updated)

    def _correction(self, message: Message) -> str:
        assert isinstance(message, Trade)
        number = str(10_000_000 + int(message.trade_id))
        corrected = msgspec.structs.replace(
            message, kind="correction", corrects_id=message.trade_id, trade_id=number, price=message.price + 0.01
        )
        return self.encode([corrected, msgspec.structs.replace(corrected, kind="cancel", corrects_id="")])[0]

    async def error(self, code: Any) -> None:
        """An error while streaming."""
        for session in list(self.sessions):
            await self._error(session, int(code), "as commanded")

    def serve_history(self, path: str, query: dict[str, str]) -> Any:
        """Trades, bars, news, option snapshots and option bars, by pages of :data:`PAGE`."""
        skip = int(query.get("page_token", "0"))
        if path == "/v1/corporate-actions":
            wanted = query.get("symbols", "").split(",")
            held: dict[str, list[Any]] = {"forward_splits": [], "reverse_splits": []}
            for symbol, day, to, of in self.splits:
                if query["start"] <= day <= query["end"] and (symbol in wanted or "symbols" not in query):
                    held["forward_splits" if to > of else "reverse_splits"].append(
                        {"symbol": symbol, "new_rate": to, "old_rate": of, "process_date": day, "ex_date": day}
                    )
            return {"corporate_actions": held, "next_page_token": None}
        if path in ("/v2/stocks/trades", "/v2/stocks/bars", "/v2/stocks/quotes"):
            kind = path.rpartition("/")[2]
            start, end = ms(query["start"]), ms(query["end"])
            rows: list[tuple[str, dict[str, Any]]] = []
            for symbol in query["symbols"].split(","):
                for message in self.between(kind, symbol, start, end):
                    if isinstance(message, Trade) and message.kind != "new":
                        continue
                    row = wire(message)
                    rows.append((symbol, {name: row[name] for name in row if name not in "TS"}))
            body: dict[str, list[Any]] = {}
            for symbol, row in rows[skip : skip + PAGE]:
                body.setdefault(symbol, []).append(row)
            return {kind: body, "next_page_token": str(skip + PAGE) if skip + PAGE < len(rows) else None}
        if path == "/v1beta1/news":
            found = [m for (channel, _), held in self.history.items() if channel == "news" for m in held]
            found = [m for m in found if ms(query["start"]) <= event_ms(m) <= ms(query["end"])]
            news = [wire(message) for message in sorted(found, key=event_ms)]
            limit = int(query.get("limit", "50"))
            more = str(skip + limit) if skip + limit < len(news) else None
            return {"news": [{n: v for n, v in r.items() if n != "T"} for r in news[skip : skip + limit]],
                    "next_page_token": more}  # fmt: skip
        if path.startswith("/v1beta1/options/snapshots/"):
            name = path.rpartition("/")[2]
            stamp = iso(1_714_140_000_000)
            return {"snapshots": {
                f"{name}240426C00162500": {"greeks": {"delta": 0.52}, "impliedVolatility": 0.337,
                                           "latestTrade": {"t": stamp, "p": 4.1, "s": 1}},
                f"{name}240426P00162500": {"greeks": {"delta": -0.48}, "impliedVolatility": 0.343,
                                           "latestQuote": {"t": stamp, "bp": 1, "ap": 2}},
                f"{name}240426P00100000": {"greeks": {"delta": -0.01}, "impliedVolatility": 1.9},
            }, "next_page_token": None}  # fmt: skip
        if path == "/v1beta1/options/bars":
            volumes = {"C00162500": 200, "P00162500": 90, "P00100000": 10}
            return {"bars": {s: [{"t": query["start"], "v": volumes[s[-9:]]}] for s in query["symbols"].split(",")},
                    "next_page_token": None}  # fmt: skip
        raise KeyError(path)
