"""ADX 14: Wilder's average directional index, the strength of a trend whatever its side.

Directional movements and true range are summed over the first 14 bars and then smoothed by Wilder's 1/14; the index is
seeded with the mean of the first 14 DX. A bar on which nothing moved has no DX: the average stays and is masked.
Units: points, 0..100. Source: Wilder 1978; TA-Lib ``ADX``.
"""

from __future__ import annotations

from math import nan

from models.bar_columns import HIGH, LOW
from udfs.features.base import PREV_CLOSE, PREV_HIGH, PREV_LOW, Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS = {"period": 14, "strong": 25.0}
PLUS, MINUS, RANGE, ADX = range(4)


def state(p: Parameters) -> State:
    """Smoothed movements and range, and the index (the sum of DX while seeding)."""
    return State(scalars={"plus": 1, "minus": 1, "range": 1, "adx": 0})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """The index and the flag of a strong trend."""
    first, settled = 2 * p["period"], 30 * p["period"]
    return (
        Output("adx", "points", first, f"TA-Lib ADX({p['period']})", 0, 100, settled=settled),
        Output("strong_trend", "flag", first, f"adx > {p['strong']:g}", 0, 1, settled=settled),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (p["period"], p["strong"])


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
    period, strong = constants
    if seen == 1:
        scalars[PLUS] = scalars[MINUS] = scalars[RANGE] = scalars[ADX] = 0.0
        return
    up = bar[HIGH] - context[PREV_HIGH]
    down = context[PREV_LOW] - bar[LOW]
    reach = bar[HIGH] - bar[LOW]
    reach = max(reach, abs(bar[HIGH] - context[PREV_CLOSE]))
    reach = max(reach, abs(bar[LOW] - context[PREV_CLOSE]))
    if seen > period:
        scalars[MINUS] -= scalars[MINUS] / period
        scalars[PLUS] -= scalars[PLUS] / period
        scalars[RANGE] -= scalars[RANGE] / period
    if down > 0.0 and up < down:
        scalars[MINUS] += down
    elif up > 0.0 and up > down:
        scalars[PLUS] += up
    scalars[RANGE] += reach
    if seen <= period:
        return
    dx = nan
    if scalars[RANGE] > 1e-14:
        minus = 100.0 * (scalars[MINUS] / scalars[RANGE])
        plus = 100.0 * (scalars[PLUS] / scalars[RANGE])
        if minus + plus > 1e-14:
            dx = 100.0 * (abs(minus - plus) / (minus + plus))
    if seen <= 2 * period:
        if dx == dx:
            scalars[ADX] += dx
        if seen < 2 * period:
            return
        scalars[ADX] /= period
    elif dx == dx:
        scalars[ADX] = (scalars[ADX] * (period - 1) + dx) / period
    if dx == dx:
        out[0] = scalars[ADX]
        out[1] = 1.0 if scalars[ADX] > strong else 0.0
