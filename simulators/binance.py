"""Binance: combined streams, contiguous trade ids, ``serverShutdown``, the 24-hour cut; history by id and by time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from models.messages import TIMEFRAME_MS, Bar, Message, Quote, Trade
from simulators.base import Session, Simulator

_NAMES = {"trade": "trades", "ticker": "quotes", "bookTicker": "quotes", "aggTrade": "agg_trades"}


def _text(value: float) -> str:
    return f"{value:.8f}"


def wire(message: Message) -> tuple[str, dict[str, Any]]:
    """Stream name and event as Binance writes them."""
    low = message.symbol.lower()
    match message:
        case Trade():
            return f"{low}@trade", {"e": "trade", "E": message.timestamp_ms, "s": message.symbol,
                                    "t": int(message.trade_id), "p": _text(message.price), "q": _text(message.size),
                                    "T": message.timestamp_ms, "m": True, "M": True}  # fmt: skip
        case Bar():
            volume = message.volume or 0.0
            kline = {"t": message.start_ms, "T": message.end_ms - 1, "s": message.symbol, "i": message.timeframe,
                     "f": 100, "L": 200, "o": _text(message.open), "c": _text(message.close), "h": _text(message.high),
                     "l": _text(message.low), "v": _text(volume), "n": message.trade_count or 1,
                     "x": message.final, "q": _text(volume * (message.vwap or message.close)), "V": "0",
                     "Q": "0", "B": "0"}  # fmt: skip
            return f"{low}@kline_{message.timeframe}", {"e": "kline", "E": message.end_ms, "s": message.symbol,
                                                        "k": kline}  # fmt: skip
        case Quote():
            last = message.last_price or 1.0
            return f"{low}@ticker", {"e": "24hrTicker", "E": message.timestamp_ms, "s": message.symbol, "p": "0",
                                     "P": "0", "w": _text(last), "x": _text(last), "c": _text(last), "Q": "1",
                                     "b": _text(message.bid_price or 0), "B": "1", "a": _text(message.ask_price or 0),
                                     "A": "1", "o": _text(last), "h": _text(last), "l": _text(last),
                                     "v": _text(message.volume_24h or 0), "q": "1", "O": 0, "C": 0, "F": 0, "L": 1,
                                     "n": 1}  # fmt: skip
    raise TypeError(type(message))


class BinanceSimulator(Simulator):
    """One event per frame, as the venue sends them."""

    def is_socket(self, path: str) -> bool:
        """Combined streams."""
        return path in ("/stream", "/ws")

    async def answer(self, session: Session, text: str) -> None:
        """SUBSCRIBE and its answer."""
        try:
            held = json.loads(text)
        except ValueError:
            await self.send(session, '{"code":3,"msg":"Invalid JSON"}')
            return
        if self.errors_next:
            await self.send(session, json.dumps({"code": self.errors_next.pop(0), "msg": "as commanded"}))
            return
        for stream in held["params"]:
            symbol, _, name = stream.partition("@")
            channel = "bars" if name.startswith("kline") else _NAMES[name]
            session.channels.setdefault(channel, set()).add(symbol.upper())
        await self.send(session, json.dumps({"result": None, "id": held["id"]}))

    def encode(self, messages: Sequence[Message]) -> list[str]:
        """Each wrapped with the name of its stream."""
        frames = []
        for message in messages:
            stream, data = wire(message)
            frames.append(json.dumps({"stream": stream, "data": data}, separators=(",", ":")))
        return frames

    def wrong_units(self, message: Message) -> str:
        """Microseconds without having been asked for."""
        stream, data = wire(message)
        return json.dumps({"stream": stream, "data": data | {"T": data["T"] * 1000}})

    async def error(self, code: Any) -> None:
        """An error while streaming."""
        for session in list(self.sessions):
            await self.send(session, json.dumps({"code": code, "msg": "as commanded"}))

    async def shutdown(self, lead_s: float) -> None:
        """``serverShutdown``, then the cut of the connections that received it."""
        notified = list(self.sessions)
        for session in notified:
            await self.send(session, '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}')

        async def cut() -> None:
            await asyncio.sleep(lead_s)
            for session in notified:
                session.socket.transport.abort()

        self._cut = asyncio.create_task(cut())

    def serve_history(self, path: str, query: dict[str, str]) -> Any:
        """Trades by id, klines by time."""
        symbol = query["symbol"]
        if path == "/api/v3/historicalTrades":
            held: list[Any] = self.history.get(("trades", symbol), [])
            first = int(query["fromId"]) - int(held[0].trade_id) if held else 0
            rows = held[max(0, first) : max(0, first) + int(query["limit"])]
            return [{"id": int(m.trade_id), "price": _text(m.price), "qty": _text(m.size), "quoteQty": "0",
                     "time": m.timestamp_ms, "isBuyerMaker": True, "isBestMatch": True} for m in rows]  # fmt: skip
        if path == "/api/v3/klines":
            bars = self.between("bars", symbol, int(query["startTime"]), int(query["endTime"]))
            bars = [b for b in bars if b.final and TIMEFRAME_MS[query["interval"]] == b.end_ms - b.start_ms]
            return [[b.start_ms, _text(b.open), _text(b.high), _text(b.low), _text(b.close), _text(b.volume),
                     b.end_ms - 1, _text(b.volume * (b.vwap or b.close)), b.trade_count or 1, "0", "0", "0"]
                    for b in bars[: int(query["limit"])]]  # fmt: skip
        raise KeyError(path)
