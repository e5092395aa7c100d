"""Any Kafka topic as a source: a mapping file defines the message type of its records and where each field is.

    topic = "ticks"            # and bootstrap = "host:port" if it is another cluster
    source = "desk"            # the name on every message
    message = "trade"          # trade, quote, bar, news or status
    [fields]                   # ours = theirs; dots go into nested objects
    symbol = "instrument.code"
    price = "px"
    size = "qty"
    trade_id = "id"
    timestamp_ms = { path = "ts", unit = "s" }      # s, ms, us, ns or rfc3339
    [constants]
    exchange = "X"

A record that does not fit goes to dead-letter, whole, with the field and the reason.
"""

from __future__ import annotations

import asyncio
import logging
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from connectors.ingest import metrics
from connectors.ingest.connection import now_ms as clock_ms
from connectors.ingest.dedupe import Dedupe
from connectors.ingest.sentiment import Scorer, scored
from connectors.ingest.stream_ingest import Sink
from connectors.kafka.security import kafka_client
from connectors.venues.base import Parsed, check_bar, check_price, check_size, fail, reject, rfc3339_ms, time_ms
from models.dead_letters import dead_letter
from models.events import KINDS as EVENT_KINDS
from models.events import Event, event_of
from models.messages import TIMEFRAME_MS, Bar, Message, News, Quote, Trade

log = logging.getLogger("ingest")
KINDS: dict[str, type[Message]] = {"trade": Trade, "quote": Quote, "bar": Bar, "news": News, "status": Event}
_UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_MISSING = object()


class MappingError(ValueError):
    """An invalid mapping file; names file, field, value and remedy."""


def _at(record: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(record, dict) or name not in record:
            return _MISSING
        record = record[name]
    return record


def _time(field: str, value: Any, unit: str) -> int:
    if unit == "rfc3339":
        return rfc3339_ms(str(value))
    if isinstance(value, int) and unit in ("us", "ns"):
        return time_ms(field, value // (1000 if unit == "us" else 1_000_000))
    return time_ms(field, int(float(value) * _UNITS[unit]))


def _check(message: Message) -> None:
    """Raise ValueError unless the numbers are valid for their fields."""
    if not message.symbol:
        raise fail("symbol", message.symbol, "not empty")
    if isinstance(message, Trade):
        check_price("price", message.price)
        check_size("size", message.size)
    elif isinstance(message, Quote):
        for field in ("bid_price", "ask_price", "last_price"):
            if (price := getattr(message, field)) is not None:
                check_price(field, price)
        for field in ("bid_size", "ask_size", "volume_24h"):
            if (size := getattr(message, field)) is not None:
                check_size(field, size)
    elif isinstance(message, Bar):
        if message.timeframe not in TIMEFRAME_MS:
            raise fail("timeframe", message.timeframe, f"one of {', '.join(TIMEFRAME_MS)}")
        if message.end_ms <= message.start_ms:
            raise fail("end_ms", message.end_ms, f"after start_ms = {message.start_ms}")
        check_bar(message.open, message.high, message.low, message.close, message.volume or 0.0)


def _fields_of(kind: type[Message]) -> tuple[set[str], set[str]]:
    """Every field a message may have, and those it must have; of an event, whatever its kind."""
    if kind is Event:
        every = {name for one in EVENT_KINDS.values() for name in one.__struct_fields__}
        return {"kind", *every}, {"kind", "symbol", "timestamp_ms"}
    return set(kind.__struct_fields__), {field.name for field in msgspec.structs.fields(kind) if field.required}


class KafkaFeed:
    """A mapping file, read and checked; :meth:`parse` is pure."""

    def __init__(self, file: Path) -> None:
        try:
            held = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise MappingError(f"{file}: {error}") from None
        for name in ("topic", "source", "message", "fields"):
            if name not in held:
                raise MappingError(f"{file}: {name} is missing: see connectors/ingest/feeds.py for an example")
        if held["message"] not in KINDS:
            raise MappingError(f"{file}: message = {held['message']!r}: must be one of {', '.join(KINDS)}")
        self.topic, self.source = str(held["topic"]), str(held["source"])
        self.bootstrap: str | None = held.get("bootstrap")
        self._kind = KINDS[held["message"]]
        self._constants: dict[str, Any] = held.get("constants", {})
        known, required = _fields_of(self._kind)
        self._fields: list[tuple[str, list[str], str | None]] = []
        for ours, theirs in held["fields"].items():
            path, unit = (theirs, None) if isinstance(theirs, str) else (theirs.get("path", ""), theirs.get("unit"))
            if ours not in known:
                raise MappingError(
                    f"{file}: fields.{ours}: {held['message']} has no such field; it has {sorted(known)}"
                )
            if unit is not None and unit not in (*_UNITS, "rfc3339"):
                raise MappingError(
                    f"{file}: fields.{ours}.unit = {unit!r}: must be one of {', '.join(_UNITS)}, rfc3339"
                )
            self._fields.append((ours, path.split("."), unit or ("ms" if ours.endswith("_ms") else None)))
        lacking = required - {ours for ours, _, _ in self._fields} - set(self._constants)
        if lacking:
            raise MappingError(f"{file}: fields.{min(lacking)} is missing: a {held['message']} needs it")

    def parse(self, record: bytes, now_ms: int) -> Parsed:
        """The message in one record, or its reject."""
        try:
            held = msgspec.json.decode(record)
            values: dict[str, Any] = dict(self._constants)
            for ours, path, unit in self._fields:
                value = _at(held, path)
                if value is _MISSING or value is None:
                    continue
                values[ours] = _time(ours, value, unit) if unit else value
            if isinstance(values.get("symbol"), str):
                values["symbol"] = values["symbol"].upper()
            for name in ("trade_id", "corrects_id", "news_id"):
                if name in values:
                    values[name] = str(values[name])
            values |= {"source": self.source, "ingestion_timestamp_ms": now_ms}
            if self._kind is Event:
                message: Message = event_of(values, strict=False)
            else:
                message = msgspec.convert(values, self._kind, strict=False)
            _check(message)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            return Parsed(rejects=[reject(error, record)])
        return Parsed(messages=[message])


async def follow_feed(
    feed: KafkaFeed, bootstrap: str, sink: Sink, stop: asyncio.Event, dedupe: Dedupe, score: Scorer
) -> None:
    """Read a Kafka topic through its mapping. Offsets are committed after what they became is on the broker.

    A failed commit is covered by the next one: ``dedupe`` drops what is read again meanwhile.
    """
    from confluent_kafka import Consumer, KafkaException

    consumer = Consumer(
        kafka_client(
            feed.bootstrap or bootstrap,
            group_id=f"signals-feed-{feed.source}",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # The successor of a killed process waits this long for its partitions (45 s by default).
            session_timeout_ms=10_000,
        )
    )
    consumer.subscribe([feed.topic])
    try:
        while not stop.is_set():
            records = await asyncio.to_thread(consumer.consume, 1000, 0.2)
            for record in records:
                if record.error():
                    log.warning("feed %s: %s", feed.source, record.error())
                    continue
                parsed = feed.parse(record.value() or b"", clock_ms())
                for message in parsed.messages:
                    fresh = dedupe.new(message)
                    if fresh is None:
                        metrics.DUPLICATES.labels(f"feed:{feed.source}", feed.topic).inc()
                        continue
                    sink.publish(scored(fresh, score) if isinstance(fresh, News) else fresh)
                    metrics.MESSAGES.labels(f"feed:{feed.source}", feed.topic).inc()
                for refused in parsed.rejects:
                    refusal = dead_letter(
                        refused.payload, refused.reason, feed.topic, refused.field, record.partition(), record.offset()
                    )
                    sink.dead(refusal, clock_ms())
                    metrics.REJECTED.labels(f"feed:{feed.source}", feed.topic).inc()
            if records:
                await asyncio.to_thread(sink.flush)
                try:
                    await asyncio.to_thread(consumer.commit, asynchronous=False)
                except KafkaException as error:
                    log.warning("feed %s: offsets not committed: %s", feed.source, error)
    finally:
        consumer.close()
