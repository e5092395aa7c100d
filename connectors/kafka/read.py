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


class NoTopicError(ConnectionError):
    """The broker has no such topic."""


def read_to_end(
    bootstrap: str,
    topic: str,
    *,
    committed_only: bool = True,
    idle_s: float = 30.0,
    newest: int | None = None,
    timeout_s: float = 10.0,
) -> Iterator[tuple[int, int, bytes]]:
    """``(partition, offset, value)`` of every message now on the topic, in order within a partition.

    ``newest`` limits it to about so many of each partition. With ``committed_only`` records of open or aborted
    transactions are left out. Raises NoTopicError if there is no such topic, and ConnectionError, naming address,
    topic, partitions and how far they were read, if the broker does not answer in ``timeout_s`` or nothing comes for
    ``idle_s``: what is returned is always the whole.
    """
    consumer, ends, _ = _open(bootstrap, topic, committed_only, newest, timeout_s)
    try:
        for record in _drain(consumer, bootstrap, topic, ends, idle_s):
            yield record.partition(), record.offset(), record.value() or b""
    finally:
        consumer.close()


def newest_records(bootstrap: str, topic: str, count: int, timeout_s: float = 10.0) -> tuple[list[Any], int]:
    """About ``count`` newest records of each partition, as the client has them, and the number of partitions."""
    consumer, ends, partitions = _open(bootstrap, topic, False, count, timeout_s)
    try:
        return list(_drain(consumer, bootstrap, topic, ends, timeout_s)), partitions
    finally:
        consumer.close()


def _open(
    bootstrap: str, topic: str, committed_only: bool, newest: int | None, timeout_s: float
) -> tuple[Any, dict[int, int], int]:
    """A consumer of the partitions that have records, the offset at which each ends now, and how many the topic has."""
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

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
        known = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
        if known.error is not None:
            missing = known.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            kind = NoTopicError if missing else ConnectionError
            raise kind(f"topic {topic} at {bootstrap}: {known.error.str()}")
        starts, ends = {}, {}
        for partition in known.partitions:
            low, high = watermarks(consumer, TopicPartition(topic, partition), timeout_s)
            if high > low:
                starts[partition] = low if newest is None else max(low, high - newest)
                ends[partition] = high
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        return consumer, ends, len(known.partitions)
    except KafkaException as error:
        consumer.close()
        raise ConnectionError(
            f"no Kafka broker answers at {bootstrap} ({error.args[0].str()}): start it, or pass its address"
        ) from None
    except BaseException:
        consumer.close()
        raise


def _drain(consumer: Any, bootstrap: str, topic: str, ends: dict[int, int], idle_s: float) -> Iterator[Any]:
    """Every record up to ``ends``; ConnectionError if nothing comes for ``idle_s``."""
    from confluent_kafka import KafkaException, TopicPartition

    left = dict(ends)
    read_at_s = time.monotonic()
    while left:
        for record in consumer.consume(10_000, timeout=min(0.5, idle_s)):
            if record.error() is not None:
                raise ConnectionError(f"topic {topic} at {bootstrap}: {record.error().str()}")
            read_at_s = time.monotonic()
            yield record
        # positions also pass over transaction markers, which are no messages
        try:
            reached = {at.partition: at.offset for at in consumer.position([TopicPartition(topic, p) for p in left])}
        except KafkaException as error:
            raise ConnectionError(f"topic {topic} at {bootstrap}: {error.args[0].str()}") from None
        left = {partition: end for partition, end in left.items() if reached[partition] < end}
        if left and time.monotonic() - read_at_s > idle_s:
            behind = ", ".join(f"partition {n} read to {max(reached[n], 0)} of {end}" for n, end in left.items())
            raise ConnectionError(
                f"topic {topic} at {bootstrap}: nothing came for {idle_s:g} s before its end ({behind}): the broker is "
                "overloaded or a partition has no leader; try again when `signals doctor` finds it sound"
            )
