"""Prometheus metrics of ingestion, by venue and channel; served by ``signals ingest`` at ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY = CollectorRegistry()
_LABELS = ("venue", "channel")

CONNECTED = Gauge("ingest_connected", "Connections that carry this channel, 0: none", _LABELS, registry=REGISTRY)
LAST_EVENT_AGE = Gauge("ingest_last_event_age_seconds", "Since the last event", _LABELS, registry=REGISTRY)
RECONNECTS = Counter(
    "ingest_reconnects", "Connections after the first", ("venue", "channel", "reason"), registry=REGISTRY
)
MESSAGES = Counter("ingest_messages", "Messages published", _LABELS, registry=REGISTRY)
DUPLICATES = Counter("ingest_duplicates", "Events dropped because they were seen", _LABELS, registry=REGISTRY)
GAPS = Counter("ingest_gaps", "Gaps declared", _LABELS, registry=REGISTRY)
BACKFILLED = Counter("ingest_backfilled", "Messages published from history", _LABELS, registry=REGISTRY)
REJECTED = Counter("ingest_rejected", "Messages sent to dead-letter", _LABELS, registry=REGISTRY)
ERRORS = Counter("ingest_errors", "Errors by the venue's code", ("venue", "code"), registry=REGISTRY)
BAR_CHECKS = Counter(
    "bars_cross_check", "Vendor bars against built bars", ("source", "timeframe", "result"), registry=REGISTRY
)
BAR_DIFFERENCE = Gauge(
    "bars_cross_check_last_relative_difference",
    "Largest relative difference of the last pair, by field",
    ("source", "timeframe", "field"),
    registry=REGISTRY,
)
