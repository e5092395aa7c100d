"""Venue adapters: this folder is the list. A folder here with a module ``venue`` that has ``Adapter``
and ``Settings`` is a venue; its name is the venue's. Nothing outside the folder knows it by name: what others must
know of it, its calendar for one, it declares as ``Settings.capabilities``.

>>> names()
['alpaca', 'binance', 'binance_us', 'polygon']
>>> load("alpaca").source
'alpaca'
>>> declared_calendar("built:binance_us"), declared_calendar("desk")
('24/7', 'XNYS')
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from types import ModuleType
from typing import Any

from connectors.venues.base import Capabilities, Venue, VenueSettings
from models.trade import calendar


def names() -> list[str]:
    """Venues that exist."""
    return list(_names(tuple(__path__)))


@lru_cache(maxsize=8)
def _names(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders) if module.ispkg))


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"venue = {name!r}: must be one of {', '.join(names())}")
    return importlib.import_module(f"connectors.venues.{name}.venue")


def load(name: str, **options: Any) -> Venue:
    """The adapter of a venue; ValueError names the ones that exist. Options are the adapter's own."""
    adapter: Venue = _module(name).Adapter(**options)
    return adapter


def settings_of(name: str) -> type[VenueSettings]:
    """The settings model of a venue; ValueError names the ones that exist."""
    model: type[VenueSettings] = _module(name).Settings
    return model


def capabilities(name: str) -> Capabilities:
    """What a venue declares; ValueError names the ones that exist."""
    return settings_of(name).capabilities


def of_source(source: str) -> str:
    """The venue a message's source belongs to: the longest venue name that it begins with, or empty.

    A source may be the venue's name, ``built:`` and it, or a name that its settings give.

    >>> of_source("built:binance_us"), of_source("binance-eu"), of_source("desk")
    ('binance_us', 'binance', '')
    """
    return _of_source(source.rpartition(":")[2], tuple(names()))


@lru_cache(maxsize=4096)
def _of_source(source: str, known: tuple[str, ...]) -> str:
    return max((name for name in known if source.startswith(name)), key=len, default="")


def declared_calendar(source: str) -> str:
    """The calendar that a source's venue declares; that of US stocks for a source of no venue."""
    venue = of_source(source)
    return capabilities(venue).calendar if venue else calendar.US_STOCKS


def calendar_name(symbol: str, source: str = "") -> str:
    """The calendar a series trades by, as its source's venue declares it (:func:`models.trade.calendar.calendar_name`).

    >>> calendar_name("BTCUSDT"), calendar_name("AAPL", "alpaca"), calendar_name("ETHUSD", "binance")
    ('24/7', 'XNYS', '24/7')
    """
    return calendar.calendar_name(symbol, source, declared_calendar)
