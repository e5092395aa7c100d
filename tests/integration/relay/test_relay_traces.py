"""Traces of live signals, as a collector receives them: OTLP over HTTP, decoded."""

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from relay.traces import trace_id

pytestmark = pytest.mark.integration


class Collector(ThreadingHTTPServer):
    """Takes spans over OTLP/HTTP."""

    def __init__(self) -> None:
        self.spans = []
        held = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    held.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *arguments: object) -> None:
                """Stay quiet."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_live_signal_is_one_trace_from_the_bar_to_the_clients(
    redis_url, relay_class, make_signal, collector, tmp_path
) -> None:
    import os
    import subprocess
    import sys

    relay = relay_class(redis_url, tmp_path)
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    environment = {f"SIGNALS_RELAY_{name}": value for name, value in relay.settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "relay"], stdout=subprocess.PIPE, text=True,
        env=environment | endpoint | {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )  # fmt: skip
    try:
        assert process.stdout
        relay.url = process.stdout.readline().split()[-1]
        now_ms = int(time.time() * 1000)
        with relay.client(relay.token("ann")) as client:
            client.until("system")
            relay.publish(make_signal("s-1", symbol="MSFT", created_ms=now_ms - 700, emitted_ms=now_ms - 200))
            client.until("dynamic_signal")
    finally:
        process.terminate()  # what is left is sent at the end
        process.wait(20)
        process.stdout.close()
    spans = {span.name: span for span in collector.spans}
    assert len(collector.spans) == 3
    root = spans["signal"]
    assert {int.from_bytes(span.trace_id, "big") for span in collector.spans} == {trace_id("s-1")}
    assert spans["decide"].parent_span_id == spans["relay"].parent_span_id == root.span_id
    assert root.start_time_unix_nano == (now_ms - 700) * 1_000_000
    assert spans["decide"].end_time_unix_nano == spans["relay"].start_time_unix_nano == (now_ms - 200) * 1_000_000
    assert root.end_time_unix_nano >= spans["relay"].start_time_unix_nano
    named = {item.key: item.value.string_value for item in root.attributes}
    assert named["signal.symbol"] == "MSFT"
    assert named["signal.id"] == "s-1"
