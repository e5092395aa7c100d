"""Trades per second through `jobs/bars.py`: Kafka to Kafka, minute bars in event time, no Python on the way.

    python bench/trades.py                     1,500,000 trades of 500 symbols over 30 minutes
    python bench/trades.py --symbols 11000

The job reads a backlog. The rate is the trades of all minutes but the first over the time from the first minute's bar
to the last bar (broker stamps), so the start-up is left out. Every minute of every symbol must have its bar, and the
trades counted in the bars must be those that were sent. The last line is one JSON object.
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
from bench.topics import FIRST_MS, PARTITIONS, create_stamped, stamps  # noqa: E402
from connectors.kafka.partitioner import kafka_producer  # noqa: E402

TRADES, BARS = "market-data-trades", "market-data-bars"


def publish(bootstrap: str, trades: int, symbols: int, minutes: int) -> float:
    """Random-walk trades, evenly over the minutes and symbols; the size of a message in bytes."""
    import numpy as np
    from confluent_kafka import Producer

    from models.messages import Trade, encode

    rng = np.random.default_rng(7)
    producer = Producer(
        kafka_producer(bootstrap) | {"linger.ms": 20, "enable.idempotence": True, "batch.size": 1_000_000,
         "queue.buffering.max.messages": 2_000_000}
    )  # fmt: skip
    prices = np.full(symbols, 100.0)
    size = 0
    for first in range(0, trades, symbols):
        prices = np.round(prices * np.exp(rng.normal(0, 0.0002, symbols)), 2)
        volumes = rng.integers(1, 500, symbols).tolist()
        at_ms = FIRST_MS + int(first / trades * minutes * 60_000)
        for s, price in enumerate(prices[: trades - first].tolist()):
            trade = Trade(
                symbol=f"S{s:05d}", source="bench", timestamp_ms=at_ms, price=price, size=float(volumes[s]),
                trade_id=str(first + s), exchange="V", ingestion_timestamp_ms=at_ms + 20,
            )  # fmt: skip
            message = encode(trade)
            size += len(message)
            producer.produce(TRADES, message, trade.symbol, timestamp=at_ms)
        producer.poll(0)
        if len(producer) > 500_000:
            producer.flush()
    producer.flush()
    return size / trades


def counted(bootstrap: str) -> tuple[int, int, float, float]:
    """Bars, the trades in them, and the broker's stamps of the first and last, in seconds."""
    import msgspec

    from connectors.kafka.read import read_to_end
    from models.messages import Bar

    decode = msgspec.json.Decoder(Bar).decode
    bars = [decode(value) for *_, value in read_to_end(bootstrap, BARS)]
    _, first_s, last_s = stamps(bootstrap, BARS)
    return len(bars), sum(bar.trade_count or 0 for bar in bars), first_s, last_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trades", type=int, default=1_500_000)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--minutes", type=int, default=30)
    given = parser.parse_args()
    if given.trades % (given.symbols * given.minutes):
        parser.error("--trades must be a multiple of --symbols x --minutes: each minute has as many")

    from cli.local.servers import Broker

    machine = description()
    print(machine)
    with tempfile.TemporaryDirectory(prefix="trades-") as name, Broker(partitions=PARTITIONS, heap_mb=1024) as broker:
        create_stamped(broker.bootstrap, BARS)
        broker.create_topic(TRADES)
        began = time.monotonic()
        size = publish(broker.bootstrap, given.trades, given.symbols, given.minutes)
        print(f"published {given.trades:,} trades of {size:.0f} bytes in {time.monotonic() - began:.0f} s", flush=True)
        log = Path(name) / "job.log"
        with log.open("wb") as output:
            began = time.monotonic()
            job = subprocess.Popen(
                [sys.executable, "-m", "jobs.bars", "--kafka", broker.bootstrap, "--replay"], cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            if job.wait():
                raise SystemExit(f"jobs.bars failed:\n{log.read_text(errors='replace')[-3000:]}")
        print(f"job ended after {time.monotonic() - began:.0f} s", flush=True)
        bars, inside, first_s, last_s = counted(broker.bootstrap)
    if (bars, inside) != (given.symbols * given.minutes, given.trades):
        raise SystemExit(f"{bars:,} bars of {inside:,} trades for {given.trades:,} trades")
    rate = given.trades * (given.minutes - 1) / given.minutes / (last_s - first_s)
    print(f"{rate:,.0f} trades/s to {bars:,} bars")
    figures = {"trades_per_s": round(rate), "message_bytes": round(size), "bars": bars, "symbols": given.symbols}
    print(json.dumps(figures | {"machine": machine}))


if __name__ == "__main__":
    main()
