"""Numba, imported safely: every module takes its decorators from here.

:func:`njit` compiles as numba does; :func:`njit_ieee` divides by IEEE 754 (x / 0 is inf or NaN, not an exception),
which is what features need; :func:`inner` is that for functions that only compiled code calls.

Two traps are avoided. Flink's process-mode Python worker replaces ``builtins.print`` by a function of its own, and then
``import numba`` fails ("module 'builtins' has no attribute 'print'": it looks the builtin up by type): here the import
happens once, with the real ``print`` in place. And numba keeps compiled functions by their own file alone: it does not
see an edit in a function they call, and finds no place for those of a wheel on the path. :class:`PackageCacheLocator`
solves both.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import hashlib
import importlib.resources
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, overload


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
    from numba.core.caching import _CacheLocator

F = TypeVar("F", bound=Callable[..., Any])


@overload
def njit(function: F) -> F: ...


@overload
def njit(*, cache: bool = False, nogil: bool = False) -> Callable[[F], F]: ...


def njit(function: F | None = None, **options: bool) -> F | Callable[[F], F]:
    """``numba.njit``, as a decorator with or without options; callers see the function's own types."""
    if function is None:
        return lambda wrapped: _compiled(wrapped, **options)
    return _compiled(function, **options)


@overload
def njit_ieee(function: F) -> F: ...


@overload
def njit_ieee(*, cache: bool = False, nogil: bool = False) -> Callable[[F], F]: ...


def njit_ieee(function: F | None = None, **options: bool) -> F | Callable[[F], F]:
    """:func:`njit` with IEEE division: x / 0 is inf or NaN, not an exception."""
    if function is None:
        return lambda wrapped: _compiled(wrapped, error_model="numpy", **options)
    return _compiled(function, error_model="numpy", **options)


def inner(function: F) -> F:
    """:func:`njit_ieee` without an entry from Python, which compiles a fifth faster."""
    return _compiled(function, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _compiled(function: F, **options: bool | str) -> F:
    """Compile ``function``; the one place where a compiled function is given the type of the one it was made from."""
    compiled: F = numba.njit(function, **options)
    return compiled


@cache
def _package_digest() -> str:
    """Hash of every source of this package, from a checkout or from inside a wheel."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    for source in _sources(importlib.resources.files("models")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: Traversable) -> Iterator[Traversable]:
    """Every Python file below ``folder``, in one order everywhere."""
    for child in sorted(folder.iterdir(), key=lambda found: found.name):
        if child.is_dir():
            yield from _sources(child)
        elif child.name.endswith(".py"):
            yield child


def cache_folder() -> Path:
    """A folder of this user's for compiled code: ``$SIGNALS_CACHE``, else ``~/.cache/signal-pipeline``.

    Falls back to a private temporary folder where that cannot be written (a container's read-only user).
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(os.environ.get("SIGNALS_CACHE") or os.path.join(home, "signal-pipeline"))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="signal-pipeline-"))


class PackageCacheLocator(_CacheLocator):  # type: ignore[misc]
    """Where numba keeps this package's compiled functions: a folder named by a hash over all sources of the package."""

    def __init__(self, function: Any) -> None:
        self._name = f"{function.__module__}-{function.__code__.co_firstlineno}"

    def get_cache_path(self) -> str:
        """The folder."""
        return str(cache_folder() / f"models-{_package_digest()}")

    def get_source_stamp(self) -> str:
        """What must be equal for compiled code to be used."""
        return _package_digest()

    def get_disambiguator(self) -> str:
        """Distinguishes functions of the same name."""
        return self._name

    @classmethod
    def from_function(cls, function: Any, file: str) -> PackageCacheLocator | None:
        """A locator for functions of this package, None for all others (numba's own locators serve them)."""
        return cls(function) if function.__module__.startswith("models.") else None


numba.config.CACHE_LOCATOR_CLASSES = ",".join(
    ["models.jit.PackageCacheLocator", "InTreeCacheLocator", "UserWideCacheLocator"]
)


def kernel_folder() -> Path:
    """The folder for generated kernels inside :func:`cache_folder`."""
    folder = cache_folder() / "kernels"
    folder.mkdir(exist_ok=True)
    return folder


__all__ = ["cache_folder", "inner", "kernel_folder", "njit", "njit_ieee", "numba", "original_print"]
