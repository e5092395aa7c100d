"""Polygon (Massive) as a venue: its settings, the connections they ask for and its history."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from connectors.venues.base import Capabilities, Stream, VenueSettings, reveal, secret_from
from connectors.venues.history import History
from connectors.venues.polygon.history import PolygonHistory
from connectors.venues.polygon.socket import Adapter

__all__ = ["Adapter", "Settings"]

#: Polygon's numbers for the tapes' codes.
SALE_CONDITIONS: dict[str, str] = {
    "2": "W", "5": "G", "7": "C", "10": "4", "12": "T", "13": "U", "15": "M", "16": "Q", "20": "N", "21": "H",
    "22": "P", "29": "R", "32": "Z", "33": "Z", "37": "I", "38": "9", "52": "V", "53": "7",
}  # fmt: skip


class Settings(VenueSettings):
    """Polygon (Massive): one connection for stocks."""

    capabilities: ClassVar[Capabilities] = Capabilities(sale_conditions=SALE_CONDITIONS, splits=True, news="poll")

    host: str = "wss://socket.massive.com"
    rest: str = "https://api.massive.com"
    path: str = "stocks"
    key: SecretStr | None = Field(default_factory=secret_from("POLYGON_API_KEY", "MASSIVE_API_KEY"))
    symbols: list[str] = ["*"]
    channels: list[str] = ["trades", "quotes", "bars"]
    news: list[str] = Field(default_factory=list, description="symbols whose news is polled; * for all")
    stale_s: dict[str, float] = {"trades": 30, "quotes": 30, "bars": 150}

    def missing(self) -> list[str]:
        """The key."""
        remedy = "set POLYGON_API_KEY, or key under [polygon] in the settings file"
        return [] if self.key else [f"polygon.key is missing: {remedy}"]

    def streams(self) -> list[Stream]:
        """One: a second connection to an asset class is refused."""
        adapter = Adapter(host=self.host, path=self.path, key=reveal(self.key))
        return [Stream("polygon", adapter, dict.fromkeys(self.channels, self.symbols))]

    def history(self) -> History:
        """``api.massive.com``."""
        return PolygonHistory(self.rest, reveal(self.key))
