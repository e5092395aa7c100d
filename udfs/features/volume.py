"""Volume: against its own average, with the price, and accumulated.

``volume_vs_ma_N`` is volume / mean of the last N volumes (masked where all are 0). ``vpt`` is the bar's own volume x
relative price change. ``obv`` adds the volume of rising and subtracts that of falling bars since the first bar;
``obv_trend`` is its change over 5 bars. A bar without a volume is masked "m", leaves ``obv`` as it was, and is
masked in every average that would need it. Units: ratio, and units of volume. Source: TA-Lib ``OBV``, ``SMA``.
"""

from __future__ import annotations

from math import isnan, nan

from models.bar_columns import CLOSE, VOLUME
from udfs.features.base import MISSING, PREV_CLOSE, Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {"periods": (5, 10, 20), "trend": 5}
#: The cell of the scalars.
OBV = 0


def state(p: Parameters) -> State:
    """OBV, its last values, and the volumes of the longest average."""
    return State(scalars={"obv": -1}, rings={"volumes": (max(p["periods"]), -1), "obvs": (p["trend"] + 1, -1)})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """One ratio a period, then vpt, obv and its trend."""
    lag = p["trend"]
    return (
        *(Output(f"volume_vs_ma_{n}", "ratio", n, f"volume / mean of the last {n} volumes", 0) for n in p["periods"]),
        Output("vpt", "volume", 2, "volume x (close[t] - close[t-1]) / close[t-1]"),
        Output("obv", "volume", 1, "TA-Lib OBV", note="a running total since the first bar", settled=None),
        Output("obv_trend", "volume", lag + 1, f"obv[t] - obv[t-{lag}]"),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (max(p["periods"]), p["trend"], tuple(p["periods"]))


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
    size, lag, periods = constants
    count = len(periods)
    close = bar[CLOSE]
    volume = bar[VOLUME]
    at = seen % size
    rings[at] = volume
    total = 0.0
    i = 0
    for k in range(count):
        while i < periods[k] and i < seen:
            j = at - i
            total += rings[j if j >= 0 else j + size]
            i += 1
        if seen >= periods[k]:
            if isnan(total):
                quality[k] = MISSING
            elif total > 0.0:
                out[k] = volume / (total / periods[k])
    obv = size + seen % (lag + 1)
    if seen == 1:
        scalars[OBV] = volume if not isnan(volume) else 0.0
    else:
        out[count] = volume * ((close - context[PREV_CLOSE]) / context[PREV_CLOSE])
        if not isnan(volume):
            if close > context[PREV_CLOSE]:
                scalars[OBV] += volume
            elif close < context[PREV_CLOSE]:
                scalars[OBV] -= volume
    rings[obv] = scalars[OBV] if not isnan(volume) else nan
    out[count + 1] = rings[obv]
    if seen > lag:
        out[count + 2] = rings[obv] - rings[size + (seen - lag) % (lag + 1)]
        if isnan(out[count + 2]):
            quality[count + 2] = MISSING
    if isnan(volume):
        quality[count] = quality[count + 1] = MISSING
