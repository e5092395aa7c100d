"""The relay's Prometheus metrics, read from its parts when they are asked for, on a port of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.charts import ChartImages
from relay.follow import Follower
from relay.push.dispatcher import Dispatcher
from relay.state import Event

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class RelayMetrics(Collector):
    """Counts and gauges of one relay, and how old a signal is at each stage.

    ``relay_signal_age_seconds`` has the stages ``decided`` (from the bar's end until the job wrote the signal) and
    ``relayed`` (from there until it went out to the clients); only live signals count, a replay's age means nothing.
    """

    def __init__(self, follower: Follower, images: ChartImages, push: Dispatcher) -> None:
        self._follower, self._hub, self._images, self._push = follower, follower.hub, images, push
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._age = Histogram(
            "relay_signal_age_seconds", "Age of a live signal by stage", ("stage",), buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip

    def on_event(self, event: Event) -> None:
        """Observe the age of a signal that was just sent."""
        signal = event.signal
        if event.kind != "signal" or signal is None or self._hub.state.mode == "replay":
            return
        self._age.labels("decided").observe(max(signal.emitted_ms - signal.created_ms, 0) / 1e3)
        self._age.labels("relayed").observe(max(time.time() - signal.emitted_ms / 1e3, 0))

    def collect(self) -> Iterator[Metric]:
        """The current values of the relay's own counters."""
        hub = self._hub
        gauges = {
            "relay_clients": ("Connected clients", len(hub.clients)),
            "relay_active_signals": ("Signals that have not ended", len(hub.state.signals)),
            "relay_redis_up": ("1 while Redis answers", int(hub.pipeline_ok)),
        }
        counters = {
            "relay_delivered": ("Messages sent to clients", hub.delivered),
            "relay_dropped_slow": ("Clients closed because they did not keep up", hub.dropped_slow),
            "relay_conflated": ("Queued messages replaced by a newer one", hub.conflated),
            "relay_skipped_entries": (
                "Entries of the signal stream that could not be read",
                self._follower.mirror.skipped,
            ),
            "relay_charts_drawn": ("Chart images drawn", self._images.drawn),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value)
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(name, text, value)
        push = CounterMetricFamily("relay_push", "Push notes by result", labels=("result",))
        for result, count in dict(self._push.counts).items():
            push.add_metric((result,), count)
        yield push

    def serve(self, host: str, port: int) -> tuple[str, WSGIServer]:
        """Serve ``/metrics`` in a thread; its address, and the server to shut down."""
        server, _ = start_http_server(port, addr=host, registry=self.registry)
        return f"http://{host}:{server.server_port}/metrics", server
