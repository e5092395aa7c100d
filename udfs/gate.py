"""What each bar is to its symbol: new, a revision, a duplicate, late or invalid; and what rests on a gap.

Compiled; called by the generated frame loop of ``udfs.kernel`` around the families' steps.
"""

from __future__ import annotations

from math import isfinite, isnan, nan

from udfs.catalogue import (
    BARS_PER_YEAR,
    BREAK_COUNT,
    CALENDAR,
    CLOSE,
    COUNT,
    END,
    GAP,
    HIGH,
    LAST_END,
    LAST_REVISION,
    LAST_START,
    LOW,
    OPEN,
    PREV_CLOSE,
    PREV_END,
    PREV_HIGH,
    PREV_LOW,
    REVISION,
    SOUND,
    START,
    VOLUME,
    WARMING,
    ZERO,
)
from udfs.compiled import njit

OK, REVISED, DUPLICATE, LATE, INVALID = range(5)

DAY_MS = 86_400_000.0
#: Trading time in a year, in ms: 252 sessions of 6.5 hours, and 365 whole days.
XNYS_YEAR_MS = 252 * 6.5 * 3_600_000.0
ROUND_THE_CLOCK_YEAR_MS = 365 * DAY_MS


@njit
def bars_per_year(length_ms, calendar):  # type: ignore[no-untyped-def]
    """Bars of this length in a year of this calendar (1: round the clock, 2: XNYS).

    >>> bars_per_year(86_400_000.0, 2.0), bars_per_year(60_000.0, 2.0), bars_per_year(3_600_000.0, 1.0)
    (252.0, 98280.0, 8760.0)
    """
    if calendar == 1.0:
        return ROUND_THE_CLOCK_YEAR_MS / length_ms
    if length_ms >= DAY_MS:
        return 252.0 * DAY_MS / length_ms
    return XNYS_YEAR_MS / length_ms


@njit
def is_valid(bar):  # type: ignore[no-untyped-def]
    """Prices positive and finite, low <= open, close <= high, a positive length, volume not negative (NaN: missing)."""
    low = bar[LOW]
    high = bar[HIGH]
    if not (isfinite(bar[OPEN]) and isfinite(high) and isfinite(low) and isfinite(bar[CLOSE])):
        return False
    if not (isfinite(bar[START]) and bar[END] > bar[START]):
        return False
    if low <= 0.0 or high < low or bar[OPEN] > high or bar[OPEN] < low or bar[CLOSE] > high or bar[CLOSE] < low:
        return False
    return isnan(bar[VOLUME]) or (bar[VOLUME] >= 0.0 and isfinite(bar[VOLUME]))


@njit
def open_bar(state, scalars, bar, default_calendar, jump_limit):  # type: ignore[no-untyped-def]
    """Decide what ``bar`` is, bring the state to the moment before it, and start counting it.

    The scalars before the bar are kept in ``state[scalars : 2 * scalars]``; a revision of the last bar starts there.
    """
    if not is_valid(bar):
        return INVALID
    verdict = OK
    if state[COUNT] > 0.0:
        if bar[START] < state[LAST_START]:
            return LATE
        if bar[START] == state[LAST_START]:
            if bar[REVISION] <= state[LAST_REVISION]:
                return DUPLICATE
            for i in range(scalars):
                state[i] = state[scalars + i]
            verdict = REVISED
    if verdict == OK:
        for i in range(scalars):
            state[scalars + i] = state[i]
    count = state[COUNT]
    broken = False
    if count > 0.0:
        broken = bar[CLOSE] > state[PREV_CLOSE] * jump_limit or bar[CLOSE] * jump_limit < state[PREV_CLOSE]
    if broken:
        state[BREAK_COUNT] = count
    calendar = bar[CALENDAR] if bar[CALENDAR] > 0.0 else default_calendar
    state[BARS_PER_YEAR] = bars_per_year(bar[END] - bar[START], calendar)
    state[COUNT] = count + 1.0
    state[LAST_START] = bar[START]
    state[LAST_END] = bar[END]
    state[LAST_REVISION] = bar[REVISION]
    return verdict


@njit
def close_bar(state, bar):  # type: ignore[no-untyped-def]
    """Make ``bar`` the previous bar."""
    state[PREV_END] = bar[END]
    state[PREV_HIGH] = bar[HIGH]
    state[PREV_LOW] = bar[LOW]
    state[PREV_CLOSE] = bar[CLOSE]


@njit
def mask(n, since_break, broken, out, quality, first):  # type: ignore[no-untyped-def]
    """Mask what is warming up or rests on a gap; name every other NaN."""
    for j in range(out.shape[0]):
        if n < first[j]:
            out[j] = nan
            quality[j] = WARMING
        elif broken and since_break < first[j]:
            out[j] = nan
            quality[j] = GAP
        elif isnan(out[j]) and quality[j] == SOUND:
            quality[j] = ZERO
