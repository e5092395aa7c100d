"""Venue adapters: this folder is the list. A folder here with a module ``venue`` that has ``Adapter``
and ``Settings`` is a venue; its name is the venue's.

>>> names()
['alpaca', 'binance', 'binance_us', 'polygon']
>>> load("alpaca").source
'alpaca'
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from connectors.venues.base import Venue


def names() -> list[str]:
    """Venues that exist."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def load(name: str, **options: Any) -> Venue:
    """The adapter of a venue; ValueError names the ones that exist. Options are the adapter's own."""
    if name not in names():
        raise ValueError(f"venue = {name!r}: must be one of {', '.join(names())}")
    adapter: Venue = importlib.import_module(f"connectors.venues.{name}.venue").Adapter(**options)
    return adapter
