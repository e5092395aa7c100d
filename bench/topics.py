"""Topics to measure with: bars in, records stamped by the broker as they arrive out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from connectors.kafka.partitioner import kafka_producer
from models.messages import Bar, encode

PARTITIONS = 4
FIRST_MS = 1_699_972_200_000  # 2023-11-14 09:30 in New York
MINUTE_MS = 60_000


def random_walk(minutes: int, symbols: int, only: int | None = None) -> Iterator[list[Bar]]:
    """Minute bars of ``symbols`` symbols, minute after minute; ``only`` gives the first few, the same as among all."""
    rng = np.random.default_rng(7)
    closes = np.full(symbols, 100.0)
    for minute in range(minutes):
        opens = closes
        closes = np.round(opens * np.exp(rng.normal(0, 0.001, symbols)), 4)
        highs = np.round(np.maximum(opens, closes) * 1.0005, 4).tolist()
        lows = np.round(np.minimum(opens, closes) * 0.9995, 4).tolist()
        volumes = rng.integers(100, 100_000, symbols).tolist()
        start = FIRST_MS + minute * MINUTE_MS
        columns = zip(opens.tolist(), highs, lows, closes.tolist(), volumes, strict=True)
        yield [
            Bar(
                symbol=f"S{s:04d}", timeframe="1m", start_ms=start, end_ms=start + MINUTE_MS, open=o, high=h, low=low,
                close=c, volume=float(v),
            )
            for s, (o, h, low, c, v) in enumerate(columns)
            if only is None or s < only
        ]  # fmt: skip


def publish(bootstrap: str, topic: str, minutes: int, symbols: int, only: int | None = None) -> int:
    """Produce :func:`random_walk`; returns the number of bars."""
    from confluent_kafka import Producer

    producer = Producer(
        kafka_producer(bootstrap) | {"linger.ms": 20, "enable.idempotence": True, "batch.size": 1_000_000,
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    sent = 0
    for minute, bars in enumerate(random_walk(minutes, symbols, only)):
        for bar in bars:
            producer.produce(topic, encode(bar), bar.symbol, timestamp=bar.end_ms)
        sent += len(bars)
        producer.poll(0)
        if minute % 50 == 0:
            producer.flush()
    producer.flush()
    return sent


def create_stamped(bootstrap: str, topic: str) -> None:
    """A topic whose records are stamped by the broker as they arrive."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    config = {"message.timestamp.type": "LogAppendTime"}
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)])[topic].result(30)


def records(bootstrap: str, topic: str) -> Iterator[Any]:
    """Every record of a topic, up to its present end."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench-reader", "enable.auto.commit": False,
         "enable.partition.eof": True}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    ended = 0
    while ended < PARTITIONS:
        for record in consumer.consume(10_000, 0.2):
            if record.error() is None:
                yield record
            else:
                ended += 1
    consumer.close()


def count(bootstrap: str, topic: str) -> int:
    """Number of records in a topic."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-counter", "enable.auto.commit": False})
    found = 0
    for number in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        found += high - low
    consumer.close()
    return found


def stamps(bootstrap: str, topic: str) -> tuple[int, float, float]:
    """Number of records, and the first and last stamp in seconds, without reading those in between."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-stamps", "enable.auto.commit": False})
    found, seen = 0, []
    for number in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        found += high - low
        for offset in {low, high - 1} if high > low else set():
            consumer.assign([TopicPartition(topic, number, offset)])
            record = consumer.poll(20)
            if record is None:
                raise RuntimeError(f"no record at {topic}/{number}/{offset}")
            seen.append(record.timestamp()[1] / 1000)
    consumer.close()
    return found, min(seen, default=0.0), max(seen, default=0.0)
