"""When a signal expires, in the trading time of its market.

A horizon is a number of *sessions* (days, where the market never closes), because that is when prices can move: a
signal made on Friday with horizon ``1d`` ends on Monday. The rule:

- made inside a session: the same time after the open, N sessions later, or that session's close if it comes first
  (half days);
- made outside a session, its close included: the close of the N-th session that follows.

So a signal from a daily bar lives exactly N daily bars, and one from minute bars N sessions' worth of minutes.

>>> from models.trade.calendar import calendar
>>> friday_close = 1_078_520_400_000  # 2004-03-05 16:00 New York
>>> (expires_ms(friday_close, "1d", calendar("XNYS")) - friday_close) / 86_400_000  # Monday 16:00
3.0
>>> (expires_ms(friday_close, "1w", calendar("24/7")) - friday_close) / 86_400_000
7.0
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.jit import njit
from models.messages import Horizon
from models.trade.calendar import DAY_MS, FIRST_DAY, LAST_DAY, Calendar

#: Epoch milliseconds.
Times = npt.NDArray[np.int64]

#: Sessions a horizon lasts where the market has sessions.
SESSIONS: dict[str, int] = {"1d": 1, "3d": 3, "1w": 5, "2w": 10}

#: Calendar days a horizon lasts where the market never closes.
DAYS: dict[str, int] = {"1d": 1, "3d": 3, "1w": 7, "2w": 14}


@njit(cache=True)
def session_expiry(created_ms: int, sessions: int, opens: Times, closes: Times) -> int:
    """The rule for a market with sessions, compiled: expiry in ms, or -1 outside the tables."""
    i = np.searchsorted(opens, created_ms, side="right") - 1
    last = i + sessions
    if i < 0 or last >= len(opens):
        return -1
    if created_ms < closes[i]:
        return int(min(opens[last] + created_ms - opens[i], closes[last]))
    return int(closes[last])


@njit(cache=True)
def _session_expiries(created_ms: Times, sessions: int, opens: Times, closes: Times) -> Times:
    out = np.empty(len(created_ms), np.int64)
    for i in range(len(created_ms)):
        out[i] = session_expiry(created_ms[i], sessions, opens, closes)
    return out


def expires_ms(created_ms: int, horizon: Horizon, market: Calendar) -> int:
    """Expiry of a signal made at ``created_ms``, by the rule above; ValueError outside the calendar's years."""
    if market.always_open:
        return created_ms + DAYS[horizon] * DAY_MS
    until = session_expiry(created_ms, SESSIONS[horizon], market.open_ms, market.close_ms)
    if until < 0:
        raise _outside(created_ms, market)
    return int(until)


def expiries_ms(created_ms: Times, horizon: Horizon, market: Calendar) -> Times:
    """:func:`expires_ms` of many creation times at once (for labels)."""
    created = np.asarray(created_ms, np.int64)
    if market.always_open:
        return created + DAYS[horizon] * DAY_MS
    until = _session_expiries(created, SESSIONS[horizon], market.open_ms, market.close_ms)
    if (until < 0).any():
        raise _outside(int(created[np.argmax(until < 0)]), market)
    return until


def _outside(created_ms: int, market: Calendar) -> ValueError:
    return ValueError(
        f"created_ms {created_ms} is outside calendar {market.name} ({FIRST_DAY} to {LAST_DAY}): check its unit"
    )
