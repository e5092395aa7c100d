"""Ingestion: every source at once in one asyncio process, into Kafka. No Flink.

venue sockets ──> Connection ──> ingest (parse, dedupe, score, gaps) ──> Publisher ──> market-data-*
Kafka feeds ───────────────────> ingest                                               status, dead-letter
REST history <── gaps, polls (options, news, splits) ── fill ──> ingest
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from prometheus_client import start_http_server

from connectors.gc_tuning import freeze_startup_objects
from connectors.ingest.feeds import MappingError
from connectors.ingest.metrics import REGISTRY
from connectors.ingest.stream_ingest import CHECK_TOPIC
from connectors.ingest.supervisor import run
from connectors.kafka.partitioner import require_partitioner
from connectors.kafka.topics import ensure_topics, require_broker
from connectors.logs import configure_logs
from connectors.redis.client import require_redis
from connectors.settings.ingest import Base
from models.messages import TOPICS


def main(settings: Base) -> int:
    """Ingest until SIGINT or SIGTERM; the exit status: 0, 1 if a venue refused for good, 2 if it could not start."""
    try:
        prepare(settings)
        refusals = asyncio.run(until_stopped(settings))
    except (MappingError, ConnectionError, ValueError) as error:
        print(f"ingest: {error}", file=sys.stderr)
        return 2
    for refusal in refusals:
        print(f"ingest: {refusal}", file=sys.stderr)
    return 1 if refusals else 0


def prepare(settings: Base) -> None:
    """Set up logs, servers, topics and ``/metrics``. ConnectionError and ValueError name what is missing."""
    configure_logs()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each request with its whole URL
    require_broker(settings.kafka)
    if settings.redis:
        require_redis(settings.redis)
    market_data = [name for name in TOPICS.values() if name.startswith("market-data-")]
    ensure_topics(settings.kafka, [*market_data, CHECK_TOPIC, "dead-letter"])
    require_partitioner(settings.kafka, [*market_data, CHECK_TOPIC], settings.accept_partitioner)
    server, _ = start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=REGISTRY)
    print(f"metrics: http://{settings.metrics_host}:{server.server_port}/metrics", flush=True)
    freeze_startup_objects()  # messages contain no cycles, so collections can be rare


async def until_stopped(settings: Base) -> list[str]:
    """Run every source until a signal to stop; returns the refusals."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run(settings, stop)
