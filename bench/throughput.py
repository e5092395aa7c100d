"""Bars a second from Kafka to Kafka: this job, the same graph row by row, and Flink SQL without Python, in one run.

    python bench/throughput.py                 400,000 bars of 500 symbols (the row job gets 20,000: it is slow)
    python bench/throughput.py --bars 1000000

One broker, one topic of input, one job at a time on Flink's mini cluster at parallelism 1, with checkpoints every 10 s.
The models know nothing of a random walk and change their mind at four bars in ten. A signal costs some 0.5 ms (tree
SHAP for its reasons, levels, record hash), so the rate is taken with a cooldown of an hour a symbol, as one would set
for minute bars; the rate with the default policy, a signal at each change of mind, is printed beside it.

Every job writes one record a bar to a topic stamped by the broker (LogAppendTime); the rate is the number of records
over the time between the first and the last stamp, so it leaves out the start-up, which is printed beside it. Each
count is checked: a job that lost or doubled a bar stops the run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.machine import description  # noqa: E402

PARTITIONS = 4


def publish(bootstrap: str, topic: str, bars: int, symbols: int) -> None:
    """Random-walk minute bars, all symbols in turn, produced from this process."""
    import numpy as np
    from confluent_kafka import Producer

    from models.messages import Bar, encode

    rng = np.random.default_rng(7)
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 20, "batch.size": 1_000_000,
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    closes = np.full(symbols, 100.0)
    first = 1_699_972_200_000
    sent = 0
    for minute in range(-(-bars // symbols)):
        opens = closes
        closes = np.round(opens * np.exp(rng.normal(0, 0.001, symbols)), 4)
        highs = np.round(np.maximum(opens, closes) * 1.0005, 4)
        lows = np.round(np.minimum(opens, closes) * 0.9995, 4)
        volumes = rng.integers(100, 100_000, symbols)
        start = first + minute * 60_000
        for s in range(min(symbols, bars - sent)):
            bar = Bar(
                symbol=f"S{s:04d}", timeframe="1m", start_ms=start, end_ms=start + 60_000, open=float(opens[s]),
                high=float(highs[s]), low=float(lows[s]), close=float(closes[s]), volume=float(volumes[s]),
            )  # fmt: skip
            producer.produce(topic, encode(bar), bar.symbol, timestamp=bar.end_ms)
            sent += 1
        producer.poll(0)
        if minute % 50 == 0:
            producer.flush()
    producer.flush()


def create_stamped(bootstrap: str, topic: str) -> None:
    """A topic whose records are stamped by the broker as they arrive."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    config = {"message.timestamp.type": "LogAppendTime"}
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)])[topic].result(30)


def span(bootstrap: str, topic: str) -> tuple[int, int, int]:
    """Number of records, and the first and last broker stamp (ms)."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "span", "enable.auto.commit": False})
    count, stamps = 0, []
    for number in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        count += high - low
        for offset in {low, high - 1} if high > low else set():
            consumer.assign([TopicPartition(topic, number, offset)])
            record = consumer.poll(20)
            assert record is not None, f"no record at {topic}/{number}/{offset}"
            stamps.append(record.timestamp()[1])
    consumer.close()
    return count, min(stamps, default=0), max(stamps, default=0)


def run(module: str, bootstrap: str, source: str, prefix: str, folder: Path, bars: int, *extra: str) -> float:
    """Run a job to its end; returns bars a second, having checked that every bar came out once."""
    topic = f"{prefix}features"
    create_stamped(bootstrap, topic)
    log = folder / f"{prefix}job.log"
    started = time.time()
    with log.open("wb") as output:
        code = subprocess.run(
            [sys.executable, "-m", module, "--kafka", bootstrap, "--bars-topic", source, "--out-prefix", prefix,
             "--replay", "--checkpoints", str(folder / f"{prefix}checkpoints"), *extra],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=output, stderr=subprocess.STDOUT,
        ).returncode  # fmt: skip
    if code:
        raise SystemExit(f"{module} failed; {log}:\n{log.read_text(errors='replace')[-3000:]}")
    count, first, last = span(bootstrap, topic)
    if count != bars:
        raise SystemExit(f"{module} wrote {count:,} records for {bars:,} bars")
    rate = count / max((last - first) / 1000, 0.001)
    print(
        f"{module:<16} {count:>9,} bars  {rate:>10,.0f} bars/s   first record after {first / 1000 - started:5.1f} s, "
        f"whole run {time.time() - started:6.1f} s", flush=True,
    )  # fmt: skip
    return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=400_000)
    parser.add_argument("--row-bars", type=int, default=20_000)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--execution-mode", default="thread", choices=["thread", "process"])
    given = parser.parse_args()

    from connectors.local import Broker

    machine = description()
    print(machine)
    with (
        tempfile.TemporaryDirectory(prefix="throughput-") as name,
        Broker(partitions=PARTITIONS, heap_mb=1024) as broker,
    ):
        folder = Path(name)
        print(f"publishing {given.bars:,} and {given.row_bars:,} bars of {given.symbols} symbols", flush=True)
        publish(broker.bootstrap, "bench-bars", given.bars, given.symbols)
        publish(broker.bootstrap, "bench-row-bars", given.row_bars, given.symbols)
        mode = ("--execution-mode", given.execution_mode)
        policy = folder / "policy.json"
        policy.write_text(json.dumps({"risk": {"symbol_cooldown_ms": 3_600_000}}))
        calm = ("--policy", str(policy))
        ours = run("jobs.signals", broker.bootstrap, "bench-bars", "ours-", folder, given.bars, *mode, *calm)
        row = run("bench.row_job", broker.bootstrap, "bench-row-bars", "row-", folder, given.row_bars, *mode)
        chatty = run("jobs.signals", broker.bootstrap, "bench-row-bars", "chatty-", folder, given.row_bars, *mode)
        sql = run("bench.sql_job", broker.bootstrap, "bench-bars", "sql-", folder, given.bars)
    print(f"this job is {ours / row:.1f} x row by row and {ours / sql:.2f} x Flink SQL")
    figures = {
        "ours_bars_per_s": round(ours),
        "row_bars_per_s": round(row),
        "sql_bars_per_s": round(sql),
        "ours_default_policy_bars_per_s": round(chatty),
        "x_row": round(ours / row, 2),
        "x_sql": round(ours / sql, 3),
        "bars": given.bars,
        "symbols": given.symbols,
        "execution_mode": given.execution_mode,
        "machine": machine,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
