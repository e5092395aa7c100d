"""A live signals job to measure: a real broker, topics stamped by it, a producer at a given pace, and what came out.

Times are the broker's own stamps (LogAppendTime, ms): of a bar from its delivery report, of a row or signal from the
record. So producer, job and reader need no common clock and their own delays are not measured.
"""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.topics import create_stamped
from connectors.kafka.partitioner import kafka_producer

FIRST_MS = 1_699_972_200_000  # 2023-11-14 09:30 in New York


class _Place(msgspec.Struct):
    symbol: str
    end_ms: int = 0
    created_ms: int = 0


class Live:
    """Broker, job and reader; use as a context. ``rows`` and ``signals`` map (symbol, end_ms) to its broker stamp.

    The job has the default policy with a cooldown of an hour per symbol, as is realistic for minute bars, or ``policy``
    (as JSON), and further ``arguments``.
    """

    def __init__(self, folder: Path, *arguments: str, policy: dict[str, Any] | None = None) -> None:
        self._folder, self._stack = folder, ExitStack()
        self._arguments = arguments
        self._policy = policy or {"risk": {"symbol_cooldown_ms": 3_600_000}}
        self.rows: dict[tuple[str, int], int] = {}
        self.signals: dict[tuple[str, int], int] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Live:
        from cli.local.servers import Broker

        # Millions of stamps are kept: a collection that walks them stops sending for a quarter of a second, and then
        # causes an unwanted burst. None of them is in a cycle.
        gc.disable()
        self._stack.callback(gc.enable)
        self.broker = self._stack.enter_context(Broker(self._folder / "kafka", heap_mb=1024))
        for topic in ("market-data-bars", "features", "trading-signals"):
            create_stamped(self.broker.bootstrap, topic)
        policy = self._folder / "policy.json"
        policy.write_text(json.dumps(self._policy))
        self.start_job("--kafka", self.broker.bootstrap, "--policy", str(policy), *self._arguments)
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        self._stack.callback(reader.join, 10)
        self._stack.callback(self._stop.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_job(self, *arguments: str) -> None:
        """The job in a mini cluster of its own process."""
        from cli.local.servers import PythonProcess, lasting_port

        self.rest_port = lasting_port()
        own = ["-m", "jobs.signals", *arguments, "--checkpoints", str(self._folder / "checkpoints")]
        own += ["--rest-port", str(self.rest_port)]
        self.job = self._stack.enter_context(PythonProcess("signals-job", own, self._folder / "job"))

    def _read(self) -> None:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": "bench",
                "enable.auto.commit": False,
                # Times are the broker's: reading a little later saves a request per record.
                "fetch.min.bytes": 65_536,
                "fetch.wait.max.ms": 100,
            }
        )
        topics = {"features": self.rows, "trading-signals": self.signals}
        consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in range(4)])
        decode = msgspec.json.Decoder(_Place).decode
        while not self._stop.is_set():
            for record in consumer.consume(5_000, 0.05):
                value = record.value()
                if record.error() is None and value is not None:
                    place = decode(value)
                    topics[record.topic() or ""][place.symbol, place.end_ms or place.created_ms] = record.timestamp()[1]
        consumer.close()

    def wait_for(self, rows: int, timeout_s: float) -> None:
        """Until so many rows have come out; RuntimeError with the job's last lines if they do not."""
        deadline = time.monotonic() + timeout_s
        while len(self.rows) < rows:
            if self.job.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.rows):,} of {rows:,} rows came out\n{self.job.tail()}")
            time.sleep(0.02)


def work_off_history(live: Live, market: Market, minutes: int, ahead: int = 50_000) -> None:
    """Bars of some minutes, as fast as they are taken, ``ahead`` at most without a row; returns when each has its row.

    Prints how long it took; the market forgets the bars.
    """
    began, before, sent = time.monotonic(), len(live.rows), 0
    for minute in range(1, minutes + 1):
        for bar in market.minute():
            market.send(bar)
        market.producer.poll(0)
        sent += market.symbols
        if minute % 20 == 0 or minute == minutes:
            market.producer.flush()
            live.wait_for(before + sent - (ahead if minute < minutes else 0), 300)
    market.sent.clear()
    print(f"{sent:,} bars of history in {time.monotonic() - began:.0f} s, their start included", flush=True)


class Market:
    """Random-walk bars of some symbols, one of each at a time, produced to a broker and stamped by it."""

    def __init__(self, bootstrap: str, symbols: int, seed: int = 7, timeframe: str = "1m") -> None:
        from confluent_kafka import Producer

        from models.messages import TIMEFRAME_MS

        self._timeframe, self._length_ms = timeframe, TIMEFRAME_MS[timeframe]
        self._rng, self.symbols = np.random.default_rng(seed), symbols
        self._closes = np.full(symbols, 100.0)
        self._minute = 0
        self.sent: dict[tuple[str, int], int] = {}
        self.producer = Producer(
            kafka_producer(bootstrap)
            | {
                "linger.ms": 5,  # as ingestion publishes (connectors/kafka/publisher.py)
                "compression.type": "lz4",
                "enable.idempotence": True,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def minute(self) -> Iterator[tuple[str, int, bytes]]:
        """The next bar of every symbol as (symbol, end_ms, JSON)."""
        from models.messages import Bar, encode

        opens = self._closes
        closes = self._closes = np.round(opens * np.exp(self._rng.normal(0, 0.001, self.symbols)), 4)
        start = FIRST_MS + self._minute * self._length_ms
        self._minute += 1
        volumes = self._rng.integers(100, 100_000, self.symbols).tolist()
        for s, (first, last) in enumerate(zip(opens.tolist(), closes.tolist(), strict=True)):
            bar = Bar(
                symbol=f"S{s:05d}", timeframe=self._timeframe, start_ms=start, end_ms=start + self._length_ms,
                open=first, high=max(first, last) + 0.01, low=min(first, last) - 0.01, close=last,
                volume=float(volumes[s]),
            )  # fmt: skip
            yield bar.symbol, bar.end_ms, encode(bar)

    def send(self, bar: tuple[str, int, bytes]) -> None:
        """Produce one bar; its stamp arrives in :attr:`sent` with the delivery report."""
        symbol, end_ms, payload = bar

        def delivered(error: Any, record: Any) -> None:
            if error is not None:
                raise RuntimeError(str(error))
            self.sent[symbol, end_ms] = record.timestamp()[1]

        self.producer.produce("market-data-bars", payload, symbol, on_delivery=delivered)


def percentiles(latencies: list[int]) -> dict[str, float]:
    """p50, p99, p99.9 and the worst, in ms."""
    if not latencies:
        return {}
    values = np.percentile(latencies, [50, 99, 99.9, 100]).tolist()
    return dict(zip(("p50_ms", "p99_ms", "p999_ms", "max_ms"), (round(v, 1) for v in values), strict=True))
