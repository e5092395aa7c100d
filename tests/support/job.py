"""Helpers of the job tests: publish bars, run the job file."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterable

from connectors.kafka.partitioner import kafka_producer
from connectors.paths import ROOT
from models.messages import Bar, encode


def minute_bars(symbols: int, bars: int, seed: int = 7) -> list[Bar]:
    """Random walks, bar by bar across all symbols, one minute each."""
    import numpy as np

    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, (bars, symbols)), axis=0))
    opens = np.vstack([np.full((1, symbols), 100.0), closes[:-1]])
    highs = np.maximum(opens, closes) * (1 + rng.random((bars, symbols)) * 0.001)
    lows = np.minimum(opens, closes) * (1 - rng.random((bars, symbols)) * 0.001)
    volumes = rng.integers(1, 10_000, (bars, symbols))
    start = 1_699_972_200_000  # 2023-11-14 09:30 in New York: the market is open
    return [
        Bar(
            symbol=f"S{s:03d}", timeframe="1m", start_ms=start + i * 60_000, end_ms=start + (i + 1) * 60_000,
            open=float(opens[i, s]), high=float(highs[i, s]), low=float(lows[i, s]), close=float(closes[i, s]),
            volume=float(volumes[i, s]),
        )
        for i in range(bars)
        for s in range(symbols)
    ]  # fmt: skip


def publish(bootstrap: str, topic: str, messages: Iterable[tuple[str, bytes, int]]) -> None:
    """Produce (key, value, timestamp_ms) in order and wait until they are on the broker."""
    from confluent_kafka import Producer

    producer = Producer(kafka_producer(bootstrap) | {"linger.ms": 20, "enable.idempotence": True})
    for number, (key, value, stamp) in enumerate(messages):
        producer.produce(topic, value, key, timestamp=stamp)
        if number % 5000 == 0:
            producer.flush()
    assert producer.flush(30) == 0


def publish_bars(bootstrap: str, topic: str, bars: Iterable[Bar]) -> None:
    """Produce bars keyed by symbol, stamped with event time."""
    publish(bootstrap, topic, ((bar.symbol, encode(bar), bar.end_ms) for bar in bars))


def run_job(*arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    """``python -m jobs.signals`` with these arguments, to its end.

    Topics that are not named are this run's own: what other tests wrote to the shared broker is none of its business.
    """
    others = [f"--{name}-topic" for name in ("news", "options", "status", "kill-switch", "rollout")]
    own = [part for name in others if name not in arguments for part in (name, f"{uuid.uuid4().hex[:8]}{name[1:]}")]
    return subprocess.run(
        [sys.executable, "-m", "jobs.signals", *arguments, *own], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True, capture_output=True, timeout=timeout_s,
    )  # fmt: skip
