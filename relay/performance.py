"""What became of past signals: hit rates, P&L curve and reliability, from their final outcomes (pure).

P&L is in percent of the entry price, signed by side, after costs, as the tracker wrote it. The curve adds up equal
stakes: it is not a compounded account. A signal that was revised or cancelled was no position and counts nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

import models.outcomes.performance
from models.messages import Outcome
from models.outcomes.performance import DIMENSIONS, finished

#: Points of the P&L curve that are sent; a longer history is thinned evenly.
CURVE_POINTS_MAX = 500


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


def _row(key: str, group: list[Outcome]) -> dict[str, Any]:
    won = sum(outcome.pnl_percent > 0 for outcome in group)
    return {"key": key, **msgspec.to_builtins(summarise(group)), "win_rate": won / len(group) if group else None}


def report(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """The performance page: ``total``, ``curve`` [[ms, cumulative %]], breakdowns and the ``reliability`` curve.

    ``hit_rate`` is the share that reached its target, ``win_rate`` the share that ended with a profit: what a signal's
    probability promises, so ``reliability`` compares it with that (see
    :class:`models.outcomes.performance.Reliability`). ``by_vote`` holds, for each model, the signals whose side it had
    voted for.
    """
    final = finished(outcomes)
    curve, level = [], 0.0
    for outcome in final:
        level += outcome.pnl_percent
        curve.append([outcome.updated_ms, round(level, 4)])
    if len(curve) > CURVE_POINTS_MAX:
        step = len(curve) / CURVE_POINTS_MAX
        curve = [curve[int(i * step)] for i in range(CURVE_POINTS_MAX - 1)] + [curve[-1]]

    def by(keys: Callable[[Outcome], Iterable[str]]) -> list[dict[str, Any]]:
        groups: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in final:
            for key in keys(outcome):
                groups[key].append(outcome)
        return [_row(key, group) for key, group in sorted(groups.items())]

    return {
        "total": _row("all", final),
        "drawdown_percent": drawdown_percent(final),
        "curve": curve,
        "by_symbol": by(DIMENSIONS["symbol"]),
        "by_side": by(DIMENSIONS["action"]),
        "by_reason": by(DIMENSIONS["exit"]),
        "by_confidence": by(DIMENSIONS["confidence"]),
        "by_model": by(DIMENSIONS["bundle"]),
        "by_vote": by(lambda one: [model for model, vote in one.votes.items() if vote == one.action]),
        "reliability": [msgspec.to_builtins(row) for row in models.outcomes.performance.summarise(final).reliability],
    }
