"""What a feature family is. Every other module of this folder is one; deleting its file removes the feature.

A family module has

- ``VERSION``: raised with any change of a formula, so that bundles trained on the old one are refused;
- ``PARAMETERS``: its periods and thresholds with their defaults (:class:`FeatureConfig` may override any);
- ``state(p) -> State``: the cells it keeps for a symbol;
- ``outputs(p) -> tuple[Output, ...]``: what it computes;
- ``constants(p) -> tuple``: the numbers its step takes, in the order the step unpacks them;
- ``step(seen, bar, context, scalars, rings, out, quality, constants)``: one bar. ``seen`` counts the bars this family
  has seen, this one included; ``bar`` is the row of :data:`models.bar_columns.BAR_COLUMNS`; ``context`` the
  :data:`CONTEXT` cells (the previous bar, the session); ``scalars`` and ``rings`` its own cells, ``out`` and
  ``quality`` its slices of the outputs and of the quality mask; ``constants`` its numbers.

A family with side inputs names their kind (``EVENTS = "news"``) and has ``receive(context, rings, event, constants)``,
which stores one; a family whose rings hold prices in another form than float64 cells has
``rescale(rings, ratio, constants)`` for splits.

A step leaves NaN where a value is undefined. Values before an output's ``first`` bar are masked by the kernel, and so
is what rests on a gap. Scalars are restored when a bar is revised; rings are not, so a ring's slot that bar ``n``
writes must hold nothing that bar ``n`` or a later one reads (a lag of 5 needs 6 slots).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

#: A row of float64 cells, a row of quality codes, and a family's constants.
Cells = npt.NDArray[np.float64]
Marks = npt.NDArray[np.uint8]
Constants = tuple[Any, ...]
#: A family's periods and thresholds by name.
Parameters = dict[str, Any]

#: What every step may read about the symbol, kept by the kernel: this bar's place in time, then the bar before it.
#: The cells from ``count`` on are restored when a bar is revised; every bar sets the others again.
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

    The exponent is how a split acts: prices scale with 1 (a split 4:1 multiplies them by 1/4), squared prices with 2,
    volumes with -1, ratios with 0.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    rings: Mapping[str, tuple[int, float]] = field(default_factory=dict)
