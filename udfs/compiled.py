"""Numba, imported safely, and the folder where compiled code is kept between runs.

Flink's process-mode Python worker replaces ``builtins.print`` by a function of its own, and then ``import numba`` fails
("module 'builtins' has no attribute 'print'": it looks the builtin up by type). Every module of ours takes ``njit``
from here, so the import happens once, with the real ``print`` in place.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import os
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def _find_print() -> Any:
    """The interpreter's own ``print``, wherever a replacement may have left it."""
    if isinstance(builtins.print, types.BuiltinFunctionType):
        return builtins.print
    kept = getattr(getattr(builtins.print, "__self__", None), "_print", None)  # Flink's worker keeps it here
    if isinstance(kept, types.BuiltinFunctionType):
        return kept
    for found in gc.get_objects():
        if isinstance(found, types.BuiltinFunctionType) and found.__name__ == "print" and found.__self__ is builtins:
            return found
    return builtins.print


@contextlib.contextmanager
def original_print() -> Iterator[None]:
    """Put the interpreter's own ``print`` back while numba is being imported.

    >>> with original_print():
    ...     print("ready")
    ready
    """
    replaced = builtins.print
    builtins.print = _find_print()
    try:
        yield
    finally:
        builtins.print = replaced


with original_print():
    import numba


def njit(function: Any = None, **options: Any) -> Any:
    """``numba.njit`` with IEEE division (x / 0 is inf or NaN, not an exception), as a decorator or called."""
    if function is None:
        return lambda f: njit(f, **options)
    return numba.njit(function, error_model="numpy", **options)


def cache_folder() -> Path:
    """A folder of this user's for compiled kernels: ``$SIGNALS_CACHE``, else ``~/.cache/signal-pipeline``.

    Falls back to a private temporary folder where the home folder cannot be written (a container's read-only user).
    """
    base = os.environ.get("SIGNALS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "signal-pipeline"
    )
    folder = Path(base) / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="signal-pipeline-kernels-"))
