"""Moving averages of the close, the close against them, and their slope.

``ma_N`` is the mean of the last N closes, ``price_vs_ma_N`` is (close - ma) / ma, ``ma_N_slope`` the relative change of
``ma_N`` against five bars earlier. Units: price, ratio, ratio. Source: TA-Lib ``SMA``; running totals in its order.
"""

from __future__ import annotations

from models.bar_columns import CLOSE
from udfs.features.base import Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {"lookback_periods": (5, 10, 20, 50, 200), "slope": 5}


def state(p: Parameters) -> State:
    """One running total a period, and the closes that the longest slope needs."""
    periods = p["lookback_periods"]
    return State(
        scalars={f"total_{n}": 1 for n in periods},
        rings={"closes": (max(periods) + p["slope"], 1)},
    )


def outputs(p: Parameters) -> tuple[Output, ...]:
    """Three outputs a period."""
    made: list[Output] = []
    for n in p["lookback_periods"]:
        made += (
            Output(f"ma_{n}", "price", n, f"TA-Lib SMA({n})", 0),
            Output(f"price_vs_ma_{n}", "ratio", n, f"(close - ma_{n}) / ma_{n}", -1),
            Output(f"ma_{n}_slope", "ratio", n + p["slope"], f"ma_{n}[t] / ma_{n}[t-{p['slope']}] - 1", -1),
        )
    return tuple(made)


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (max(p["lookback_periods"]) + p["slope"], p["slope"], tuple(p["lookback_periods"]))


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
    size, lag, periods = constants
    close = bar[CLOSE]
    if seen == 1:
        for k in range(len(periods)):
            scalars[k] = 0.0
    at = seen % size
    rings[at] = close
    recent = 0.0
    for i in range(lag):
        j = at - i
        recent += rings[j if j >= 0 else j + size]
    for k in range(len(periods)):
        period = periods[k]
        scalars[k] += close
        total = scalars[k]
        if seen < period:
            continue
        j = at - period + 1
        scalars[k] -= rings[j if j >= 0 else j + size]
        mean = total / period
        out[3 * k] = mean
        out[3 * k + 1] = (close - mean) / mean
        if seen >= period + lag:
            older = 0.0
            for i in range(lag):
                j = at - period - i
                older += rings[j if j >= 0 else j + size]
            before = (total - recent + older) / period
            out[3 * k + 2] = (mean - before) / before
