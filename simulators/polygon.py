"""Polygon (Massive): arrays tagged ``ev``; ``max_connections`` after a successful login and subscription."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from models.messages import Bar, Message, Quote, Trade
from simulators.base import Session, Simulator, event_ms

_NAMES = {"T": "trades", "Q": "quotes", "AM": "bars", "LULD": "lulds"}
PAGE = 500


def wire(message: Message) -> dict[str, Any]:
    """An event as Polygon writes it."""
    match message:
        case Trade():
            return {"ev": "T", "sym": message.symbol, "x": 4, "i": message.trade_id, "z": 3, "p": message.price,
                    "s": message.size, "c": [int(c) for c in message.conditions], "t": message.timestamp_ms,
                    "q": int(message.trade_id) * 3}  # fmt: skip
        case Bar():
            return {"ev": "AM", "sym": message.symbol, "v": message.volume, "av": message.volume, "op": message.open,
                    "vw": message.vwap or message.close, "o": message.open, "c": message.close, "h": message.high,
                    "l": message.low, "a": message.close, "z": 100, "s": message.start_ms,
                    "e": message.end_ms}  # fmt: skip
        case Quote():
            return {"ev": "Q", "sym": message.symbol, "bx": 4, "bp": message.bid_price, "bs": message.bid_size, "ax": 7,
                    "ap": message.ask_price, "as": message.ask_size, "c": 0, "t": message.timestamp_ms, "q": 1,
                    "z": 3}  # fmt: skip
    raise TypeError(type(message))


class PolygonSimulator(Simulator):
    """One connection for each asset class."""

    def is_socket(self, path: str) -> bool:
        """Asset classes."""
        return path in ("/stocks", "/crypto")

    async def _status(self, session: Session, status: str, text: str) -> None:
        await self.send(session, json.dumps([{"ev": "status", "status": status, "message": text}]))

    async def greet(self, session: Session) -> None:
        """Connected."""
        await self._status(session, "connected", "Connected Successfully")

    async def answer(self, session: Session, text: str) -> None:
        """Login and subscriptions."""
        held = json.loads(text)
        if held["action"] == "auth":
            if self.errors_next:
                await self._status(session, self.errors_next.pop(0), "as commanded")
                await session.socket.close(1008)
            elif self.refuse_next > 0 or held["params"] != self.key:
                self.refuse_next -= 1
                await self._status(session, "auth_failed", "authentication failed")
                await session.socket.close(1008)
            else:
                session.authenticated = True
                await self._status(session, "auth_success", "authenticated")
        elif held["action"] == "subscribe":
            for param in held["params"].split(","):
                prefix, _, symbol = param.partition(".")
                session.channels.setdefault(_NAMES[prefix], set()).add(symbol)
                await self._status(session, "success", f"subscribed to: {param}")
            if self.limit_next > 0:  # measured by a third party: it comes after everything looked well
                self.limit_next -= 1
                await self._status(session, "max_connections", "Maximum number of websocket connections exceeded.")
                await session.socket.close(1008)

    def encode(self, messages: Sequence[Message]) -> list[str]:
        """One array holds them all."""
        return [json.dumps([wire(message) for message in messages], separators=(",", ":"))]

    def wrong_units(self, message: Message) -> str:
        """Nanoseconds, as the REST interface has them, where milliseconds belong."""
        return json.dumps([wire(message) | {"t": event_ms(message) * 1_000_000}])

    async def correct(self, count: int) -> None:
        """The newest bars again, with another volume."""
        for (channel, symbol), held in list(self.history.items()):
            if channel == "bars":
                again = [
                    msgspec.structs.replace(m, volume=(m.volume or 0.0) + 1)
                    for m in held[-count:]
                    if isinstance(m, Bar)
                ]
                for session in [s for s in self.sessions if {symbol, "*"} & s.channels.get("bars", set())]:
                    await self._send(session, again)

    async def error(self, code: Any) -> None:
        """A status while streaming."""
        for session in list(self.sessions):
            await self._status(session, str(code), "as commanded")

    def serve_history(self, path: str, query: dict[str, str]) -> Any:
        """Trades in ns, aggregates in ms, the option snapshot, news."""
        skip = int(query.get("cursor", "0"))
        parts = path.strip("/").split("/")
        if path.startswith("/v3/trades/"):
            start, end = int(query["timestamp.gte"]) // 1_000_000, int(query["timestamp.lte"]) // 1_000_000
            rows: list[Any] = [
                {"conditions": w["c"], "exchange": 4, "id": w["i"], "price": w["p"], "size": w["s"], "tape": 3,
                 "sip_timestamp": w["t"] * 1_000_000 + 345_678, "sequence_number": w["q"]}
                for w in (wire(m) for m in self.between("trades", parts[2], start, end))
            ]  # fmt: skip
            again = f"{self.rest}{path}?timestamp.gte={query['timestamp.gte']}&timestamp.lte={query['timestamp.lte']}"
            body: dict[str, Any] = {"status": "OK", "results": rows[skip : skip + PAGE]}
            if skip + PAGE < len(rows):
                body["next_url"] = f"{again}&cursor={skip + PAGE}"
            return body
        if path.startswith("/v3/quotes/"):
            start, end = int(query["timestamp.gte"]) // 1_000_000, int(query["timestamp.lte"]) // 1_000_000
            quotes = [
                {"ask_exchange": w["ax"], "ask_price": w["ap"], "ask_size": w["as"], "bid_exchange": w["bx"],
                 "bid_price": w["bp"], "bid_size": w["bs"], "sip_timestamp": w["t"] * 1_000_000 + 345_678}
                for w in (wire(m) for m in self.between("quotes", parts[2], start, end))
            ]  # fmt: skip
            return {"status": "OK", "results": quotes}
        if path == "/v3/reference/splits":
            return {"status": "OK", "results": [
                {"ticker": symbol, "execution_date": day, "split_to": to, "split_from": of}
                for symbol, day, to, of in self.splits
                if day >= query["execution_date.gte"] and query.get("ticker", symbol) == symbol
            ]}  # fmt: skip
        if path.startswith("/v2/aggs/ticker/"):
            bars = self.between("bars", parts[3], int(parts[7]), int(parts[8]))
            results = [{"c": b.close, "h": b.high, "l": b.low, "n": 1, "o": b.open, "t": b.start_ms, "v": b.volume,
                        "vw": b.vwap or b.close} for b in bars]  # fmt: skip
            return {"adjusted": False, "results": results, "resultsCount": len(results), "status": "OK",
                    "ticker": parts[3]}  # fmt: skip
        if path.startswith("/v3/snapshot/options/"):
            updated = 1_714_140_000_123_456_789
            return {"status": "OK", "results": [
                {"day": {"volume": 120, "last_updated": updated}, "open_interest": 1000, "implied_volatility": 0.31,
                 "greeks": {"delta": 0.5}, "details": {"contract_type": "call", "ticker": "O:AAPL240426C00162500"},
                 "last_trade": {"sip_timestamp": updated - 60_000_000_000}},
                {"day": {"volume": 60}, "open_interest": 400, "implied_volatility": 0.35, "greeks": {"delta": -0.45},
                 "details": {"contract_type": "put", "ticker": "O:AAPL240426P00162500"}},
            ]}  # fmt: skip
        if path == "/v2/reference/news":
            return {"status": "OK", "results": [
                {"id": "a1", "publisher": {"name": "Wire"}, "title": "Apple beats estimates", "author": "A",
                 "published_utc": "2024-04-26T14:00:00Z", "article_url": "u", "tickers": ["AAPL", "MSFT"],
                 "description": "Strong gains."},
            ]}  # fmt: skip
        raise KeyError(path)
