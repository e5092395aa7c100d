"""Sessions and time zones of venues, by ``exchange_calendars``; ``24/7`` for those that never close.

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
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

#: The calendar of a market that never closes.
ALWAYS = "24/7"
#: Calendar of each source of market data; the rest are US stocks.
SOURCE_CALENDARS: dict[str, str] = {"binance": ALWAYS, "binance_us": ALWAYS}
_FIRST_DAY = "1990-01-01"
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Session:
    """One exchange day: its date at the exchange, and its regular hours as ``[open_ms, close_ms)``."""

    day: date
    open_ms: int
    close_ms: int


class Calendar:
    """The sessions of one exchange, 1990 until a year from now, and questions about them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.zone = ZoneInfo("UTC")
        self._days: list[date] = []
        self._opens: list[int] = []
        self._closes: list[int] = []
        self._offsets: list[tuple[int, int]] = []
        if name == ALWAYS:
            self._offsets = [(0, 0)]
            return
        import exchange_calendars

        try:
            source = exchange_calendars.get_calendar(name, start=_FIRST_DAY)
        except exchange_calendars.errors.InvalidCalendarName:
            known = ", ".join(sorted(exchange_calendars.get_calendar_names(include_aliases=False))[:8])
            raise ValueError(f"calendar = {name!r} is unknown: use 24/7 or one of {known}, ...") from None
        self.zone = ZoneInfo(str(source.tz))
        self._days = [stamp.date() for stamp in source.schedule.index]
        self._opens = (source.opens_nanos // 1_000_000).tolist()
        self._closes = (source.closes_nanos // 1_000_000).tolist()

    @property
    def always_open(self) -> bool:
        """Whether this market never closes (its sessions are then days of UTC)."""
        return self.name == ALWAYS

    def session_at(self, time_ms: int) -> Session | None:
        """The session that contains this time, or None while the market is closed."""
        if self.always_open:
            return self._utc_day(time_ms)
        at = bisect_right(self._opens, time_ms) - 1
        return self._session(at) if at >= 0 and time_ms < self._closes[at] else None

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

    def next_open_ms(self, time_ms: int) -> int:
        """When the market next opens, strictly after this time (the next UTC day for 24/7)."""
        if self.always_open:
            return (time_ms // _DAY_MS + 1) * _DAY_MS
        at = bisect_right(self._opens, time_ms)
        if at == len(self._opens):
            raise ValueError(f"{self.name} has no session after {time_ms} in its tables")
        return self._opens[at]

    def sessions(self, start_ms: int, end_ms: int) -> Iterator[Session]:
        """Sessions that overlap ``[start_ms, end_ms)``, in order."""
        if self.always_open:
            for day_ms in range(start_ms // _DAY_MS * _DAY_MS, end_ms, _DAY_MS):
                yield self._utc_day(day_ms)
            return
        for at in range(bisect_right(self._closes, start_ms), bisect_left(self._opens, end_ms)):
            yield self._session(at)

    def minutes_open(self, start_ms: int, end_ms: int) -> Iterator[int]:
        """Starts of the whole minutes of trading in ``[start_ms, end_ms)``."""
        for session in self.sessions(start_ms, end_ms):
            first = -(-max(start_ms, session.open_ms) // 60_000) * 60_000
            yield from range(first, min(end_ms, session.close_ms), 60_000)

    def add_sessions(self, time_ms: int, count: int) -> int:
        """The close of the ``count``-th session that ends after this time; for 24/7, ``count`` days later."""
        if count < 1:
            raise ValueError(f"count = {count}: must be at least 1")
        if self.always_open:
            return time_ms + count * _DAY_MS
        at = bisect_right(self._closes, time_ms) + count - 1
        if at >= len(self._closes):
            raise ValueError(f"{self.name} has no session {count} after {time_ms} in its tables")
        return self._closes[at]

    def offsets(self) -> list[tuple[int, int]]:
        """UTC offset of the exchange's wall clock as ``(from_ms, offset_ms)`` steps, oldest first."""
        if self._offsets:
            return self._offsets
        steps: list[tuple[int, int]] = []
        hour = datetime(1990, 1, 1, tzinfo=UTC)
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
        return Session(self._days[at], self._opens[at], self._closes[at])

    @staticmethod
    def _utc_day(time_ms: int) -> Session:
        start = time_ms // _DAY_MS * _DAY_MS
        return Session(datetime.fromtimestamp(start / 1000, UTC).date(), start, start + _DAY_MS)


@cache
def calendar(name: str) -> Calendar:
    """The calendar of this name (``XNYS``, ``CMES``, ``24/7``, ...), read once; ValueError if unknown."""
    return Calendar(name)


def calendar_of(source: str) -> Calendar:
    """The calendar of a message's ``source`` (``alpaca``, ``built:binance_us``, ...)."""
    return calendar(SOURCE_CALENDARS.get(source.rpartition(":")[2], "XNYS"))
