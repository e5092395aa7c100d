"""Option flow and implied volatility, as known at the bar's end.

- ``unusual_call_volume``, ``unusual_put_volume``: the day's volume so far / its usual daily volume (an exponential mean
  over the days before, span 20); needs 5 earlier days. 1 is usual. Unit: ratio.
- ``put_call_ratio``: as the summary gives it, else put volume / call volume. Unit: ratio.
- ``iv_rank``: (IV - lowest) / (highest - lowest) of a year of daily IV, today's included; ``iv_percentile``: the share
  of the earlier days whose IV was lower. A year is the last 252 days that had an IV; needs 20. Unit: ratio, 0..1.

A summary counts from the later of its own time and its arrival; a day's value is its last summary. Missing until the
first one ("m"), warming up while there are too few days ("w"), stale when the last is older than 4 days ("s").
Daily IV is kept to 1e-5 (0.001 percentage points), up to 20.97 (2,097 %). Source: the venues' option chains.
"""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import numpy.typing as npt

from models.bar_columns import END
from models.jit import inner
from udfs.features.base import LAST_END, MISSING, STALE, WARMING, Cells, Constants, Marks, Output, Parameters, State

#: A year of daily IV, three values of 21 bits per 64-bit word.
Words = npt.NDArray[np.int64]

EVENTS = "options"
#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {"year": 252, "iv_days_min": 20, "volume_days_min": 5, "span": 20, "stale_days": 4.0}
WAITING_MAX = 2
KNOWN, TIME, CALL, PUT, RATIO, IV = range(6)
WAITING, LAST_TIME, NOW_CALL, NOW_PUT, NOW_RATIO, NOW_IV = range(6)
USUAL_CALL, USUAL_PUT, CALL_DAYS, PUT_DAYS, IV_DAYS, RANK, PERCENTILE = range(6, 13)
QUEUE = 13
YEAR = QUEUE + 6 * WAITING_MAX
DAY_MS = 86_400_000.0


def state(p: Parameters) -> State:
    """The last summary, usual volumes, summaries no bar may know yet, and a year of daily IV, three to a cell."""
    usual = ("usual_call", "usual_put")
    now = ("waiting", "time", "call", "put", "ratio", "iv", *usual, "call_days", "put_days", "iv_days", "rank", "share")
    rings = dict.fromkeys(now, (1, 0))
    return State(rings=rings | {"queue": (6 * WAITING_MAX, 0), "year": ((p["year"] + 2) // 3, 0)})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """Two volumes, a ratio, and where IV stands in its year."""
    volumes = f"needs {p['volume_days_min']} earlier days with volumes"
    year = f"needs {p['iv_days_min']} earlier days with an iv"
    return (
        Output(
            "unusual_call_volume", "ratio", 1, "calls of the day / usual calls of a day", 0, note=volumes, settled=None
        ),
        Output(
            "unusual_put_volume", "ratio", 1, "puts of the day / usual puts of a day", 0, note=volumes, settled=None
        ),
        Output("put_call_ratio", "ratio", 1, "put volume / call volume", 0),
        Output("iv_rank", "ratio", 1, f"(iv - lowest) / (highest - lowest) of {p['year']} days", 0, 1, year, None),
        Output("iv_percentile", "ratio", 1, f"share of {p['year']} days with a lower iv", 0, 1, year, None),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (p["year"], p["iv_days_min"], p["volume_days_min"], 2.0 / (p["span"] + 1), p["stale_days"])


@inner
def _kept_iv(year: Words, i: int) -> float:
    return float(((year[i // 3] >> (21 * (i % 3))) & 0x1FFFFF) * 1e-5)


@inner
def _keep_iv(year: Words, i: int, iv: float) -> None:
    code = np.int64(min(max(np.round(iv * 1e5), 0.0), 2097151.0))
    shift = 21 * (i % 3)
    year[i // 3] = (year[i // 3] & ~(np.int64(0x1FFFFF) << shift)) | (code << shift)


@inner
def _day_of(time_ms: float) -> float:
    return float(np.floor((time_ms - 4 * 3_600_000.0) / DAY_MS))


@inner
def _apply(rings: Cells, event: Cells, size: int, decay: float) -> None:
    """Make a summary the newest known; the first of a new day closes the day before."""
    if event[TIME] < rings[LAST_TIME]:
        return
    year = rings[YEAR:].view(np.int64)
    if rings[LAST_TIME] > 0.0 and _day_of(event[TIME]) > _day_of(rings[LAST_TIME]):
        if not isnan(rings[NOW_CALL]):
            rings[USUAL_CALL] += (rings[NOW_CALL] - rings[USUAL_CALL]) * (decay if rings[CALL_DAYS] > 0.0 else 1.0)
            rings[CALL_DAYS] += 1.0
        if not isnan(rings[NOW_PUT]):
            rings[USUAL_PUT] += (rings[NOW_PUT] - rings[USUAL_PUT]) * (decay if rings[PUT_DAYS] > 0.0 else 1.0)
            rings[PUT_DAYS] += 1.0
        if not isnan(rings[NOW_IV]):
            _keep_iv(year, int(rings[IV_DAYS]) % size, rings[NOW_IV])
            rings[IV_DAYS] += 1.0
    rings[LAST_TIME] = event[TIME]
    rings[NOW_CALL] = event[CALL]
    rings[NOW_PUT] = event[PUT]
    rings[NOW_RATIO] = event[RATIO]
    if isnan(event[RATIO]) and event[CALL] > 0.0:
        rings[NOW_RATIO] = event[PUT] / event[CALL]
    rings[NOW_IV] = event[IV]
    days = min(int(rings[IV_DAYS]), size)
    lowest = rings[NOW_IV]
    highest = rings[NOW_IV]
    lower = 0
    for i in range(days):
        iv = _kept_iv(year, i)
        lowest = min(lowest, iv)
        highest = max(highest, iv)
        if iv < rings[NOW_IV]:
            lower += 1
    rings[RANK] = (rings[NOW_IV] - lowest) / (highest - lowest) if highest > lowest else nan
    rings[PERCENTILE] = lower / days if days > 0 else nan


def receive(context: Cells, rings: Cells, event: Cells, constants: Constants) -> None:
    """Store a summary: at once where every coming bar may know it, else in the queue of those that wait.

    A full queue drops its oldest: a bar that could have known it but not the next one sees the one before.
    """
    size, _, _, decay, _ = constants
    if event[KNOWN] <= context[LAST_END]:
        _apply(rings, event, size, decay)
        return
    waiting = int(rings[WAITING])
    for i in range(waiting):
        if rings[QUEUE + 6 * i + KNOWN] == event[KNOWN] and rings[QUEUE + 6 * i + TIME] == event[TIME]:
            return
    if waiting == WAITING_MAX:
        if event[KNOWN] < rings[QUEUE + KNOWN]:
            return
        for i in range(6 * (WAITING_MAX - 1)):
            rings[QUEUE + i] = rings[QUEUE + 6 + i]
        waiting -= 1
    at = waiting
    while at > 0 and rings[QUEUE + 6 * (at - 1) + KNOWN] > event[KNOWN]:
        for i in range(6):
            rings[QUEUE + 6 * at + i] = rings[QUEUE + 6 * (at - 1) + i]
        at -= 1
    for i in range(6):
        rings[QUEUE + 6 * at + i] = event[i]
    rings[WAITING] = waiting + 1


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
    size, iv_days_min, volume_days_min, decay, stale_days = constants
    while rings[WAITING] > 0.0 and rings[QUEUE + KNOWN] <= bar[END]:
        _apply(rings, rings[QUEUE : QUEUE + 6], size, decay)
        rings[WAITING] -= 1.0
        for i in range(6 * int(rings[WAITING])):
            rings[QUEUE + i] = rings[QUEUE + 6 + i]
    if rings[LAST_TIME] == 0.0:
        for j in range(5):
            quality[j] = MISSING
        return
    if bar[END] - rings[LAST_TIME] > stale_days * DAY_MS:
        for j in range(5):
            quality[j] = STALE
        return
    for j in range(2):
        if isnan(rings[NOW_CALL + j]):
            quality[j] = MISSING
        elif rings[CALL_DAYS + j] < volume_days_min:
            quality[j] = WARMING
        elif rings[USUAL_CALL + j] > 0.0:
            out[j] = rings[NOW_CALL + j] / rings[USUAL_CALL + j]
    out[2] = rings[NOW_RATIO]
    if isnan(rings[NOW_RATIO]) and (isnan(rings[NOW_CALL]) or isnan(rings[NOW_PUT])):
        quality[2] = MISSING
    for j in range(3, 5):
        if isnan(rings[NOW_IV]):
            quality[j] = MISSING
        elif rings[IV_DAYS] < iv_days_min:
            quality[j] = WARMING
        else:
            out[j] = rings[RANK + j - 3]
