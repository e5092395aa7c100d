"""How far consumer groups are behind the ends of their topics, from the offsets that they have committed.

A Flink job commits its offsets at each checkpoint, so its lag here is at most one checkpoint interval too high.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from connectors.kafka_security import kafka_client


class GroupLag(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a topic that a group has not committed yet, over all partitions."""

    group: str
    topic: str
    records_behind: int


class KafkaLag:
    """Reads the lag of ``groups``; blocks for at most ``timeout_s`` a request.

    >>> KafkaLag("127.0.0.1:1", ["signals"], timeout_s=0.2).read()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ConnectionError: Kafka at 127.0.0.1:1 gives no offsets (...): check the address
    """

    def __init__(self, bootstrap: str, groups: Sequence[str], timeout_s: float = 5.0) -> None:
        from confluent_kafka.admin import AdminClient

        self._bootstrap, self._groups, self._timeout_s = bootstrap, list(groups), timeout_s
        self._admin = AdminClient(kafka_client(bootstrap, log_level=0))

    def read(self) -> list[GroupLag]:
        """One entry a group and topic with committed offsets; raises ConnectionError naming the address."""
        from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        try:
            topics = self._admin.list_topics(timeout=self._timeout_s).topics
            committed: dict[tuple[str, str], dict[int, int]] = {}
            for group in self._groups:
                asked = self._admin.list_consumer_group_offsets(
                    [ConsumerGroupTopicPartitions(group)], request_timeout=self._timeout_s
                )
                for place in asked[group].result().topic_partitions:
                    if place.offset >= 0 and place.topic in topics:
                        committed.setdefault((group, place.topic), {})[place.partition] = place.offset
            wanted = {(topic, number) for _, topic in committed for number in topics[topic].partitions}
            edges = {}
            for name, edge in (("first", OffsetSpec.earliest()), ("end", OffsetSpec.latest())):
                places = {TopicPartition(*place): edge for place in wanted}
                found = self._admin.list_offsets(places, request_timeout=self._timeout_s) if places else {}
                edges[name] = {(place.topic, place.partition): f.result().offset for place, f in found.items()}
        except KafkaException as error:
            words = error.args[0].str()
            raise ConnectionError(f"Kafka at {self._bootstrap} gives no offsets ({words}): check the address") from None
        behind: Counter[tuple[str, str]] = Counter(dict.fromkeys(committed, 0))
        for (group, topic), offsets in committed.items():
            for number in topics[topic].partitions:
                reached = max(offsets.get(number, 0), edges["first"][topic, number])
                behind[group, topic] += max(0, edges["end"][topic, number] - reached)
        return [GroupLag(group=g, topic=t, records_behind=n) for (g, t), n in sorted(behind.items())]
