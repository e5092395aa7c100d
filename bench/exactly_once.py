"""What exactly-once costs: time from a bar's production to its row on ``features``, for readers of committed records.

    python -m bench.exactly_once

The signals job runs live on a separate broker, once at-least-once and once exactly-once per checkpoint
interval, at a low rate of bars. The last line is JSON; times in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from bench.machine import description
from cli.local.servers import Broker, PythonProcess
from connectors.kafka.partitioner import kafka_producer
from models.messages import Bar, FeatureRow, decode, encode

MINUTE = 60_000
START_MS = 1_699_972_200_000  # 2023-11-14 09:30 in New York: the market is open


def trickle(
    bootstrap: str, topic: str, per_s: float, stop: threading.Event, sent: dict[tuple[str, int], float]
) -> None:
    """Minute bars of 20 symbols, one after the other; ``sent`` receives the time of each."""
    from confluent_kafka import Producer

    producer = Producer(kafka_producer(bootstrap) | {"linger.ms": 0})
    price, number = 100.0, 0
    rng = np.random.default_rng(7)
    while not stop.is_set():
        symbol, start = f"S{number % 20:02d}", START_MS + number // 20 * MINUTE
        close = price * float(np.exp(rng.normal(0, 0.001)))
        bar = Bar(
            symbol=symbol, timeframe="1m", start_ms=start, end_ms=start + MINUTE, open=price, high=max(price, close),
            low=min(price, close), close=close, volume=100.0,
        )  # fmt: skip
        price, number = close, number + 1
        sent[symbol, start] = time.monotonic()
        producer.produce(topic, encode(bar), symbol, timestamp=bar.end_ms)
        producer.poll(0)
        stop.wait(1 / per_s)
    producer.flush(10)


def measure(broker: Broker, name: str, per_s: float, seconds: float, arguments: list[str]) -> list[float]:
    """Milliseconds from production to a reader of committed records, after the first rows have come."""
    from confluent_kafka import Consumer

    topic = f"{name}-bars"
    broker.create_topic(topic, f"{name}-features", f"{name}-trading-signals", f"{name}-dead-letter", partitions=2)
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": name, "auto.offset.reset": "earliest", "log_level": 0,
         "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
    )  # fmt: skip
    consumer.subscribe([f"{name}-features"])
    sent: dict[tuple[str, int], float] = {}
    stop = threading.Event()
    thread = threading.Thread(target=trickle, args=(broker.bootstrap, topic, per_s, stop, sent))
    job = ["-m", "jobs.signals", "--kafka", broker.bootstrap, "--bars-topic", topic, "--out-prefix", f"{name}-"]
    with tempfile.TemporaryDirectory() as folder:
        extra = ["--checkpoints", f"{folder}/checkpoints", "--group-id", name, *arguments]
        with PythonProcess("signals", [*job, *extra], Path(folder) / "job") as process:
            thread.start()
            try:
                taken: list[float] = []
                began = None
                deadline = time.monotonic() + 180
                while began is None or time.monotonic() < began + seconds:
                    if process.process is not None and process.process.poll() is not None:
                        raise RuntimeError(process.tail())
                    if began is None and time.monotonic() > deadline:
                        raise RuntimeError(f"no row within 180 s:\n{process.tail()}")
                    for message in consumer.consume(500, timeout=0.01):
                        if message.error() is not None:
                            continue
                        row = decode(message.value(), FeatureRow)
                        now, at = time.monotonic(), sent[row.symbol, row.start_ms]
                        if began is None:
                            began = now + 15.0  # skip JIT and first batches
                        if at > began:
                            taken.append((now - at) * 1000)
            finally:
                stop.set()
                thread.join()
                consumer.close()
    return taken


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-s", type=float, default=50.0, help="bars per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured time of each")
    parser.add_argument("--intervals", type=int, nargs="*", default=[1_000, 2_000, 10_000], help="ms")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers are stopped
    print(description())
    result: dict[str, float] = {}
    runs = {"at_least_once": ["--checkpoint-ms", "10000"]}
    runs |= {f"exactly_once_{ms}": ["--exactly-once", "--checkpoint-ms", str(ms)] for ms in options.intervals}
    with Broker() as broker:
        for name, arguments in runs.items():
            taken = measure(broker, name.replace("_", "-"), options.per_s, options.seconds, arguments)
            p50, p99 = np.percentile(taken, [50, 99]).tolist()
            print(f"{name}: {len(taken)} rows, p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {max(taken):.0f} ms", flush=True)
            result |= {f"{name}_p50_ms": round(p50), f"{name}_p99_ms": round(p99), f"{name}_max_ms": round(max(taken))}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
