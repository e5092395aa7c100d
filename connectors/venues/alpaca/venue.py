"""Alpaca as a venue: its settings, the connections they ask for and its history."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, SecretStr

from connectors.venues.alpaca.history import AlpacaHistory
from connectors.venues.alpaca.socket import ROUND_LOT, Adapter
from connectors.venues.base import Capabilities, Stream, VenueSettings, reveal, secret_from
from connectors.venues.history import History

__all__ = ["Adapter", "Settings"]


class Settings(VenueSettings):
    """Alpaca: one connection to a stock feed and, with ``news``, one to the news feed."""

    capabilities: ClassVar[Capabilities] = Capabilities(splits=True, news="stream")

    host: str = "wss://stream.data.alpaca.markets"
    rest: str = "https://data.alpaca.markets"
    feed: str = "v2/iex"
    news_feed: str = "v1beta1/news"
    key: SecretStr | None = Field(default_factory=secret_from("ALPACA_API_KEY", "APCA_API_KEY_ID"))
    secret: SecretStr | None = Field(default_factory=secret_from("ALPACA_SECRET_KEY", "APCA_API_SECRET_KEY"))
    symbols: list[str] = ["AAPL", "TSLA", "NVDA", "SPY", "QQQ"]
    channels: list[str] = ["trades", "quotes", "bars", "updated_bars", "statuses"]
    news: list[str] = Field(default_factory=list, description="symbols for the news feed; * for all")
    stale_s: dict[str, float] = {"trades": 60, "quotes": 60, "bars": 150}
    round_lot: int = Field(ROUND_LOT, ge=1)

    def missing(self) -> list[str]:
        """Key and secret."""
        wanted = {"key": "ALPACA_API_KEY", "secret": "ALPACA_SECRET_KEY"}
        return [
            f"alpaca.{name} is missing: set {variable}, or {name} under [alpaca] in the settings file"
            for name, variable in wanted.items()
            if not getattr(self, name)
        ]

    def streams(self) -> list[Stream]:
        """Stocks, and news if asked for."""
        keys: dict[str, Any] = {"host": self.host, "key": reveal(self.key), "secret": reveal(self.secret)}
        stocks = Adapter(feed=self.feed, round_lot=self.round_lot, **keys)
        found = [Stream("alpaca", stocks, dict.fromkeys(self.channels, self.symbols))]
        if self.news:
            found.append(Stream("alpaca-news", Adapter(feed=self.news_feed, **keys), {"news": self.news}))
        return found

    def history(self) -> History:
        """``data.alpaca.markets``."""
        feed = self.feed.rpartition("/")[2]
        feed = "sip" if "sip" in feed else "iex"
        return AlpacaHistory(self.rest, reveal(self.key), reveal(self.secret), feed, round_lot=self.round_lot)
