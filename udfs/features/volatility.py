"""Volatility: deviation of log returns, annualised, and the true range with Wilder's average of it.

``volatility_Nd`` is the population deviation of the N - 1 log returns among the last N closes times the square root of
the bars in a year of that calendar and bar length (252 for daily bars of XNYS, 98,280 for its minutes). ``atr_14`` is
seeded with the mean of the first 14 true ranges; ``atr_position`` is (close - low) / atr. Units: ratio a year, price,
price, ratio. Source: TA-Lib ``TRANGE``, ``ATR``.
"""

from __future__ import annotations

from math import log, sqrt

from models.bar_columns import CLOSE, HIGH, LOW
from udfs.features.base import BARS_PER_YEAR, PREV_CLOSE, Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {"periods": (5, 10, 20), "atr": 14}
#: The cell of the scalars.
TRUE_RANGE_MEAN = 0


def state(p: Parameters) -> State:
    """The average true range and the log returns of the longest window."""
    return State(scalars={"atr": 1}, rings={"returns": (max(p["periods"]) - 1, 0)})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """One deviation a period, then the ranges."""
    n = p["atr"]
    return (
        *(
            Output(f"volatility_{k}d", "ratio a year", k, f"deviation of the log returns among the last {k} closes", 0)
            for k in p["periods"]
        ),
        Output("true_range", "price", 2, "TA-Lib TRANGE", 0),
        Output(f"atr_{n}", "price", n + 1, f"TA-Lib ATR({n})", 0, settled=20 * n),
        Output("atr_position", "ratio", n + 1, f"(close - low) / atr_{n}", 0, settled=20 * n),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (max(p["periods"]) - 1, p["atr"], tuple(p["periods"]))


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
    size, period, periods = constants
    count = len(periods)
    if seen == 1:
        scalars[TRUE_RANGE_MEAN] = 0.0
        return
    close = bar[CLOSE]
    at = seen % size
    rings[at] = log(close / context[PREV_CLOSE])
    for k in range(count):
        m = periods[k] - 1
        if seen <= m:
            continue
        mean = 0.0
        for i in range(m):
            j = at - i
            mean += rings[j if j >= 0 else j + size]
        mean /= m
        squares = 0.0
        for i in range(m):
            j = at - i
            away = rings[j if j >= 0 else j + size] - mean
            squares += away * away
        out[k] = sqrt(squares / m) * sqrt(context[BARS_PER_YEAR])
    reach = bar[HIGH] - bar[LOW]
    reach = max(reach, abs(bar[HIGH] - context[PREV_CLOSE]))
    reach = max(reach, abs(bar[LOW] - context[PREV_CLOSE]))
    out[count] = reach
    if seen <= period:
        scalars[TRUE_RANGE_MEAN] += reach
        return
    if seen == period + 1:
        scalars[TRUE_RANGE_MEAN] = (scalars[TRUE_RANGE_MEAN] + reach) / period
    else:
        scalars[TRUE_RANGE_MEAN] *= period - 1
        scalars[TRUE_RANGE_MEAN] += reach
        scalars[TRUE_RANGE_MEAN] /= period
    out[count + 1] = scalars[TRUE_RANGE_MEAN]
    if scalars[TRUE_RANGE_MEAN] > 0.0:
        out[count + 2] = (close - bar[LOW]) / scalars[TRUE_RANGE_MEAN]
