"""Binance.US: Binance's protocol at its own host (server ping every 3 min, pong within 10)."""

from __future__ import annotations

from connectors.venues.binance import venue as binance


class Adapter(binance.Adapter):
    """Binance's adapter with the American host and source name."""

    def __init__(
        self, host: str = "wss://stream.binance.us:9443", source: str = "binance_us", time_unit: str = "ms"
    ) -> None:
        super().__init__(host=host, source=source, time_unit=time_unit)


class Settings(binance.Settings):
    """Binance.US, as Binance."""

    host: str = "wss://stream.binance.us:9443"
    rest: str = "https://api.binance.us"
    source: str = "binance_us"
