"""One partitioner for every producer: Kafka's own ``murmur2_random``, as Flink's sinks and the Java client have it.

A symbol's messages must lie in one partition, in their order. Version 0.1 published market data with librdkafka's
default (CRC32), while jobs used murmur2: a topic written by both holds one symbol in two partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from connectors.kafka.lag import JOB_GROUPS, KafkaLag
from connectors.kafka.security import kafka_client

PARTITIONER = "murmur2_random"
#: Newest records of each partition that are looked at.
SAMPLE = 2_000


class PartitionerError(ValueError):
    """A topic that was written with another partitioner; names topic, key, both partitions and the remedy."""


def murmur2(key: bytes) -> int:
    """Kafka's 32-bit murmur2 of a key (``org.apache.kafka.common.utils.Utils.murmur2``).

    >>> [murmur2(key) & 0x7FFFFFFF for key in (b"21", b"foobar", b"a-little-bit-long-string")]
    [1173551340, 1357151166, 1161502112]
    """
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    value = 0x9747B28C ^ len(key)
    for at in range(0, len(key) & ~3, 4):
        word = int.from_bytes(key[at : at + 4], "little") * multiplier & mask
        word = (word ^ (word >> 24)) * multiplier & mask
        value = (value * multiplier & mask) ^ word
    if rest := key[len(key) & ~3 :]:
        value = (value ^ int.from_bytes(rest, "little")) * multiplier & mask
    value = (value ^ (value >> 13)) * multiplier & mask
    return value ^ (value >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """Where every producer of ours puts a key.

    >>> partition_of(b"AAPL", 1)
    0
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def strays(newest: Iterable[tuple[bytes, int, int]], partitions: int) -> Iterator[tuple[bytes, int, int]]:
    """Keys whose newest record lies elsewhere than :func:`partition_of` says: key, where it lies, where it belongs.

    ``newest`` holds (key, partition, timestamp in ms) of records in any order.

    >>> list(strays([(b"AAPL", 0, 1), (b"AAPL", partition_of(b"AAPL", 4), 2)], 4))  # it has moved already
    []
    """
    last: dict[bytes, tuple[int, int]] = {}
    for key, partition, at_ms in newest:
        if key not in last or at_ms >= last[key][1]:
            last[key] = (partition, at_ms)
    for key, (partition, _) in sorted(last.items()):
        if partition != (wanted := partition_of(key, partitions)):
            yield key, partition, wanted


def sample(bootstrap: str, topic: str, timeout_s: float = 10.0) -> tuple[list[tuple[bytes, int, int]], int]:
    """(key, partition, timestamp) of the newest records of a topic, and its partitions; 0 if there is no such topic."""
    from connectors.kafka.read import NoTopicError, newest_records

    try:
        found, partitions = newest_records(bootstrap, topic, SAMPLE, timeout_s)
    except NoTopicError:
        return [], 0
    keyed = [(record.key(), record.partition(), record.timestamp()[1]) for record in found if record.key()]
    return keyed, partitions


def require_partitioner(bootstrap: str, topics: Iterable[str], accepted: bool) -> None:
    """Raise PartitionerError if a topic's keys lie where another partitioner put them.

    ``accepted``: they may move, once every job has read all of the topic; until then that is refused too.
    """
    for topic in topics:
        newest, partitions = sample(bootstrap, topic)
        if partitions < 2 or (stray := next(strays(newest, partitions), None)) is None:
            continue
        key, lies, belongs = stray
        named = f"topic {topic}: key {key.decode(errors='backslashreplace')!r} lies in partition {lies}"
        if not accepted:
            raise PartitionerError(
                f"{named}, and {PARTITIONER} puts it into {belongs}: the topic was written with another partitioner. "
                "Let every job (groups " + ", ".join(JOB_GROUPS) + ") read it to its end, then start ingestion with "
                "--accept-partitioner until this key has been published again (docs/upgrades.md)"
            )
        if behind := _behind(bootstrap, topic):
            raise PartitionerError(f"{named}; it may move only once every job has read the topic: {behind}")


def _behind(bootstrap: str, topic: str) -> str:
    lag = KafkaLag(bootstrap, JOB_GROUPS)
    try:
        late = [one for one in lag.read() if one.topic == topic and one.records_behind]
    finally:
        lag.close()
    return ", ".join(f"group {one.group} is {one.records_behind:,} records behind" for one in late)


def kafka_producer(bootstrap: str, **options: object) -> dict[str, object]:
    """:func:`connectors.kafka.security.kafka_client` for a producer: every one of ours has the same partitioner.

    >>> kafka_producer("127.0.0.1:9092", linger_ms=5)["partitioner"]
    'murmur2_random'
    """
    return kafka_client(bootstrap, partitioner=PARTITIONER, **options)
