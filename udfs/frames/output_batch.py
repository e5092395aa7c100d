"""A frame's outgoing messages, as maps of payloads by key: what a frame operator hands to ``connectors.kafka.tables``.

A map, because Flink SQL takes one apart without copying, and nothing is joined in Python to be split again in the JVM
(an array alongside its keys would be copied for every element). A key is once in a map; maps follow each other in the
order in which their keys were added, so that the messages of a symbol keep their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Record(NamedTuple):
    """One outgoing message; ``event_ms`` becomes its Kafka timestamp."""

    topic: str
    key: str
    event_ms: int
    payload: bytes


class _Topic:
    """Segments of one topic: an event time and the payloads of the keys that have a message of that time."""

    def __init__(self) -> None:
        self.segments: list[tuple[int, dict[str, bytes]]] = []
        self.newest: dict[int, int] = {}
        self.last: dict[str, int] = {}

    def add(self, key: str, event_ms: int, payload: bytes) -> None:
        at = self.newest.get(event_ms, -1)
        if at <= self.last.get(key, -1):
            at = self.newest[event_ms] = len(self.segments)
            self.segments.append((event_ms, {}))
        self.segments[at][1][key] = payload
        self.last[key] = at


class OutputBatch:
    """Outgoing messages; those of one topic and key keep the order in which they were added.

    >>> batch = OutputBatch()
    >>> for key, event_ms, payload in ("AAPL", 1, b"a"), ("MSFT", 1, b"b"), ("AAPL", 2, b"c"), ("AAPL", 1, b"d"):
    ...     batch.add("features", key, event_ms, payload)
    >>> for segment in batch.segments():
    ...     print(*segment)
    features 1 {'AAPL': b'a', 'MSFT': b'b'}
    features 2 {'AAPL': b'c'}
    features 1 {'AAPL': b'd'}
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def add(self, topic: str, key: str, event_ms: int, payload: bytes) -> None:
        """One message."""
        if topic not in self._topics:
            self._topics[topic] = _Topic()
        self._topics[topic].add(key, event_ms, payload)

    def segments(self) -> Iterator[tuple[str, int, dict[str, bytes]]]:
        """Topic, event time (ms) and payloads by key."""
        for topic, kept in self._topics.items():
            for event_ms, payloads in kept.segments:
                yield topic, event_ms, payloads

    def __len__(self) -> int:
        return sum(len(payloads) for *_, payloads in self.segments())

    def __iter__(self) -> Iterator[Record]:
        for topic, event_ms, payloads in self.segments():
            for key, payload in payloads.items():
                yield Record(topic, key, event_ms, payload)
