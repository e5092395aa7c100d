"""Vendor bars against built bars of the same minute: how often they agree, and by how much they differ.

One of the two is published on ``market-data-bars``, the other on ``market-data-bars-check``; this reads both.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from connectors.bars.sql import BUILT
from connectors.ingest import metrics
from connectors.ingest.stream_ingest import CHECK_TOPIC
from connectors.kafka.security import kafka_client
from models.messages import TOPICS, Bar, decode

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


async def check_bars(bootstrap: str, stop: asyncio.Event) -> None:
    """Follow chosen and compared bars and keep the metrics of how they agree."""
    from confluent_kafka import Consumer

    consumer = Consumer(kafka_client(bootstrap, group_id="signals-bars-check", auto_offset_reset="latest"))
    consumer.subscribe([TOPICS[Bar], CHECK_TOPIC])
    check = CrossCheck()
    try:
        while not stop.is_set():
            for record in await asyncio.to_thread(consumer.consume, 1000, 0.2):
                if record.error():
                    continue
                with contextlib.suppress(msgspec.DecodeError):
                    check.see(decode(record.value() or b"", Bar))
    finally:
        consumer.close()
