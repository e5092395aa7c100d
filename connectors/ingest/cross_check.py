"""Vendor bars against built bars of the same minute: how often they agree, and by how much they differ.

One of the two is published on ``market-data-bars``, the other on ``market-data-bars-check``; this reads both.
"""

from __future__ import annotations

from connectors.bars.sql import BUILT
from connectors.ingest import metrics
from models.messages import Bar

_FIELDS = ("open", "high", "low", "close", "volume")


class CrossCheck:
    """Pairs of bars; the last ``keep`` are kept. A relative difference up to ``tolerance`` counts as equal.

    >>> check = CrossCheck()
    >>> bar = dict(symbol="A", timeframe="1m", start_ms=0, end_ms=60_000, open=1, high=2, low=1, close=2)
    >>> check.see(Bar(source="alpaca", volume=100, **bar))
    >>> check.see(Bar(source="built:alpaca", volume=90, **bar))
    {'open': 0.0, 'high': 0.0, 'low': 0.0, 'close': 0.0, 'volume': 0.1}
    """

    def __init__(self, keep: int = 50_000, tolerance: float = 1e-9) -> None:
        self._keep, self._tolerance = keep, tolerance
        self._halves: dict[tuple[str, str, str, int], dict[bool, Bar]] = {}

    def see(self, bar: Bar) -> dict[str, float] | None:
        """Take a bar of either kind; the relative differences if its other half is known."""
        built = bar.source.startswith(BUILT)
        source = bar.source.removeprefix(BUILT)
        key = (source, bar.symbol, bar.timeframe, bar.start_ms)
        pair = self._halves.setdefault(key, {})
        pair[built] = bar
        if len(self._halves) > self._keep:
            del self._halves[next(iter(self._halves))]
        if len(pair) < 2:
            return None
        ours, theirs = pair[True], pair[False]
        found = {}
        for name in _FIELDS:
            one, other = getattr(ours, name), getattr(theirs, name)
            found[name] = abs(one - other) / max(abs(one), abs(other)) if one != other else 0.0
            metrics.BAR_DIFFERENCE.labels(source, bar.timeframe, name).set(found[name])
        result = "equal" if max(found.values()) <= self._tolerance else "differs"
        metrics.BAR_CHECKS.labels(source, bar.timeframe, result).inc()
        return found
