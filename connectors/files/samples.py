"""Real bars that come with a package: daily bars of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013 (bokeh_sampledata)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

#: Name that commands accept for this data instead of a file.
DAILY = "sample:daily"


def daily_bars_file() -> Path:
    """The CSV with columns Ticker, Date, Open, High, Low, Close, Volume, Adj Close; prices as traded, not adjusted.

    Raises FileNotFoundError that names the remedy.
    """
    spec = importlib.util.find_spec("bokeh_sampledata")
    path = Path(spec.origin).parent / "_data" / "stocks.csv.gz" if spec and spec.origin else None
    if path is None or not path.exists():
        raise FileNotFoundError("the sample bars are in the package bokeh_sampledata: pip install bokeh_sampledata")
    return path
