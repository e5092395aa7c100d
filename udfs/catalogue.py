"""The catalogue: which families of features exist, what each declares, and the configuration that chooses among them.

The folder ``udfs/features`` is the registry: every module in it is a family. A family module has

- ``PARAMETERS``: its periods and thresholds with their defaults (:class:`FeatureConfig` may override any);
- ``state(p) -> State``: the cells it keeps for a symbol;
- ``outputs(p) -> tuple[Output, ...]``: what it computes;
- ``constants(p) -> tuple``: the numbers its step takes, in the order the step unpacks them;
- ``step(n, bar, x, s, r, out, q, c)``: one bar. ``n`` counts the bars this family has seen, this one included;
  ``bar`` is the row of :data:`BAR_COLUMNS`; ``x`` the :data:`CONTEXT` cells (the previous bar, the session);
  ``s`` its scalars; ``r`` its rings; ``out`` and ``q`` its slices of the outputs and of the quality mask; ``c`` its
  constants.

A family with side inputs names their kind (``EVENTS = "news"``) and has ``receive(x, r, event, c)``, which stores one;
a family whose rings hold prices in another form than float64 cells has ``rescale(r, ratio, c)`` for splits.

A step leaves NaN where a value is undefined. Values before an output's ``first`` bar are masked by the kernel, and so
is what rests on a gap. Scalars are restored when a bar is revised; rings are not, so a ring's slot that bar ``n``
writes must hold nothing that bar ``n`` or a later one reads (a lag of 5 needs 6 slots).
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

from models.expiry import calendar_name

#: Columns of the bars matrix. ``calendar`` is a code of :data:`CALENDARS`; 0, the default, is the configuration's.
BAR_COLUMNS = ("start_ms", "end_ms", "open", "high", "low", "close", "volume", "revision", "calendar")
START, END, OPEN, HIGH, LOW, CLOSE, VOLUME, REVISION, CALENDAR = range(len(BAR_COLUMNS))

#: What every step may read about the symbol, kept by the kernel: this bar's place in time, then the bar before it.
#: The cells from ``count`` on are restored when a bar is revised; the others every bar sets anew.
CONTEXT = (
    "start_ms",
    "end_ms",
    "revision",
    "bars_per_year",
    "day",
    "session",
    "minutes_to_close",
    "session_index",
    "jumped",
    "split_ms",
    "split_ratio",
    "count",
    "break_count",
    "prev_end_ms",
    "prev_high",
    "prev_low",
    "prev_close",
)
(
    LAST_START,
    LAST_END,
    LAST_REVISION,
    BARS_PER_YEAR,
    DAY,
    SESSION,
    MINUTES_TO_CLOSE,
    SESSION_INDEX,
    JUMPED,
    SPLIT_AT,
    SPLIT_RATIO,
    COUNT,
    BREAK_COUNT,
    PREV_END,
    PREV_HIGH,
    PREV_LOW,
    PREV_CLOSE,
) = range(len(CONTEXT))

#: Price exponents of the context cells (see :class:`State`).
CONTEXT_EXPONENTS = tuple(1.0 if name in ("prev_high", "prev_low", "prev_close") else 0.0 for name in CONTEXT)

#: Codes of the ``calendar`` column.
CALENDARS: dict[str, float] = {"default": 0.0, "24/7": 1.0, "XNYS": 2.0}


@lru_cache(maxsize=100_000)
def calendar_code(symbol: str, source: str = "") -> float:
    """The ``calendar`` column of a symbol's bars.

    >>> calendar_code("BTCUSDT"), calendar_code("AAPL", "alpaca")
    (1.0, 2.0)
    """
    return CALENDARS[calendar_name(symbol, source)]


#: Quality codes (``models.messages.QUALITY``) as the numbers in a mask.
SOUND, WARMING, GAP, ZERO, MISSING, STALE = (ord(c) for c in ".wgzms")


@dataclass(frozen=True)
class Output:
    """One feature.

    ``first`` is the number of bars until its first value, ``low`` and ``high`` its range (None: open). ``settled`` is
    its warm-up: the bars after which its value no longer depends on where history began (to 1e-6 of its own spread,
    held by ``signals check convergence``); None where that is no number of bars, and ``note`` says why.
    """

    name: str
    unit: str
    first: int
    source: str
    low: float | None = None
    high: float | None = None
    note: str = ""
    settled: int | None = -1

    def __post_init__(self) -> None:
        if self.settled == -1:
            object.__setattr__(self, "settled", self.first)


@dataclass(frozen=True)
class State:
    """A family's cells: scalars (name -> price exponent) and rings (name -> (slots, price exponent)).

    The exponent says how a split acts: prices scale with 1 (a split 4:1 multiplies them by 1/4), squared prices with 2,
    volumes with -1, ratios with 0.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    rings: Mapping[str, tuple[int, float]] = field(default_factory=dict)


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

    def to_json(self) -> str:
        """The configuration as JSON; :meth:`from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> FeatureConfig:
        """The configuration in ``text``; an unknown field is named.

        >>> FeatureConfig.from_json(FeatureConfig(calendar="24/7").to_json()).calendar
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
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    return {name: importlib.import_module(f"udfs.features.{name}") for name in names}


def chosen(config: FeatureConfig) -> dict[str, ModuleType]:
    """The families ``config`` switches on; an unknown name stops here."""
    every = families()
    for name in list(config.families or ()) + list(config.parameters):
        if name not in every:
            raise ValueError(f"feature family {name!r} does not exist; there are: {', '.join(every)}")
    wanted = every if config.families is None else config.families
    return {name: module for name, module in every.items() if name in wanted}


def parameters_of(name: str, config: FeatureConfig) -> dict[str, Any]:
    """The parameters of one family: its defaults, the configuration's lookbacks, then its overrides."""
    module = families()[name]
    values: dict[str, Any] = dict(module.PARAMETERS)
    if "lookback_periods" in values:
        values["lookback_periods"] = list(config.lookback_periods)
    for key, value in config.parameters.get(name, {}).items():
        if key not in values:
            raise ValueError(f"feature family {name!r} has no parameter {key!r}; it has: {', '.join(values)}")
        values[key] = value
    return values
