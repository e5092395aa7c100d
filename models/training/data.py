"""Rows to learn from: bars and their features joined, labelled, weighted, with what must not teach left out.

Bars: columns symbol, start_ms, end_ms, open, high, low, close, volume. Features: symbol, start_ms and one column a
feature (NaN or null where missing), one row per bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.trade.calendar import Calendar, calendar
from models.training.config import TrainConfig
from models.training.labels import UNKNOWN, SymbolBars, label
from models.training.uniqueness import uniqueness

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Bars after a price jump during which the inputs still remember it.
MEMORY_BARS = 60

BAR_COLUMNS = ("symbol", "start_ms", "end_ms", "open", "high", "low", "close", "volume")


class Dataset(NamedTuple):
    """Labelled rows in time order: n rows, f inputs.

    ``rewards`` and ``pnl_percent`` are float64[n, 2], of a sell and of a buy, after costs. ``weights`` are uniqueness.
    ``counts`` has how many bars were read and why others were left out.
    """

    symbols: npt.NDArray[np.object_]
    start_ms: Integers
    end_ms: Integers
    exit_ms: Integers
    inputs: Floats
    labels: npt.NDArray[np.int8]
    rewards: Floats
    pnl_percent: Floats
    weights: Floats
    counts: dict[str, int]

    def take(self, mask: Mask) -> Dataset:
        """The rows of the mask."""
        return Dataset.of([part[mask] for part in self[:-1]], self.counts)

    @classmethod
    def of(cls, columns: Sequence[Any], counts: dict[str, int]) -> Dataset:
        """The dataset of these columns, in the order of the fields."""
        return cls(*(*columns, counts))

    @classmethod
    def joined(cls, parts: Sequence[Dataset]) -> Dataset:
        """The rows of all parts, one after the other."""
        columns = [np.concatenate(column) for column in zip(*(part[:-1] for part in parts), strict=True)]
        return cls.of(columns, parts[0].counts)


def prepare(config: TrainConfig, bars: pd.DataFrame, features: pd.DataFrame) -> Dataset:
    """Joins, labels and weights the rows; ``ValueError`` naming what is missing."""
    _need(bars, BAR_COLUMNS, "bars")
    _need(features, ("symbol", "start_ms", "atr_14", *config.inputs), "features")
    market = calendar(config.market)
    columns = list(dict.fromkeys((*config.inputs, "atr_14")))
    features = features.drop_duplicates(["symbol", "start_ms"], keep="last")
    joined = bars.drop_duplicates(["symbol", "start_ms"], keep="last").merge(
        features[["symbol", "start_ms", *columns]], on=["symbol", "start_ms"], how="left", validate="1:1"
    )
    counts = dict.fromkeys(("bars", "warming_up", "crossed_a_jump", "no_outcome_yet", "both_barriers_in_one_bar"), 0)
    parts = [_symbol(config, group, counts, market) for _, group in joined.groupby("symbol", sort=True)]
    if not parts:
        raise ValueError("there are no bars to learn from")
    merged = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    order = np.lexsort((merged[0].astype(str), merged[1]))
    return Dataset.of([part[order] for part in merged], counts)


def _symbol(
    config: TrainConfig, frame: pd.DataFrame, counts: dict[str, int], market: Calendar
) -> tuple[npt.NDArray[Any], ...]:
    frame = frame.sort_values("start_ms")
    prices = [frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")]
    bars = SymbolBars(frame["start_ms"].to_numpy(np.int64), frame["end_ms"].to_numpy(np.int64), *prices)
    labels = label(bars, frame["atr_14"].to_numpy(np.float64), config.label, config.timeframe, market)
    # One memory layout, whatever the table's: over another, sums and so the files would differ in their last bits.
    inputs = np.ascontiguousarray(frame[list(config.inputs)].to_numpy(np.float64))
    count = len(frame)
    last = np.maximum(labels.buy.exit_index, labels.sell.exit_index)

    jumped = np.zeros(count, dtype=np.int64)
    jumped[1:] = np.abs(bars.opens[1:] / bars.closes[:-1] - 1) > config.jump_max
    seen = np.concatenate([[0], np.cumsum(jumped)])
    first_input = np.maximum(np.arange(count) - MEMORY_BARS, 0)
    crossed = seen[np.clip(last, 0, count - 1) + 1] > seen[first_input]

    required = [index for index, name in enumerate(config.inputs) if name not in config.optional]
    cold = ~np.isfinite(inputs[:, required]).all(axis=1)
    unknown = labels.label == UNKNOWN
    counts["bars"] += count
    counts["warming_up"] += int(cold.sum())
    counts["crossed_a_jump"] += int((crossed & ~cold).sum())
    counts["no_outcome_yet"] += int((unknown & ~cold & ~crossed).sum())
    keep = ~cold & ~crossed & ~unknown
    both = (labels.buy.both_inside | labels.sell.both_inside) & keep
    counts["both_barriers_in_one_bar"] += int(both.sum())
    index = np.flatnonzero(keep)
    return (
        frame["symbol"].to_numpy(object)[keep],
        bars.starts[keep],
        bars.ends[keep],
        labels.exit_ms[keep],
        np.ascontiguousarray(inputs[keep]),
        labels.label[keep],
        np.column_stack([labels.sell.reward, labels.buy.reward])[keep],
        np.column_stack([labels.sell.pnl_percent, labels.buy.pnl_percent])[keep],
        uniqueness(index, last[keep], count),
    )


def balanced(labels: npt.NDArray[np.int8], weights: Floats) -> Floats:
    """Weights scaled so that sell and buy labels weigh the same in total.

    >>> balanced(np.array([0, 0, 0, 1, 2]), np.ones(5)).round(3).tolist()
    [0.667, 0.667, 0.667, 1.0, 2.0]
    """
    sell, buy = weights[labels == 0].sum(), weights[labels == 2].sum()
    if not sell or not buy:
        return weights
    factor = np.array([(sell + buy) / 2 / sell, 1.0, (sell + buy) / 2 / buy])
    return np.asarray(weights * factor[labels])


def _need(frame: pd.DataFrame, names: tuple[str, ...], what: str) -> None:
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise ValueError(
            f"the {what} lack the columns {', '.join(absent)}; they have {', '.join(map(str, frame.columns))}"
        )
