"""Speed of the feature kernel and of the usual ways to compute the same, in one run.

    python bench/features.py [--bars 20000] [--year-symbols 25] [--threads 2]

Measured, each on the same generated minutes:

- the whole catalogue by the compiled kernel, in frames of 64 bars and more, and bar by bar (one call per bar);
- recomputing the indicators with TA-Lib on a window of the last 252 bars for every bar, as the original design does;
- ``talipp`` streaming, on the indicators it shares with the catalogue, compared with the same families of the kernel
  (installed from PyPI for the comparison only: pip install talipp; excluded from the ratios where it is missing);
- the batch path over ``--year-symbols`` symbols x 98,280 minutes (a year), scaled to 500 symbols.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from udfs.kernel.compiler import FeatureConfig, Kernel

YEAR_MINUTES = 98_280


def minutes(n: int, symbols: int = 1, seed: int = 0) -> np.ndarray:
    """``n`` minutes of each symbol, in time order, inside the exchange's sessions where possible."""
    from models.trade.calendar import calendar

    rng = np.random.default_rng(seed)
    opens = calendar("XNYS").open_ms
    first = int(np.searchsorted(opens, 1_577_836_800_000))
    days = -(-n // 390)
    start = (opens[first : first + days, None] + 60_000 * np.arange(390)).ravel()[:n].astype(float)
    bars = np.zeros((n, symbols, 9))
    close = np.round(rng.uniform(20, 300, symbols) * np.exp(np.cumsum(rng.normal(0, 0.0005, (n, symbols)), 0)), 2)
    opened = np.vstack([close[:1], close[:-1]])
    bars[:, :, 0], bars[:, :, 1] = start[:, None], start[:, None] + 60_000
    bars[:, :, 2], bars[:, :, 5] = opened, close
    bars[:, :, 3] = np.round(np.maximum(opened, close) + 0.01 * rng.integers(0, 4, close.shape), 2)
    bars[:, :, 4] = np.round(np.minimum(opened, close) - 0.01 * rng.integers(0, 4, close.shape), 2)
    bars[:, :, 6] = rng.integers(0, 5000, close.shape)
    return bars.reshape(-1, 9)


def best(action: Callable[[], None], times: int = 3) -> float:
    """CPU seconds of the fastest of several runs (one thread: equals wall-clock time on an idle machine)."""
    found = []
    for _ in range(times):
        began = time.process_time()
        action()
        found.append(time.process_time() - began)
    return min(found)


def kernel_us(kernel: Kernel, bars: np.ndarray, rows: np.ndarray, frame: int) -> float:
    """Microseconds per bar in frames of this size."""
    states = kernel.new_states(int(rows.max()) + 1)
    out = np.empty((frame, len(kernel.names)))
    quality = np.empty(out.shape, np.uint8)

    def action() -> None:
        states[:] = 0.0
        for at in range(0, len(bars) - frame + 1, frame):
            kernel.run(states, rows[at : at + frame], bars[at : at + frame], out, quality)

    return best(action) / (len(bars) // frame * frame) * 1e6


def talib_recompute_us(bars: np.ndarray, window: int = 252) -> float:
    """Microseconds per bar of the original design: every indicator over the last 252 bars, for each new bar."""
    import talib

    h, lo, c, v = (np.ascontiguousarray(bars[:, i]) for i in range(3, 7))

    def one(i: int) -> dict[str, float]:
        high, low, close, volume = h[i - window : i], lo[i - window : i], c[i - window : i], v[i - window : i]
        f: dict[str, float] = {}
        rsi = talib.RSI(close, 14)
        f |= {"rsi_14": rsi[-1], "hot": rsi[-1] > 70, "cold": rsi[-1] < 30, "rsi_momentum": rsi[-1] - rsi[-6]}
        line, signal, histogram = talib.MACD(close, 12, 26, 9)
        f |= {"macd": line[-1], "macd_signal": signal[-1], "macd_histogram": histogram[-1]}
        f["up"] = line[-1] > signal[-1] and line[-2] <= signal[-2]
        f["down"] = line[-1] < signal[-1] and line[-2] >= signal[-2]
        upper, middle, lower = talib.BBANDS(close, 5, 2, 2)
        width = upper[-1] - lower[-1]
        f["bb_position"] = (close[-1] - lower[-1]) / width if width else np.nan
        f |= {"squeeze": width / middle[-1] < 0.1, "above": close[-1] > upper[-1], "below": close[-1] < lower[-1]}
        k, d = talib.STOCH(high, low, close, 5, 3, 0, 3, 0)
        f |= {"stoch_k": k[-1], "stoch_d": d[-1], "k_hot": k[-1] > 80, "k_cold": k[-1] < 20}
        adx = talib.ADX(high, low, close, 14)
        f |= {"adx": adx[-1], "strong": adx[-1] > 25}
        for n in (5, 10, 20, 50, 200):
            mean, before = np.mean(close[-n:]), np.mean(close[-(n + 5) : -5])
            f[f"ma_{n}"], f[f"vs_{n}"], f[f"slope_{n}"] = mean, (close[-1] - mean) / mean, (mean - before) / before
        for n in (1, 3, 5, 10):
            f[f"momentum_{n}"] = (close[-1] - close[-n - 1]) / close[-n - 1]
        top, bottom = np.max(high), np.min(low)
        f |= {"to_high": (close[-1] - top) / top, "to_low": (close[-1] - bottom) / bottom}
        for n in (5, 10, 20):
            mean = np.mean(volume[-n:])
            f[f"volume_{n}"] = volume[-1] / mean if mean > 0 else np.nan
            f[f"volatility_{n}"] = np.std(np.diff(np.log(close[-n:]))) * np.sqrt(252)
        obv = talib.OBV(close, volume)
        f |= {"vpt": volume[-1] * (close[-1] - close[-2]) / close[-2], "obv": obv[-1], "obv_trend": obv[-1] - obv[-6]}
        atr = talib.ATR(high, low, close, 14)
        f |= {"true_range": talib.TRANGE(high, low, close)[-1], "atr_14": atr[-1]}
        f["atr_position"] = (close[-1] - low[-1]) / atr[-1]
        return f

    count = min(1500, len(bars) - window)

    def action() -> None:
        for i in range(window, window + count):
            one(i)

    return best(action) / count * 1e6


#: Families of the kernel whose indicators talipp streams too.
SHARED = ("adx", "averages", "bbands", "macd", "momentum", "rsi", "stoch", "volatility", "volume")


def talipp_us(bars: np.ndarray) -> float | None:
    """Microseconds per bar of talipp on the indicators it shares; None where it is not installed."""
    try:
        from talipp.indicators import ADX, ATR, BB, MACD, OBV, ROC, RSI, SMA, Stoch
        from talipp.ohlcv import OHLCV
    except ImportError:
        return None
    rows = bars[:3000, 2:7].tolist()

    def action() -> None:
        on_close = [RSI(14), MACD(12, 26, 9), BB(5, 2), *(SMA(n) for n in (5, 10, 20, 50, 200))]
        on_close += [ROC(n) for n in (1, 3, 5, 10)]
        on_volume = [SMA(n) for n in (5, 10, 20)]
        on_bar = [Stoch(5, 3), ADX(14, 14), ATR(14), OBV()]
        for o, h, lo, c, v in rows:
            for indicator in on_close:
                indicator.add(c)
            for indicator in on_volume:
                indicator.add(v)
            bar = OHLCV(o, h, lo, c, v)
            for indicator in on_bar:
                indicator.add(bar)

    return best(action, 2) / len(rows) * 1e6


def year_seconds(kernel: Kernel, symbols: int, threads: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds for a year of minutes of 500 symbols, measured on ``symbols`` and scaled."""
    from udfs.offline.batch import compute

    bars = minutes(YEAR_MINUTES, 1)
    spent = processor = 0.0
    done = 0
    while done < symbols:
        block = min(threads * 2, symbols - done)
        table = np.tile(bars, (block, 1))
        rows = np.repeat(np.arange(block), len(bars))
        began, began_processor = time.perf_counter(), time.process_time()
        compute(kernel, rows, table, threads=threads)
        spent += time.perf_counter() - began
        processor += time.process_time() - began_processor
        done += block
    return spent / symbols * 500, processor / symbols * 500


def machine() -> str:
    """Processor, cores, Python, numba."""
    import numba

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, numba {numba.__version__}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=20_000, help="bars for the kernel's figures")
    parser.add_argument("--year-symbols", type=int, default=16, help="symbols measured for the year (500: all of it)")
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    args = parser.parse_args()
    print(machine())
    began = time.perf_counter()
    kernel = Kernel()
    one = minutes(args.bars)
    zeros = np.zeros(len(one), np.int64)
    kernel.compute(kernel.new_states(1), zeros[:1], one[:1])
    print(f"kernel ready in {time.perf_counter() - began:.1f} s (compiled once per machine)")

    frames = {}
    for frame in (64, 500, 5000):
        symbols = frame
        many = minutes(max(args.bars // symbols, 1), symbols)
        frames[frame] = kernel_us(kernel, many, np.tile(np.arange(symbols), len(many) // symbols), frame)
        print(
            f"kernel, {len(kernel.names)} features, frames of {frame:>5} symbols:       {frames[frame]:8.2f} us per bar"
        )
    within = kernel_us(kernel, one, zeros, len(one))
    print(f"kernel, one symbol's history in one call:              {within:8.2f} us per bar")
    single = kernel_us(kernel, one[: args.bars // 2], zeros, 1)
    print(f"kernel, bar by bar, one call each:                     {single:8.2f} us per bar")
    recompute = talib_recompute_us(one)
    print(f"TA-Lib over the last 252 bars, recomputed each bar:    {recompute:8.1f} us per bar")
    shared = Kernel(FeatureConfig(families=SHARED))
    shared.compute(shared.new_states(1), zeros[:1], one[:1])
    ours = kernel_us(shared, one, zeros, len(one))
    theirs = talipp_us(one)
    if theirs is None:
        print("talipp: not installed (pip install talipp)")
    else:
        print(f"talipp streaming on what it shares:     {theirs:8.1f} us per bar; kernel, same families: {ours:.2f}")
    year, processor = year_seconds(kernel, args.year_symbols, args.threads)
    print(f"a year of minutes of 500 symbols, {args.threads} threads: {year:8.1f} s (from {args.year_symbols} symbols)")
    print(f"  of which CPU time, over all threads:                 {processor:8.1f} s")
    slowest = max(frames.values())
    print(
        json.dumps(
            {
                "x_talib_recompute": round(recompute / slowest, 1),
                "x_talipp": None if theirs is None else round(theirs / ours, 1),
                "us_per_bar_frame": round(slowest, 3),
                "us_per_bar_single": round(single, 3),
                "year_500_symbols_s": round(year, 1),
                "state_bytes": len(kernel.encode_state(kernel.new_states(1)[0])),
            }
        )
    )


if __name__ == "__main__":
    main()
