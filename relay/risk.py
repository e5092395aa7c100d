"""The risk figures that a dynamic signal carries (pure)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec

from connectors.redis.bars import BarTuple
from models.messages import Outcome, Signal
from models.outcomes.performance import finished, row_of

#: Returns in one volatility estimate.
VOLATILITY_BARS = 20


class SimilarSignals(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of closed signals of the same side and horizon; drawdown and worst in percentage points."""

    count: int
    hit_rate: float | None
    drawdown_percent: float
    worst_percent: float | None


class RiskAnalysis(msgspec.Struct, frozen=True, kw_only=True):
    """ATR and stop distance in percent of the entry price; percentile in [0, 100]; null where unknown."""

    atr_percent: float | None
    volatility_percentile: float | None
    stop_distance_percent: float
    reward_to_risk: float | None
    similar_signals: SimilarSignals


def volatility_percentile(bars: Sequence[BarTuple]) -> float | None:
    """Percent of the recent 20-return volatilities that are at or below the latest; None before 40 bars.

    >>> calm = [(i, 0, 0, 0, 100 + i % 2 * 0.1, 0, 0) for i in range(60)]
    >>> volatility_percentile([*calm, (60, 0, 0, 0, 110.0, 0, 0)])
    100.0
    """
    closes = [bar[4] for bar in bars if bar[4] > 0]
    if len(closes) < 2 * VOLATILITY_BARS:
        return None
    returns = [math.log(b / a) for a, b in itertools.pairwise(closes)]
    deviations = []
    for end in range(VOLATILITY_BARS, len(returns) + 1):
        window = returns[end - VOLATILITY_BARS : end]
        mean = math.fsum(window) / VOLATILITY_BARS
        deviations.append(math.fsum((r - mean) ** 2 for r in window))
    return 100.0 * sum(d <= deviations[-1] for d in deviations) / len(deviations)


def similar(action: str, time_horizon: str, outcomes: Sequence[Outcome]) -> SimilarSignals:
    """Outcomes of the closed signals of this side and horizon in ``outcomes``."""
    alike = [o for o in finished(outcomes) if o.action == action and o.time_horizon == time_horizon]
    if not alike:
        return SimilarSignals(count=0, hit_rate=None, drawdown_percent=0.0, worst_percent=None)
    row = row_of("alike", alike)
    return SimilarSignals(
        count=row.count,
        hit_rate=row.hit_rate,
        drawdown_percent=row.max_drawdown_percent,
        worst_percent=min(o.pnl_percent for o in alike),
    )


def analyse(
    signal: Signal, target_price: float, stop_loss: float, percentile: float | None, alike: SimilarSignals
) -> RiskAnalysis:
    """The risk of ``signal`` with these levels (they differ by risk profile)."""
    atr, entry = signal.features_used.get("atr_14"), signal.entry_price
    risk = abs(entry - stop_loss)
    return RiskAnalysis(
        atr_percent=100.0 * atr / entry if atr is not None and entry > 0 else None,
        volatility_percentile=percentile,
        stop_distance_percent=100.0 * risk / entry if entry > 0 else 0.0,
        reward_to_risk=abs(target_price - entry) / risk if risk > 0 else None,
        similar_signals=alike,
    )
