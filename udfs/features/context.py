"""Context of the bar itself.

``current_price`` is the bar's close, in price units.
"""

from __future__ import annotations

from typing import Any

from udfs.catalogue import CLOSE, Output, State

PARAMETERS: dict[str, Any] = {}


def state(p: dict[str, Any]) -> State:
    """Nothing of its own."""
    return State()


def outputs(p: dict[str, Any]) -> tuple[Output, ...]:
    """The price."""
    return (Output("current_price", "price", 1, "close", 0),)


def constants(p: dict[str, Any]) -> tuple[Any, ...]:
    """What :func:`step` unpacks."""
    return ()


def step(n, bar, x, s, r, out, q, c):  # type: ignore[no-untyped-def]
    """One bar."""
    out[0] = bar[CLOSE]
