"""Detects gaps, and when they are filled. Pure: time is an argument.

Where numbers are contiguous a hole can be detected: Binance's trade ids, and the minutes of a session for minute bars.
Elsewhere (Alpaca and Polygon trades) only a broken connection proves that something may be missing: an
:class:`Outage` spans from the last event before it to the first after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from models.events import GapEvent, Numbering

Range = tuple[int, int]
#: Maximum trade ids, and milliseconds by channel, in one piece of a gap.
PART_IDS = 10_000
PART_MS = {"trades": 3 * 3_600_000, "quotes": 3_600_000, "bars": 10 * 86_400_000}


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Something missing: ids or minute starts ``[first, last]`` inclusive, or an outage from time to time (ms)."""

    symbol: str
    channel: str
    numbering: Numbering
    first: int
    last: int

    def fields(self) -> dict[str, Any]:
        """The fields of an event about it."""
        return {"channel": self.channel, "numbering": self.numbering, "first": self.first, "last": self.last}

    @classmethod
    def of(cls, event: GapEvent) -> Gap:
        """The gap that an event is about."""
        return cls(
            symbol=event.symbol, channel=event.channel, numbering=event.numbering, first=event.first, last=event.last
        )

    def parts(self) -> Iterator[Gap]:
        """The gap in pieces of which history gives each at once: after a long pause the whole may be millions."""
        size = PART_IDS if self.numbering == "ids" else PART_MS.get(self.channel, self.last - self.first + 1)
        for first in range(self.first, self.last + 1, size):
            yield msgspec.structs.replace(self, first=first, last=min(first + size - 1, self.last))


class Holes:
    """Holes in the contiguous numbers of many symbols.

    A hole is declared only after ``patience_ms``, because a late or reordered event may still fill it. ``expected``
    turns a hole into the parts of it that should exist (minutes in which the market was open); all of it by default.

    >>> holes = Holes(patience_ms=1000)
    >>> for number in (7, 8, 11, 10):
    ...     holes.see("BTCUSDT", number, now_ms=0)
    >>> holes.due(now_ms=999), holes.due(now_ms=1000)
    ([], [('BTCUSDT', (9, 9))])
    >>> holes.see("BTCUSDT", 9, now_ms=1500)
    >>> holes.missing("BTCUSDT")
    []
    """

    def __init__(self, patience_ms: int, expected: Callable[[int, int], list[Range]] | None = None) -> None:
        self._patience_ms = patience_ms
        self._expected = expected or (lambda first, last: [(first, last)])
        self._next: dict[str, int] = {}
        self._open: dict[str, list[tuple[int, int, int]]] = {}  # symbol -> (first, last, declared after ms)

    def see(self, symbol: str, number: int, now_ms: int) -> None:
        """A number arrived, in whatever order."""
        expected = self._next.get(symbol)
        if expected is None or number == expected:
            self._next[symbol] = number + 1
        elif number > expected:
            parts = self._expected(expected, number - 1)
            if parts:
                due = now_ms + self._patience_ms
                self._open.setdefault(symbol, []).extend((first, last, due) for first, last in parts)
            self._next[symbol] = number + 1
        elif symbol in self._open:
            self._fill(symbol, number)

    def _fill(self, symbol: str, number: int) -> None:
        kept = []
        for first, last, due in self._open[symbol]:
            if not first <= number <= last:
                kept.append((first, last, due))
                continue
            if first < number:
                kept.append((first, number - 1, due))
            if number < last:
                kept.append((number + 1, last, due))
        if kept:
            self._open[symbol] = kept
        else:
            del self._open[symbol]

    def due(self, now_ms: int) -> list[tuple[str, Range]]:
        """Holes older than the patience, each declared once."""
        found = []
        for symbol, holes in self._open.items():
            for at, (first, last, due) in enumerate(holes):
                if 0 <= due <= now_ms:
                    found.append((symbol, (first, last)))
                    holes[at] = (first, last, -1)  # stays open, but is not declared again
        return found

    def declared(self, symbol: str, first: int, last: int) -> None:
        """Holes between two numbers were declared before: they stay open, but are not declared again."""
        holes = self._open.get(symbol, [])
        self._open[symbol] = [(f, l, -1 if first <= f and l <= last else due) for f, l, due in holes]  # noqa: E741
        if not holes:
            del self._open[symbol]

    def missing(self, symbol: str) -> list[Range]:
        """What has still not arrived."""
        return [(first, last) for first, last, _ in self._open.get(symbol, [])]

    def forget(self, symbol: str, first: int, last: int) -> list[Range]:
        """Give up on what is still missing between two numbers; returns it."""
        lost = [(f, l) for f, l in self.missing(symbol) if first <= f and l <= last]  # noqa: E741
        kept = [hole for hole in self._open.get(symbol, []) if (hole[0], hole[1]) not in lost]
        if kept:
            self._open[symbol] = kept
        else:
            self._open.pop(symbol, None)
        return lost


class Outages:
    """Spans that a broken connection may have lost, by symbol, in event time.

    A symbol without an earlier event may have had its first one during an outage: its span is that of all outages
    so far, from the last event of any symbol before to the first of any after.

    >>> outages = Outages(margin_ms=0)
    >>> outages.see("AAPL", 1_000), outages.lost(), outages.see("AAPL", 5_000), outages.see("MSFT", 9_000)
    (None, None, (1000, 5000), (1000, 5000))
    """

    def __init__(self, margin_ms: int) -> None:
        self._margin_ms = margin_ms
        self._last: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self._newest: int | None = None
        self._first_lost: int | None = None
        self._heard_again: int | None = None

    def see(self, symbol: str, time_ms: int) -> Range | None:
        """An event arrived; the span to refetch if it is the first of its symbol after an outage.

        The margin covers events that were late or out of order when the connection broke. An event older than the last
        one seen does not end an outage.
        """
        newest, last = self._newest, self._last.get(symbol)
        if newest is None or time_ms > newest:
            self._newest = time_ms
            if self._first_lost is not None and self._heard_again is None:
                self._heard_again = time_ms
        if last is None or time_ms > last:
            self._last[symbol] = time_ms
        if last is None:
            if self._first_lost is None:
                return None
            if time_ms <= self._first_lost:  # an event from before: what follows it may be missing
                self._lost[symbol] = self._first_lost
                return None
            return self._first_lost - self._margin_ms, min(time_ms, self._heard_again or time_ms) + self._margin_ms
        if self._lost:
            since = self._lost.get(symbol)
            if since is not None and time_ms > since:
                del self._lost[symbol]
                return since - self._margin_ms, time_ms + self._margin_ms
        return None

    def lost(self) -> None:
        """The connection broke, or was silent."""
        if self._first_lost is None:
            self._first_lost = self._newest
        self._heard_again = None
        for symbol, last in self._last.items():
            self._lost.setdefault(symbol, last)
