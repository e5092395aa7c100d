"""How the kernel is compiled, and the folder where compiled code is kept between runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from models.numba_safe import numba


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
