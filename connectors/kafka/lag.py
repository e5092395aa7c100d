"""How far consumer groups are behind the ends of their topics, from the offsets that they have committed.

A Flink job commits its offsets at each checkpoint, so its lag here is at most one checkpoint interval too high.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.kafka.security import kafka_client

#: Consumer groups of the jobs.
JOB_GROUPS = ("signals", "outcomes", "bars")


class GroupLag(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a topic that a group has not committed yet, over all partitions."""

    group: str
    topic: str
    records_behind: int


class KafkaLag:
    """Reads the lag of ``groups``; blocks for at most ``timeout_s`` per request. It joins none of the groups.

    Consumers request the offsets: librdkafka's admin request for them crashes the process by a segmentation fault
    while a broker that has just started has no coordinator for the group (confluent-kafka 2.16.1).

    >>> KafkaLag("127.0.0.1:1", ["signals"], timeout_s=0.2).read()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ConnectionError: Kafka at 127.0.0.1:1 gives no offsets (...): check the address
    """

    def __init__(self, bootstrap: str, groups: Sequence[str], timeout_s: float = 5.0) -> None:
        from confluent_kafka import Consumer

        self._bootstrap, self._timeout_s = bootstrap, timeout_s
        self._consumers = {
            group: Consumer(kafka_client(bootstrap, group_id=group, enable_auto_commit=False, log_level=0))
            for group in groups
        }

    def read(self) -> list[GroupLag]:
        """One entry per group and topic with committed offsets; raises ConnectionError naming the address."""
        from confluent_kafka import KafkaException, TopicPartition

        found: list[GroupLag] = []
        try:
            for group, consumer in sorted(self._consumers.items()):
                topics = consumer.list_topics(timeout=self._timeout_s).topics
                places = [
                    TopicPartition(name, number)
                    for name, topic in topics.items()
                    if not name.startswith("__")
                    for number in topic.partitions
                ]
                committed = consumer.committed(places, timeout=self._timeout_s) if places else []
                reached = {(at.topic, at.partition): at.offset for at in committed if at.offset >= 0}
                for name in sorted({topic for topic, _ in reached}):
                    behind = 0
                    for number in topics[name].partitions:
                        first, end = consumer.get_watermark_offsets(
                            TopicPartition(name, number), timeout=self._timeout_s
                        )
                        behind += max(0, end - max(first, reached.get((name, number), 0)))
                    found.append(GroupLag(group=group, topic=name, records_behind=behind))
        except KafkaException as error:
            words = error.args[0].str()
            raise ConnectionError(f"Kafka at {self._bootstrap} gives no offsets ({words}): check the address") from None
        return found

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._consumers.values():
            consumer.close()
