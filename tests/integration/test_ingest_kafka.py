"""Ingestion as a process: simulated venues as another process, real Kafka, the command line, metrics."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from connectors.local import Broker
from models.messages import TOPICS, DeadLetter, Trade, decode

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


def records(bootstrap: str, topic: str, timeout_s: float) -> Iterator[tuple[str, bytes, int]]:
    """Key, value and time stamp of records as they come."""
    from confluent_kafka import Consumer

    options = {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    consumer = Consumer(options)
    consumer.subscribe([topic])
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            for record in consumer.consume(500, 0.5):
                if not record.error():
                    yield record.key().decode(), record.value(), record.timestamp()[1]
    finally:
        consumer.close()


def test_all_sources_at_once_from_sockets_and_a_kafka_feed(kafka: Broker, tmp_path: Path) -> None:
    topic = f"ticks-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic)
    feed = tmp_path / "desk.toml"
    feed.write_text(
        f'topic = "{topic}"\nsource = "desk"\nmessage = "trade"\n'
        '[fields]\nsymbol = "s"\nprice = "p"\nsize = "q"\ntrade_id = "i"\ntimestamp_ms = "t"\n'
    )
    simulators = subprocess.Popen(
        [sys.executable, "-m", "tests.simulators", "--events-per-s", "40"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    ingest = None
    try:
        assert simulators.stdout is not None
        ready = json.loads(simulators.stdout.readline())
        config = tmp_path / "signals.toml"
        config.write_text(f'feeds = ["{feed}"]\n' + Path(ready["settings"]).read_text())
        command = [sys.executable, "-m", "cli", "ingest", "--config", str(config), "--kafka", kafka.bootstrap]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGNALS_")}
        ingest = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert ingest.stdout is not None
        metrics_url = ingest.stdout.readline().split()[-1]

        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce(topic, b'{"s":"desk1","p":5,"q":2,"i":1,"t":1460988000000}')
        producer.produce(topic, b'{"s":"desk1","p":-5,"q":2,"i":2,"t":1460988000000}')
        producer.flush()

        seen: dict[str, Trade] = {}
        for key, value, stamp in records(kafka.bootstrap, TOPICS[Trade], 60):
            trade = decode(value, Trade)
            assert key == trade.symbol == trade.symbol.upper()
            assert stamp == trade.timestamp_ms
            assert trade.ingestion_timestamp_ms is not None
            seen[trade.source] = trade
            if {"alpaca", "polygon", "binance_us", "desk"} <= set(seen):
                break
        assert {"alpaca", "polygon", "binance_us", "desk"} <= set(seen)
        assert seen["desk"].symbol == "DESK1"

        urlopen(f"{ready['alpaca']['rest']}/control?fault=wrong_units").read()
        wanted = {topic, "venue:alpaca"}
        for _, value, _ in records(kafka.bootstrap, TOPICS[DeadLetter], 30):
            letter = decode(value, DeadLetter)
            if letter.topic in wanted:
                wanted.discard(letter.topic)
                assert letter.reason
                assert base64.b64decode(letter.payload_base64).decode() == letter.payload
            if not wanted:
                break
        assert not wanted

        text = urlopen(metrics_url).read().decode()
        for line in (
            'ingest_connected{venue="alpaca"} 1.0',
            'ingest_messages_total{channel="trades",venue="binance_us"}',
            'ingest_last_event_age_seconds{channel="trades",venue="alpaca"}',
            'ingest_rejected_total{channel="t",venue="alpaca"}',
        ):
            assert line in text
        ingest.send_signal(signal.SIGINT)
        assert ingest.wait(20) == 0
    finally:
        for process in (ingest, simulators):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(20)


def test_what_is_missing_stops_at_the_start(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if "ALPACA" not in k and "APCA" not in k}
    command = [sys.executable, "-m", "cli", "ingest", "--venues", "alpaca"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "alpaca.key is missing: set ALPACA_API_KEY" in done.stderr


def test_recorded_frames_become_json_lines(tmp_path: Path) -> None:
    raw = (ROOT / "tests/fixtures/venues/binance/ws_events.json").read_text().splitlines()
    stamped = [f'1700000000123456789 {{"stream":"a@b","data":{line}}}' for line in raw]
    file = tmp_path / "frames.jsonl"
    file.write_text("\n".join([*stamped, '{"e":"trade"}', "nonsense"]) + "\n")
    command = [sys.executable, "-m", "cli", "parse", "binance", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 5
    assert {line["ingestion_timestamp_ms"] for line in lines} == {1_700_000_000_123}
    refused = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in refused] == ["line 6", "line 7"]
