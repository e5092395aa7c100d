"""Proofs over the features, on any bars: parity, agreement with TA-Lib, convergence, no lookahead.

``signals check …`` prints what these find; the tests run them small. A set of bars is a table with Bar's columns, as
``connectors.files.bars.read_bars`` gives it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from connectors.files.bars import read_bars
from models.messages import News, OptionSummary
from udfs.kernel.compiler import Kernel
from udfs.offline.batch import bars_matrix, by_series, compute, series_of

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

MINUTE_MS = 60_000


def real_daily() -> pd.DataFrame:
    """Public-domain daily bars of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013 (package ``bokeh_sampledata``)."""
    spec = find_spec("bokeh_sampledata")
    if spec is None or spec.origin is None:
        raise ValueError("the sample bars are not installed: pip install 'signal-pipeline[train]', or pass --bars FILE")
    return read_bars(Path(spec.origin).parent / "_data" / "stocks.csv.gz", timeframe="1d")[0]


def synthetic_minutes(symbols: int, bars_each: int, seed: int = 0) -> pd.DataFrame:
    """Random walks on a price grid in time order, round the clock, with zero volumes, still prices, gaps and jumps."""
    rng = np.random.default_rng(seed)
    n = symbols * bars_each
    steps = rng.normal(0, 0.0008, (bars_each, symbols)) * (rng.random((bars_each, symbols)) > 0.05)
    close = np.maximum(np.round(rng.uniform(5, 500, symbols) * np.exp(np.cumsum(steps, axis=0)), 2), 0.05)
    close[bars_each // 2 : bars_each // 2 + 60, :: max(symbols // 2, 1)] = close[bars_each // 2, 0]
    opened = np.vstack([close[:1], close[:-1]])
    high = np.round(np.maximum(opened, close) + 0.01 * rng.integers(0, 4, close.shape), 2)
    low = np.maximum(np.round(np.minimum(opened, close) - 0.01 * rng.integers(0, 4, close.shape), 2), 0.01)
    volume = rng.integers(0, 5000, close.shape) * (rng.random(close.shape) > 0.02)
    start = 1_600_000_020_000 + MINUTE_MS * np.arange(bars_each)
    start[bars_each // 3 :] += 3 * 1440 * MINUTE_MS
    names = np.array([f"X{seed}N{i}USDT" for i in range(symbols)], object)
    return pd.DataFrame(
        {
            "symbol": np.tile(names, bars_each),
            "timeframe": np.full(n, "1m", object),
            "start_ms": np.repeat(start, symbols),
            "end_ms": np.repeat(start + MINUTE_MS, symbols),
            "open": opened.ravel(),
            "high": high.ravel(),
            "low": low.ravel(),
            "close": close.ravel(),
            "volume": volume.ravel().astype(float),
            "revision": np.zeros(n, np.int64),
        }
    )


@dataclass(frozen=True)
class Parity:
    """What a parity run compared; ``different`` rows must be 0."""

    bars: int
    frames: int
    restores: int
    different: int
    first_difference: str = ""


def parity(kernel: Kernel, table: pd.DataFrame, seed: int = 0, progress: Progress | None = None) -> Parity:
    """Frames of any size through the kernel, states encoded and decoded at random points, against the batch matrix.

    Frames hold 1 to some thousand bars in time order over all symbols, as they would arrive. Equal means every bit of
    every value and every quality code.
    """
    rng = np.random.default_rng(seed)
    rows, names = series_of(table)
    bars = bars_matrix(table)
    _, expected, expected_quality = compute(kernel, rows, bars)
    order = np.argsort(bars[:, 1], kind="stable")
    states = kernel.new_states(len(names))
    at = frames = restores = different = 0
    first = ""
    while at < len(order):
        size = int(rng.choice([1, 1, 2, 7, 64, 500, 4000]))
        some = order[at : at + size]
        if rng.random() < 0.05:
            for row in rng.integers(0, len(names), min(len(names), 20)):
                states[row] = kernel.decode_state(kernel.encode_state(states[row]))
                restores += 1
        _, out, quality = kernel.compute(states, rows[some], bars[some])
        wrong = (out.view(np.int64) != expected[some].view(np.int64)) | (quality != expected_quality[some])
        wrong &= ~(np.isnan(out) & np.isnan(expected[some]) & (quality == expected_quality[some]))
        if wrong.any():
            different += int(wrong.any(1).sum())
            if not first:
                i, j = map(int, np.argwhere(wrong)[0])
                first = f"{names[rows[some[i]]]} row {some[i]} {kernel.names[j]}: {out[i, j]} != {expected[some[i], j]}"
        frames += 1
        at += size
        if progress is not None:
            progress(min(at, len(order)), len(order))
    return Parity(len(table), frames, restores, different, first)


@dataclass(frozen=True)
class Agreement:
    """One indicator against TA-Lib: bars compared, bars where ours is masked, the worst difference."""

    feature: str
    function: str
    compared: int
    masked: int
    worst: float


def talib_indicators(h: Floats, lo: Floats, c: Floats, v: Floats) -> dict[str, tuple[str, Floats]]:
    """Every output that TA-Lib computes, from arrays of a whole history."""
    try:
        import talib
    except ImportError:
        raise ValueError("TA-Lib is not installed: pip install 'signal-pipeline[train]'") from None
    upper, _, lower = talib.BBANDS(c, 5, 2, 2)
    with np.errstate(all="ignore"):
        position = (c - lower) / (upper - lower)
    line, signal, histogram = talib.MACD(c, 12, 26, 9)
    k, d = talib.STOCH(h, lo, c, 5, 3, 0, 3, 0)
    made: dict[str, tuple[str, Floats]] = {
        "rsi_14": ("RSI", talib.RSI(c, 14)),
        "macd": ("MACD", line),
        "macd_signal": ("MACD", signal),
        "macd_histogram": ("MACD", histogram),
        "bb_position": ("BBANDS", position),
        "stoch_k": ("STOCH", k),
        "stoch_d": ("STOCH", d),
        "adx": ("ADX", talib.ADX(h, lo, c, 14)),
        "true_range": ("TRANGE", talib.TRANGE(h, lo, c)),
        "atr_14": ("ATR", talib.ATR(h, lo, c, 14)),
    }
    if not np.isnan(v).any():
        made["obv"] = ("OBV", talib.OBV(c, v))
        for n in (5, 10, 20):
            with np.errstate(all="ignore"):
                made[f"volume_vs_ma_{n}"] = (f"SMA({n})", v / talib.SMA(v, n))
    for n in (5, 10, 20, 50, 200):
        made[f"ma_{n}"] = (f"SMA({n})", talib.SMA(c, n))
    for n in (1, 3, 5, 10):
        made[f"momentum_{n}"] = (f"ROCP({n})", talib.ROCP(c, n))
    return made


def agreement(kernel: Kernel, table: pd.DataFrame) -> list[Agreement]:
    """Each indicator TA-Lib has, on the full history of every symbol.

    The difference is relative to the larger of 1 and the value (of the price and the value, where the unit is price).
    """
    rows, names = series_of(table)
    bars = bars_matrix(table)
    verdicts, out, quality = compute(kernel, rows, bars)
    units = {o.name: o.unit for o in kernel.outputs}
    found: dict[str, list[Agreement]] = {}
    for series in range(len(names)):
        mine = np.flatnonzero((rows == series) & (verdicts == 0))
        h, lo, c, v = (np.ascontiguousarray(bars[mine, i]) for i in range(3, 7))
        for feature, (function, values) in talib_indicators(h, lo, c, v).items():
            if feature not in kernel.names:
                continue
            column = kernel.column_of(feature)
            sound = (quality[mine, column] == ord(".")) & np.isfinite(values)
            masked = int((np.isfinite(values) & ~sound).sum())
            ours, theirs = out[mine, column][sound], values[sound]
            scale = np.maximum(np.abs(theirs), c[sound] if units[feature] == "price" else 1.0)
            worst = float(np.max(np.abs(ours - theirs) / scale, initial=0.0))
            found.setdefault(feature, []).append(Agreement(feature, function, int(sound.sum()), masked, worst))
    return [
        Agreement(
            name,
            parts[0].function,
            sum(p.compared for p in parts),
            sum(p.masked for p in parts),
            max(p.worst for p in parts),
        )
        for name, parts in found.items()
    ]


@dataclass(frozen=True)
class Convergence:
    """How a feature forgets where its history began: differences by bars of warm-up, in units of its own spread."""

    feature: str
    first: int
    settled: int | None
    measured: int | None
    after: dict[int, float]
    note: str = ""

    @property
    def holds(self) -> bool:
        """The published warm-up is enough here; one that publishes none, or has no value here, has nothing to hold."""
        if self.settled is None or not self.after:
            return True
        return self.measured is not None and self.measured <= self.settled


TOLERANCE = 1e-6
AFTER = (20, 50, 100, 200, 400)


def convergence(kernel: Kernel, table: pd.DataFrame, starts: int = 12, length: int = 800) -> list[Convergence]:
    """Each feature computed from the whole history against one that began ``k`` bars ago.

    ``measured`` is the smallest warm-up after which no difference exceeds 1e-6 of the feature's spread (its standard
    deviation over the bars), None where bars were too few or it never does.
    """
    rows, names = series_of(table)
    bars = bars_matrix(table)
    _, whole, _ = compute(kernel, rows, bars)
    width = len(kernel.names)
    worst = np.zeros((length, width))
    seen = np.zeros((length, width), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value has no spread
        spread = np.nanstd(whole, axis=0)
    spread = np.where((spread > 0) & np.isfinite(spread), spread, 1.0)
    rng = np.random.default_rng(0)
    for series in range(len(names)):
        mine = np.flatnonzero(rows == series)
        if len(mine) < 2 * length:
            continue
        for begin in rng.integers(length // 2, len(mine) - length, starts):
            part = mine[begin : begin + length]
            states = kernel.new_states(1)
            _, some, _ = kernel.compute(states, np.zeros(length, np.int64), bars[part])
            both = np.isfinite(some) & np.isfinite(whole[part])
            away = np.where(both, np.abs(some - whole[part]), 0.0) / spread
            worst = np.maximum(worst, away)
            seen |= both
    found = []
    for j, output in enumerate(kernel.outputs):
        measured: int | None = None
        after: dict[int, float] = {}
        if seen[:, j].any():
            far = np.flatnonzero(worst[:, j] > TOLERANCE)
            last = int(far[-1]) if len(far) else -1
            if last < length - 1:
                measured = max(output.first, last + 2)
            after = {k: float(worst[k - 1 :, j].max()) for k in AFTER if k >= output.first and k <= length}
        found.append(Convergence(output.name, output.first, output.settled, measured, after, output.note))
    return found


@dataclass(frozen=True)
class Lookahead:
    """How many cut points were tried, how many earlier rows were compared, how many changed (must be 0)."""

    cuts: int
    compared: int
    changed: int
    first_change: str = ""


def lookahead(kernel: Kernel, table: pd.DataFrame, cuts: int = 8, seed: int = 0) -> Lookahead:
    """Features at t, with everything after t removed, and with everything after t corrupted.

    The bars get made-up news and option summaries with late arrivals and edits; what became known after t is removed or
    corrupted with them.
    """
    rng = np.random.default_rng(seed)
    rows, names = series_of(table)
    bars = bars_matrix(table)
    messages = list(_made_up(table, rng))
    known = np.array([_arrival(m) for m in messages])
    _, whole, quality = compute(kernel, rows, bars, by_series(messages, names))
    moments = np.unique(bars[:, 1])
    compared = changed = 0
    first = ""
    for moment in rng.choice(moments[len(moments) // 10 : -1], min(cuts, max(len(moments) - 2, 1))):
        before = bars[:, 1] <= moment
        later = np.flatnonzero(~before)
        corrupted = bars.copy()
        noise = rng.choice([np.nan, -1.0, 0.0, 1e12, 1e-9, np.inf], (len(later), 5))
        corrupted[later, 2:7] = np.where(rng.random((len(later), 5)) < 0.5, noise, corrupted[later, 2:7] * 3.0)
        keep = [m for m, k in zip(messages, known, strict=True) if k <= moment]
        changed_messages = keep + [_corrupt(m) for m, k in zip(messages, known, strict=True) if k > moment]
        for some, some_rows, aside in (
            (bars[before], rows[before], keep),
            (corrupted, rows, changed_messages),
        ):
            _, out, mask = compute(kernel, some_rows, some, by_series(aside, names))
            if len(some) == len(bars):
                out, mask = out[before], mask[before]
            same = (out.view(np.int64) == whole[before].view(np.int64)) | (np.isnan(out) & np.isnan(whole[before]))
            same &= mask == quality[before]
            compared += len(out)
            changed += int((~same).any(1).sum())
            if not first and not same.all():
                i, j = map(int, np.argwhere(~same)[0])
                first = (
                    f"{kernel.names[j]} of row {int(np.flatnonzero(before)[i])} changed with bars after {moment:.0f}"
                )
    return Lookahead(int(min(cuts, len(moments))), compared, changed, first)


def _made_up(table: pd.DataFrame, rng: np.random.Generator) -> Iterator[Any]:
    """About one article and one summary for every 20 bars, some late, some edited."""
    for i in rng.choice(len(table), max(len(table) // 20, 1)):
        row = table.iloc[int(i)]
        symbol, at = str(row["symbol"]), int(row["start_ms"])
        length = int(row["end_ms"]) - at
        late = int(rng.integers(0, 3 * length))
        score = round(float(rng.uniform(-1, 1)), 3)
        news = News(
            symbol=symbol, news_id=str(i), created_ms=at, updated_ms=at, headline="", sentiment=score,
            ingestion_timestamp_ms=at + late,
        )  # fmt: skip
        yield news
        if rng.random() < 0.3:
            edited = at + late + int(rng.integers(1, 5 * length))
            yield News(
                symbol=symbol, news_id=str(i), created_ms=at, updated_ms=edited, headline="", sentiment=-score,
                ingestion_timestamp_ms=edited,
            )  # fmt: skip
        yield OptionSummary(
            symbol=symbol, timestamp_ms=at, call_volume=float(rng.integers(0, 999)),
            put_volume=float(rng.integers(0, 999)), implied_volatility=round(float(rng.uniform(0.1, 1)), 4),
            ingestion_timestamp_ms=at + late,
        )  # fmt: skip


def _arrival(message: Any) -> int:
    return int(message.ingestion_timestamp_ms)


def _corrupt(message: Any) -> Any:
    import msgspec

    if isinstance(message, News):
        return msgspec.structs.replace(message, sentiment=1.0)
    return msgspec.structs.replace(message, implied_volatility=9.0, call_volume=1e9)
