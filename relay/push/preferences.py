"""Notification preferences: which kinds, how loudly, and quiet hours (pure)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from relay.state import Event

Loudness = Literal["on", "silent", "off"]
Kind = Literal["new_signal", "target_hit", "stop_hit", "expired", "cancelled"]
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class QuietHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From ``start`` to ``end`` (``HH:MM``, may pass midnight) in ``timezone``, ``on`` becomes ``then``."""

    start: str
    end: str
    timezone: str = "UTC"
    then: Literal["silent", "off"] = "silent"

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if not _CLOCK.fullmatch(value):
                raise ValueError(f"quiet_hours.{name}: {value!r} is not a time; write HH:MM")
        if self.timezone not in available_timezones():
            raise ValueError(f"quiet_hours.timezone: {self.timezone!r} is unknown; write it like Europe/Berlin")

    def covers(self, moment: datetime) -> bool:
        """Whether the moment (aware) lies in the quiet hours.

        >>> from datetime import UTC
        >>> night = QuietHours(start="22:00", end="07:00")
        >>> [night.covers(datetime(2026, 1, 1, hour, tzinfo=UTC)) for hour in (21, 22, 3, 7)]
        [False, True, True, False]
        """
        clock = moment.astimezone(ZoneInfo(self.timezone)).strftime("%H:%M")
        if self.start <= self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How loudly each kind of event is notified, and the quiet hours."""

    new_signal: Loudness = "on"
    target_hit: Loudness = "on"
    stop_hit: Loudness = "on"
    expired: Loudness = "off"
    cancelled: Loudness = "silent"
    quiet_hours: QuietHours | None = None

    def loudness(self, kind: Kind, moment: datetime) -> Loudness:
        """How loudly to notify of an event of this kind at this time.

        >>> from datetime import UTC
        >>> wish = Preferences(stop_hit="silent", quiet_hours=QuietHours("22:00", "07:00", then="off"))
        >>> noon, night = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 23, tzinfo=UTC)
        >>> wish.loudness("new_signal", noon), wish.loudness("new_signal", night), wish.loudness("stop_hit", noon)
        ('on', 'off', 'silent')
        """
        wish: Loudness = getattr(self, kind)
        if wish != "off" and self.quiet_hours is not None and self.quiet_hours.covers(moment):
            return "off" if self.quiet_hours.then == "off" else "silent"
        return wish


def kind_of(event: Event) -> Kind | None:
    """The kind of notification an event makes, or None (only the price changed)."""
    if event.kind == "signal":
        return "new_signal"
    kinds: dict[str, Kind] = {
        "hit_target": "target_hit", "hit_stop": "stop_hit", "expired": "expired", "cancelled": "cancelled",
    }  # fmt: skip
    return kinds.get(event.withdrawn)
