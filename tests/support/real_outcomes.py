"""Real daily bars with their splits, and thousands of signals on them made by the real decision rules."""

from functools import cache
from pathlib import Path

import bokeh_sampledata
import numpy as np
import pandas as pd

from connectors.files.bars import read_bars
from models.messages import Signal
from models.signals.decide import decide
from models.trade.calendar import calendar

STOCKS = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"


@cache
def real_bars():
    table, _, rejects = read_bars(STOCKS, timeframe="1d")
    adjusted = pd.read_csv(STOCKS)["Adj Close"].to_numpy()[table["line"].to_numpy() - 2]
    return table.assign(factor=table["close"].to_numpy() / adjusted), rejects


def splits_of(table):
    """(symbol, start_ms, ratio) where close / adjusted close drops by half: the 2-for-1 splits in these years."""
    found = []
    for symbol, rows in table.groupby("symbol"):
        ratio = rows["factor"].shift() / rows["factor"]
        found += [(symbol, int(rows.loc[i, "start_ms"]), 2.0) for i in rows.index[ratio.between(1.9, 2.1)]]
    return found


def make_signals(table):
    """A plain momentum rule on every other bar, through the real decision rules."""
    market, signals = calendar("XNYS"), []
    for symbol, rows in table.groupby("symbol"):
        previous = rows["close"].shift()
        true_range = np.maximum(rows["high"], previous) - np.minimum(rows["low"], previous)
        atr, momentum = true_range.rolling(14).mean(), rows["close"].diff(5)
        confidence = (0.5 + (momentum.abs() / rows["close"]).rank(pct=True) * 0.45).fillna(0.5)
        for i in rows.index[20::2]:
            made = decide(
                symbol=symbol,
                timeframe="1d",
                end_ms=int(rows.loc[i, "end_ms"]),
                price=rows.loc[i, "close"],
                atr=atr[i] * (1.0, 0.2)[i // 2 % 2],  # half of them with levels near enough to be reached often
                action="buy" if momentum[i] > 0 else "sell",
                confidence=confidence[i],
                votes={"momentum": ("buy", 0.6)},
                required=(),
                bundle="rule",
                calendar=market,
            )
            if isinstance(made, Signal):
                signals.append(made)
    return signals
