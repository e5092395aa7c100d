"""Sessions and time zones of markets, and which market a series trades by; ``24/7`` for those that never close.

All times are epoch milliseconds UTC. A session is the half-open span ``[open_ms, close_ms)`` of regular trading of one
exchange day: early closes and holidays included, pre- and post-market trading not. Source of the tables: the
``exchange_calendars`` package (XNYS: New York Stock Exchange, CMES: CME Globex, ...).

>>> nyse = calendar("XNYS")
>>> friday = nyse.session_on("2024-11-29")  # the day after Thanksgiving closes at 13:00 New York time
>>> (friday.close_ms - friday.open_ms) / 3_600_000
3.5
>>> calendar("24/7").is_open(0)
True
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

DAY_MS = 86_400_000

#: The calendar of a market that never closes.
ALWAYS = "24/7"
#: The calendar of US stocks, which applies where nothing else is declared.
US_STOCKS = "XNYS"
#: First and last day that the session tables cover; a calendar whose holidays are recorded for fewer years has fewer.
FIRST_DAY, LAST_DAY = "1970-01-01", "2040-12-31"
#: First day of the wall clock's offsets: no trade of a venue is older.
_FIRST_OFFSET = datetime(1990, 1, 1, tzinfo=UTC)
#: Ends of a symbol that mark a pair on a venue that never closes, as the venues here write them.
CRYPTO_QUOTES = ("USDT", "USDC", "BUSD", "/USD", "-USD")


@dataclass(frozen=True, slots=True)
class Session:
    """One exchange day: its date at the exchange, and its regular hours as ``[open_ms, close_ms)``."""

    day: date
    open_ms: int
    close_ms: int


class Calendar:
    """The sessions of one market from :data:`FIRST_DAY` to :data:`LAST_DAY`; none for one that never closes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.zone = ZoneInfo("UTC")
        self._days: list[date] = []
        #: Opens and closes of every session, oldest first.
        self.opens: list[int] = []
        self.closes: list[int] = []
        self._offsets: list[tuple[int, int]] = []
        if name == ALWAYS:
            self._offsets = [(0, 0)]
        else:
            source = _tables(name)
            self.zone = ZoneInfo(str(source.tz))
            self._days = [stamp.date() for stamp in source.sessions]
            self.opens = (source.opens_nanos // 1_000_000).tolist()
            self.closes = (source.closes_nanos // 1_000_000).tolist()
        #: The same as int64 arrays, for compiled code.
        self.open_ms = np.array(self.opens, np.int64)
        self.close_ms = np.array(self.closes, np.int64)
        #: Length of a usual session (the median), or a day.
        self.session_ms = int(np.median(self.close_ms - self.open_ms)) if self.opens else DAY_MS

    @property
    def always_open(self) -> bool:
        """Whether this market never closes (its sessions are then days of UTC)."""
        return self.name == ALWAYS

    def session_at(self, time_ms: int) -> Session | None:
        """The session that contains this time, or None while the market is closed."""
        if self.always_open:
            return self._utc_day(time_ms)
        at = bisect_right(self.opens, time_ms) - 1
        return self._session(at) if at >= 0 and time_ms < self.closes[at] else None

    def session_on(self, day: date | str) -> Session:
        """The session of an exchange date; raises ValueError naming the nearest if there is none."""
        day = date.fromisoformat(day) if isinstance(day, str) else day
        if self.always_open:
            return self._utc_day(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000))
        at = bisect_left(self._days, day)
        if at == len(self._days) or self._days[at] != day:
            near = self._days[min(at, len(self._days) - 1)]
            raise ValueError(f"{day} is no session of {self.name}: the next is {near}")
        return self._session(at)

    def is_open(self, time_ms: int) -> bool:
        """Whether the market trades at this time."""
        return self.session_at(time_ms) is not None

    def open_for_ms(self, time_ms: int) -> int:
        """How long the session at this time has been open; 0 while closed. A 24/7 market: since 1970."""
        if self.always_open:
            return time_ms
        session = self.session_at(time_ms)
        return time_ms - session.open_ms if session else 0

    def sessions(self, start_ms: int, end_ms: int) -> Iterator[Session]:
        """Sessions that overlap ``[start_ms, end_ms)``, in order."""
        if self.always_open:
            for day_ms in range(start_ms // DAY_MS * DAY_MS, end_ms, DAY_MS):
                yield self._utc_day(day_ms)
            return
        for at in range(bisect_right(self.closes, start_ms), bisect_left(self.opens, end_ms)):
            yield self._session(at)

    def minutes_open(self, start_ms: int, end_ms: int) -> Iterator[int]:
        """Starts of the whole minutes of trading in ``[start_ms, end_ms)``."""
        for session in self.sessions(start_ms, end_ms):
            first = -(-max(start_ms, session.open_ms) // 60_000) * 60_000
            yield from range(first, min(end_ms, session.close_ms), 60_000)

    def offsets(self) -> list[tuple[int, int]]:
        """UTC offset of the exchange's wall clock as ``(from_ms, offset_ms)`` steps, 1990 until a year from now."""
        if self._offsets:
            return self._offsets
        steps: list[tuple[int, int]] = []
        hour = _FIRST_OFFSET
        end = datetime.now(UTC) + timedelta(days=366)
        last = None
        while hour < end:
            offset = self.zone.utcoffset(hour.astimezone(self.zone).replace(tzinfo=None))
            assert offset is not None
            if offset != last:
                at = hour
                if last is not None:  # changes fall on an hour of the day before
                    at = hour - timedelta(days=1)
                    while at.astimezone(self.zone).utcoffset() == last:
                        at += timedelta(minutes=30)
                steps.append((int(at.timestamp() * 1000), int(offset.total_seconds() * 1000)))
                last = offset
            hour += timedelta(days=1)
        self._offsets = steps
        return steps

    def _session(self, at: int) -> Session:
        return Session(self._days[at], self.opens[at], self.closes[at])

    @staticmethod
    def _utc_day(time_ms: int) -> Session:
        start = time_ms // DAY_MS * DAY_MS
        return Session(datetime.fromtimestamp(start / 1000, UTC).date(), start, start + DAY_MS)


def _tables(name: str) -> Any:
    """The calendar of this name from ``exchange_calendars``, as far back and ahead as its holidays are recorded."""
    import exchange_calendars

    try:
        return exchange_calendars.get_calendar(name, start=FIRST_DAY, end=LAST_DAY)
    except exchange_calendars.errors.InvalidCalendarName:
        known = ", ".join(sorted(exchange_calendars.get_calendar_names(include_aliases=False))[:8])
        raise ValueError(f"calendar = {name!r} is unknown: use 24/7 or one of {known}, ...") from None
    except ValueError:
        kind = type(exchange_calendars.get_calendar(name))
        first, last = kind.bound_min(), kind.bound_max()
        return exchange_calendars.get_calendar(
            name,
            start=max(FIRST_DAY, str(first.date())) if first is not None else FIRST_DAY,
            end=min(LAST_DAY, str(last.date())) if last is not None else LAST_DAY,
        )


@cache
def calendar(name: str) -> Calendar:
    """The calendar of this name (``XNYS``, ``CMES``, ``24/7``, ...), read once (about 1 s); ValueError if unknown."""
    return Calendar(name)


def us_stocks(source: str) -> str:
    """What a source declares that declares nothing: the calendar of US stocks."""
    return US_STOCKS


def calendar_name(symbol: str, source: str = "", declared: Callable[[str], str] = us_stocks) -> str:
    """The calendar that a series trades by: what its source declares; else ``24/7`` for a crypto pair, else ``XNYS``.

    ``declared`` gives the calendar that a source declares (:func:`connectors.venues.declared_calendar` for venues). A
    source of US stocks may carry crypto pairs too: there the symbol decides.

    >>> calendar_name("BTCUSDT"), calendar_name("AAPL"), calendar_name("VOD", "lse", lambda source: "XLON")
    ('24/7', 'XNYS', 'XLON')
    """
    found = declared(source)
    pair = len(symbol) > 5 and symbol.endswith(CRYPTO_QUOTES)
    return ALWAYS if found == US_STOCKS and pair else found
