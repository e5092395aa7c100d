"""How a price path ends: the one set of rules that both the tracker and the training labels use.

What: from the first bar that starts at or after a signal's creation, find the bar that reaches the target or the stop,
or the expiry. Prices in the instrument's currency, times in epoch milliseconds UTC.

Rules, in this order inside one bar:

1. an open at or beyond the stop fills at the open (a gap is worse than the stop, and nobody was asked);
2. an open at or beyond the target fills at the open;
3. a low (high for a sell) that reaches the stop fills at the stop, **before** the target when the bar spans both, since
   a bar does not show which came first and the worse answer is the honest one;
4. a high (low for a sell) that reaches the target fills at the target;
5. the bar that contains or ends at the expiry fills at its close, as ``EXPIRED``. A bar that starts at or after the
   expiry is not on the path: then the close of the bar before it is the exit (the entry, if there was none).

Statuses and sides are integers so that compiled code can use them:

>>> check_bar(1, 110.0, 95.0, 100.0, 111.0, 94.0, 108.0)  # both inside one bar: the stop
(2, 95.0)
>>> check_bar(-1, 90.0, 105.0, 107.0, 108.0, 106.0, 107.5)  # a sell gaps up through its stop: fills at the open
(2, 107.0)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.jit import njit
from models.messages import OutcomeStatus

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ACTIVE, HIT_TARGET, HIT_STOP, EXPIRED = 0, 1, 2, 3

#: Wire name of each status, by its integer.
STATUS_NAMES: tuple[OutcomeStatus, ...] = ("active", "hit_target", "hit_stop", "expired")

#: Integer side of each action: +1 gains when the price rises, -1 when it falls; a hold has no side.
SIDES: dict[str, int] = {"buy": 1, "sell": -1, "hold": 0}


@njit(cache=True)
def check_bar(
    side: int, target: float, stop: float, open_: float, high: float, low: float, close: float
) -> tuple[int, float]:
    """What one bar does to an open signal: ``(status, exit price)``, or ``(ACTIVE, close)``.

    ``side`` is +1 for a buy and -1 for a sell; 0 (a hold) never ends by price.
    """
    if side > 0:
        if open_ <= stop:
            return HIT_STOP, open_
        if open_ >= target:
            return HIT_TARGET, open_
        if low <= stop:
            return HIT_STOP, stop
        if high >= target:
            return HIT_TARGET, target
    elif side < 0:
        if open_ >= stop:
            return HIT_STOP, open_
        if open_ <= target:
            return HIT_TARGET, open_
        if high >= stop:
            return HIT_STOP, stop
        if low <= target:
            return HIT_TARGET, target
    return ACTIVE, close


@njit(cache=True)
def walk(
    side: int,
    entry: float,
    target: float,
    stop: float,
    expires_ms: int,
    starts: Integers,
    ends: Integers,
    opens: Floats,
    highs: Floats,
    lows: Floats,
    closes: Floats,
    first: int,
) -> tuple[int, int, float]:
    """The end of one path: ``(status, index of the exit bar, exit price)``.

    The arrays hold one symbol's bars in time order, ``first`` the index of the first bar that starts at or after the
    signal's creation. ``ACTIVE`` means the bars ran out before any end: then the index and price are the last bar's.
    The index is ``first - 1`` and the price ``entry`` when no bar lies on the path.
    """
    last, price = first - 1, entry
    for i in range(first, len(starts)):
        if starts[i] >= expires_ms:
            return EXPIRED, last, price
        status, price = check_bar(side, target, stop, opens[i], highs[i], lows[i], closes[i])
        last = i
        if status != ACTIVE:
            return status, i, price
        if ends[i] >= expires_ms:
            return EXPIRED, i, price
    return ACTIVE, last, price


@njit(cache=True)
def walk_all(
    sides: Integers,
    entries: Floats,
    targets: Floats,
    stops: Floats,
    created_ms: Integers,
    expires_ms: Integers,
    starts: Integers,
    ends: Integers,
    opens: Floats,
    highs: Floats,
    lows: Floats,
    closes: Floats,
) -> tuple[npt.NDArray[np.int8], Integers, Floats]:
    """:func:`walk` for many signals over one symbol's bars: arrays of status (int8), exit index and exit price."""
    n = len(sides)
    status, index, price = np.empty(n, np.int8), np.empty(n, np.int64), np.empty(n, np.float64)
    for i in range(n):
        first = np.searchsorted(starts, created_ms[i])
        status[i], index[i], price[i] = walk(
            sides[i],
            entries[i],
            targets[i],
            stops[i],
            expires_ms[i],
            starts,
            ends,
            opens,
            highs,
            lows,
            closes,
            first,
        )
    return status, index, price


@njit(cache=True)
def pnl_percent(side: int, entry: float, exit_: float, cost_bps: float) -> float:
    """Profit in percent of the entry price, signed by side, after ``cost_bps`` basis points for the whole round trip.

    >>> pnl_percent(-1, 100.0, 95.0, 10.0)  # a sell that fell 5 %, at 0.1 % costs
    4.9
    """
    return side * (exit_ - entry) / entry * 100.0 - cost_bps / 100.0
