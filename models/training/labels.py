"""Triple-barrier labels by the tracker's own rules: would a signal on this bar have won?

What: for each bar, a buy and a sell of the label's horizon are given the levels and the expiry that a real signal of
that bar would have (:mod:`models.trade.levels`, :mod:`models.trade.expiry`) and walked to their end by the function
that the tracker uses (:mod:`models.trade.exits`). Both barriers inside one bar: the stop, and the bar is counted.

Label 2 (buy) where the buy won, 0 (sell) where the sell won, 1 (hold) where neither did, -1 where the bars ran out
first or there is no ATR. Winning is defined by :class:`models.serving.manifest.LabelSpec`. Rewards are in units of risk
(the distance of the stop), after costs; times are epoch milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.jit import njit
from models.serving.manifest import LabelSpec
from models.trade import exits
from models.trade.calendar import Calendar
from models.trade.expiry import expiries_ms
from models.trade.levels import default_tick, level_prices, risk_per_atr

UNKNOWN, SELL, HOLD, BUY = -1, 0, 1, 2

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Path(NamedTuple):
    """How one side's signals ended, an entry per bar: status, exit bar, exit price, target, stop, and what was won.

    ``reward`` is in units of risk and ``pnl_percent`` in percent of the entry, both after costs; NaN with no ATR.
    ``both_inside`` marks paths that ended in a bar which contained target and stop: they count as stopped.
    """

    status: npt.NDArray[np.int8]
    exit_index: Integers
    exit_price: Floats
    target: Floats
    stop: Floats
    reward: Floats
    pnl_percent: Floats
    both_inside: npt.NDArray[np.bool_]


class Labels(NamedTuple):
    """One symbol's labels, an entry per bar; ``exit_ms`` is the end of the later of both paths."""

    label: npt.NDArray[np.int8]
    exit_ms: Integers
    buy: Path
    sell: Path


class SymbolBars(NamedTuple):
    """One symbol's bars in time order."""

    starts: Integers
    ends: Integers
    opens: Floats
    highs: Floats
    lows: Floats
    closes: Floats


@njit(cache=True)
def _levels(side: int, prices: Floats, risks: Floats, ticks: Floats) -> tuple[Floats, Floats]:
    targets, stops = np.empty(len(prices)), np.empty(len(prices))
    for i in range(len(prices)):
        targets[i], stops[i] = level_prices(side, prices[i], risks[i], ticks[i])
    return targets, stops


def walk_side(side: int, bars: SymbolBars, risks: Floats, expires: Integers, cost_bps: float) -> Path:
    """What became of a signal of that side (+1 buy, -1 sell) made at each bar's close; ``risks`` in price units."""
    ticks = np.array([default_tick(price) for price in bars.closes])
    sound = np.isfinite(risks) & (risks > 0)
    targets, stops = _levels(side, bars.closes, np.where(sound, risks, 1.0), ticks)
    status, exit_index, exit_price = exits.walk_all(
        np.full(len(risks), side, np.int64), bars.closes, targets, stops, bars.ends, expires, *bars
    )
    gained = side * (exit_price - bars.closes) - bars.closes * cost_bps / 10_000
    pnl = gained / bars.closes * 100
    reward = gained / np.abs(bars.closes - stops)
    low_side, high_side = np.minimum(targets, stops), np.maximum(targets, stops)
    last = np.clip(exit_index, 0, len(risks) - 1)
    inside = (status == exits.HIT_STOP) & (bars.lows[last] <= low_side) & (bars.highs[last] >= high_side)
    lost = np.where(sound, 0.0, np.nan)
    return Path(status, exit_index, exit_price, targets, stops, reward + lost, pnl + lost, inside & sound)


def label(bars: SymbolBars, atr: Floats, spec: LabelSpec, timeframe: str, market: Calendar) -> Labels:
    """The labels of one symbol; ``atr`` is the timeframe's ATR at each bar (NaN: none yet)."""
    if spec.horizon not in ("1d", "3d", "1w", "2w"):
        raise ValueError(f"label horizon {spec.horizon!r} is none of 1d, 3d, 1w, 2w")
    risks = atr * risk_per_atr(spec.horizon, timeframe, market.session_ms)
    expires = expiries_ms(bars.ends, spec.horizon, market)
    buy = walk_side(1, bars, risks, expires, spec.cost_bps)
    sell = walk_side(-1, bars, risks, expires, spec.cost_bps)
    buy_won, sell_won = _won(buy, spec), _won(sell, spec)
    labels = np.where(buy_won & ~sell_won, BUY, np.where(sell_won & ~buy_won, SELL, HOLD)).astype(np.int8)
    open_ended = (buy.status == exits.ACTIVE) | (sell.status == exits.ACTIVE)
    labels[open_ended | np.isnan(buy.reward)] = UNKNOWN
    last = np.clip(np.maximum(buy.exit_index, sell.exit_index), 0, max(len(atr) - 1, 0))
    return Labels(labels, np.maximum(bars.ends[last], bars.ends), buy, sell)


def _won(path: Path, spec: LabelSpec) -> npt.NDArray[np.bool_]:
    won: npt.NDArray[np.bool_] = path.status == exits.HIT_TARGET
    if spec.expiry_reward is not None:
        won = won | ((path.status == exits.EXPIRED) & (path.reward >= spec.expiry_reward))
    return won
