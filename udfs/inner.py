"""Compiling what only compiled code calls."""

from __future__ import annotations

from typing import Any

from udfs.compiled import njit


def inner(function: Any) -> Any:
    """:func:`udfs.compiled.njit` without an entry from Python, which compiles a fifth faster."""
    return njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)
