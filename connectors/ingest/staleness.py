"""Detects channels that are silent while they should not be: a connected but silent socket is the worst failure.

A channel is stale when nothing came for longer than its limit while its market was open all that time. Outside the
session silence is normal, and the clock restarts at the open.
"""

from __future__ import annotations

from models.trade.calendar import Calendar


class Staleness:
    """Last event of each channel against its limit.

    ``limits_ms`` is the longest normal silence by channel; a channel without a limit is never stale. Time is wall-clock
    milliseconds, given by the caller.

    >>> from models.trade.calendar import calendar
    >>> clock = Staleness({"trades": 60_000}, calendar("24/7"), now_ms=0)
    >>> clock.stale(60_000), clock.stale(60_001)
    ([], ['trades'])
    """

    def __init__(self, limits_ms: dict[str, int], calendar: Calendar, now_ms: int) -> None:
        self._limits_ms, self._calendar = limits_ms, calendar
        self._last_ms = dict.fromkeys(limits_ms, now_ms)

    def see(self, channel: str, now_ms: int) -> None:
        """Data was received on this channel."""
        if channel in self._last_ms:
            self._last_ms[channel] = now_ms

    def restart(self, now_ms: int) -> None:
        """A new connection: every channel gets its whole limit again."""
        self._last_ms = dict.fromkeys(self._last_ms, now_ms)

    def stale(self, now_ms: int) -> list[str]:
        """Channels that have been silent too long while the market was open."""
        open_for = self._calendar.open_for_ms(now_ms)
        return [
            channel
            for channel, limit in self._limits_ms.items()
            if min(now_ms - self._last_ms[channel], open_for) > limit
        ]
