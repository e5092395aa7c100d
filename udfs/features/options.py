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
from typing import Any

import numpy as np

from models.bar_columns import END
from models.jit import inner
from udfs.features.base import LAST_END, MISSING, STALE, WARMING, Output, State

EVENTS = "options"
#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: dict[str, Any] = {"year": 252, "iv_days_min": 20, "volume_days_min": 5, "span": 20, "stale_days": 4.0}
WAITING_MAX = 2
KNOWN, TIME, CALL, PUT, RATIO, IV = range(6)
WAITING, LAST_TIME, NOW_CALL, NOW_PUT, NOW_RATIO, NOW_IV = range(6)
USUAL_CALL, USUAL_PUT, CALL_DAYS, PUT_DAYS, IV_DAYS, RANK, PERCENTILE = range(6, 13)
QUEUE = 13
YEAR = QUEUE + 6 * WAITING_MAX
DAY_MS = 86_400_000.0


def state(p: dict[str, Any]) -> State:
    """The last summary, usual volumes, summaries no bar may know yet, and a year of daily IV, three to a cell."""
    usual = ("usual_call", "usual_put")
    now = ("waiting", "time", "call", "put", "ratio", "iv", *usual, "call_days", "put_days", "iv_days", "rank", "share")
    rings = dict.fromkeys(now, (1, 0))
    return State(rings=rings | {"queue": (6 * WAITING_MAX, 0), "year": ((p["year"] + 2) // 3, 0)})


def outputs(p: dict[str, Any]) -> tuple[Output, ...]:
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


def constants(p: dict[str, Any]) -> tuple[Any, ...]:
    """What :func:`step` unpacks."""
    return (p["year"], p["iv_days_min"], p["volume_days_min"], 2.0 / (p["span"] + 1), p["stale_days"])


@inner
def _kept_iv(year, i):  # type: ignore[no-untyped-def]
    return ((year[i // 3] >> (21 * (i % 3))) & 0x1FFFFF) * 1e-5


@inner
def _keep_iv(year, i, iv):  # type: ignore[no-untyped-def]
    code = min(max(np.int64(np.round(iv * 1e5)), 0), 0x1FFFFF)
    shift = 21 * (i % 3)
    year[i // 3] = (year[i // 3] & ~(np.int64(0x1FFFFF) << shift)) | (code << shift)


@inner
def _day_of(time_ms):  # type: ignore[no-untyped-def]
    return np.floor((time_ms - 4 * 3_600_000.0) / DAY_MS)


@inner
def _apply(r, event, size, decay):  # type: ignore[no-untyped-def]
    """Make a summary the newest known; the first of a new day closes the day before."""
    if event[TIME] < r[LAST_TIME]:
        return
    year = r[YEAR:].view(np.int64)
    if r[LAST_TIME] > 0.0 and _day_of(event[TIME]) > _day_of(r[LAST_TIME]):
        if not isnan(r[NOW_CALL]):
            r[USUAL_CALL] += (r[NOW_CALL] - r[USUAL_CALL]) * (decay if r[CALL_DAYS] > 0.0 else 1.0)
            r[CALL_DAYS] += 1.0
        if not isnan(r[NOW_PUT]):
            r[USUAL_PUT] += (r[NOW_PUT] - r[USUAL_PUT]) * (decay if r[PUT_DAYS] > 0.0 else 1.0)
            r[PUT_DAYS] += 1.0
        if not isnan(r[NOW_IV]):
            _keep_iv(year, int(r[IV_DAYS]) % size, r[NOW_IV])
            r[IV_DAYS] += 1.0
    r[LAST_TIME] = event[TIME]
    r[NOW_CALL] = event[CALL]
    r[NOW_PUT] = event[PUT]
    r[NOW_RATIO] = event[RATIO]
    if isnan(event[RATIO]) and event[CALL] > 0.0:
        r[NOW_RATIO] = event[PUT] / event[CALL]
    r[NOW_IV] = event[IV]
    days = min(int(r[IV_DAYS]), size)
    lowest = r[NOW_IV]
    highest = r[NOW_IV]
    lower = 0
    for i in range(days):
        iv = _kept_iv(year, i)
        lowest = min(lowest, iv)
        highest = max(highest, iv)
        if iv < r[NOW_IV]:
            lower += 1
    r[RANK] = (r[NOW_IV] - lowest) / (highest - lowest) if highest > lowest else nan
    r[PERCENTILE] = lower / days if days > 0 else nan


def receive(x, r, event, c):  # type: ignore[no-untyped-def]
    """Store a summary: at once where every coming bar may know it, else in the queue of those that wait.

    A full queue lets go of its oldest: a bar that could have known it but not the next one sees the one before.
    """
    size, _, _, decay, _ = c
    if event[KNOWN] <= x[LAST_END]:
        _apply(r, event, size, decay)
        return
    waiting = int(r[WAITING])
    for i in range(waiting):
        if r[QUEUE + 6 * i + KNOWN] == event[KNOWN] and r[QUEUE + 6 * i + TIME] == event[TIME]:
            return
    if waiting == WAITING_MAX:
        if event[KNOWN] < r[QUEUE + KNOWN]:
            return
        for i in range(6 * (WAITING_MAX - 1)):
            r[QUEUE + i] = r[QUEUE + 6 + i]
        waiting -= 1
    at = waiting
    while at > 0 and r[QUEUE + 6 * (at - 1) + KNOWN] > event[KNOWN]:
        for i in range(6):
            r[QUEUE + 6 * at + i] = r[QUEUE + 6 * (at - 1) + i]
        at -= 1
    for i in range(6):
        r[QUEUE + 6 * at + i] = event[i]
    r[WAITING] = waiting + 1


def step(n, bar, x, s, r, out, q, c):  # type: ignore[no-untyped-def]
    """One bar."""
    size, iv_days_min, volume_days_min, decay, stale_days = c
    while r[WAITING] > 0.0 and r[QUEUE + KNOWN] <= bar[END]:
        _apply(r, r[QUEUE : QUEUE + 6], size, decay)
        r[WAITING] -= 1.0
        for i in range(6 * int(r[WAITING])):
            r[QUEUE + i] = r[QUEUE + 6 + i]
    if r[LAST_TIME] == 0.0:
        for j in range(5):
            q[j] = MISSING
        return
    if bar[END] - r[LAST_TIME] > stale_days * DAY_MS:
        for j in range(5):
            q[j] = STALE
        return
    for j in range(2):
        if isnan(r[NOW_CALL + j]):
            q[j] = MISSING
        elif r[CALL_DAYS + j] < volume_days_min:
            q[j] = WARMING
        elif r[USUAL_CALL + j] > 0.0:
            out[j] = r[NOW_CALL + j] / r[USUAL_CALL + j]
    out[2] = r[NOW_RATIO]
    if isnan(r[NOW_RATIO]) and (isnan(r[NOW_CALL]) or isnan(r[NOW_PUT])):
        q[2] = MISSING
    for j in range(3, 5):
        if isnan(r[NOW_IV]):
            q[j] = MISSING
        elif r[IV_DAYS] < iv_days_min:
            q[j] = WARMING
        else:
            out[j] = r[RANK + j - 3]
