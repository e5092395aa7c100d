"""The tape: real daily bars that a feed publishes at a constant rate, and messages that should not be among them.

A faulty run plays the tape from its beginning and stops where its last fault has recovered; the undisturbed run gets
the same bars. Injected messages (poison, repeats, late and skewed bars) must leave no trace except dead letters, so
that the undisturbed run omits them.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import msgspec

from bench.kill_taskmanager import real_bars
from connectors.kafka.partitioner import kafka_producer
from models.messages import Bar, encode

FEED_TOPIC, BARS_TOPIC = "feed", "market-data-bars"
#: What ingestion calls the feed: bars are published under this name.
SOURCE = "tape"
MAPPING = f"""topic = "{FEED_TOPIC}"
source = "{SOURCE}"
message = "bar"
[fields]
""" + "".join(
    f'{name} = "{name}"\n'
    for name in ("symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume")
)

MINUTE_MS = 60_000
#: Further than this in the future of its arrival a bar is refused (models.bar_rules.FUTURE_TOLERANCE_MS).
SKEW_MS = 5 * MINUTE_MS


def make_tape(copies: int) -> list[Bar]:
    """Five stocks' daily bars under ``copies`` names each, in order of time, as ingestion will name their source."""
    return [msgspec.structs.replace(bar, source=SOURCE) for bar in real_bars(copies)]


def producer(bootstrap: str) -> Any:
    """A producer that survives a broker outage of minutes, and keeps order."""
    from confluent_kafka import Producer

    return Producer(
        kafka_producer(bootstrap) | {"enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 600_000,
         "reconnect.backoff.max.ms": 500, "log_level": 0}
    )  # fmt: skip


class Player:
    """Publishes the tape on the feed's topic: the first ``prelude`` bars at once, then ``per_s`` bars per second."""

    def __init__(self, bootstrap: str, tape: list[Bar], prelude: int, per_s: float, rng: random.Random) -> None:
        self._producer, self._tape = producer(bootstrap), tape
        self._prelude, self._per_s, self._rng = prelude, per_s, rng
        self._stop, self._paused = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: How many bars have been handed to the producer, and until which of them stamps are skewed.
        self.position = 0
        self._skewed_until, self._skew_ms = 0, 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def skew(self, bars: int, by_ms: int) -> None:
        """Give the next bars Kafka time stamps of a clock that is wrong."""
        self._skew_ms, self._skewed_until = by_ms, self.position + bars

    def pause(self) -> int:
        """Publish no more until :meth:`resume`; how many bars were published."""
        self._paused.set()
        time.sleep(0.3)  # one iteration of the loop
        self._producer.flush(60)
        return self.position

    def resume(self) -> None:
        """Continue, at the same rate."""
        self._paused.clear()

    def _run(self) -> None:
        last, due = time.monotonic(), float(self._prelude)
        while not self._stop.is_set() and self.position < len(self._tape):
            now = time.monotonic()
            due += 0.0 if self._paused.is_set() else (now - last) * self._per_s
            last = now
            for bar in self._tape[self.position : int(due)]:
                self._publish(bar)
            self._producer.poll(0.02)

    def _publish(self, bar: Bar) -> None:
        stamp = bar.end_ms + (self._skew_ms if self.position < self._skewed_until else 0)
        self._producer.produce(FEED_TOPIC, encode(bar), bar.symbol, timestamp=stamp)
        self.position += 1

    def stop(self) -> int:
        """End with the day; how many bars were published, all of them on the broker.

        The rest of the day's bars, so that what has expired in event time has expired in each symbol's own time too.
        """
        self._stop.set()
        self._thread.join()
        today_ms = self._tape[self.position - 1].end_ms
        for bar in self._tape[self.position :]:
            if bar.end_ms != today_ms:
                break
            self._publish(bar)
        if left := self._producer.flush(120):
            raise RuntimeError(f"{left} bars of the tape did not reach the broker")
        return self.position


def poison(rng: random.Random, bar: Bar) -> bytes:
    """A message that is not a valid bar."""
    return rng.choice([
        b"",
        b"\xff\xfe\x00poison %d" % rng.randrange(10**9),
        b"{not json %d" % rng.randrange(10**9),
        encode(bar).replace(b'"close"', b'"klose"'),
        encode(bar)[:-10],
        encode(msgspec.structs.replace(bar, low=-bar.low)),
        encode(msgspec.structs.replace(bar, high=bar.low / 2)),
        encode(msgspec.structs.replace(bar, end_ms=bar.start_ms)),
        b"[" * rng.randrange(2, 2_000),
    ])  # fmt: skip


def skewed(rng: random.Random, bar: Bar) -> bytes:
    """A copy of a bar from a clock that is five minutes off: the venue's ahead, or the one of arrival behind."""
    if rng.random() < 0.5:  # the venue's clock is ahead
        shift_ms = SKEW_MS + 30_000
        return encode(
            msgspec.structs.replace(
                bar,
                start_ms=bar.start_ms + shift_ms,
                end_ms=bar.end_ms + shift_ms,
                ingestion_timestamp_ms=bar.end_ms,
            )
        )
    return encode(msgspec.structs.replace(bar, ingestion_timestamp_ms=bar.end_ms - SKEW_MS - 1))  # ours is behind
