"""Messages to Kafka: routed by type, keyed by symbol, stamped with event time.

Guarantee: the producer is idempotent, so a retry inside it writes once and keeps order; after ``flush`` returned,
everything published before it is on the broker. A delivery that fails for good raises at the next call.
"""

from __future__ import annotations

from typing import Any

from connectors.kafka.partitioner import kafka_producer
from models.events import Event
from models.messages import TOPICS, Bar, DeadLetter, Message, News, encode


class PublishError(RuntimeError):
    """Kafka did not take a message; names topic, key and the broker's reason."""


def event_ms(message: Message) -> int:
    """The message's event time: a bar's end, an article's last update, else its time stamp."""
    if isinstance(message, Bar):
        return message.end_ms
    if isinstance(message, News):
        return message.updated_ms
    at_ms: int = getattr(message, "timestamp_ms")  # noqa: B009 - every other kind has one
    return at_ms


class Publisher:
    """An idempotent producer. ``topics`` overrides the topic of a message type; ``client`` adds librdkafka settings."""

    def __init__(
        self, bootstrap: str, topics: dict[type, str] | None = None, client: dict[str, Any] | None = None
    ) -> None:
        from confluent_kafka import Producer

        self._topics = TOPICS | (topics or {})
        self._failure = ""
        self._pending = 0
        self._producer = Producer(
            kafka_producer(bootstrap)
            | {
                "enable.idempotence": True,
                "linger.ms": 5,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 500_000,
                "queue.buffering.max.kbytes": 262_144,
                "compression.type": "lz4",
                "delivery.report.only.error": True,
                "message.timeout.ms": 120_000,
                **(client or {}),
            }
        )

    def _report(self, error: Any, record: Any) -> None:
        if error is not None:
            self._failure = f"topic {record.topic()}, key {record.key()!r}: {error}"

    def publish(self, message: Message, topic: str | None = None) -> None:
        """Queue a message on its type's topic (or another); waits while the queue is full."""
        kind = Event if isinstance(message, Event) else type(message)
        self._send(topic or self._topics[kind], message.symbol, encode(message), event_ms(message))

    def dead(self, letter: DeadLetter, time_ms: int) -> None:
        """Queue a dead letter, keyed by its source."""
        self._send(self._topics[DeadLetter], letter.topic, encode(letter), time_ms)

    def _send(self, topic: str, key: str, value: bytes, time_ms: int) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key.encode(), timestamp=time_ms, on_delivery=self._report)
                break
            except BufferError:
                self._producer.poll(0.05)
        self._pending += 1
        if self._pending % 1000 == 0:
            self.poll()

    def poll(self) -> None:
        """Serve delivery reports; raises PublishError if a delivery failed."""
        self._producer.poll(0)
        if self._failure:
            raise PublishError(f"Kafka did not take a message: {self._failure}")

    def flush(self, timeout_s: float = 60) -> None:
        """Wait until everything is on the broker; raises PublishError if it is not in time."""
        left = self._producer.flush(timeout_s)
        self.poll()
        if left:
            raise PublishError(f"{left} messages not delivered in {timeout_s:g} s: is the broker reachable?")
