"""The rollout topic: bundle changes announced to running jobs, read back to show which are in force.

One partition, so that its order is the order of the changes; retained for ever (no compaction), key empty. Producing
waits for the broker's acknowledgement: the message is stored, or an error names the broker.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka.partitioner import kafka_producer
from connectors.kafka.read import NoTopicError, read_to_end
from connectors.kafka.security import kafka_client
from models.messages import encode
from models.serving.rollout import ROLLOUT_TOPIC, RolloutMessage, parse_message


def ensure_topic(bootstrap: str, topic: str = ROLLOUT_TOPIC, timeout_s: float = 10.0) -> None:
    """Creates the topic if it is absent; ``ConnectionError`` naming the broker."""
    admin = AdminClient(kafka_client(bootstrap))
    try:
        if topic in admin.list_topics(timeout=timeout_s).topics:
            return
        wanted = NewTopic(topic, num_partitions=1, config={"cleanup.policy": "delete", "retention.ms": "-1"})
        admin.create_topics([wanted])[topic].result(timeout_s)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another process was first
            return
        raise ConnectionError(f"Kafka at {bootstrap}: {error.args[0].str()}: is the broker running there?") from None


def announce(
    bootstrap: str, message: RolloutMessage, topic: str = ROLLOUT_TOPIC, timeout_s: float = 10.0
) -> RolloutMessage:
    """Sends one change; the message as it was stored, ``sequence`` being its offset."""
    ensure_topic(bootstrap, topic, timeout_s)
    stored: list[int] = []
    failed: list[str] = []

    def delivered(error: object, record: Any) -> None:
        if error is not None:
            failed.append(str(error))
        else:
            stored.append(record.offset())

    producer = Producer(kafka_producer(bootstrap, enable_idempotence=True, acks="all"))
    producer.produce(topic, encode(message), partition=0, on_delivery=delivered)
    producer.flush(timeout_s)
    if not stored:
        raise ConnectionError(f"Kafka at {bootstrap} did not store the message: {failed or 'no answer in time'}")
    return msgspec.structs.replace(message, sequence=stored[0])


def history(bootstrap: str, topic: str = ROLLOUT_TOPIC, timeout_s: float = 10.0) -> list[RolloutMessage]:
    """Every change announced so far, in order, ``sequence`` from the offset; empty if the topic does not exist.

    Messages that are not changes are left out; a job sends them to the dead-letter topic.
    """
    found = []
    for offset, value in records(bootstrap, topic, timeout_s):
        with contextlib.suppress(msgspec.MsgspecError):
            found.append(parse_message(value, offset))
    return found


def records(bootstrap: str, topic: str = ROLLOUT_TOPIC, timeout_s: float = 10.0) -> list[tuple[int, bytes]]:
    """All of the topic's messages as (offset, bytes), in order; empty if it does not exist.

    ConnectionError if they do not come in time: a job that knows only some changes would score with the wrong bundle.
    """
    try:
        whole = read_to_end(bootstrap, topic, committed_only=False, idle_s=timeout_s, timeout_s=timeout_s)
        return [(offset, value) for _, offset, value in whole]
    except NoTopicError:
        return []
