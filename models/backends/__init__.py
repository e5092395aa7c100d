"""One file a kind of model. Adding a kind is adding a file with ``PACKAGE``, ``version()`` and ``open_model(data)``
(:mod:`models.backends.base` describes what that returns).

A manifest names a backend by its file name here; bytes in, probabilities out, no pickle and no code from the bundle.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any


def names() -> tuple[str, ...]:
    """Every backend in this folder.

    >>> {"xgboost", "lightgbm", "onnx"} <= set(names())
    True
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"))


def backend(name: str) -> Any:
    """The backend's module; raises ``LookupError`` naming those that exist."""
    if name not in names():
        raise LookupError(
            f"backend {name!r} does not exist (there are {', '.join(names())}): add models/backends/{name}.py"
        )
    with _without_sklearn():
        return importlib.import_module(f"{__name__}.{name}")


@contextlib.contextmanager
def _without_sklearn() -> Iterator[None]:
    """Keep XGBoost and LightGBM from importing scikit-learn (and joblib with it) for wrappers that are not used here.

    It saves a serving process a second and 60 MB. Where scikit-learn is imported already, as in training, it stays.
    """
    if "sklearn" in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules["sklearn"] = None
    try:
        yield
    finally:
        del sys.modules["sklearn"]
