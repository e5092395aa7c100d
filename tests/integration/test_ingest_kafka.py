"""Ingestion as a process: simulated venues as another process, real Kafka, the command line, metrics."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import pytest
import redis

from cli.local.servers import Broker
from connectors.kafka.partitioner import kafka_producer
from connectors.redis.keys import SYSTEM_STATUS
from models.events import Event, GapEvent
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


@contextlib.contextmanager
def simulators(*arguments: str) -> Iterator[dict[str, Any]]:
    """Every simulated venue as a process; what it printed when it was ready."""
    command = [sys.executable, "-m", "simulators", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)


class Ingest:
    """``signals ingest`` as a process."""

    def __init__(self, config: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "cli", "ingest", "--config", str(config), *arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGNALS_")}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        self.metrics_url = self.process.stdout.readline().split()[-1]

    def metrics(self) -> str:
        """What a scrape gets."""
        return str(urlopen(self.metrics_url).read().decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


def fault(venue: dict[str, str], name: str, amount: float = 1) -> None:
    urlopen(f"{venue['rest']}/control?fault={name}&amount={amount}").read()


def test_all_sources_at_once_from_sockets_and_a_kafka_feed(kafka: Broker, redis_url: str, tmp_path: Path) -> None:
    topic = f"ticks-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic)
    feed = tmp_path / "desk.toml"
    feed.write_text(
        f'topic = "{topic}"\nsource = "desk"\nmessage = "trade"\n'
        '[fields]\nsymbol = "s"\nprice = "p"\nsize = "q"\ntrade_id = "i"\ntimestamp_ms = "t"\n'
    )
    config = tmp_path / "signals.toml"
    with simulators("--events-per-s", "40") as ready:
        config.write_text(f'feeds = ["{feed}"]\n' + Path(ready["settings"]).read_text())
        with Ingest(config, "--kafka", kafka.bootstrap, "--redis", redis_url) as ingest:
            from confluent_kafka import Producer

            producer = Producer(kafka_producer(kafka.bootstrap))
            for number, price in ((1, 5), (1, 5), (2, -5), (3, 6)):
                producer.produce(topic, b'{"s":"desk1","p":%d,"q":2,"i":%d,"t":1460988000000}' % (price, number), "k")
            producer.flush()

            seen: dict[str, Trade] = {}
            desk: list[str] = []
            for key, value, stamp in records(kafka.bootstrap, TOPICS[Trade], 60):
                trade = decode(value, Trade)
                assert key == trade.symbol == trade.symbol.upper()
                assert stamp == trade.timestamp_ms
                assert trade.ingestion_timestamp_ms is not None
                seen[trade.source] = trade
                if trade.source == "desk":
                    desk.append(trade.trade_id)
                if {"alpaca", "polygon", "binance_us", "desk"} <= set(seen) and len(desk) == 2:
                    break
            assert {"alpaca", "polygon", "binance_us", "desk"} <= set(seen)
            assert seen["desk"].symbol == "DESK1"
            assert desk == ["1", "3"]  # sent twice, published once

            fault(ready["alpaca"], "wrong_units")
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

            fault(ready["polygon"], "duplicates", 5)
            fault(ready["alpaca"], "drop")
            lines = (
                'ingest_connected{channel="trades",venue="alpaca"} 1.0',
                'ingest_connected{channel="bars",venue="binance_us"} 1.0',
                'ingest_messages_total{channel="trades",venue="binance_us"}',
                'ingest_messages_total{channel="bars",venue="polygon"}',
                'ingest_last_event_age_seconds{channel="trades",venue="alpaca"}',
                'ingest_last_event_age_seconds{channel="bars",venue="binance_us"}',
                'ingest_rejected_total{channel="trades",venue="alpaca"} 1.0',
                'ingest_reconnects_total{channel="trades",reason="lost",venue="alpaca"} 1.0',
                'ingest_duplicates_total{channel="trades",venue="polygon"}',
                'ingest_gaps_total{channel="trades",venue="alpaca"}',
                'ingest_backfilled_total{channel="trades",venue="alpaca"}',
                f'ingest_duplicates_total{{channel="{topic}",venue="feed:desk"}} 1.0',
                f'ingest_rejected_total{{channel="{topic}",venue="feed:desk"}} 1.0',
            )
            deadline = time.monotonic() + 30
            while missing := [line for line in lines if line not in ingest.metrics()]:
                assert time.monotonic() < deadline, missing
                time.sleep(0.2)
            ages = [line for line in ingest.metrics().splitlines() if line.startswith("ingest_last_event_age_seconds{")]
            assert len(ages) >= 6
            assert all(float(line.split()[-1]) < 30 for line in ages)

            client = redis.Redis.from_url(redis_url)
            told = {name.decode(): json.loads(value) for name, value in client.hgetall(SYSTEM_STATUS).items()}
            client.close()
            assert set(told) == {"venue:alpaca", "venue:polygon", "venue:binance_us"}
            assert told["venue:polygon"]["state"] == "connected"
            assert told["venue:polygon"]["messages"] > 0

            ingest.process.send_signal(signal.SIGINT)
            assert ingest.process.wait(20) == 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_what_came_while_ingestion_was_down_is_a_gap_that_is_filled(tmp_path: Path, end: signal.Signals) -> None:
    with Broker() as kafka, simulators("--events-per-s", "100") as ready:
        config = tmp_path / "signals.toml"
        config.write_text(Path(ready["settings"]).read_text())
        sources = {"alpaca", "polygon", "binance_us"}
        published: list[Trade] = []
        trades = (decode(value, Trade) for _, value, _ in records(kafka.bootstrap, TOPICS[Trade], 120))
        with Ingest(config, "--kafka", kafka.bootstrap) as first:
            while (
                len([t for t in published if t.source == "binance_us"]) < 50 or {t.source for t in published} < sources
            ):
                published.append(next(trades))
            first.process.send_signal(end)
            first.process.wait(20)
        time.sleep(3)
        with Ingest(config, "--kafka", kafka.bootstrap):
            gaps: dict[tuple[Any, ...], list[str]] = {}
            for _, value, _ in records(kafka.bootstrap, TOPICS[Event], 60):
                event = decode(value, Event)
                if isinstance(event, GapEvent) and event.channel == "trades":
                    key = (event.source, event.symbol, event.first, event.last)
                    gaps.setdefault(key, []).append(event.kind)
                filled = {key[:2] for key, kinds in gaps.items() if "gap_filled" in kinds}
                if len(filled) == 6:  # two symbols of each venue
                    break
            assert len(filled) == 6
            assert all(kinds == ["gap", "gap_filled"] for kinds in gaps.values())
            until_ms = time.time() * 1000
            for trade in trades:
                published.append(trade)
                if min(_newest(published, source) for source in sources) > until_ms:
                    break
        marked = {t.source for t in published if t.backfilled}
        assert marked == sources
        numbers: dict[tuple[str, str], list[int]] = {}
        for trade in published:
            numbers.setdefault((trade.source, trade.symbol), []).append(int(trade.trade_id))
        assert len(numbers) == 6
        for held in numbers.values():
            assert len(held) == len(set(held))  # none twice
            assert sorted(held) == list(range(min(held), max(held) + 1))  # none missing


def _newest(trades: list[Trade], source: str) -> int:
    return max((t.timestamp_ms for t in trades if t.source == source and not t.backfilled), default=0)


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
