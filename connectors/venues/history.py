"""Interface of a venue's history. Each method returns messages already marked ``backfilled``, oldest first."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from models.events import Split
from models.messages import Bar, Message, News, OptionSummary, Quote, Trade

M = TypeVar("M", bound=Message)


class History:
    """The base of all: a venue overrides what it has; the rest raises NotImplementedError naming venue and request."""

    source = ""

    def _lacks(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{self.source} has no history of {what}")

    async def trades(self, symbol: str, start_ms: int, end_ms: int) -> list[Trade]:
        """Trades in ``[start_ms, end_ms]``."""
        raise self._lacks("trades by time")

    async def trades_by_id(self, symbol: str, first: int, last: int) -> list[Trade]:
        """Trades by id, both ends included."""
        raise self._lacks("trades by id")

    async def quotes(self, symbol: str, start_ms: int, end_ms: int) -> list[Quote]:
        """Quotes in ``[start_ms, end_ms]``."""
        raise self._lacks("quotes")

    async def bars(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Bar]:
        """Final bars whose start is in ``[start_ms, end_ms]``."""
        raise self._lacks("bars")

    async def news(self, symbols: list[str], start_ms: int, end_ms: int) -> list[News]:
        """Articles updated in ``[start_ms, end_ms]``."""
        raise self._lacks("news")

    async def options(self, underlying: str, now_ms: int) -> OptionSummary:
        """The option chain of an underlying, now, reduced."""
        raise self._lacks("options")

    async def splits(self, symbols: list[str], now_ms: int) -> list[Split]:
        """Splits of shares that take effect today in New York or later, as far as they are announced."""
        raise self._lacks("splits")

    async def close(self) -> None:
        """Close the connections."""


_NEW_YORK = ZoneInfo("America/New_York")


def today(now_ms: int) -> date:
    """The date in New York."""
    return datetime.fromtimestamp(now_ms / 1000, _NEW_YORK).date()


def split(symbol: str, source: str, day: str, split_to: float, split_from: float, now_ms: int) -> Split:
    """A split of ``split_to`` new shares for ``split_from`` old ones.

    It takes effect at the midnight that begins ``day`` (``2024-06-10``) in New York, before any trade at the new price;
    the event's own time is that of the announcement's arrival. ValueError names an invalid ratio.

    >>> known = split("NVDA", "polygon", "2024-06-10", 10, 1, 1_717_000_000_000)
    >>> known.ratio, known.effective_ms
    (10.0, 1717992000000)
    """
    if not (split_to > 0 and split_from > 0):
        raise ValueError(f"split of {symbol}: {split_to!r} for {split_from!r}: both must be above 0")
    effective = datetime.combine(date.fromisoformat(day), time(), _NEW_YORK)
    return Split(
        symbol=symbol.upper(),
        source=source,
        ingestion_timestamp_ms=now_ms,
        timestamp_ms=now_ms,
        reason=f"{split_to:g} for {split_from:g} on {day}",
        ratio=split_to / split_from,
        effective_ms=int(effective.timestamp() * 1000),
    )


def mark(messages: list[M]) -> list[M]:
    """The messages as backfilled."""
    return [msgspec.structs.replace(message, backfilled=True) for message in messages]


def iso(time_ms: int) -> str:
    """RFC 3339 of epoch milliseconds.

    >>> iso(1_600_000_000_123)
    '2020-09-13T12:26:40.123Z'
    """
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(row: dict[str, Any], *path: str) -> float | None:
    """A number inside nested objects, or None if any step is missing.

    >>> number({"day": {"volume": 5}}, "day", "volume"), number({}, "day", "volume")
    (5.0, None)
    """
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None
