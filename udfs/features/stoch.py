"""Stochastic oscillator 5/3/3: where the close stands in the range of the last 5 bars, smoothed twice.

``stoch_k`` is the 3-bar mean of 100 x (close - lowest low) / (highest high - lowest low); ``stoch_d`` the 3-bar mean of
that. Undefined (masked) while a range of no height is inside either mean; TA-Lib counts such a bar as 0.
Units: points, 0..100. Source: TA-Lib ``STOCH``.
"""

from __future__ import annotations

from math import nan

from models.bar_columns import CLOSE, HIGH, LOW
from udfs.features.base import Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS = {"fast_k": 5, "slow_k": 3, "slow_d": 3, "overbought": 80.0, "oversold": 20.0}
TOTAL_K, TOTAL_D, FLAT = range(3)


def state(p: Parameters) -> State:
    """Two running totals, the last bar whose range had no height, and the four windows."""
    return State(
        scalars={"total_k": 0, "total_d": 0, "flat_bar": 0},
        rings={"highs": (p["fast_k"], 1), "lows": (p["fast_k"], 1), "fast": (p["slow_k"], 0), "slow": (p["slow_d"], 0)},
    )


def outputs(p: Parameters) -> tuple[Output, ...]:
    """The two lines and two flags."""
    first = p["fast_k"] + p["slow_k"] + p["slow_d"] - 2
    spans = f"{p['fast_k']}, {p['slow_k']}, {p['slow_d']}"
    return (
        Output("stoch_k", "points", first, f"TA-Lib STOCH({spans}) slow K", 0, 100),
        Output("stoch_d", "points", first, f"TA-Lib STOCH({spans}) slow D", 0, 100),
        Output("stoch_overbought", "flag", first, f"stoch_k > {p['overbought']:g}", 0, 1),
        Output("stoch_oversold", "flag", first, f"stoch_k < {p['oversold']:g}", 0, 1),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (p["fast_k"], p["slow_k"], p["slow_d"], p["overbought"], p["oversold"])


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
    fast_k, slow_k, slow_d, overbought, oversold = constants
    fast, slow = 2 * fast_k, 2 * fast_k + slow_k
    if seen == 1:
        scalars[TOTAL_K] = scalars[TOTAL_D] = 0.0
        scalars[FLAT] = -1.0
    rings[seen % fast_k] = bar[HIGH]
    rings[fast_k + seen % fast_k] = bar[LOW]
    if seen < fast_k:
        return
    highest = bar[HIGH]
    lowest = bar[LOW]
    for i in range(fast_k):
        highest = max(highest, rings[i])
        lowest = min(lowest, rings[fast_k + i])
    height = (highest - lowest) / 100.0
    k = 0.0
    if height != 0.0:
        k = (bar[CLOSE] - lowest) / height
    else:
        scalars[FLAT] = seen
    rings[fast + seen % slow_k] = k
    scalars[TOTAL_K] += k
    if seen < fast_k + slow_k - 1:
        return
    mean_k = scalars[TOTAL_K] / slow_k
    scalars[TOTAL_K] -= rings[fast + (seen + 1) % slow_k]
    rings[slow + seen % slow_d] = mean_k
    scalars[TOTAL_D] += mean_k
    if seen < fast_k + slow_k + slow_d - 2:
        return
    mean_d = scalars[TOTAL_D] / slow_d
    scalars[TOTAL_D] -= rings[slow + (seen + 1) % slow_d]
    since = seen - scalars[FLAT] if scalars[FLAT] > 0.0 else 1e9
    out[0] = mean_k if since >= slow_k else nan
    out[1] = mean_d if since >= slow_k + slow_d - 1 else nan
    out[2] = nan if since < slow_k else 1.0 if mean_k > overbought else 0.0
    out[3] = nan if since < slow_k else 1.0 if mean_k < oversold else 0.0
