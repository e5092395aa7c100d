"""Momentum: the relative change of the close over 1, 3, 5 and 10 bars.

Unit: ratio (0.01 is 1 %). Source: (close[t] - close[t-N]) / close[t-N]; TA-Lib ``ROCP``.
"""

from __future__ import annotations

from typing import Any

from models.bar_columns import CLOSE
from udfs.features.base import Output, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: dict[str, Any] = {"lags": (1, 3, 5, 10)}


def state(p: dict[str, Any]) -> State:
    """The closes the longest lag needs."""
    return State(rings={"closes": (max(p["lags"]) + 1, 1)})


def outputs(p: dict[str, Any]) -> tuple[Output, ...]:
    """One output a lag."""
    return tuple(Output(f"momentum_{n}", "ratio", n + 1, f"TA-Lib ROCP({n})", -1) for n in p["lags"])


def constants(p: dict[str, Any]) -> tuple[Any, ...]:
    """What :func:`step` unpacks."""
    return (max(p["lags"]) + 1, tuple(p["lags"]))


def step(n, bar, x, s, r, out, q, c):  # type: ignore[no-untyped-def]
    """One bar."""
    size, lags = c
    close = bar[CLOSE]
    at = n % size
    r[at] = close
    for k in range(len(lags)):
        if n > lags[k]:
            j = at - lags[k]
            before = r[j if j >= 0 else j + size]
            out[k] = (close - before) / before
