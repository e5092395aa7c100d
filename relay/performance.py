"""Outcomes of past signals, in the form that clients get (pure); ``models.outcomes.performance`` computes it.

P&L is in percent of the entry price, signed by side, after costs, as the tracker wrote it. The curve adds up equal
stakes: it is not a compounded account. A signal that was revised or cancelled was no position and counts nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from models.messages import Outcome
from models.outcomes.performance import Row, finished, row_of, summarise, table

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


def historical(outcomes: Iterable[Outcome]) -> HistoricalPerformance:
    """Counts, hit rate and P&L of the final ones among ``outcomes``."""
    final = finished(outcomes)
    return _historical(row_of("all", final)) if final else HistoricalPerformance()


def _historical(row: Row) -> HistoricalPerformance:
    return HistoricalPerformance(
        signals=row.count,
        hit_target=row.statuses.get("hit_target", 0),
        hit_stop=row.statuses.get("hit_stop", 0),
        expired=row.statuses.get("expired", 0),
        hit_rate=row.hit_rate,
        average_pnl_percent=row.mean_pnl_percent,
        total_pnl_percent=row.total_pnl_percent,
    )


def _shaped(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [{"key": row.key, **msgspec.to_builtins(_historical(row)), "win_rate": row.win_rate} for row in rows]


def report(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """The performance page: ``total``, ``curve`` [[ms, cumulative %]], breakdowns and the ``reliability`` curve.

    ``hit_rate`` is the share that reached its target, ``win_rate`` the share that ended with a profit: what a signal's
    probability promises, so ``reliability`` compares it with that (see
    :class:`models.outcomes.performance.Reliability`). ``by_vote`` has, for each model, the signals whose side it had
    voted for.
    """
    final = finished(outcomes)
    history = summarise(final)
    curve = [[at, round(level, 4)] for at, level in history.curve]
    if len(curve) > CURVE_POINTS_MAX:
        step = len(curve) / CURVE_POINTS_MAX
        curve = [curve[int(i * step)] for i in range(CURVE_POINTS_MAX - 1)] + [curve[-1]]
    nothing = {"key": "all", **msgspec.to_builtins(HistoricalPerformance()), "win_rate": None}
    agreed = table(final, lambda one: [model for model, vote in one.votes.items() if vote == one.action])
    return {
        "total": _shaped([history.total])[0] if history.total else nothing,
        "drawdown_percent": history.total.max_drawdown_percent if history.total else 0.0,
        "curve": curve,
        "by_symbol": _shaped(history.tables["symbol"]),
        "by_side": _shaped(history.tables["action"]),
        "by_reason": _shaped(history.tables["exit"]),
        "by_confidence": _shaped(history.tables["confidence"]),
        "by_model": _shaped(history.tables["bundle"]),
        "by_vote": _shaped(agreed),
        "reliability": [msgspec.to_builtins(row) for row in history.reliability],
    }
