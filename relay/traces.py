"""Optional OpenTelemetry traces of live signals: from the bar's end over the job's decision to the clients.

On when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set (OTLP over HTTP, as ``http://127.0.0.1:4318``); needs the extra ``otel``.
The SDK's variables apply too: ``OTEL_TRACES_SAMPLER``, ``OTEL_EXPORTER_OTLP_HEADERS``. The trace id is a hash of the
signal's id, so that a later consumer of the signal can add spans to the same trace.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from relay.state import Event


def trace_id(signal_id: str) -> int:
    """The 128-bit trace id of a signal.

    >>> trace_id("ab-1") == trace_id("ab-1") != trace_id("ab-2")
    True
    """
    return int.from_bytes(hashlib.sha256(signal_id.encode()).digest()[:16], "big") or 1


class SignalTraces:
    """A span ``signal`` for each live signal, with the children ``decide`` and ``relay``; sent in batches."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):  # type: ignore[misc]
            """Random span ids; the trace id is the next signal's."""

            next_trace_id = 0

            def generate_trace_id(self) -> int:
                return self.next_trace_id

        self._ids = Ids()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "signal-pipeline-relay"}), id_generator=self._ids
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("signal-pipeline")

    def on_event(self, event: Event, live: bool = True) -> None:
        """Trace a signal that was just sent; times are those that the signal itself carries."""
        from opentelemetry.trace import set_span_in_context

        signal = event.signal
        if event.kind != "signal" or signal is None or not live:
            return
        self._ids.next_trace_id = trace_id(signal.signal_id)
        created, emitted, now = signal.created_ms * 1_000_000, signal.emitted_ms * 1_000_000, time.time_ns()
        named: dict[str, Any] = {
            "signal.id": signal.signal_id, "signal.symbol": signal.symbol, "signal.action": signal.action,
            "signal.timeframe": signal.timeframe, "signal.bundle": signal.bundle,
        }  # fmt: skip
        root = self._tracer.start_span("signal", start_time=created, attributes=named)
        inside = set_span_in_context(root)
        self._tracer.start_span("decide", inside, start_time=created).end(emitted)
        self._tracer.start_span("relay", inside, start_time=emitted).end(now)
        root.end(now)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def signal_traces() -> SignalTraces | None:
    """Traces if the environment names an endpoint; ValueError if the extra is not installed."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    try:
        return SignalTraces()
    except ImportError as error:
        raise ValueError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {error.name} is not installed: "
            "pip install 'signal-pipeline[otel]', or unset it"
        ) from None
