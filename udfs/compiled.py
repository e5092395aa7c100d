"""How the kernel is compiled, and the folder where compiled code is kept between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models import numba_safe
from models.numba_safe import numba


def njit(function: Any = None, **options: Any) -> Any:
    """``numba.njit`` with IEEE division (x / 0 is inf or NaN, not an exception), as a decorator or called."""
    if function is None:
        return lambda f: njit(f, **options)
    return numba.njit(function, error_model="numpy", **options)


def cache_folder() -> Path:
    """The folder for compiled kernels inside :func:`models.numba_safe.cache_folder`."""
    folder = numba_safe.cache_folder() / "kernels"
    folder.mkdir(exist_ok=True)
    return folder
