"""Backfill of a year of minutes: 50 symbols through the Flink job, 500 through the batch path.

    python bench/backfill.py            a tenth of the year through the job, 16 of the 500 symbols by batch; rest scaled
    python bench/backfill.py --full     all of it: 4.9 and 49 million bars

The job reads a topic to its end (``--replay``: the Kafka offset cuts frames) and does everything that it does live: the
whole catalogue in keyed state, four models, decisions, one row per bar and the signals to Kafka, checkpoints every ten
seconds. The batch path (``udfs/offline/batch.py``) computes features only, from and to memory, on two threads.
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

from bench.features import YEAR_MINUTES, minutes, year_seconds  # noqa: E402
from bench.machine import description  # noqa: E402
from bench.processes import ProcessorTime, end  # noqa: E402
from bench.topics import PARTITIONS, count, create_stamped, stamps  # noqa: E402
from connectors.kafka.partitioner import kafka_producer  # noqa: E402

SYMBOLS, BATCH_SYMBOLS = 50, 500


def publish(bootstrap: str, topic: str, length: int) -> int:
    """``length`` minutes of every symbol, inside the exchange's sessions; returns the number of bars."""
    from confluent_kafka import Producer

    from models.messages import Bar, encode

    producer = Producer(
        kafka_producer(bootstrap) | {"linger.ms": 20, "enable.idempotence": True, "batch.size": 1_000_000,
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    table = minutes(length, SYMBOLS)
    for at in range(0, len(table), SYMBOLS):
        for s, (start, until, o, h, low, c, volume, *_) in enumerate(table[at : at + SYMBOLS].tolist()):
            bar = Bar(
                symbol=f"S{s:04d}", timeframe="1m", start_ms=int(start), end_ms=int(until), open=o, high=h, low=low,
                close=c, volume=volume,
            )  # fmt: skip
            producer.produce(topic, encode(bar), bar.symbol, timestamp=bar.end_ms)
        producer.poll(0)
        if at // SYMBOLS % 1_000 == 0:
            producer.flush()
    producer.flush()
    return len(table)


def replay(bootstrap: str, folder: Path, bars: int, mode: str) -> dict[str, float]:
    """The job over the topic to its end: seconds from the first to the last row, start-up, cores, signals."""
    create_stamped(bootstrap, "features")
    policy = folder / "policy.json"
    policy.write_text(json.dumps({"risk": {"symbol_cooldown_ms": 3_600_000}}))
    command = [sys.executable, "-m", "jobs.signals", "--kafka", bootstrap, "--replay", "--execution-mode", mode]
    command += ["--checkpoints", str(folder / "checkpoints"), "--policy", str(policy)]
    log = folder / "job.log"
    began = told = time.time()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            spent = ProcessorTime(process.pid)
            while process.poll() is None:
                spent.sample()
                time.sleep(0.5)
                if time.time() - told > 10:
                    told = time.time()
                    print(f"  {count(bootstrap, 'features'):>9,} of {bars:,} rows", flush=True)
        finally:
            end(process)
    if process.returncode:
        raise SystemExit(f"the job failed; {log}:\n{log.read_text(errors='replace')[-3000:]}")
    written, first_s, last_s = stamps(bootstrap, "features")
    if written != bars:
        raise SystemExit(f"the job wrote {written:,} rows for {bars:,} bars")
    return {
        "seconds": last_s - first_s,
        "start_s": first_s - began,
        "cores": spent.between(first_s, last_s) / (last_s - first_s),
        "signals": count(bootstrap, "trading-signals"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the whole year, nothing scaled")
    parser.add_argument("--execution-mode", default="thread", choices=["thread", "process"])
    given = parser.parse_args()

    from cli.local.servers import Broker
    from udfs.kernel.compiler import Kernel

    machine = description()
    print(machine)
    length = YEAR_MINUTES if given.full else YEAR_MINUTES // 10
    with tempfile.TemporaryDirectory(prefix="backfill-") as name, Broker(partitions=PARTITIONS, heap_mb=1024) as broker:
        print(f"publishing {length:,} minutes of {SYMBOLS} symbols", flush=True)
        bars = publish(broker.bootstrap, "market-data-bars", length)
        broker_time = ProcessorTime(broker.pid)
        broker_time.sample()
        began_s = time.time()
        found = replay(broker.bootstrap, Path(name), bars, given.execution_mode)
        broker_time.sample()
        broker_cores = broker_time.between(began_s, time.time()) / (time.time() - began_s)
    rate = bars / found["seconds"]
    year_bars = YEAR_MINUTES * SYMBOLS
    print(
        f"the job: {bars:,} bars in {found['seconds']:.1f} s, {rate:,.0f} bars/s, started in {found['start_s']:.1f} s, "
        f"{found['cores']:.2f} cores and the broker {broker_cores:.2f}, {found['signals']:,.0f} signals; "
        f"a year of {SYMBOLS} symbols: {year_bars / rate:.0f} s ({'measured' if given.full else 'scaled'})",
        flush=True,
    )
    measured = BATCH_SYMBOLS if given.full else 16
    year_s, processor_s = year_seconds(Kernel(), measured, 2)
    print(
        f"by batch: a year of {BATCH_SYMBOLS} symbols, features alone, in {year_s:.1f} s, {processor_s:.1f} s of "
        f"processor (measured on {measured} symbols{'' if given.full else ', scaled'})"
    )
    print(
        json.dumps(
            {
                "job_bars": bars,
                "job_bars_per_s": round(rate),
                "job_year_50_symbols_s": round(year_bars / rate, 1),
                "job_scaled": not given.full,
                "job_start_s": round(found["start_s"], 1),
                "job_cores": round(found["cores"], 2),
                "broker_cores": round(broker_cores, 2),
                "batch_year_500_symbols_s": round(year_s, 1),
                "batch_processor_s": round(processor_s, 1),
                "batch_symbols_measured": measured,
                "execution_mode": given.execution_mode,
                "machine": machine,
            }
        )
    )


if __name__ == "__main__":
    main()
