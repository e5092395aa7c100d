"""Volatility: deviation of log returns, annualised, and the true range with Wilder's average of it.

``volatility_Nd`` is the population deviation of the N - 1 log returns among the last N closes times the square root of
the bars in a year of that calendar and bar length (252 for daily bars of XNYS, 98,280 for its minutes). ``atr_14`` is
seeded with the mean of the first 14 true ranges; ``atr_position`` is (close - low) / atr. Units: ratio a year, price,
price, ratio. Source: TA-Lib ``TRANGE``, ``ATR``.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Any

from models.bar_columns import CLOSE, HIGH, LOW
from udfs.features.base import BARS_PER_YEAR, PREV_CLOSE, Output, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: dict[str, Any] = {"periods": (5, 10, 20), "atr": 14}


def state(p: dict[str, Any]) -> State:
    """The average true range and the log returns of the longest window."""
    return State(scalars={"atr": 1}, rings={"returns": (max(p["periods"]) - 1, 0)})


def outputs(p: dict[str, Any]) -> tuple[Output, ...]:
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


def constants(p: dict[str, Any]) -> tuple[Any, ...]:
    """What :func:`step` unpacks."""
    return (max(p["periods"]) - 1, p["atr"], tuple(p["periods"]))


def step(n, bar, x, s, r, out, q, c):  # type: ignore[no-untyped-def]
    """One bar."""
    size, period, periods = c
    count = len(periods)
    if n == 1:
        s[0] = 0.0
        return
    close = bar[CLOSE]
    at = n % size
    r[at] = log(close / x[PREV_CLOSE])
    for k in range(count):
        m = periods[k] - 1
        if n <= m:
            continue
        mean = 0.0
        for i in range(m):
            j = at - i
            mean += r[j if j >= 0 else j + size]
        mean /= m
        squares = 0.0
        for i in range(m):
            j = at - i
            away = r[j if j >= 0 else j + size] - mean
            squares += away * away
        out[k] = sqrt(squares / m) * sqrt(x[BARS_PER_YEAR])
    reach = bar[HIGH] - bar[LOW]
    reach = max(reach, abs(bar[HIGH] - x[PREV_CLOSE]))
    reach = max(reach, abs(bar[LOW] - x[PREV_CLOSE]))
    out[count] = reach
    if n <= period:
        s[0] += reach
        return
    if n == period + 1:
        s[0] = (s[0] + reach) / period
    else:
        s[0] *= period - 1
        s[0] += reach
        s[0] /= period
    out[count + 1] = s[0]
    if s[0] > 0.0:
        out[count + 2] = (close - bar[LOW]) / s[0]
