"""ADX 14: Wilder's average directional index, the strength of a trend whatever its side.

Directional movements and true range are summed over the first 14 bars and then smoothed by Wilder's 1/14; the index is
seeded with the mean of the first 14 DX. A bar on which nothing moved has no DX: the average stays and is masked.
Units: points, 0..100. Source: Wilder 1978; TA-Lib ``ADX``.
"""

from __future__ import annotations

from math import nan
from typing import Any

from models.bar_columns import HIGH, LOW
from udfs.features.base import PREV_CLOSE, PREV_HIGH, PREV_LOW, Output, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS = {"period": 14, "strong": 25.0}
PLUS, MINUS, RANGE, ADX = range(4)


def state(p: dict[str, Any]) -> State:
    """Smoothed movements and range, and the index (the sum of DX while seeding)."""
    return State(scalars={"plus": 1, "minus": 1, "range": 1, "adx": 0})


def outputs(p: dict[str, Any]) -> tuple[Output, ...]:
    """The index and the flag of a strong trend."""
    first, settled = 2 * p["period"], 30 * p["period"]
    return (
        Output("adx", "points", first, f"TA-Lib ADX({p['period']})", 0, 100, settled=settled),
        Output("strong_trend", "flag", first, f"adx > {p['strong']:g}", 0, 1, settled=settled),
    )


def constants(p: dict[str, Any]) -> tuple[float, ...]:
    """What :func:`step` unpacks."""
    return (p["period"], p["strong"])


def step(n, bar, x, s, r, out, q, c):  # type: ignore[no-untyped-def]
    """One bar."""
    period, strong = c
    if n == 1:
        s[PLUS] = s[MINUS] = s[RANGE] = s[ADX] = 0.0
        return
    up = bar[HIGH] - x[PREV_HIGH]
    down = x[PREV_LOW] - bar[LOW]
    reach = bar[HIGH] - bar[LOW]
    reach = max(reach, abs(bar[HIGH] - x[PREV_CLOSE]))
    reach = max(reach, abs(bar[LOW] - x[PREV_CLOSE]))
    if n > period:
        s[MINUS] -= s[MINUS] / period
        s[PLUS] -= s[PLUS] / period
        s[RANGE] -= s[RANGE] / period
    if down > 0.0 and up < down:
        s[MINUS] += down
    elif up > 0.0 and up > down:
        s[PLUS] += up
    s[RANGE] += reach
    if n <= period:
        return
    dx = nan
    if s[RANGE] > 1e-14:
        minus = 100.0 * (s[MINUS] / s[RANGE])
        plus = 100.0 * (s[PLUS] / s[RANGE])
        if minus + plus > 1e-14:
            dx = 100.0 * (abs(minus - plus) / (minus + plus))
    if n <= 2 * period:
        if dx == dx:
            s[ADX] += dx
        if n < 2 * period:
            return
        s[ADX] /= period
    elif dx == dx:
        s[ADX] = (s[ADX] * (period - 1) + dx) / period
    if dx == dx:
        out[0] = s[ADX]
        out[1] = 1.0 if s[ADX] > strong else 0.0
