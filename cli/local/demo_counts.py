"""Output of the demo's jobs so far, counted from the topics themselves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.messages import Outcome, Signal


class Counts:
    """Output of the jobs so far, counted from the topics themselves."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer = self._connect("demo")
        self._ends_consumer = self._connect("demo-ends")
        self._assigned: set[str] = set()
        self.signals = 0
        #: Final outcome of each finished signal, by id.
        self.ends: dict[str, Outcome] = {}

    def _connect(self, group: str) -> Any:
        from confluent_kafka import Consumer

        from connectors.kafka.security import kafka_client

        return Consumer(kafka_client(self._bootstrap, group_id=group, enable_auto_commit=False, log_level=0))

    def _partitions(self, topic: str) -> list[Any]:
        from confluent_kafka import KafkaException, TopicPartition

        try:
            found = self._consumer.list_topics(timeout=5).topics.get(topic)
        except KafkaException:
            return []
        return [TopicPartition(topic, number, 0) for number in found.partitions] if found else []

    def _records(self, consumer: Any, topic: str, timeout_s: float) -> list[bytes]:
        if topic not in self._assigned:
            partitions = self._partitions(topic)
            if not partitions:
                time.sleep(timeout_s)
                return []
            consumer.assign(partitions)
            self._assigned.add(topic)
        return [record.value() for record in consumer.consume(500, timeout_s) if record.error() is None]

    def new_signals(self, timeout_s: float) -> Iterator[Signal]:
        """Signals that have appeared since the last call; waits up to ``timeout_s`` for the first."""
        from models.messages import Signal, decode

        for value in self._records(self._consumer, "trading-signals", timeout_s):
            self.signals += 1
            yield decode(value, Signal)

    def new_ends(self) -> Iterator[Outcome]:
        """Signals that have ended since the last call."""
        from models.messages import Outcome, decode

        if not self.signals:
            return
        while values := self._records(self._ends_consumer, "signal-outcomes", 0.05):
            for value in values:
                outcome = decode(value, Outcome)
                if outcome.status != "active":
                    self.ends[outcome.signal_id] = outcome
                    yield outcome
                else:  # open, or open again: its end was revoked
                    self.ends.pop(outcome.signal_id, None)

    def all_followed(self) -> bool:
        """Whether the outcomes job has read every bar and signal, by the offsets of its last checkpoint."""
        from confluent_kafka import KafkaException

        consumer = self._connect("outcomes")
        try:
            for topic in ("market-data-bars", "trading-signals"):
                for at in consumer.committed(self._partitions(topic), timeout=5):
                    if max(at.offset, 0) < self._end(at):
                        return False
        except KafkaException:
            return False
        finally:
            consumer.close()
        return True

    def _end(self, partition: Any) -> int:
        return int(self._consumer.get_watermark_offsets(partition, timeout=5)[1])

    def processed(self) -> tuple[int, int]:
        """Records on ``features`` and ``dead-letter``."""
        from confluent_kafka import KafkaException

        totals = []
        for topic in ("features", "dead-letter"):
            total = 0
            for partition in self._partitions(topic):
                with contextlib.suppress(KafkaException):
                    total += self._end(partition)
            totals.append(total)
        return totals[0], totals[1]

    def close(self) -> None:
        """Close the consumers."""
        self._consumer.close()
        self._ends_consumer.close()
