"""Reading a Kafka topic to its present end: the whole of it, or its newest records."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

from connectors.kafka.security import kafka_client


def watermarks(consumer: Any, place: Any, timeout_s: float = 10.0) -> tuple[int, int]:
    """First and next offset of a partition; a new one may be without a leader yet."""
    from confluent_kafka import KafkaError, KafkaException

    passing = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=timeout_s)
            return int(low), int(high)
        except KafkaException as error:
            if error.args[0].code() not in passing or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def partition_count(bootstrap: str, topic: str, timeout_s: float = 10.0) -> int:
    """How many partitions the topic has; ConnectionError naming address and topic."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        known = AdminClient(kafka_client(bootstrap, log_level=0)).list_topics(topic, timeout=timeout_s).topics[topic]
    except KafkaException as error:
        raise ConnectionError(f"no Kafka broker answers at {bootstrap} ({error.args[0].str()})") from None
    if known.error is not None:
        raise ConnectionError(f"topic {topic} at {bootstrap}: {known.error.str()}")
    return len(known.partitions)


def read_topic(
    bootstrap: str, topic: str, *, committed_only: bool = True, idle_s: float = 30.0, newest: int | None = None
) -> Iterator[tuple[int, int, bytes]]:
    """``(partition, offset, value)`` of every message now on the topic, in order within a partition.

    ``newest`` limits it to about so many of each partition. Raises ConnectionError naming the address or topic. With
    ``committed_only`` records of open or aborted transactions are left out.
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer(
        kafka_client(
            bootstrap,
            group_id=f"read-{uuid.uuid4().hex[:8]}",
            enable_auto_commit=False,
            isolation_level="read_committed" if committed_only else "read_uncommitted",
            enable_partition_eof=False,
            log_level=0,
        )
    )
    try:
        try:
            known = consumer.list_topics(topic, timeout=10).topics[topic]
        except KafkaException as error:
            raise ConnectionError(
                f"no Kafka broker answers at {bootstrap} ({error.args[0].str()}): start it, or pass its address"
            ) from None
        if known.error is not None:
            raise ConnectionError(f"topic {topic} at {bootstrap}: {known.error.str()}")
        starts, ends = {}, {}
        for partition in known.partitions:
            low, high = watermarks(consumer, TopicPartition(topic, partition))
            if high > low:
                starts[partition] = low if newest is None else max(low, high - newest)
                ends[partition] = high
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        heard = time.monotonic()
        while ends:
            for message in consumer.consume(10_000, timeout=0.5):
                if message.error() is not None:
                    raise ConnectionError(f"topic {topic} at {bootstrap}: {message.error().str()}")
                heard = time.monotonic()
                yield message.partition(), message.offset(), message.value() or b""
            # positions also skip transaction markers, which are not messages
            for at in consumer.position([TopicPartition(topic, partition) for partition in ends]):
                if at.offset >= ends[at.partition]:
                    del ends[at.partition]
            if ends and time.monotonic() - heard > idle_s:
                raise ConnectionError(f"topic {topic} at {bootstrap}: no message for {idle_s:.0f} s before its end")
    finally:
        consumer.close()
