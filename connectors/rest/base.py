"""What a venue's history offers. Each method returns messages already marked ``backfilled``, oldest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from models.messages import Bar, Message, News, OptionSummary, Trade

M = TypeVar("M", bound=Message)


class History:
    """The base of all: a venue overrides what it has; the rest raises NotImplementedError naming venue and wish."""

    source = ""

    def _lacks(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{self.source} has no history of {what}")

    async def trades(self, symbol: str, start_ms: int, end_ms: int) -> list[Trade]:
        """Trades in ``[start_ms, end_ms]``."""
        raise self._lacks("trades by time")

    async def trades_by_id(self, symbol: str, first: int, last: int) -> list[Trade]:
        """Trades by id, both ends included."""
        raise self._lacks("trades by id")

    async def bars(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Bar]:
        """Final bars whose start is in ``[start_ms, end_ms]``."""
        raise self._lacks("bars")

    async def news(self, symbols: list[str], start_ms: int, end_ms: int) -> list[News]:
        """Articles updated in ``[start_ms, end_ms]``."""
        raise self._lacks("news")

    async def options(self, underlying: str, now_ms: int) -> OptionSummary:
        """The option chain of an underlying, now, reduced."""
        raise self._lacks("options")

    async def close(self) -> None:
        """Close the connections."""


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
