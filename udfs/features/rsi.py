"""RSI: Wilder's relative strength index, its zones and its momentum.

``rsi_14`` is 100 x average gain / (average gain + average loss), both averages seeded with the mean of the first 14
changes and then smoothed by Wilder's 1/14. Undefined (masked) while nothing has moved. ``rsi_momentum`` is the change
over 5 bars. Units: points, 0..100. Source: Wilder 1978; TA-Lib ``RSI``.
"""

from __future__ import annotations

from math import nan
from typing import Any

from models.bar_columns import CLOSE
from udfs.features.base import PREV_CLOSE, Output, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS = {"period": 14, "overbought": 70.0, "oversold": 30.0, "momentum": 5}
GAIN, LOSS = range(2)


def state(p: dict[str, Any]) -> State:
    """Average gain and loss, and the last values."""
    return State(scalars={"gain": 1, "loss": 1}, rings={"rsi": (p["momentum"] + 1, 0)})


def outputs(p: dict[str, Any]) -> tuple[Output, ...]:
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


def constants(p: dict[str, Any]) -> tuple[float, ...]:
    """What :func:`step` unpacks."""
    return (p["period"], p["overbought"], p["oversold"], p["momentum"])


def step(n, bar, x, s, r, out, q, c):  # type: ignore[no-untyped-def]
    """One bar."""
    period, overbought, oversold, lag = c
    if n == 1:
        s[GAIN] = 0.0
        s[LOSS] = 0.0
        return
    change = bar[CLOSE] - x[PREV_CLOSE]
    if n > period + 1:
        s[GAIN] *= period - 1
        s[LOSS] *= period - 1
    if change < 0.0:
        s[LOSS] -= change
    else:
        s[GAIN] += change
    if n <= period:
        return
    s[LOSS] /= period
    s[GAIN] /= period
    total = s[GAIN] + s[LOSS]
    rsi = 100.0 * (s[GAIN] / total) if total > 1e-14 else nan
    r[n % (lag + 1)] = rsi
    out[0] = rsi
    if rsi == rsi:
        out[1] = 1.0 if rsi > overbought else 0.0
        out[2] = 1.0 if rsi < oversold else 0.0
    if n > period + lag:
        out[3] = rsi - r[(n - lag) % (lag + 1)]
