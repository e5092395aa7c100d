"""Target and stop of a signal, from price and ATR.

The risk is ATR × 1.5 (``1d``), × 2 (``3d``) or × 3 (``1w``, ``2w``). The stop lies that far against the side, the
target twice as far with it, both rounded to the instrument's tick and at least one tick away from the price.

ATR is one day's. From shorter bars it is scaled by the square root of time, ``atr × sqrt(session / bar)``, because the
range of a random walk grows so: a 1-minute ATR of 0.05 in a session of 390 minutes stands for a daily 0.99.

>>> levels("buy", 100.0, 2.0, "1d", "1d")
(106.0, 97.0)
>>> levels("sell", 100.0, 2.0, "1d", "1d")
(94.0, 103.0)
"""

from __future__ import annotations

import math

from models.jit import njit
from models.messages import TIMEFRAME_MS, Action, Horizon
from models.trade.exits import SIDES

#: Times the daily ATR that is risked, by horizon.
ATR_MULTIPLES: dict[str, float] = {"1d": 1.5, "3d": 2.0, "1w": 3.0, "2w": 3.0}

REWARD_TO_RISK = 2.0

#: A session of US stocks, 9:30 to 16:00.
STOCK_SESSION_MS = 23_400_000


def daily_atr_scale(timeframe: str, session_ms: int = STOCK_SESSION_MS) -> float:
    """What a bar's ATR is multiplied by to stand for a day's: 1 for daily bars, ``sqrt(session / bar)`` below."""
    bar_ms = TIMEFRAME_MS[timeframe]
    return math.sqrt(session_ms / bar_ms) if bar_ms < session_ms else 1.0


def risk_per_atr(horizon: Horizon, timeframe: str, session_ms: int = STOCK_SESSION_MS) -> float:
    """Distance of the stop from the price, in ATRs of the timeframe's bars."""
    return ATR_MULTIPLES[horizon] * daily_atr_scale(timeframe, session_ms)


@njit(cache=True)
def default_tick(price: float) -> float:
    """The tick where none is configured: 0.01 from 1 up (US stocks), 0.0001 from 0.01, else 0.00000001."""
    return 0.01 if price >= 1.0 else 0.0001 if price >= 0.01 else 1e-8


@njit(cache=True)
def round_to_tick(price: float, tick: float) -> float:
    """The nearest multiple of ``tick``; a decimal tick gives the float nearest the decimal (100.1, not 100.10…01)."""
    per_unit = round(1.0 / tick)
    if per_unit >= 1 and abs(per_unit * tick - 1.0) < 1e-9:
        return round(price * per_unit) / per_unit
    return round(price / tick) * tick


@njit(cache=True)
def level_prices(side: int, price: float, risk: float, tick: float) -> tuple[float, float]:
    """``(target, stop)`` at a distance of ``2 × risk`` and ``risk`` from ``price``; both are ``price`` for side 0.

    The one formula that signals and training labels share. A level may come out at or below zero: the caller refuses.
    """
    if side == 0:
        return price, price
    target = round_to_tick(price + side * REWARD_TO_RISK * risk, tick)
    stop = round_to_tick(price - side * risk, tick)
    if side * (price - stop) < tick:
        stop = round_to_tick(price - side * tick, tick)
        if side * (price - stop) <= 0.0:
            stop -= side * tick
    if side * (target - price) < REWARD_TO_RISK * tick:
        target = round_to_tick(price + side * REWARD_TO_RISK * tick, tick)
    return target, stop


def levels(
    action: Action,
    price: float,
    atr: float,
    horizon: Horizon,
    timeframe: str,
    tick: float = 0.01,
    session_ms: int = STOCK_SESSION_MS,
) -> tuple[float, float]:
    """``(target, stop)`` of an action at ``price``; ``atr`` is that of the timeframe's bars, in price units."""
    return level_prices(SIDES[action], price, atr * risk_per_atr(horizon, timeframe, session_ms), tick)
