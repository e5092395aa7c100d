"""What became of past signals: hit rates, P&L curve and reliability, from their final outcomes (pure).

P&L is in percent of the entry price, signed by side, after costs, as the tracker wrote it. The curve adds up equal
stakes: it is not a compounded account. A signal that was revised or cancelled was no position and counts nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from models.messages import Outcome
from models.performance import finished

#: Points of the P&L curve that are sent; a longer history is thinned evenly.
CURVE_POINTS_MAX = 500
BUCKETS = 10


class HistoricalPerformance(msgspec.Struct, frozen=True, kw_only=True):
    """Closed signals of one symbol (or all). ``hit_rate`` in [0, 1], null before the first; averages in percent."""

    signals: int = 0
    hit_target: int = 0
    hit_stop: int = 0
    expired: int = 0
    hit_rate: float | None = None
    average_pnl_percent: float | None = None
    total_pnl_percent: float = 0.0


def summarise(outcomes: Iterable[Outcome]) -> HistoricalPerformance:
    """Counts, hit rate and P&L of the final ones among ``outcomes``."""
    final = finished(outcomes)
    count = len(final)
    statuses = [o.status for o in final]
    total = sum(o.pnl_percent for o in final)
    hits = statuses.count("hit_target")
    return HistoricalPerformance(
        signals=count,
        hit_target=hits,
        hit_stop=statuses.count("hit_stop"),
        expired=statuses.count("expired"),
        hit_rate=hits / count if count else None,
        average_pnl_percent=total / count if count else None,
        total_pnl_percent=total,
    )


def drawdown_percent(outcomes: Iterable[Outcome]) -> float:
    """Deepest fall of the cumulative P&L below its highest point so far, in percentage points (0 or positive).

    >>> def outcome(at, pnl):
    ...     return Outcome(signal_id=str(at), symbol="X", status="expired", entry_price=1, current_price=1,
    ...                    target_price=1, stop_loss=1, pnl_percent=pnl, created_ms=0, updated_ms=at)
    >>> drawdown_percent([outcome(1, 2.0), outcome(2, -3.0), outcome(3, 1.0), outcome(4, -1.5)])
    3.5
    """
    level = peak = deepest = 0.0
    for outcome in finished(outcomes):
        level += outcome.pnl_percent
        peak = max(peak, level)
        deepest = max(deepest, peak - level)
    return deepest


def _bucket(confidence: float) -> int:
    return min(int(confidence * BUCKETS), BUCKETS - 1)


def report(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """The performance page: ``total``, ``curve`` [[ms, cumulative %]], breakdowns and the ``reliability`` curve.

    ``by_vote`` holds, for each model, the signals whose side it had voted for. ``reliability`` has one row a filled
    confidence bucket: mean confidence, share that hit the target, count.
    """
    final = finished(outcomes)
    curve, level = [], 0.0
    for outcome in final:
        level += outcome.pnl_percent
        curve.append([outcome.updated_ms, round(level, 4)])
    if len(curve) > CURVE_POINTS_MAX:
        step = len(curve) / CURVE_POINTS_MAX
        curve = [curve[int(i * step)] for i in range(CURVE_POINTS_MAX - 1)] + [curve[-1]]

    def by(key: Callable[[Outcome], str]) -> list[dict[str, Any]]:
        groups: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in final:
            groups[key(outcome)].append(outcome)
        return [{"key": name, **msgspec.to_builtins(summarise(group))} for name, group in sorted(groups.items())]

    agreed: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in final:
        for model, vote in outcome.votes.items():
            if vote == outcome.action:
                agreed[model].append(outcome)
    votes = [{"key": name, **msgspec.to_builtins(summarise(group))} for name, group in sorted(agreed.items())]

    buckets: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in final:
        buckets[_bucket(outcome.confidence)].append(outcome)
    reliability = [
        {
            "from": bucket / BUCKETS,
            "to": (bucket + 1) / BUCKETS,
            "confidence": sum(o.confidence for o in group) / len(group),
            "hit_rate": sum(o.status == "hit_target" for o in group) / len(group),
            "count": len(group),
        }
        for bucket, group in sorted(buckets.items())
    ]
    return {
        "total": msgspec.to_builtins(summarise(final)),
        "drawdown_percent": drawdown_percent(final),
        "curve": curve,
        "by_symbol": by(lambda o: o.symbol),
        "by_model": by(lambda o: o.bundle or "unknown"),
        "by_vote": votes,
        "by_confidence": by(
            lambda o: f"{_bucket(o.confidence) / BUCKETS:.1f}–{(_bucket(o.confidence) + 1) / BUCKETS:.1f}"
        ),
        "by_reason": by(lambda o: o.exit_reason or o.status),
        "by_side": by(lambda o: o.action),
        "reliability": reliability,
    }
