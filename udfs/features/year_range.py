"""Distance to the highest high and the lowest low of 52 weeks, by calendar days whatever the bars' length.

The window is the last 364 days of the market (New York days, UTC days round the clock), today included; while a symbol
has less history, what there is. (close - high) / high is 0 at the high and negative below; (close - low) / low is 0 at
the low. After a jump (``FeatureConfig.jump_limit``) the window starts again. Unit: ratio.

Earlier days are kept as 40-bit numbers (1e-10 relative; a price of up to nine significant digits comes back exactly),
which is what lets a year of highs and lows fit into 3.6 KB.
"""

from __future__ import annotations

from math import floor, log10

import numpy as np

from models.bar_columns import CLOSE, HIGH, LOW
from models.jit import inner, njit_ieee
from udfs.features.base import DAY, JUMPED, Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {"days": 364}
TODAY, TODAY_HIGH, TODAY_LOW, TOP, TOP_DAY, BOTTOM, BOTTOM_DAY, SINCE_DAY = range(8)


def state(p: Parameters) -> State:
    """Today's range, the extremes of the days before and when they were, and a packed high and low for every day."""
    cells = (p["days"] * 2 * 5 + 7) // 8
    return State(
        scalars={
            "today": 0, "today_high": 1, "today_low": 1, "top": 1, "top_day": 0, "bottom": 1, "bottom_day": 0,
            "since_day": 0,
        },
        rings={"packed_days": (cells, 0)},
    )  # fmt: skip


def outputs(p: Parameters) -> tuple[Output, ...]:
    """Two distances."""
    note = "over the history there is, until 52 weeks are full"
    return (
        Output("distance_to_52w_high", "ratio", 1, f"(close - high) / high of {p['days']} days", -1, 0, note, None),
        Output("distance_to_52w_low", "ratio", 1, f"(close - low) / low of {p['days']} days", 0, None, note, None),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (p["days"],)


@njit_ieee
def pack(price: float) -> np.int64:
    """A positive price as a 40-bit integer of the same order: 8 bits of exponent, 32 of mantissa."""
    bits = np.float64(price).view(np.int64)
    code: np.int64 = ((bits + (1 << 19)) >> 20) - (896 << 32)
    if code < 1:
        return np.int64(1)
    if code > (1 << 40) - 1:
        return np.int64((1 << 40) - 1)
    return code


@njit_ieee
def unpack(code: int | np.int64) -> float:
    """The price in a 40-bit integer, rounded to nine significant digits where that is within its precision.

    >>> unpack(pack(132.06)), unpack(pack(0.0001234))
    (132.06, 0.0001234)
    """
    price = float(np.int64((code + (896 << 32)) << 20).view(np.float64))
    digits = 8 - np.int64(floor(log10(price)))
    if 0 <= digits <= 22:
        scale = 10.0**digits
        near = float(np.round(price * scale) / scale)
        if abs(near - price) <= price * 2.4e-10:
            return near
    return price


@inner
def _put(cells: Marks, slot: int, code: int | np.int64) -> None:
    for b in range(5):
        cells[5 * slot + b] = (code >> (8 * b)) & 255


@inner
def _get(cells: Marks, slot: int) -> np.int64:
    at = 5 * slot
    low = np.int64(cells[at]) | (np.int64(cells[at + 1]) << 8) | (np.int64(cells[at + 2]) << 16)
    return low | (np.int64(cells[at + 3]) << 24) | (np.int64(cells[at + 4]) << 32)


@inner
def _new_day(today: int, scalars: Cells, cells: Marks, days: int) -> None:
    """Store the day that ended, clear days without bars, and find the extremes again where they have left."""
    before = int(scalars[TODAY])
    slot = before % days
    _put(cells, 2 * slot, pack(scalars[TODAY_HIGH]))
    _put(cells, 2 * slot + 1, pack(scalars[TODAY_LOW]))
    for day in range(before + 1, min(today, before + days + 1)):
        _put(cells, 2 * (day % days), 0)
        _put(cells, 2 * (day % days) + 1, 0)
    oldest = max(today - days + 1, int(scalars[SINCE_DAY]))
    if before >= oldest:
        if scalars[TODAY_HIGH] >= scalars[TOP]:
            scalars[TOP] = scalars[TODAY_HIGH]
            scalars[TOP_DAY] = before
        if scalars[TODAY_LOW] <= scalars[BOTTOM] or scalars[BOTTOM] == 0.0:
            scalars[BOTTOM] = scalars[TODAY_LOW]
            scalars[BOTTOM_DAY] = before
    if scalars[TOP_DAY] < oldest:
        best = np.int64(0)
        scalars[TOP] = 0.0
        scalars[TOP_DAY] = today
        for day in range(oldest, today):
            code = _get(cells, 2 * (day % days))
            if code >= best and code > 0:
                best = code
                scalars[TOP_DAY] = day
        if best > 0:
            scalars[TOP] = unpack(best)
    if scalars[BOTTOM_DAY] < oldest:
        best = np.int64(1 << 41)
        scalars[BOTTOM] = 0.0
        scalars[BOTTOM_DAY] = today
        for day in range(oldest, today):
            code = _get(cells, 2 * (day % days) + 1)
            if 0 < code <= best:
                best = code
                scalars[BOTTOM_DAY] = day
        if best < 1 << 41:
            scalars[BOTTOM] = unpack(best)


def step(
    seen: int,
    bar: Cells,
    context: Cells,
    scalars: Cells,
    rings: Cells,
    out: Cells,
    quality: Marks,
    constants: Constants,
) -> None:
    """One bar."""
    (days,) = constants
    today = int(context[DAY])
    cells = rings.view(np.uint8)
    if seen == 1 or context[JUMPED] == 1.0:
        if seen == 1:
            cells[:] = 0
        elif today > scalars[TODAY]:
            _new_day(today, scalars, cells, days)
        scalars[TODAY] = today
        scalars[TODAY_HIGH] = bar[HIGH]
        scalars[TODAY_LOW] = bar[LOW]
        scalars[TOP] = scalars[BOTTOM] = 0.0
        scalars[TOP_DAY] = scalars[BOTTOM_DAY] = scalars[SINCE_DAY] = today
    elif today > scalars[TODAY]:
        _new_day(today, scalars, cells, days)
        scalars[TODAY] = today
        scalars[TODAY_HIGH] = bar[HIGH]
        scalars[TODAY_LOW] = bar[LOW]
    else:
        scalars[TODAY_HIGH] = max(scalars[TODAY_HIGH], bar[HIGH])
        scalars[TODAY_LOW] = min(scalars[TODAY_LOW], bar[LOW])
    high = max(scalars[TODAY_HIGH], scalars[TOP])
    low = min(scalars[TODAY_LOW], scalars[BOTTOM]) if scalars[BOTTOM] > 0.0 else scalars[TODAY_LOW]
    out[0] = (bar[CLOSE] - high) / high
    out[1] = (bar[CLOSE] - low) / low


def rescale(rings: Cells, ratio: float, constants: Constants) -> None:
    """Bring every kept day to prices after a split."""
    (days,) = constants
    cells = rings.view(np.uint8)
    for slot in range(2 * days):
        code = _get(cells, slot)
        if code > 0:
            _put(cells, slot, pack(unpack(code) / ratio))
