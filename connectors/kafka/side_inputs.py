"""Side inputs of the features: news, option summaries and statuses, read ahead of the bars.

The features of a bar need what was known at its end, but bars and news are read at different speeds: after a restart or
in a replay the bars of a year may come before its news. So the operator reads these topics itself. :class:`SideLog`
first reads each to the end it had when it was opened, then what is new at each :meth:`SideLog.poll`; from which bar on
a message counts is decided by times in the messages alone (``udfs.steps.side_inputs``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from connectors.kafka.security import kafka_client
from models.events import Event
from models.messages import News, OptionSummary, decode

#: Messages fetched in one call.
BATCH = 10_000


class SideMessage(NamedTuple):
    """A message and its position in the log (``topic:partition``, offset)."""

    place: str
    offset: int
    message: News | OptionSummary | Event


class SideLog:
    """Follows the topics of ``kinds`` (topic -> message type) from their beginning.

    Messages of other types are skipped: the job's own source reads the same topics and sends those to the
    dead-letter topic. ConnectionError if the broker does not answer in ``timeout_s``.
    """

    def __init__(
        self,
        bootstrap: str,
        kinds: Mapping[str, type[News] | type[OptionSummary] | type[Event]],
        timeout_s: float = 60.0,
    ) -> None:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

        self._kinds = dict(kinds)
        self._consumer = Consumer(
            kafka_client(
                bootstrap,
                group_id="signals-side-inputs",
                enable_auto_commit=False,
                enable_partition_eof=True,
                log_level=0,
            )
        )
        try:
            known = self._consumer.list_topics(timeout=timeout_s).topics
            places = [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for topic in self._kinds
                if topic in known
                for number in known[topic].partitions
            ]
            self._behind = {(place.topic, place.partition) for place in places}
            self._consumer.assign(places)
        except KafkaException as error:
            self._consumer.close()
            raise ConnectionError(f"side inputs from Kafka at {bootstrap}: {error.args[0].str()}") from None
        self._timeout_s = timeout_s

    def catch_up(self) -> Iterator[SideMessage]:
        """Everything up to the ends of the topics; blocks until each end is reached."""
        deadline = time.monotonic() + self._timeout_s
        while self._behind:
            before = len(self._behind)
            found = list(self._read(0.2))
            yield from found
            if found or len(self._behind) < before:
                deadline = time.monotonic() + self._timeout_s
            elif time.monotonic() > deadline:
                raise ConnectionError(f"side inputs: nothing came from {sorted(self._behind)} in {self._timeout_s:g} s")

    def poll(self) -> Iterator[SideMessage]:
        """New messages since the last call; returns at once."""
        return self._read(0)

    def close(self) -> None:
        """Close the consumers."""
        self._consumer.close()

    def _read(self, timeout_s: float) -> Iterator[SideMessage]:
        from confluent_kafka import KafkaError

        for record in self._consumer.consume(BATCH, timeout_s):
            topic, value, error = record.topic(), record.value(), record.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._behind.discard((topic, record.partition()))
            if error is not None or topic is None or value is None:
                continue
            try:
                message = decode(value, self._kinds[topic])
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            yield SideMessage(f"{topic}:{record.partition()}", record.offset(), message)
