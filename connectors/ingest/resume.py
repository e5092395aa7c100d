"""Resumption: where ingestion was before a restart, read from our own topics."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from connectors.ingest.connection import now_ms
from connectors.ingest.dedupe import Dedupe
from connectors.ingest.stream_ingest import CHECK_TOPIC, StreamIngest
from connectors.ingest.stream_run import StreamRun
from connectors.kafka.read import read_to_end
from models.events import Event
from models.messages import TOPICS, Bar, Message, News, OptionSummary, Quote, Trade, decode

log = logging.getLogger("ingest")
#: Attempts to read a topic at the start.
_RESUME_TRIES = 10
#: Topics whose newest records show where ingestion was before a restart.
RESUMED = {kind: TOPICS[kind] for kind in (Trade, Quote, Bar, News, OptionSummary, Event)}


async def resume(runs: list[StreamRun], dedupes: dict[str, Dedupe], bootstrap: str, newest: int) -> None:
    """Read the newest records of our own topics, so that data missed while down becomes a gap and nothing doubles.

    ``dedupes`` are those of Kafka feeds, by source.
    """
    by_source: dict[str, list[StreamIngest]] = {}
    for run in runs:
        by_source.setdefault(run.ingest.source, []).append(run.ingest)
    from confluent_kafka import KafkaException

    count = 0

    def read(kind: type[Message], topic: str) -> None:
        nonlocal count
        for _, _, value in read_to_end(bootstrap, topic, committed_only=False, newest=newest):
            with contextlib.suppress(msgspec.DecodeError):
                message = decode(value, kind)
                for ingest in by_source.get(message.source, ()):
                    ingest.remember(message, now_ms())
                    count += 1
                if message.source in dedupes:
                    dedupes[message.source].new(message)

    for kind, topic in [*RESUMED.items(), (Bar, CHECK_TOPIC)]:
        for attempt in range(_RESUME_TRIES):
            try:
                await asyncio.to_thread(read, kind, topic)
                break
            except (ConnectionError, KafkaException):  # a new topic has no leader yet
                if attempt == _RESUME_TRIES - 1:
                    raise
                await asyncio.sleep(0.5)
    for run in runs:
        for gap in run.ingest.resume(now_ms()):
            run.gaps.put_nowait(gap)
    log.info("resumed from %d records of our own", count)
