"""Kafka as Flink tables: raw bytes in, raw bytes out. The JVM never parses a message.

Guarantees: the source replays from its checkpointed offsets; the sink is at-least-once by default (ids are
deterministic, so a consumer drops repeats by ``signal_id`` and ``revision``) and exactly-once by one setting.

Sign-in and encryption are those of :mod:`connectors.kafka.security`; ``client`` adds options of Kafka's own.
"""

from __future__ import annotations

from typing import Literal

from connectors.kafka.security import kafka_security

Clock = Literal["processing-time", "kafka-offset"]


def _options(values: dict[str, str]) -> str:
    return ",\n  ".join(f"'{key}' = '{_quote(value)}'" for key, value in values.items())


def _client_properties(client: dict[str, str] | None = None) -> dict[str, str]:
    """Connector options that reach the Kafka client: the configured sign-in and encryption, then ``client``."""
    return {
        f"properties.{key}": value for key, value in (kafka_security().connector_options() | (client or {})).items()
    }


def _quote(text: str) -> str:
    return text.replace("'", "''")


def bars_source(
    bootstrap: str,
    topic: str,
    clock: Clock,
    *,
    startup: str = "earliest-offset",
    start_ms: int | None = None,
    bounded: bool = False,
    end_ms: int | None = None,
    group: str = "signals",
    lateness_ms: int | None = None,
    client: dict[str, str] | None = None,
) -> str:
    """DDL of table ``messages``: symbol, message, place and the clock that cuts frames.

    ``topic`` may list several, joined by semicolons. ``lateness_ms`` (live only) lets event time follow the messages'
    Kafka timestamps that far behind, for event-time timers downstream; an idle partition does not hold it back.

    Both charsets are ISO-8859-1, which maps each byte to one character and back: a message that is not UTF-8 reaches
    the dead-letter topic byte for byte.

    The clock is ``PROCTIME()`` live. In a bounded read it is the Kafka offset, read as milliseconds: monotone in each
    partition, so that no row is ever late, frames are the same at every run, and the end of input flushes the last one
    (processing-time windows are not fired at the end of input).

    >>> "kafka" in bars_source("127.0.0.1:9092", "market-data-bars", "kafka-offset", bounded=True)
    True
    """
    time = {
        "processing-time": "clock AS PROCTIME()",
        "kafka-offset": "clock AS TO_TIMESTAMP_LTZ(`offset`, 3), WATERMARK FOR clock AS clock",
    }[clock]
    if lateness_ms is not None and clock == "processing-time":
        hours, rest_ms = divmod(lateness_ms, 3_600_000)
        behind = f"{hours:02d}:{rest_ms // 60_000:02d}:{rest_ms % 60_000 / 1000:06.3f}"
        time += f""",
  event_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  WATERMARK FOR event_time AS event_time - INTERVAL '{behind}' HOUR TO SECOND"""
    options = {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": bootstrap,
        "properties.group.id": group,
        "key.format": "raw",
        "key.raw.charset": "ISO-8859-1",
        "key.fields": "symbol",
        "value.format": "raw",
        "value.raw.charset": "ISO-8859-1",
        "value.fields-include": "EXCEPT_KEY",
        "scan.startup.mode": startup,
        # Interval at which added partitions are discovered (by default 5 min): see
        # udfs/state/partitions.py.
        "scan.topic-partition-discovery.interval": "30 s",
    }
    if startup == "group-offsets":
        options["properties.auto.offset.reset"] = "earliest"
    if start_ms is not None:
        options |= {"scan.startup.mode": "timestamp", "scan.startup.timestamp-millis": str(start_ms)}
    if bounded:
        options["scan.bounded.mode"] = "latest-offset"
    if end_ms is not None:
        options |= {"scan.bounded.mode": "timestamp", "scan.bounded.timestamp-millis": str(end_ms)}
    options |= _client_properties(client)
    return f"""CREATE TEMPORARY TABLE messages (
  symbol STRING,
  message STRING,
  `topic` STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  {time}
) WITH (
  {_options(options)}
)"""


def frames_query(groups: int, interval_ms: int, topics: bool = False) -> str:
    """All messages of one symbol group in one window, joined in the JVM: ``symbol_group``, ``messages``, ``places``.

    ``ARRAY_JOIN(ARRAY_AGG(..))`` rather than ``LISTAGG``, which copies the whole string for every row. Order within a
    symbol is arrival order. ``places`` holds ``partition:offset`` of each message, joined by commas; with ``topics``
    ``topic:partition:offset``.
    """
    prefix = "`topic` || ':' || " if topics else ""
    group = f"ABS(MOD(HASH_CODE(COALESCE(symbol, '')), {groups}))"
    window = f"TUMBLE(clock, INTERVAL '{interval_ms / 1000:.3f}' SECOND(5, 3))"
    return f"""SELECT {group} AS symbol_group,
  ARRAY_JOIN(ARRAY_AGG(COALESCE(message, '')), U&'\\001E') AS messages,
  ARRAY_JOIN(ARRAY_AGG({prefix}CAST(`partition` AS STRING) || ':' || CAST(`offset` AS STRING)), ',') AS places
FROM messages
GROUP BY {group}, {window}"""


def changes_source(
    bootstrap: str, topic: str, *, bounded: bool = False, group: str = "signals", client: dict[str, str] | None = None
) -> str:
    """DDL of table ``changes``: the rollout topic from its beginning, as (message, partition, offset)."""
    options = {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": bootstrap,
        "properties.group.id": group,
        "value.format": "raw",
        "value.raw.charset": "ISO-8859-1",
        "scan.startup.mode": "earliest-offset",
    }
    if bounded:
        options["scan.bounded.mode"] = "latest-offset"
    options |= _client_properties(client)
    return f"""CREATE TEMPORARY TABLE changes (
  message STRING,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL
) WITH (
  {_options(options)}
)"""


def outbox_sink(
    bootstrap: str,
    topics: list[str],
    *,
    exactly_once: bool = False,
    transaction_prefix: str = "signals",
    transaction_timeout_ms: int = 900_000,
    client: dict[str, str] | None = None,
) -> str:
    """DDL of table ``outbox``: one sink for all output topics, chosen by each record's ``topic``.

    Exactly-once makes consumers that read committed records wait for the next checkpoint. A transaction spans the time
    between two checkpoints and, when the job fails in between, its recovery: the broker aborts one that is older than
    the timeout, and what a checkpoint had promised is lost. So the timeout is the longest that a broker's default
    ``transaction.max.timeout.ms`` (15 min) allows; Flink's own default of 1 h is refused by such a broker.
    """
    options = {
        "connector": "kafka",
        "topic": ";".join(topics),
        "properties.bootstrap.servers": bootstrap,
        "key.format": "raw",
        "key.fields": "key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": "exactly-once" if exactly_once else "at-least-once",
        "properties.linger.ms": "1",
        "properties.batch.size": "262144",
    }
    if exactly_once:
        options |= {
            "sink.transactional-id-prefix": transaction_prefix,
            "properties.transaction.timeout.ms": str(transaction_timeout_ms),
        }
    options |= _client_properties(client)
    return f"""CREATE TEMPORARY TABLE outbox (
  `topic` STRING METADATA,
  `timestamp` TIMESTAMP_LTZ(3) METADATA,
  key STRING,
  message BYTES
) WITH (
  {_options(options)}
)"""


def publish_query(outgoing: str, payload: str = "payload") -> str:
    """INSERT that unnests rows of (topic, event_ms, payloads by key) into the sink; ``payload`` is one as SQL bytes."""
    return f"""INSERT INTO outbox
SELECT topic, TO_TIMESTAMP_LTZ(event_ms, 3), key, {payload}
FROM {outgoing} CROSS JOIN UNNEST(payloads) AS unnested(key, payload)"""
