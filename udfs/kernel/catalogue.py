"""The catalogue: which families of features exist, and the configuration that chooses among them.

The folder ``udfs/features`` is the registry; :mod:`udfs.features.base` defines what a family module has.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

from connectors.venues import calendar_name
from models.bar_columns import CALENDARS
from models.serving.feature_set import FeatureSet, family_hash
from udfs.features.base import Parameters


@lru_cache(maxsize=100_000)
def calendar_code(symbol: str, source: str = "") -> float:
    """The ``calendar`` column of a symbol's bars; the configuration's where the kernel knows no such calendar.

    >>> calendar_code("BTCUSDT"), calendar_code("AAPL", "alpaca")
    (1.0, 2.0)
    """
    return CALENDARS.get(calendar_name(symbol, source), CALENDARS["default"])


@dataclass(frozen=True)
class FeatureConfig:
    """Which features are computed, and how. It is data: the same fields give the same hash everywhere.

    ``lookback_periods``: moving averages, in bars. ``families``: names to compute (None: every family there is).
    ``parameters``: overrides by family, ``{"rsi": {"period": 10}}``. ``calendar``: the trading calendar of symbols
    whose bars name none (``XNYS`` or ``24/7``). ``jump_limit``: a close more than this many times the one before, or
    less than its inverse, is a break in the series. ``gap_sessions``: so many sessions' worth of missing trading time
    (days, round the clock) is a gap.

    >>> FeatureConfig().hash == FeatureConfig(families=None).hash
    True
    >>> FeatureConfig(parameters={"rsi": {"period": 10}}).hash == FeatureConfig().hash
    False
    """

    lookback_periods: tuple[int, ...] = (5, 10, 20, 50, 200)
    families: tuple[str, ...] | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calendar: str = "XNYS"
    gap_sessions: float = 1.0
    jump_limit: float = 20.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "lookback_periods", tuple(self.lookback_periods))
        if self.families is not None:
            object.__setattr__(self, "families", tuple(sorted(self.families)))
        if not self.lookback_periods or min(self.lookback_periods) < 1:
            raise ValueError(f"lookback_periods={self.lookback_periods}: name at least one period, each 1 bar or more")
        if self.calendar not in CALENDARS or self.calendar == "default":
            raise ValueError(f"calendar={self.calendar!r}: choose one of XNYS, 24/7")

    def resolved(self) -> dict[str, Any]:
        """Everything that decides a value, defaults filled in, as plain JSON data."""
        return {
            "calendar": self.calendar,
            "gap_sessions": self.gap_sessions,
            "jump_limit": self.jump_limit,
            "families": {name: parameters_of(name, self) for name in sorted(chosen(self))},
        }

    @property
    def hash(self) -> str:
        """16 hex digits over every parameter and output name; on every row, bundle and signal."""
        names = [o.name for n, m in chosen(self).items() for o in m.outputs(parameters_of(n, self))]
        text = json.dumps([self.resolved(), names], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str | bytes) -> FeatureConfig:
        """The configuration in ``text``; an unknown field is named.

        >>> FeatureConfig.from_json('{"calendar": "24/7"}').calendar
        '24/7'
        """
        data = json.loads(text)
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"feature configuration: unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        return cls(**data)


def families() -> dict[str, ModuleType]:
    """Every family by name, in the catalogue's order (alphabetical)."""
    package = importlib.import_module("udfs.features")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "base")
    return {name: importlib.import_module(f"udfs.features.{name}") for name in names}


def chosen(config: FeatureConfig) -> dict[str, ModuleType]:
    """The families ``config`` switches on; an unknown name stops here."""
    every = families()
    for name in list(config.families or ()) + list(config.parameters):
        if name not in every:
            raise ValueError(f"feature family {name!r} does not exist; there are: {', '.join(every)}")
    wanted = every if config.families is None else config.families
    return {name: module for name, module in every.items() if name in wanted}


def parameters_of(name: str, config: FeatureConfig) -> Parameters:
    """The parameters of one family: its defaults, the configuration's lookbacks, then its overrides."""
    module = families()[name]
    values: Parameters = dict(module.PARAMETERS)
    if "lookback_periods" in values:
        values["lookback_periods"] = list(config.lookback_periods)
    for key, value in config.parameters.get(name, {}).items():
        if key not in values:
            raise ValueError(f"feature family {name!r} has no parameter {key!r}; it has: {', '.join(values)}")
        values[key] = value
    return values


def feature_set(config: FeatureConfig) -> FeatureSet:
    """What a job with this configuration computes, and the identity of each family.

    What the configuration sets for all families (calendar, gaps, jumps) counts among the parameters of each.
    """
    names: list[str] = []
    hashes: dict[str, str] = {}
    shared = {"calendar": config.calendar, "gap_sessions": config.gap_sessions, "jump_limit": config.jump_limit}
    for name, module in chosen(config).items():
        parameters = parameters_of(name, config)
        outputs = [output.name for output in module.outputs(parameters)]
        hashes[name] = family_hash(name, module.VERSION, parameters | shared, outputs)
        names += outputs
    return FeatureSet(names=tuple(names), hash=config.hash, families=hashes)
