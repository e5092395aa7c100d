"""Every indicator TA-Lib has, on the full history since the first bar, to 1e-9."""

import numpy as np
import pytest
import talib

from tests.support.series import daily, walk
from udfs.kernel.compiler import Kernel

KERNEL = Kernel()


def expected(bars):
    h, lo, c, v = (np.ascontiguousarray(bars[:, i]) for i in range(3, 7))
    upper, _, lower = talib.BBANDS(c, 5, 2, 2)
    found = {
        "rsi_14": talib.RSI(c, 14),
        "adx": talib.ADX(h, lo, c, 14),
        "atr_14": talib.ATR(h, lo, c, 14),
        "true_range": talib.TRANGE(h, lo, c),
        "obv": talib.OBV(c, v),
    }
    with np.errstate(all="ignore"):
        found["bb_position"] = (c - lower) / (upper - lower)
    found["macd"], found["macd_signal"], found["macd_histogram"] = talib.MACD(c, 12, 26, 9)
    found["stoch_k"], found["stoch_d"] = talib.STOCH(h, lo, c, 5, 3, 0, 3, 0)
    found |= {f"ma_{n}": talib.SMA(c, n) for n in (5, 10, 20, 50, 200)}
    found |= {f"momentum_{n}": talib.ROCP(c, n) for n in (1, 3, 5, 10)}
    return found


@pytest.mark.parametrize("series", ["AAPL", "GOOG", "IBM", "MSFT", "FB", "walk"])
def test_equals_talib(series):
    bars = walk(5000) if series == "walk" else daily()[series]
    _, out, quality = KERNEL.compute(KERNEL.new_states(1), np.zeros(len(bars), np.int64), bars)
    for name, values in expected(bars).items():
        ours = out[:, KERNEL.column_of(name)]
        mask = quality[:, KERNEL.column_of(name)]
        warming = mask == ord("w")
        undefined = mask == ord("z")
        sound = mask == ord(".")
        assert np.array_equal(warming, np.isnan(values) & ~undefined), name
        assert (sound | undefined | warming).all(), name
        assert undefined.sum() <= 0.1 * len(bars), name
        scale = np.maximum(1.0, np.abs(values[sound]))
        assert np.all(np.abs(ours[sound] - values[sound]) <= 1e-9 * scale), name
