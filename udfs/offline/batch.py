"""The same features for history: a table of bars in, one row of features per bar out, in the input's order.

Runs the compiled steps of ``udfs.kernel.compiler`` and nothing else, so training sees what the live job computes, to
the bit. Symbols are spread over threads (the compiled loop holds no lock); news, option summaries and splits may be
given as messages and are merged in by symbol.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.bar_columns import BAR_COLUMNS, CALENDARS
from udfs.kernel.catalogue import calendar_code
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.steps.side_inputs import SideInput, deal, first_bars, in_order, side_input

#: Bars a thread takes at a time: between two chunks progress is reported and other threads may run.
CHUNK_BARS = 20_000

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]


def bars_matrix(table: pd.DataFrame, calendar: str | None = None) -> Floats:
    """``float64[n, len(BAR_COLUMNS)]`` of a table with Bar's columns (as ``connectors.files.bars.read_bars`` gives).

    ``calendar`` names one for all symbols (``XNYS``, ``24/7``); else it follows from each symbol.
    """
    bars = np.zeros((len(table), len(BAR_COLUMNS)))
    for i, name in enumerate(BAR_COLUMNS[:-1]):
        if name in table:
            bars[:, i] = table[name].to_numpy(np.float64, na_value=np.nan)
        elif name == "volume":
            bars[:, i] = np.nan
        elif name != "revision":
            raise ValueError(f"bars have no column {name!r}; they need {', '.join(BAR_COLUMNS[:-3])}")
    if calendar is not None:
        if calendar not in CALENDARS:
            raise ValueError(f"calendar {calendar!r} is unknown; choose one of {', '.join(CALENDARS)}")
        bars[:, -1] = CALENDARS[calendar]
    elif len(table):
        codes, symbols = pd.factorize(table["symbol"])
        bars[:, -1] = np.array([calendar_code(str(symbol)) for symbol in symbols])[codes]
    return bars


def series_of(table: pd.DataFrame) -> tuple[npt.NDArray[np.int64], list[tuple[str, str]]]:
    """A row number for each (symbol, timeframe), and which is which."""
    keys = table["symbol"].astype(str)
    if "timeframe" in table:
        keys = keys + "\x1f" + table["timeframe"].astype(str)
    else:
        keys = keys + "\x1f"
    codes, names = pd.factorize(keys)
    return codes.astype(np.int64), [(str(n).split("\x1f")[0], str(n).split("\x1f")[1]) for n in names]


def compute(
    kernel: Kernel,
    rows: npt.NDArray[np.int64],
    bars: Floats,
    events: dict[int, list[SideInput]] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[npt.NDArray[np.int8], Floats, npt.NDArray[np.uint8]]:
    """Verdicts, values and quality of every bar, in the input's order.

    ``rows`` numbers each bar's series from 0; ``events`` gives a series its side inputs. ``progress(done, total)`` is
    called as bars are finished.
    """
    total, width = len(bars), len(kernel.names)
    verdicts = np.zeros(total, np.int8)
    out = np.empty((total, width))
    quality = np.empty((total, width), np.uint8)
    if not total:
        return verdicts, out, quality
    order = np.argsort(rows, kind="stable")
    edges = np.flatnonzero(np.r_[True, np.diff(rows[order]) != 0, True])
    sorted_already = bool((order == np.arange(total)).all())
    done = [0]
    lock = threading.Lock()

    def one(first: int, last: int) -> None:
        states = kernel.new_states(1)
        where: Any = slice(first, last) if sorted_already else order[first:last]
        mine = np.ascontiguousarray(bars[where], np.float64)
        feed = sorted((events or {}).get(int(rows[order[first]]), []), key=in_order)
        stops: dict[int, list[SideInput]] = {}
        for bar, event in first_bars(feed, mine[:, 1]):
            stops.setdefault(bar, []).append(event)

        def run(part: slice) -> None:
            for start in range(part.start, part.stop, CHUNK_BARS):
                stop = min(start + CHUNK_BARS, part.stop)
                zeros = np.zeros(stop - start, np.int64)
                if sorted_already:
                    here = slice(first + start, first + stop)
                    verdicts[here] = kernel.run(states, zeros, mine[start:stop], out[here], quality[here])
                else:
                    places = order[first + start : first + stop]
                    verdicts[places], out[places], quality[places] = kernel.compute(states, zeros, mine[start:stop])
                if progress is not None:
                    with lock:
                        done[0] += stop - start
                        progress(done[0], total)

        deal(len(mine), stops, run, lambda event: _give(kernel, states, *event))

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for _ in pool.map(one, edges[:-1].tolist(), edges[1:].tolist()):
            pass
    return verdicts, out, quality


def _give(kernel: Kernel, states: Floats, kind: str, row: tuple[float, ...]) -> None:
    getattr(kernel, kind)(states, np.zeros(1, np.int64), np.array([row]))


def features_table(
    table: pd.DataFrame,
    config: FeatureConfig | None = None,
    side_inputs: Iterable[Any] = (),
    calendar: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    kernel: Kernel | None = None,
) -> pd.DataFrame:
    """Features of a table of bars: one row per bar in the input's order.

    Columns: symbol, timeframe, start_ms, every name of the catalogue (float64, NaN where ``quality`` says why), and
    ``quality``, one character a feature (``models.messages.QUALITY``). ``side_inputs`` are News, OptionSummary and
    split events. The frame's ``attrs`` hold ``feature_set_hash``, ``names`` and
    ``families`` (name -> hash, outputs).
    """
    kernel = kernel or Kernel(config)
    rows, names = series_of(table)
    events = by_series(side_inputs, names)
    _, out, quality = compute(kernel, rows, bars_matrix(table, calendar), events, threads, progress)
    made = pd.DataFrame(out, columns=list(kernel.names), copy=False)
    made.insert(0, "symbol", table["symbol"].to_numpy())
    made.insert(1, "timeframe", table["timeframe"].to_numpy() if "timeframe" in table else "")
    made.insert(2, "start_ms", table["start_ms"].to_numpy(np.int64))
    text = quality.tobytes().decode("ascii")
    width = len(kernel.names)
    made["quality"] = [text[i : i + width] for i in range(0, len(text), width)]
    made.attrs.update(feature_set_hash=kernel.feature_set_hash, names=list(kernel.names), families=kernel.families)
    return made


def by_series(messages: Iterable[Any], names: Sequence[tuple[str, str]]) -> dict[int, list[SideInput]]:
    """The side inputs of each series: a symbol's messages go to all its timeframes, each once."""
    places: dict[str, list[int]] = {}
    for i, (symbol, _) in enumerate(names):
        places.setdefault(symbol, []).append(i)
    found: dict[int, list[SideInput]] = {}
    seen = set()
    for message in messages:
        event = side_input(message)
        if event is not None and (key := (message.symbol, in_order(event))) not in seen:
            seen.add(key)
            for i in places.get(message.symbol, []):
                found.setdefault(i, []).append(event)
    return found
