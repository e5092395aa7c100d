"""The consumer in the README runs as it is printed, and drops repeats."""

import re
import subprocess
import sys

import pytest

from connectors.kafka.partitioner import kafka_producer
from connectors.paths import ROOT
from models.messages import Signal, encode

pytestmark = pytest.mark.integration


def test_the_readme_consumer_prints_each_signal_once(kafka):
    from confluent_kafka import Producer

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (example,) = [block for block in blocks if "KafkaConsumer" in block]
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    kafka.create_topic("readme-signals", partitions=1)
    producer = Producer(kafka_producer(kafka.bootstrap))
    for i in (0, 1, 1, 2):
        made = Signal(
            signal_id=f"{i:024x}-0", symbol=f"S{i}", timeframe="1d", action="buy", confidence=0.725, entry_price=100.0,
            target_price=110.0, stop_loss=95.0, time_horizon="3d", created_ms=0, emitted_ms=0, expires_ms=1,
            reasoning="",
        )  # fmt: skip
        producer.produce("readme-signals", encode(made), made.symbol)
    producer.flush(30)
    done = subprocess.run(
        [sys.executable, "-c", example.replace("10_000", "3_000"), kafka.bootstrap, "readme-signals"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["S0", "S1", "S2"]
    assert lines[0] == "S0 buy 72.5% entry 100.0 target 110.0 stop 95.0 until 1"
