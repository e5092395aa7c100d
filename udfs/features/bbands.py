"""Bollinger bands 5, 2 deviations: where the close stands between them, how narrow they are, and breakouts.

``bb_position`` is (close - lower) / (upper - lower): 0 at the lower band, 1 at the upper, outside when it breaks out.
A close on the band is no breakout. A band of no width (five equal closes) is undefined and masked. Population
deviation, computed afresh from the five closes on each bar, as TA-Lib does since 0.8 (running sums of squares would
lose digits).
Units: ratio and flags. Source: TA-Lib ``BBANDS`` (its default of 5 bars).
"""

from __future__ import annotations

from math import nan, sqrt

from models.bar_columns import CLOSE
from udfs.features.base import Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS = {"period": 5, "deviations": 2.0, "squeeze": 0.1}
TOTAL = 0


def state(p: Parameters) -> State:
    """Sum of all closes but the oldest, and the closes."""
    return State(scalars={"total": 1}, rings={"closes": (p["period"], 1)})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """Position in the band and three flags."""
    n = p["period"]
    bands = f"TA-Lib BBANDS({n}, {p['deviations']:g})"
    return (
        Output("bb_position", "ratio", n, f"(close - lower) / (upper - lower), {bands}"),
        Output("bb_squeeze", "flag", n, f"(upper - lower) / middle < {p['squeeze']:g}", 0, 1),
        Output("bb_breakout_upper", "flag", n, "close > upper", 0, 1),
        Output("bb_breakout_lower", "flag", n, "close < lower", 0, 1),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (p["period"], p["deviations"], p["squeeze"])


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
    period, deviations, squeeze = constants
    close = bar[CLOSE]
    if seen == 1:
        scalars[TOTAL] = 0.0
    rings[seen % period] = close
    scalars[TOTAL] += close
    if seen < period:
        return
    middle = scalars[TOTAL] / period
    scalars[TOTAL] -= rings[(seen + 1) % period]
    mean = 0.0
    same = True
    for i in range(period):
        mean += rings[i]
        same = same and rings[i] == close
    mean /= period
    variance = 0.0
    for i in range(period):
        variance += (rings[i] - mean) * (rings[i] - mean)
    width = sqrt(variance / period) * deviations
    if same or width == 0.0:
        out[0] = out[1] = out[2] = out[3] = nan
        return
    upper = middle + width
    lower = middle - width
    out[0] = (close - lower) / (upper - lower)
    out[1] = 1.0 if (upper - lower) / middle < squeeze else 0.0
    # Four equal closes and another put it exactly on the band: rounding must not make that a breakout.
    beyond = width * (1.0 + 1e-9)
    out[2] = 1.0 if close - mean > beyond else 0.0
    out[3] = 1.0 if mean - close > beyond else 0.0
