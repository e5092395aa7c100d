"""RSI: Wilder's relative strength index, its zones and its momentum.

``rsi_14`` is 100 x average gain / (average gain + average loss), both averages seeded with the mean of the first 14
changes and then smoothed by Wilder's 1/14. Undefined (masked) while nothing has moved. ``rsi_momentum`` is the change
over 5 bars. Units: points, 0..100. Source: Wilder 1978; TA-Lib ``RSI``.
"""

from __future__ import annotations

from math import nan

from models.bar_columns import CLOSE
from udfs.features.base import PREV_CLOSE, Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS = {"period": 14, "overbought": 70.0, "oversold": 30.0, "momentum": 5}
GAIN, LOSS = range(2)


def state(p: Parameters) -> State:
    """Average gain and loss, and the last values."""
    return State(scalars={"gain": 1, "loss": 1}, rings={"rsi": (p["momentum"] + 1, 0)})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """The index, two flags and the momentum."""
    n, first = p["period"], p["period"] + 1
    settled = 20 * n
    return (
        Output(f"rsi_{n}", "points", first, "TA-Lib RSI", 0, 100, settled=settled),
        Output("rsi_overbought", "flag", first, f"rsi_{n} > {p['overbought']:g}", 0, 1, settled=settled),
        Output("rsi_oversold", "flag", first, f"rsi_{n} < {p['oversold']:g}", 0, 1, settled=settled),
        Output(
            "rsi_momentum", "points", first + p["momentum"], f"rsi[t] - rsi[t-{p['momentum']}]", -100, 100,
            settled=settled + p["momentum"],
        ),
    )  # fmt: skip


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (p["period"], p["overbought"], p["oversold"], p["momentum"])


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
    period, overbought, oversold, lag = constants
    if seen == 1:
        scalars[GAIN] = 0.0
        scalars[LOSS] = 0.0
        return
    change = bar[CLOSE] - context[PREV_CLOSE]
    if seen > period + 1:
        scalars[GAIN] *= period - 1
        scalars[LOSS] *= period - 1
    if change < 0.0:
        scalars[LOSS] -= change
    else:
        scalars[GAIN] += change
    if seen <= period:
        return
    scalars[LOSS] /= period
    scalars[GAIN] /= period
    total = scalars[GAIN] + scalars[LOSS]
    rsi = 100.0 * (scalars[GAIN] / total) if total > 1e-14 else nan
    rings[seen % (lag + 1)] = rsi
    out[0] = rsi
    if rsi == rsi:
        out[1] = 1.0 if rsi > overbought else 0.0
        out[2] = 1.0 if rsi < oversold else 0.0
    if seen > period + lag:
        out[3] = rsi - rings[(seen - lag) % (lag + 1)]
