"""Momentum: the relative change of the close over 1, 3, 5 and 10 bars.

Unit: ratio (0.01 is 1 %). Source: (close[t] - close[t-N]) / close[t-N]; TA-Lib ``ROCP``.
"""

from __future__ import annotations

from models.bar_columns import CLOSE
from udfs.features.base import Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {"lags": (1, 3, 5, 10)}


def state(p: Parameters) -> State:
    """The closes the longest lag needs."""
    return State(rings={"closes": (max(p["lags"]) + 1, 1)})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """One output a lag."""
    return tuple(Output(f"momentum_{n}", "ratio", n + 1, f"TA-Lib ROCP({n})", -1) for n in p["lags"])


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (max(p["lags"]) + 1, tuple(p["lags"]))


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
    size, lags = constants
    close = bar[CLOSE]
    at = seen % size
    rings[at] = close
    for k in range(len(lags)):
        if seen > lags[k]:
            j = at - lags[k]
            before = rings[j if j >= 0 else j + size]
            out[k] = (close - before) / before
