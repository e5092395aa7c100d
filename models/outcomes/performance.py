"""What became of past signals, by whatever they have in common: counts, hit rates, P&L, drawdown, holding time.

P&L is in percent of the entry price, signed by side, after costs, as the tracker wrote it; sums add equal stakes (one
unit a signal), they are no compounded account. A *hit* reached its target; a *win* ended with P&L above zero. Void
signals (revised or cancelled before they were anything) are counted apart and are in no figure.

>>> def ended(name, pnl, status):
...     return Outcome(signal_id=name, symbol="A", status=status, entry_price=100, current_price=100 + pnl,
...                    target_price=110, stop_loss=95, pnl_percent=pnl, created_ms=0, updated_ms=3_600_000,
...                    confidence=0.65, votes={"xgboost_swing": "buy"})
>>> history = summarise([ended("a", 10.0, "hit_target"), ended("b", -5.0, "hit_stop")])
>>> row = history.tables["symbol"][0]
>>> row.key, row.count, row.hit_rate, row.mean_pnl_percent, row.max_drawdown_percent, row.holding_hours
('A', 2, 0.5, 2.5, 5.0, 1.0)
>>> history.tables["vote"][0].key, history.reliability[0].confidence, history.reliability[0].win_rate
('xgboost_swing: buy', 0.65, 0.5)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import get_args

import msgspec

from models.messages import Horizon, Outcome

#: Exit reasons of signals that were replaced or withdrawn: no position, not part of any figure.
VOID_REASONS = ("revised", "cancelled")
_HOUR_MS = 3_600_000
_HORIZONS = get_args(Horizon)
#: Width of a confidence bucket.
BUCKET = 0.1


class Row(msgspec.Struct, frozen=True):
    """Figures of the finished signals that share ``key``; rates in [0, 1], the drawdown in percentage points.

    ``statuses`` counts how they ended, by ``Outcome.status``.
    """

    key: str
    count: int
    hit_rate: float
    win_rate: float
    mean_pnl_percent: float
    total_pnl_percent: float
    max_drawdown_percent: float
    holding_hours: float
    statuses: dict[str, int] = msgspec.field(default_factory=dict)


class Reliability(msgspec.Struct, frozen=True):
    """One confidence bucket: what was promised on average, and what came true, with its 95 % interval (Wilson)."""

    bucket: str
    count: int
    confidence: float
    win_rate: float
    low: float
    high: float


class History(msgspec.Struct, frozen=True):
    """:func:`summarise` of outcomes: one table a dimension, the reliability and the P&L curve.

    ``curve`` is (exit time in ms, cumulative P&L in percent) at each exit.
    """

    finished: int
    active: int
    void: int
    total: Row | None
    tables: dict[str, list[Row]]
    reliability: list[Reliability]
    curve: list[tuple[int, float]]


def bucket_of(confidence: float) -> str:
    """The confidence bucket, as ``0.6-0.7``; 1.0 is in the last.

    >>> bucket_of(0.7), bucket_of(0.69), bucket_of(1.0)
    ('0.7-0.8', '0.6-0.7', '0.9-1.0')
    """
    index = min(int(confidence / BUCKET + 1e-9), round(1 / BUCKET) - 1)
    return f"{index * BUCKET:.1f}-{(index + 1) * BUCKET:.1f}"


#: Every dimension, and the keys an outcome has in it.
DIMENSIONS: dict[str, Callable[[Outcome], Iterable[str]]] = {
    "symbol": lambda one: (one.symbol,),
    "action": lambda one: (one.action,),
    "horizon": lambda one: (one.time_horizon,),
    "bundle": lambda one: (one.bundle or "(none)",),
    "vote": lambda one: [f"{model}: {action}" for model, action in one.votes.items()],
    "confidence": lambda one: (bucket_of(one.confidence),),
    "exit": lambda one: (one.exit_reason or one.status,),
}


def latest(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One outcome a signal: its newest by revision, then time. Repeats and updates fall away."""
    newest: dict[str, Outcome] = {}
    for one in outcomes:
        known = newest.get(one.signal_id)
        if known is None or (one.revision, one.updated_ms) >= (known.revision, known.updated_ms):
            newest[one.signal_id] = one
    return list(newest.values())


def finished(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes that are final and were a position, in the order they ended."""
    ended = [one for one in outcomes if one.status != "active" and one.exit_reason not in VOID_REASONS]
    return sorted(ended, key=lambda one: (one.updated_ms, one.signal_id))


def summarise(outcomes: Iterable[Outcome]) -> History:
    """The history of all signals among ``outcomes``, which may be in any order, with updates and repeats."""
    newest = latest(outcomes)
    ended = finished(newest)
    void = sum(one.exit_reason in VOID_REASONS for one in newest)
    curve, total = [], 0.0
    for one in ended:
        total += one.pnl_percent
        curve.append((one.updated_ms, total))
    return History(
        finished=len(ended),
        active=len(newest) - void - len(ended),
        void=void,
        total=row_of("all", ended) if ended else None,
        tables={name: table(ended, keys_of) for name, keys_of in DIMENSIONS.items()},
        reliability=_reliability(ended),
        curve=curve,
    )


def table(ended: Iterable[Outcome], keys_of: Callable[[Outcome], Iterable[str]]) -> list[Row]:
    """One row per key among finished outcomes (:func:`finished`), horizons by their length, all else by name."""
    groups: dict[str, list[Outcome]] = {}
    for one in ended:
        for key in keys_of(one):
            groups.setdefault(key, []).append(one)
    return [row_of(key, groups[key]) for key in sorted(groups, key=_place)]


def row_of(key: str, ended: list[Outcome]) -> Row:
    """The figures of at least one finished outcome, in the order they ended."""
    count = len(ended)
    percents = [one.pnl_percent for one in ended]
    return Row(
        key=key,
        count=count,
        hit_rate=sum(one.status == "hit_target" for one in ended) / count,
        win_rate=sum(percent > 0 for percent in percents) / count,
        mean_pnl_percent=math.fsum(percents) / count,
        total_pnl_percent=math.fsum(percents),
        max_drawdown_percent=max_drawdown(percents),
        holding_hours=sum(one.updated_ms - one.created_ms for one in ended) / count / _HOUR_MS,
        statuses=dict(Counter(one.status for one in ended)),
    )


def max_drawdown(pnl_percents: Iterable[float]) -> float:
    """Deepest fall of the running sum below its highest point so far (which begins at 0).

    >>> max_drawdown([1.0, -3.0, 1.0, -0.5, 5.0])
    3.0
    """
    total = peak = deepest = 0.0
    for percent in pnl_percents:
        total += percent
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    return deepest


def wilson(wins: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson interval of a proportion.

    >>> [round(bound, 3) for bound in wilson(5, 10)]
    [0.237, 0.763]
    """
    rate = wins / count
    spread = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    middle, scale = rate + z * z / (2 * count), 1 + z * z / count
    return (middle - spread) / scale, (middle + spread) / scale


def _place(key: str) -> tuple[int, str]:
    """Horizons by their length, all else by name."""
    return (_HORIZONS.index(key) if key in _HORIZONS else -1), key


def _reliability(ended: list[Outcome]) -> list[Reliability]:
    groups: dict[str, list[Outcome]] = {}
    for one in ended:
        groups.setdefault(bucket_of(one.confidence), []).append(one)
    out = []
    for key in sorted(groups):
        group = groups[key]
        wins = sum(one.pnl_percent > 0 for one in group)
        promised = sum(one.confidence for one in group) / len(group)
        out.append(Reliability(key, len(group), promised, wins / len(group), *wilson(wins, len(group))))
    return out
