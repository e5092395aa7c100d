"""MACD 12/26/9: distance of a fast from a slow exponential average, its signal line and their crossings.

Seeded as TA-Lib does: the slow average with the mean of the first 26 closes, the fast one with the mean of the last 12
of those, the signal with the mean of the first 9 distances; nothing is given before the signal line exists.
Units: price. Source: TA-Lib ``MACD``.
"""

from __future__ import annotations

from models.bar_columns import CLOSE
from udfs.features.base import Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS = {"fast": 12, "slow": 26, "signal": 9}
FAST, SLOW, SIGNAL, BEFORE = range(4)


def state(p: Parameters) -> State:
    """The three averages (their sums while seeding) and the histogram of the bar before."""
    return State(scalars={"fast": 1, "slow": 1, "signal": 1, "histogram_before": 1})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """The line, its signal, their difference and the bar on which they cross."""
    first = p["slow"] + p["signal"] - 1
    settled = 12 * p["slow"]
    spans = f"{p['fast']}, {p['slow']}, {p['signal']}"
    return (
        Output("macd", "price", first, f"TA-Lib MACD({spans})", settled=settled),
        Output("macd_signal", "price", first, f"TA-Lib MACD({spans}) signal", settled=settled),
        Output("macd_histogram", "price", first, "macd - macd_signal", settled=settled),
        Output(
            "macd_cross_bullish", "flag", first + 1, "macd rises above its signal on this bar", 0, 1, settled=settled
        ),
        Output(
            "macd_cross_bearish", "flag", first + 1, "macd falls below its signal on this bar", 0, 1, settled=settled
        ),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    if p["fast"] >= p["slow"]:
        raise ValueError(f"macd: fast={p['fast']} must be less than slow={p['slow']}")
    return (p["fast"], p["slow"], p["signal"])


def step(
    seen: int,
    bar: Cells,
    context: Cells,
    scalars: Cells,
    rings: Cells,
    out: Cells,
    quality: Marks,
    constants: Constants,
) -> None:
    """One bar."""
    fast, slow, signal = constants
    close = bar[CLOSE]
    if seen == 1:
        scalars[FAST] = scalars[SLOW] = scalars[SIGNAL] = 0.0
    if seen <= slow:
        scalars[SLOW] += close
        if seen > slow - fast:
            scalars[FAST] += close
        if seen < slow:
            return
        scalars[SLOW] /= slow
        scalars[FAST] /= fast
    else:
        scalars[SLOW] = (close - scalars[SLOW]) * (2.0 / (slow + 1)) + scalars[SLOW]
        scalars[FAST] = (close - scalars[FAST]) * (2.0 / (fast + 1)) + scalars[FAST]
    macd = scalars[FAST] - scalars[SLOW]
    if seen < slow + signal:
        scalars[SIGNAL] += macd
        if seen < slow + signal - 1:
            return
        scalars[SIGNAL] /= signal
    else:
        scalars[SIGNAL] = (macd - scalars[SIGNAL]) * (2.0 / (signal + 1)) + scalars[SIGNAL]
    histogram = macd - scalars[SIGNAL]
    out[0] = macd
    out[1] = scalars[SIGNAL]
    out[2] = histogram
    out[3] = 1.0 if histogram > 0.0 and scalars[BEFORE] <= 0.0 else 0.0
    out[4] = 1.0 if histogram < 0.0 and scalars[BEFORE] >= 0.0 else 0.0
    scalars[BEFORE] = histogram
