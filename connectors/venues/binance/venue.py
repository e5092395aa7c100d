"""Binance as a venue: its settings, the connections they ask for and its history."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from connectors.venues.base import Capabilities, Stream, VenueSettings
from connectors.venues.binance.history import BinanceHistory
from connectors.venues.binance.socket import STREAMS_MAX, Adapter
from connectors.venues.history import History
from models.trade.calendar import ALWAYS

__all__ = ["Adapter", "Settings"]


class Settings(VenueSettings):
    """Binance: as many connections as the streams need. A connection is replaced before its 24 hours are over."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        calendar=ALWAYS, asset_class="crypto", sale_conditions={}, ordered_ids=True
    )

    host: str = "wss://stream.binance.com:9443"
    rest: str = "https://api.binance.com"
    source: str = "binance"
    symbols: list[str] = ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
    channels: list[str] = ["trades", "ticker", "bars"]
    time_unit: str = Field("ms", pattern="^(ms|us)$")
    ping_interval_s: float = Field(20, gt=0)
    ping_timeout_s: float = Field(20, gt=0)
    lifetime_s: float = Field(23.5 * 3600, ge=0)
    stale_s: dict[str, float] = {"trades": 300, "ticker": 30}

    def streams(self) -> list[Stream]:
        """The symbols split so that no connection has more than :data:`STREAMS_MAX` streams."""
        each = max(1, STREAMS_MAX // max(1, len(self.channels)))
        return [
            Stream(
                self.source if number == 0 else f"{self.source}-{number}",
                Adapter(host=self.host, source=self.source, time_unit=self.time_unit),
                dict.fromkeys(self.channels, self.symbols[at : at + each]),
            )
            for number, at in enumerate(range(0, len(self.symbols), each))
        ]

    def history(self) -> History:
        """``api.binance.com``."""
        aggregates = "agg_trades" in self.channels and "trades" not in self.channels
        return BinanceHistory(self.rest, self.source, aggregates)
