"""Binance's history: klines (weight 2) and trades by id (weight 25). 429 means stop, 418 a ban; both say how long.

It has no history of quotes: ``ticker/24hr`` and ``ticker/bookTicker`` give the present only. What an outage lost
of them is declared as a gap and reported as unfilled. It has neither news, options of shares nor splits.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from connectors.venues.binance.socket import Adapter
from connectors.venues.history import History, mark
from connectors.venues.http import Http
from models.messages import TIMEFRAME_MS, Bar, Trade

#: Rows in one answer.
ROWS_MAX = 1000


class BinanceHistory(History):
    """REST history. ``aggregates``: ids are those of aggregate trades."""

    def __init__(self, base: str, source: str = "binance", aggregates: bool = False) -> None:
        self.source, self._aggregates = source, aggregates
        self.http = Http(base)
        self._adapter = Adapter(source=source)

    async def trades_by_id(self, symbol: str, first: int, last: int) -> list[Trade]:
        """``/api/v3/historicalTrades?fromId`` or ``/api/v3/aggTrades?fromId``."""
        path = "/api/v3/aggTrades" if self._aggregates else "/api/v3/historicalTrades"
        events: list[dict[str, Any]] = []
        at = first
        while at <= last:
            rows = await self.http.get(path, {"symbol": symbol, "fromId": at, "limit": min(ROWS_MAX, last - at + 1)})
            if not rows:
                break
            for row in rows:
                if self._aggregates:
                    events.append({"e": "aggTrade", "s": symbol, **row})
                else:
                    events.append(
                        {
                            "e": "trade",
                            "s": symbol,
                            "t": row["id"],
                            "p": row["price"],
                            "q": row["qty"],
                            "T": row["time"],
                        }
                    )
            newest = int(rows[-1]["a" if self._aggregates else "id"])
            if newest < at:
                break
            at = newest + 1
        parsed = self._adapter.parse_many([msgspec.json.encode(event) for event in events], int(time.time() * 1000))
        if parsed.rejects:
            raise ValueError(f"{self.source} history of {symbol}: {parsed.rejects[0].reason}")
        return mark([t for t in parsed.messages if isinstance(t, Trade) and first <= int(t.trade_id) <= last])

    async def bars(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Bar]:
        """``/api/v3/klines``: array rows, only those already closed."""
        if timeframe not in TIMEFRAME_MS:
            raise self._lacks(f"{timeframe} bars")
        length, now_ms, bars = TIMEFRAME_MS[timeframe], int(time.time() * 1000), []
        while start_ms <= end_ms:
            params = {"symbol": symbol, "interval": timeframe, "startTime": start_ms, "endTime": end_ms}
            rows = await self.http.get("/api/v3/klines", params | {"limit": ROWS_MAX})
            for row in rows:
                volume = float(row[5])
                bars.append(
                    Bar(
                        symbol=symbol.upper(),
                        source=self.source,
                        ingestion_timestamp_ms=now_ms,
                        backfilled=True,
                        timeframe=timeframe,
                        start_ms=row[0],
                        end_ms=row[0] + length,
                        open=float(row[1]),
                        high=float(row[2]),
                        low=float(row[3]),
                        close=float(row[4]),
                        volume=volume,
                        trade_count=row[8],
                        vwap=float(row[7]) / volume if volume else None,
                    )
                )
            if len(rows) < ROWS_MAX:
                break
            start_ms = rows[-1][0] + length
        return [bar for bar in bars if bar.end_ms <= now_ms]

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()
