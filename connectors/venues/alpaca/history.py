"""Alpaca's history: ``data.alpaca.markets``. 200 requests per minute on the basic plan; page tokens.

Traps: ``limit`` counts rows in all, not by symbol; news is sorted by update time (an edit moves an article); option
snapshots carry neither volume nor open interest, so volumes come from the day's option bars; a split's ``payable_date``
may lie before its ``ex_date``, which is the day of the new price.
"""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import Any

import msgspec

from connectors.venues.alpaca.socket import ROUND_LOT, Adapter
from connectors.venues.base import rfc3339_ms
from connectors.venues.history import History, M, iso, mark, number, split, today
from connectors.venues.http import Http
from connectors.venues.option_chain import Contract, kind_of, reduce_chain
from models.events import Split
from models.messages import TIMEFRAME_MS, Bar, News, OptionSummary, Quote, Trade

_TIMEFRAMES = {"1m": "1Min", "5m": "5Min", "1h": "1Hour", "1d": "1Day"}
#: Days ahead for which splits are requested.
SPLIT_DAYS = 60
#: Contracts in one request for option bars.
CONTRACTS_MAX = 100


class AlpacaHistory(History):
    """REST history. ``feed`` is ``iex`` or ``sip``."""

    def __init__(
        self,
        base: str,
        key: str,
        secret: str,
        feed: str = "iex",
        source: str = "alpaca",
        round_lot: int = ROUND_LOT,
    ) -> None:
        self.source, self._feed = source, feed
        self.http = Http(base, {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret})
        self._adapter = Adapter(source=source, round_lot=round_lot)

    async def _pages(self, path: str, field: str, params: dict[str, Any]) -> list[Any]:
        pages: list[Any] = []
        token: str | None = None
        while True:
            body = await self.http.get(path, params | ({"page_token": token} if token else {}))
            pages.append(body.get(field) or {})
            token = body.get("next_page_token")
            if not token:
                return pages

    def _messages(self, tag: str, symbol: str, rows: list[dict[str, Any]], kind: type[M]) -> list[M]:
        frame = msgspec.json.encode([{**row, "T": tag, **({"S": symbol} if symbol else {})} for row in rows])
        parsed = self._adapter.parse(frame, int(time.time() * 1000))
        if parsed.rejects:
            raise ValueError(f"{self.source} history of {symbol}: {parsed.rejects[0].reason}")
        return [message for message in parsed.messages if isinstance(message, kind)]

    def _span(self, start_ms: int, end_ms: int) -> dict[str, Any]:
        return {"start": iso(start_ms), "end": iso(end_ms), "limit": 10_000, "feed": self._feed, "sort": "asc"}

    async def trades(self, symbol: str, start_ms: int, end_ms: int) -> list[Trade]:
        """``/v2/stocks/trades``."""
        pages = await self._pages("/v2/stocks/trades", "trades", {"symbols": symbol, **self._span(start_ms, end_ms)})
        return mark(self._messages("t", symbol, [r for p in pages for r in p.get(symbol, [])], Trade))

    async def quotes(self, symbol: str, start_ms: int, end_ms: int) -> list[Quote]:
        """``/v2/stocks/quotes``."""
        pages = await self._pages("/v2/stocks/quotes", "quotes", {"symbols": symbol, **self._span(start_ms, end_ms)})
        return mark(self._messages("q", symbol, [r for p in pages for r in p.get(symbol, [])], Quote))

    async def splits(self, symbols: list[str], now_ms: int) -> list[Split]:
        """``/v1/corporate-actions``, forward and reverse splits by ex date (all symbols for ``*``)."""
        day = today(now_ms)
        params: dict[str, Any] = {"types": "forward_split,reverse_split", "limit": 1000, "sort": "asc"}
        params |= {"start": str(day), "end": str(day + timedelta(days=SPLIT_DAYS))}
        if "*" not in symbols:
            params["symbols"] = ",".join(symbols)
        found = []
        for page in await self._pages("/v1/corporate-actions", "corporate_actions", params):
            for row in [*page.get("forward_splits", []), *page.get("reverse_splits", [])]:
                if date.fromisoformat(row["ex_date"]) >= day:
                    rates = (row["new_rate"], row["old_rate"])
                    found.append(split(row["symbol"], self.source, row["ex_date"], *rates, now_ms))
        return found

    async def bars(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Bar]:
        """``/v2/stocks/bars``, raw prices."""
        if timeframe not in _TIMEFRAMES:
            raise self._lacks(f"{timeframe} bars")
        params = {"symbols": symbol, "timeframe": _TIMEFRAMES[timeframe], "adjustment": "raw"}
        pages = await self._pages("/v2/stocks/bars", "bars", params | self._span(start_ms, end_ms))
        bars = self._messages("b", symbol, [r for p in pages for r in p.get(symbol, [])], Bar)
        length = TIMEFRAME_MS[timeframe]
        return [
            msgspec.structs.replace(bar, timeframe=timeframe, end_ms=bar.start_ms + length, backfilled=True)
            for bar in bars
            if isinstance(bar, Bar)
        ]

    async def news(self, symbols: list[str], start_ms: int, end_ms: int) -> list[News]:
        """``/v1beta1/news``, 50 a page, oldest update first."""
        params = {"start": iso(start_ms), "end": iso(end_ms), "limit": 50, "sort": "asc"}
        if symbols and "*" not in symbols:
            params["symbols"] = ",".join(symbols)
        pages = await self._pages("/v1beta1/news", "news", params)
        return mark(self._messages("n", "", [row for page in pages for row in page], News))

    async def options(self, underlying: str, now_ms: int) -> OptionSummary:
        """``/v1beta1/options/snapshots/{underlying}`` for IV, ``/v1beta1/options/bars`` for the day's volumes."""
        pages = await self._pages(f"/v1beta1/options/snapshots/{underlying}", "snapshots", {"limit": 1000})
        chain = {symbol: snapshot for page in pages for symbol, snapshot in page.items()}
        volumes: dict[str, float] = {}
        names = sorted(chain)
        for at in range(0, len(names), CONTRACTS_MAX):
            params = {"symbols": ",".join(names[at : at + CONTRACTS_MAX]), "timeframe": "1Day", "limit": 10_000}
            params["start"] = iso(now_ms // 86_400_000 * 86_400_000)
            for page in await self._pages("/v1beta1/options/bars", "bars", params):
                for symbol, rows in page.items():
                    volumes[symbol] = volumes.get(symbol, 0.0) + sum(float(row["v"]) for row in rows)
        contracts = []
        for symbol, snapshot in chain.items():
            stamps = [snapshot[part]["t"] for part in ("latestTrade", "latestQuote") if snapshot.get(part)]
            contracts.append(
                Contract(
                    kind=kind_of(symbol),
                    volume=volumes.get(symbol),
                    implied_volatility=number(snapshot, "impliedVolatility"),
                    delta=number(snapshot, "greeks", "delta"),
                    event_ms=max((rfc3339_ms(stamp) for stamp in stamps), default=None),
                )
            )
        return reduce_chain(underlying, contracts, self.source, now_ms)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()
