"""What each bar is to its symbol: new, a revision, a duplicate, late or invalid; and what rests on a gap.

Compiled; called by the generated frame loop of ``udfs.kernel.compiler`` around the families' steps.
"""

from __future__ import annotations

from math import isfinite, isnan, nan

import numpy as np
import numpy.typing as npt

from models.bar_columns import CALENDAR, CLOSE, END, HIGH, LOW, OPEN, REVISION, START, VOLUME
from models.jit import inner, njit_ieee
from udfs.features.base import (
    BARS_PER_YEAR,
    BREAK_COUNT,
    COUNT,
    DAY,
    GAP,
    JUMPED,
    LAST_END,
    LAST_REVISION,
    LAST_START,
    MINUTES_TO_CLOSE,
    PREV_CLOSE,
    PREV_END,
    PREV_HIGH,
    PREV_LOW,
    SESSION,
    SESSION_INDEX,
    SOUND,
    SPLIT_AT,
    SPLIT_RATIO,
    WARMING,
    ZERO,
    Cells,
    Marks,
)

#: Epoch milliseconds of sessions, or counts of bars.
Times = npt.NDArray[np.int64]

OK, REVISED, DUPLICATE, LATE, INVALID = range(5)

HOUR_MS = 3_600_000.0
DAY_MS = 86_400_000.0
#: Trading time in a year, in ms: 252 sessions of 6.5 hours, and 365 whole days.
XNYS_YEAR_MS = 252 * 6.5 * 3_600_000.0
ROUND_THE_CLOCK_YEAR_MS = 365 * DAY_MS


@njit_ieee
def bars_per_year(length_ms: float, calendar: float) -> float:
    """Bars of this length in a year of this calendar (1: round the clock, 2: XNYS).

    >>> bars_per_year(86_400_000.0, 2.0), bars_per_year(60_000.0, 2.0), bars_per_year(3_600_000.0, 1.0)
    (252.0, 98280.0, 8760.0)
    """
    if calendar == 1.0:
        return ROUND_THE_CLOCK_YEAR_MS / length_ms
    if length_ms >= DAY_MS:
        return 252.0 * DAY_MS / length_ms
    return XNYS_YEAR_MS / length_ms


@inner
def is_valid(bar: Cells) -> bool:
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


@inner
def session_at(opens: Times, at_ms: float, hint: int) -> int:
    """Index of the last session that opened at or before ``at_ms``, -1 before the first; ``hint`` is a first guess."""
    last = opens.shape[0] - 1
    if 0 <= hint <= last and opens[hint] <= at_ms:
        if hint == last or at_ms < opens[hint + 1]:
            return hint
        if hint + 1 == last or at_ms < opens[hint + 2]:
            return hint + 1
    low = 0
    high = last + 1
    while low < high:
        middle = (low + high) // 2
        if opens[middle] <= at_ms:
            low = middle + 1
        else:
            high = middle
    return low - 1


@inner
def missing_sessions(from_ms: float, to_ms: float, opens: Times, closes: Times, hint: int, enough: float) -> float:
    """Sessions' worth of trading time in ``[from_ms, to_ms)``; stops counting at ``enough``."""
    total = 0.0
    i = max(session_at(opens, from_ms, hint), 0)
    while i < opens.shape[0] and opens[i] < to_ms and total < enough:
        overlap = min(to_ms, closes[i]) - max(from_ms, opens[i])
        if overlap > 0:
            total += overlap / (closes[i] - opens[i])
        i += 1
    return total


@inner
def place_in_time(state: Cells, bar: Cells, always_open: bool, opens: Times, closes: Times) -> None:
    """Day, session and minutes to the close of this bar.

    Session codes: 0 closed, 1 before the open (5.5 hours), 2 regular, 3 after the close (4 hours).
    """
    start = bar[START]
    end = bar[END]
    if always_open:
        state[DAY] = np.floor(start / DAY_MS)
        state[SESSION] = 2.0
        state[MINUTES_TO_CLOSE] = nan
        return
    # Midnight in New York is 4 or 5 hours after midnight UTC: a day of that market begins at 4.
    state[DAY] = np.floor((start - 4.0 * HOUR_MS) / DAY_MS)
    i = session_at(opens, start, int(state[SESSION_INDEX]))
    state[SESSION_INDEX] = i
    if end - start >= DAY_MS:
        state[SESSION] = 2.0
        state[MINUTES_TO_CLOSE] = 0.0
        return
    state[SESSION] = 0.0
    if i >= 0 and start < closes[i]:
        state[SESSION] = 2.0
    elif i + 1 < opens.shape[0] and opens[i + 1] - start <= 5.5 * HOUR_MS:
        state[SESSION] = 1.0
    elif i >= 0 and start < closes[i] + 4.0 * HOUR_MS:
        state[SESSION] = 3.0
    if i < 0 or end > closes[i]:
        i += 1
    state[MINUTES_TO_CLOSE] = (closes[i] - end) / 60_000.0 if i < opens.shape[0] else nan


@inner
def open_bar(state: Cells, undo: int, fixed: int, bar: Cells) -> int:
    """Decide what ``bar`` is, bring the state to the moment before it, and place it in time.

    ``undo`` cells from ``fixed`` on are kept behind themselves before each new bar; a revision of the last bar starts
    there. An announced split is due with the first bar that starts at or after it: the caller applies it, then calls
    :func:`count_bar`.
    """
    if not is_valid(bar):
        return INVALID
    if state[COUNT] > 0.0:
        if bar[START] < state[LAST_START]:
            return LATE
        if bar[START] == state[LAST_START]:
            if bar[REVISION] <= state[LAST_REVISION]:
                return DUPLICATE
            for i in range(undo):
                state[fixed + i] = state[fixed + undo + i]
            return REVISED
    return OK


@inner
def count_bar(
    state: Cells,
    undo: int,
    fixed: int,
    bar: Cells,
    verdict: int,
    default_calendar: float,
    gap_sessions: float,
    jump_limit: float,
    opens: Times,
    closes: Times,
) -> None:
    """Keep the moment before a new bar, place the bar in time, find a gap or a jump before it, and count it."""
    if verdict == OK:
        for i in range(undo):
            state[fixed + undo + i] = state[fixed + i]
    always_open = (bar[CALENDAR] if bar[CALENDAR] > 0.0 else default_calendar) == 1.0
    length = bar[END] - bar[START]
    if length != state[LAST_END] - state[LAST_START] or state[BARS_PER_YEAR] == 0.0:
        state[BARS_PER_YEAR] = bars_per_year(length, 1.0 if always_open else 2.0)
    count = state[COUNT]
    state[JUMPED] = 0.0
    if count > 0.0:
        gap = False
        if bar[START] > state[PREV_END]:
            if always_open:
                gap = bar[START] - state[PREV_END] >= gap_sessions * DAY_MS
            else:
                hint = int(state[SESSION_INDEX])
                missing = missing_sessions(state[PREV_END], bar[START], opens, closes, hint, gap_sessions)
                gap = missing >= gap_sessions - 1e-9
        if bar[CLOSE] > state[PREV_CLOSE] * jump_limit or bar[CLOSE] * jump_limit < state[PREV_CLOSE]:
            state[JUMPED] = 1.0
        if gap or state[JUMPED] == 1.0:
            state[BREAK_COUNT] = count
    place_in_time(state, bar, always_open, opens, closes)
    state[COUNT] = count + 1.0
    state[LAST_START] = bar[START]
    state[LAST_END] = bar[END]
    state[LAST_REVISION] = bar[REVISION]


@njit_ieee
def announce_split(state: Cells, effective_ms: float, ratio: float) -> int:
    """Keep a split for the first bar that starts at or after it; one that comes too late is a break in the series.

    Two splits before the next bar are applied together, at the earlier of their times.
    """
    if not (ratio > 0.0 and isfinite(ratio)):
        return INVALID
    if state[COUNT] > 0.0 and effective_ms <= state[LAST_START]:
        state[BREAK_COUNT] = state[COUNT]
        return LATE
    if state[SPLIT_AT] > 0.0:
        if state[SPLIT_AT] == effective_ms and state[SPLIT_RATIO] == ratio:
            return DUPLICATE
        state[SPLIT_AT] = min(state[SPLIT_AT], effective_ms)
        state[SPLIT_RATIO] *= ratio
    else:
        state[SPLIT_AT] = effective_ms
        state[SPLIT_RATIO] = ratio
    return OK


@inner
def apply_split(state: Cells, exponents: Cells) -> None:
    """Bring every cell to prices after the split: prices are divided by the ratio, volumes multiplied."""
    ratio = state[SPLIT_RATIO]
    for i in range(exponents.shape[0]):
        if exponents[i] == 1.0:
            state[i] /= ratio
        elif exponents[i] == -1.0:
            state[i] *= ratio
        elif exponents[i] != 0.0:
            state[i] /= ratio ** exponents[i]
    state[SPLIT_AT] = 0.0
    state[SPLIT_RATIO] = 0.0


@inner
def close_bar(state: Cells, bar: Cells) -> None:
    """Make ``bar`` the previous bar."""
    state[PREV_END] = bar[END]
    state[PREV_HIGH] = bar[HIGH]
    state[PREV_LOW] = bar[LOW]
    state[PREV_CLOSE] = bar[CLOSE]


@inner
def mask(seen: int, since_break: int, broken: bool, out: Cells, quality: Marks, first: Times) -> None:
    """Mask what is warming up or rests on a gap; name every other NaN."""
    for j in range(out.shape[0]):
        if seen < first[j]:
            out[j] = nan
            quality[j] = WARMING
        elif broken and since_break < first[j]:
            out[j] = nan
            quality[j] = GAP
        elif isnan(out[j]) and quality[j] == SOUND:
            quality[j] = ZERO
