"""The relay's metrics as Prometheus reads them."""

import re
import time
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.integration


def scraped(address: str) -> dict[tuple[str, str], float]:
    text = urlopen(address, timeout=5).read().decode()
    return {
        (sample.name, sample.labels.get("stage", sample.labels.get("result", ""))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def test_signals_and_clients_show_in_the_metrics(start_relay, make_signal) -> None:
    relay = start_relay(METRICS_PORT="0")
    found = re.search(r"metrics: (http://127\.0\.0\.1:\d+/metrics)", relay.log_text())
    assert found, relay.log_text()
    assert scraped(found[1])["relay_active_signals", ""] == 0
    now_ms = int(time.time() * 1000)
    with relay.client(relay.token("ann")) as client:
        client.until("system")
        relay.publish(make_signal("s1", created_ms=now_ms - 700, emitted_ms=now_ms - 200))
        client.until("dynamic_signal")
        time.sleep(0.1)  # the metrics hear of it after the clients
        seen = scraped(found[1])
    assert seen["relay_clients", ""] == seen["relay_active_signals", ""] == seen["relay_redis_up", ""] == 1
    assert seen["relay_signal_age_seconds_count", "decided"] == 1
    assert seen["relay_signal_age_seconds_sum", "decided"] == pytest.approx(0.5)
    assert 0.2 <= seen["relay_signal_age_seconds_sum", "relayed"] < 10
    assert ("relay_push_total", "dead") in seen
    assert seen["relay_delivered_total", ""] > 0
