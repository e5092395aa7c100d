"""Polygon (Massive) as a venue: its settings, the connections they ask for and its history."""

from __future__ import annotations

from pydantic import Field, SecretStr

from connectors.venues.base import Stream, VenueSettings, reveal, secret_from
from connectors.venues.history import History
from connectors.venues.polygon.history import PolygonHistory
from connectors.venues.polygon.socket import Adapter

__all__ = ["Adapter", "Settings"]


class Settings(VenueSettings):
    """Polygon (Massive): one connection for stocks."""

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
