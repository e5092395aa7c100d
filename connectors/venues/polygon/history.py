"""Polygon's (Massive's) history: trades and quotes in nanoseconds, aggregates in milliseconds, ``next_url`` pages.

``/v3/snapshot/options`` carries open interest, IV and the day's volume; news carries no scores of ours.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from connectors.venues.base import rfc3339_ms
from connectors.venues.history import History, iso, mark, number, split, today
from connectors.venues.http import Http
from connectors.venues.option_chain import Contract, kind_of, reduce_chain
from connectors.venues.polygon.socket import Adapter
from models.events import Split
from models.messages import TIMEFRAME_MS, Bar, News, OptionSummary, Quote, Trade

_TIMEFRAMES = {"1s": "1/second", "1m": "1/minute", "5m": "5/minute", "1h": "1/hour", "1d": "1/day"}


def _span(start_ms: int, end_ms: int) -> dict[str, Any]:
    return {
        "timestamp.gte": start_ms * 1_000_000,
        "timestamp.lte": end_ms * 1_000_000 + 999_999,
        "limit": 50_000,
        "order": "asc",
        "sort": "timestamp",
    }


class PolygonHistory(History):
    """REST history."""

    def __init__(self, base: str, key: str, source: str = "polygon") -> None:
        self.source = source
        self.http = Http(base, {"Authorization": f"Bearer {key}"})
        self._adapter = Adapter(source=source)

    async def _rows(self, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        body = await self.http.get(path, params)
        rows: list[dict[str, Any]] = list(body.get("results") or [])
        while url := body.get("next_url"):
            body = await self.http.get(url)
            rows += body.get("results") or []
        return rows

    async def trades(self, symbol: str, start_ms: int, end_ms: int) -> list[Trade]:
        """``/v3/trades/{symbol}``."""
        rows = await self._rows(f"/v3/trades/{symbol}", _span(start_ms, end_ms))
        events: list[dict[str, Any]] = [
            {
                "ev": "T",
                "sym": symbol,
                "x": row.get("exchange", 0),
                "i": row.get("id", ""),
                "z": row.get("tape", 0),
                "p": row["price"],
                "s": row["size"],
                "c": row.get("conditions"),
                "t": row["sip_timestamp"] // 1_000_000,
            }
            for row in rows
        ]
        return self._messages(symbol, events)

    async def quotes(self, symbol: str, start_ms: int, end_ms: int) -> list[Quote]:
        """``/v3/quotes/{symbol}``."""
        rows = await self._rows(f"/v3/quotes/{symbol}", _span(start_ms, end_ms))
        events = [
            {
                "ev": "Q",
                "sym": symbol,
                "bx": row.get("bid_exchange"),
                "bp": row.get("bid_price", 0.0),
                "bs": row.get("bid_size", 0.0),
                "ax": row.get("ask_exchange"),
                "ap": row.get("ask_price", 0.0),
                "as": row.get("ask_size", 0.0),
                "c": row.get("conditions"),
                "t": row["sip_timestamp"] // 1_000_000,
            }
            for row in rows
        ]
        return self._messages(symbol, events)

    def _messages(self, symbol: str, events: list[dict[str, Any]]) -> list[Any]:
        """Rows of history, written as the socket's events, by the socket's own parser."""
        parsed = self._adapter.parse(msgspec.json.encode(events), int(time.time() * 1000))
        if parsed.rejects:
            raise ValueError(f"{self.source} history of {symbol}: {parsed.rejects[0].reason}")
        return mark(parsed.messages)

    async def splits(self, symbols: list[str], now_ms: int) -> list[Split]:
        """``/v3/reference/splits`` by execution date."""
        params = {"execution_date.gte": str(today(now_ms)), "order": "asc", "sort": "execution_date", "limit": 1000}
        if len(symbols) == 1 and symbols != ["*"]:
            params["ticker"] = symbols[0]
        wanted = None if "*" in symbols else {symbol.upper() for symbol in symbols}
        return [
            split(row["ticker"], self.source, row["execution_date"], row["split_to"], row["split_from"], now_ms)
            for row in await self._rows("/v3/reference/splits", params)
            if wanted is None or row["ticker"].upper() in wanted
        ]

    async def bars(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Bar]:
        """``/v2/aggs/ticker/{symbol}/range``, unadjusted."""
        if timeframe not in _TIMEFRAMES:
            raise self._lacks(f"{timeframe} bars")
        rows = await self._rows(
            f"/v2/aggs/ticker/{symbol}/range/{_TIMEFRAMES[timeframe]}/{start_ms}/{end_ms}",
            {"adjusted": "false", "sort": "asc", "limit": 50_000},
        )
        now_ms = int(time.time() * 1000)
        return [
            Bar(
                symbol=symbol.upper(),
                source=self.source,
                ingestion_timestamp_ms=now_ms,
                backfilled=True,
                timeframe=timeframe,
                start_ms=row["t"],
                end_ms=row["t"] + TIMEFRAME_MS[timeframe],
                open=row["o"],
                high=row["h"],
                low=row["l"],
                close=row["c"],
                volume=row["v"],
                trade_count=row.get("n"),
                vwap=row.get("vw"),
            )
            for row in rows
        ]

    async def news(self, symbols: list[str], start_ms: int, end_ms: int) -> list[News]:
        """``/v2/reference/news``; its only time is the publication's, taken for both."""
        now_ms = int(time.time() * 1000)
        params: dict[str, Any] = {
            "published_utc.gte": iso(start_ms), "published_utc.lte": iso(end_ms), "order": "asc", "limit": 1000,
            "sort": "published_utc",
        }  # fmt: skip
        if len(symbols) == 1 and symbols != ["*"]:
            params["ticker"] = symbols[0]
        wanted = None if not symbols or "*" in symbols else set(symbols)
        return [
            News(
                symbol=symbol.upper(),
                source=self.source,
                ingestion_timestamp_ms=now_ms,
                backfilled=True,
                news_id=str(row["id"]),
                created_ms=rfc3339_ms(row["published_utc"]),
                updated_ms=rfc3339_ms(row["published_utc"]),
                headline=row.get("title") or "",
                summary=row.get("description") or "",
                author=row.get("author") or "",
                url=row.get("article_url") or "",
                publisher=(row.get("publisher") or {}).get("name") or "",
            )
            for row in await self._rows("/v2/reference/news", params)
            for symbol in row.get("tickers") or ["*"]
            if wanted is None or symbol in wanted
        ]

    async def options(self, underlying: str, now_ms: int) -> OptionSummary:
        """``/v3/snapshot/options/{underlying}``."""
        contracts = []
        for row in await self._rows(f"/v3/snapshot/options/{underlying}", {"limit": 250}):
            details = row.get("details") or {}
            traded = number(row, "last_trade", "sip_timestamp")
            stamps = [number(row, part, "last_updated") for part in ("day", "last_quote", "underlying_asset")]
            contracts.append(
                Contract(
                    kind=details.get("contract_type") or kind_of(details["ticker"]),
                    volume=number(row, "day", "volume"),
                    open_interest=number(row, "open_interest"),
                    implied_volatility=number(row, "implied_volatility"),
                    delta=number(row, "greeks", "delta"),
                    event_ms=int(traded // 1_000_000) if traded else None,
                    updated_ms=max((int(stamp // 1_000_000) for stamp in stamps if stamp), default=None),
                )
            )
        return reduce_chain(underlying, contracts, self.source, now_ms)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()
