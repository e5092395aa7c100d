"""Bars for the tests: real daily bars of five stocks, and generated ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import bokeh_sampledata
import numpy as np

from connectors.files.bars import read_bars
from udfs.kernel.compiler import BAR_COLUMNS

DAY = 86_400_000
MINUTE = 60_000


@cache
def daily() -> dict[str, np.ndarray]:
    """Real daily bars by symbol, as bars matrices."""
    table, _, _ = read_bars(Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz", timeframe="1d")
    found = {}
    for symbol, rows in table.groupby("symbol"):
        bars = np.zeros((len(rows), len(BAR_COLUMNS)))
        bars[:, :7] = rows[["start_ms", "end_ms", "open", "high", "low", "close", "volume"]].to_numpy(float)
        found[str(symbol)] = bars
    return found


def walk(n: int, seed: int = 0, step_ms: int = MINUTE, tick: float = 0.01) -> np.ndarray:
    """A random walk of ``n`` bars on a price grid, volumes some of them 0, round the clock."""
    rng = np.random.default_rng(seed)
    close = np.maximum(np.round(100 + np.cumsum(rng.normal(0, 0.05, n)), 2), 1.0)
    opened = np.r_[100.0, close[:-1]]
    high = np.round(np.maximum(opened, close) + tick * rng.integers(0, 5, n), 2)
    low = np.round(np.minimum(opened, close) - tick * rng.integers(0, 5, n), 2)
    bars = np.zeros((n, len(BAR_COLUMNS)))
    start = 1_600_000_020_000 + step_ms * np.arange(n)
    volume = rng.integers(0, 1000, n) * (rng.random(n) > 0.05)
    bars[:, :7] = np.column_stack([start, start + step_ms, opened, high, low, close, volume])
    bars[:, 8] = 1.0
    return bars
