"""The columns of a matrix of bars, by name: one row per bar, ``float64``.

The numbers are module constants, which compiled code takes as literals: ``bar[CLOSE]`` costs what ``bar[5]`` does.
"""

from __future__ import annotations

#: Columns of the bars matrix. ``calendar`` is a code of :data:`CALENDARS`; 0, the default, is the configuration's.
BAR_COLUMNS = ("start_ms", "end_ms", "open", "high", "low", "close", "volume", "revision", "calendar")
START, END, OPEN, HIGH, LOW, CLOSE, VOLUME, REVISION, CALENDAR = range(len(BAR_COLUMNS))

#: Codes of the ``calendar`` column.
CALENDARS: dict[str, float] = {"default": 0.0, "24/7": 1.0, "XNYS": 2.0}
