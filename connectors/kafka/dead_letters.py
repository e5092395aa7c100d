"""Reads the dead-letter topic and requeues messages to the topics they came from.

A requeued message is marked on topic ``dead-letter-requeued`` by the hash of its source topic and bytes, so
that one which fails again is not requeued for ever: its new dead letter has the same hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from connectors.kafka.partitioner import kafka_producer
from connectors.kafka.read import NoTopicError, read_to_end
from connectors.kafka.security import kafka_client
from connectors.kafka.topics import ensure_topics, require_broker
from models.messages import TOPICS, DeadLetter, decode, encode

TOPIC = TOPICS[DeadLetter]
MARKS = "dead-letter-requeued"


class Letter(msgspec.Struct, frozen=True):
    """A dead letter with its position (``partition:offset`` on the topic), and whether it was requeued before."""

    place: str
    letter: DeadLetter
    requeued: bool

    @property
    def payload(self) -> bytes:
        """The original bytes."""
        return base64.b64decode(self.letter.payload_base64)

    @property
    def source(self) -> str:
        """Position of the message: ``topic:partition:offset``, or its source if it never was on Kafka."""
        held = self.letter
        return held.topic if held.offset < 0 else f"{held.topic}:{held.partition}:{held.offset}"


class Mark(msgspec.Struct, frozen=True):
    """Mark of a requeued message: its hash, the dead letter's position, and when (epoch ms)."""

    content: str
    place: str
    requeued_ms: int


class Result(msgspec.Struct, frozen=True):
    """Result of one requeue: ``error`` is empty on success."""

    letter: Letter
    error: str = ""


def content_of(topic: str, payload: bytes) -> str:
    """Hash that identifies a message when it fails again.

    >>> content_of("a", b"1") == content_of("a", b"1"), content_of("a", b"1") == content_of("b", b"1")
    (True, False)
    """
    return hashlib.sha256(topic.encode() + b"\x1f" + payload).hexdigest()


def read_letters(bootstrap: str, topic: str = TOPIC) -> tuple[list[Letter], int]:
    """Every dead letter on the topic, and how many other records. ConnectionError without a broker."""
    require_broker(bootstrap)
    try:
        marked = {mark.content for *_, value in read_to_end(bootstrap, MARKS) if (mark := _mark(value))}
    except NoTopicError:  # nothing was put back yet
        marked = set()
    found, unreadable = [], 0
    for partition, offset, value in read_to_end(bootstrap, topic):
        try:
            letter = decode(value, DeadLetter)
            payload = base64.b64decode(letter.payload_base64, validate=True)
        except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error):
            unreadable += 1
            continue
        found.append(Letter(f"{partition}:{offset}", letter, content_of(letter.topic, payload) in marked))
    return found, unreadable


def _mark(value: bytes) -> Mark | None:
    try:
        return decode(value, Mark)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def chosen(
    letters: Sequence[Letter], topic: str = "", reason: str = "", field: str = "", places: Sequence[str] = ()
) -> list[Letter]:
    """Filter by source topic, text in the reason, field and positions; all without a filter."""
    return [
        one
        for one in letters
        if (not topic or one.letter.topic == topic)
        and (not reason or reason.lower() in one.letter.reason.lower())
        and (not field or one.letter.field == field)
        and (not places or one.place in places)
    ]


def repaired(payload: bytes, changes: dict[str, Any]) -> bytes:
    """The JSON object with some fields replaced; ValueError if it is not an object.

    >>> repaired(b'{"symbol": "A", "close": -1}', {"close": 2.5})
    b'{"symbol":"A","close":2.5}'
    """
    if not changes:
        return payload
    try:
        held = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"no field can be set: {error}") from None
    if not isinstance(held, dict):
        raise ValueError("no field can be set: the message is not a JSON object")
    return msgspec.json.encode(held | changes)


def requeue(
    bootstrap: str, letters: Sequence[Letter], changes: dict[str, Any] | None = None, again: bool = False
) -> Iterator[Result]:
    """Requeue messages to their topics, each marked before the next; yields the result of each.

    Key and event time are those of the original record while Kafka keeps it, else the message's own symbol and now.
    At least once: if ended between a message and its mark, the next call requeues it again. Raises ConnectionError.
    """
    from confluent_kafka import Producer

    ensure_topics(bootstrap, [MARKS], partitions=1)
    producer = Producer(kafka_producer(bootstrap, enable_idempotence=True, log_level=0))
    with _Originals(bootstrap) as originals:
        for one in letters:
            if one.requeued and not again:
                yield Result(one, "was requeued before")
                continue
            if one.letter.offset < 0:
                yield Result(one, "never was on a Kafka topic")
                continue
            try:
                payload = repaired(one.payload, changes or {})
            except ValueError as error:
                yield Result(one, str(error))
                continue
            key, stamp_ms = originals.key_and_time(one.letter) or (_symbol(payload), int(time.time() * 1000))
            if key is None:
                yield Result(one, "Kafka no longer keeps the original, and the message names no symbol: no key")
                continue
            _send(producer, bootstrap, one.letter.topic, payload, key, stamp_ms)
            for content in {content_of(one.letter.topic, body) for body in (one.payload, payload)}:
                mark = Mark(content, one.place, int(time.time() * 1000))
                _send(producer, bootstrap, MARKS, encode(mark), content.encode(), mark.requeued_ms)
            yield Result(one)


def _send(producer: Any, bootstrap: str, topic: str, value: bytes, key: bytes, stamp_ms: int) -> None:
    failed: list[str] = []
    producer.produce(
        topic, value, key, timestamp=stamp_ms,
        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
    )  # fmt: skip
    if producer.flush(30) or failed:
        raise ConnectionError(
            f"Kafka at {bootstrap} did not take a message for {topic}: {failed or 'no answer in 30 s'}"
        )


def _symbol(payload: bytes) -> bytes | None:
    try:
        held = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    symbol = held.get("symbol") if isinstance(held, dict) else None
    return symbol.encode() if isinstance(symbol, str) and symbol else None


class _Originals:
    """Reads single records by position."""

    def __init__(self, bootstrap: str) -> None:
        from confluent_kafka import Consumer

        self._consumer = Consumer(
            kafka_client(bootstrap, group_id="dead-letter-requeue", enable_auto_commit=False, log_level=0,
                         auto_offset_reset="error")
        )  # fmt: skip

    def key_and_time(self, letter: DeadLetter) -> tuple[bytes, int] | None:
        """Key and timestamp (epoch ms) of the record; None if it is not kept, or has no key."""
        from confluent_kafka import KafkaException, TopicPartition

        place = TopicPartition(letter.topic, letter.partition, letter.offset)
        try:
            low, high = self._consumer.get_watermark_offsets(place, timeout=10)
        except KafkaException:
            return None
        if not low <= letter.offset < high:
            return None
        self._consumer.assign([place])
        record = self._consumer.poll(10)
        if record is None or record.error() or record.offset() != letter.offset or record.key() is None:
            return None
        return record.key(), record.timestamp()[1]

    def __enter__(self) -> _Originals:
        return self

    def __exit__(self, *ending: object) -> None:
        self._consumer.close()
