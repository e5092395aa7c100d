"""What the state of the whole market costs: checkpoint size and time, and recovery, by state backend.

    python bench/state.py                                     11,000 symbols, every backend
    python bench/state.py --only hashmap,rocksdb-incremental --rounds 4

For each backend: the live job on a standalone cluster, once through every symbol so that each has its state, then
``--rounds`` bursts of one bar of every symbol, ten seconds apart, with a checkpoint every ten seconds; the size and
time of the checkpoints are Flink's own figures (median of those started after the state was complete). Then the
TaskManager is killed (``kill -9``), another one started at once, and bars of a minute of its own sent: recovery is the
time from the kill to the first row of that minute. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import cluster as flink  # noqa: E402
from bench.kill_taskmanager import count  # noqa: E402
from bench.machine import description  # noqa: E402
from connectors.kafka.partitioner import kafka_producer  # noqa: E402

#: Configuration of each backend, in addition to ``flink-conf/config.yaml``.
BACKENDS: dict[str, dict[str, str]] = {
    "hashmap": {},
    "hashmap-changelog": {"state.changelog.enabled": "true", "state.changelog.storage": "filesystem"},
    "rocksdb": {"state.backend.type": "rocksdb", "execution.checkpointing.incremental": "false"},
    "rocksdb-incremental": {"state.backend.type": "rocksdb", "execution.checkpointing.incremental": "true"},
}

_FIRST_MS = 1_699_972_200_000


class Figures(NamedTuple):
    """Of one backend. ``full_bytes``: the state a checkpoint refers to; ``written_bytes``: what it wrote itself."""

    full_bytes: int
    written_bytes: int
    checkpoint_ms: int
    recovery_s: float
    catch_up_bars_per_s: int


class Bursts:
    """One bar of every symbol at a time, on a topic."""

    def __init__(self, bootstrap: str, topic: str, symbols: int) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(
            kafka_producer(bootstrap) | {"linger.ms": 20, "enable.idempotence": True, "log_level": 0}
        )
        self._topic, self._symbols, self.minute = topic, symbols, 0

    def send(self) -> int:
        """The next minute; its end."""
        from models.messages import Bar, encode

        start = _FIRST_MS + self.minute * 60_000
        self.minute += 1
        close = 100.0 + self.minute % 7
        for s in range(self._symbols):
            bar = Bar(
                symbol=f"S{s:05d}", timeframe="1m", start_ms=start, end_ms=start + 60_000, open=100.0,
                high=close + 0.5, low=99.0, close=close, volume=1000.0 + s,
            )  # fmt: skip
            self._producer.produce(self._topic, encode(bar), bar.symbol, timestamp=bar.end_ms)
            if s % 1000 == 0:
                self._producer.poll(0)
        self._producer.flush(60)
        return start + 60_000


def wait_rows(bootstrap: str, topic: str, wanted: int, timeout_s: float, cluster: Any) -> None:
    """Wait until the topic has so many records."""
    deadline = time.monotonic() + timeout_s
    while (found := count(bootstrap, topic)) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found:,} of {wanted:,} rows\n{flink.task_manager_log(cluster)}")
        time.sleep(0.05)


def checkpoints(cluster: Any, job: str, since_ms: float) -> Iterator[dict[str, Any]]:
    """The completed checkpoints that were started after a moment."""
    for one in flink.rest(cluster, f"/jobs/{job}/checkpoints")["history"]:
        if one["status"] == "COMPLETED" and one["trigger_timestamp"] >= since_ms and not one["is_savepoint"]:
            yield one


def first_row_of(bootstrap: str, topic: str, end_ms: int, timeout_s: float) -> float:
    """``time.monotonic()`` when the first row of the minute that ends there is on the topic."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "state", "enable.auto.commit": False})
    try:
        places = []
        for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            places.append(TopicPartition(topic, number, end))
        consumer.assign(places)
        mark = f'"end_ms":{end_ms},'.encode()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for record in consumer.consume(5_000, 0.05):
                if mark in (record.value() or b""):
                    return time.monotonic()
    finally:
        consumer.close()
    raise RuntimeError(f"no row of the minute that ends at {end_ms} within {timeout_s:.0f} s")


def measure(backend: str, symbols: int, rounds: int, timeout_s: float, extra: dict[str, str]) -> Figures:
    """One backend, on a broker and cluster of its own."""
    from cli.local.servers import Broker, FlinkCluster

    with tempfile.TemporaryDirectory(prefix="state-") as name, Broker(heap_mb=768) as broker:
        policy = Path(name) / "policy.json"
        policy.write_text(json.dumps({"risk": {"symbol_cooldown_ms": 3_600_000}}))
        settings = {
            "taskmanager.memory.process.size": "3072m",
            "taskmanager.memory.managed.size": "512m",
            "state.changelog.dstl.dfs.base-path": f"{Path(name).as_uri()}/changelog",
            **BACKENDS[backend],
            **extra,
        }
        broker.create_topic("market-data-bars", "features", partitions=4)
        bursts = Bursts(broker.bootstrap, "market-data-bars", symbols)
        with FlinkCluster(1, settings, checkout=ROOT) as cluster:
            job = flink.start(cluster, "signals", "--kafka", broker.bootstrap, "--policy", str(policy))
            bursts.send()
            wait_rows(broker.bootstrap, "features", symbols, timeout_s, cluster)
            complete_ms = time.time() * 1000
            began = time.monotonic()
            for _ in range(rounds):
                time.sleep(max(0.0, began + 10 * (bursts.minute - 1) - time.monotonic()))
                bursts.send()
            sent = time.monotonic()
            wait_rows(broker.bootstrap, "features", symbols * (rounds + 1), timeout_s, cluster)
            rate = symbols / (time.monotonic() - sent)
            while not (done := list(checkpoints(cluster, job, complete_ms))) or len(done) < rounds:
                if time.monotonic() > sent + timeout_s:
                    raise RuntimeError(f"{len(done)} checkpoints\n{flink.task_manager_log(cluster)}")
                time.sleep(0.5)
            killed = time.monotonic()
            cluster.kill_task_managers()
            cluster.start_task_manager()
            end_ms = bursts.send()
            recovery_s = first_row_of(broker.bootstrap, "features", end_ms, timeout_s) - killed
    return Figures(
        round(statistics.median(one["state_size"] for one in done)),
        round(statistics.median(one["checkpointed_size"] for one in done)),
        round(statistics.median(one["end_to_end_duration"] for one in done)),
        round(recovery_s, 1),
        round(rate),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", default=",".join(BACKENDS), help=f"comma-separated, of {', '.join(BACKENDS)}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="more of Flink's configuration")
    parser.add_argument("--timeout", type=float, default=180.0)
    given = parser.parse_args()
    machine = description()
    print(machine)
    result: dict[str, Any] = {}
    for backend in given.only.split(","):
        if backend not in BACKENDS:
            parser.error(f"--only {backend}: choose from {', '.join(BACKENDS)}")
        extra = dict(one.split("=", 1) for one in given.set)
        found = measure(backend, given.symbols, given.rounds, given.timeout, extra)
        print(f"{backend:<20} {found}", flush=True)
        result |= {f"{backend.replace('-', '_')}_{field}": value for field, value in found._asdict().items()}
    print(json.dumps({"symbols": given.symbols, **result, "machine": machine}))


if __name__ == "__main__":
    main()
