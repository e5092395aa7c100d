"""The system's output as it is written: from Kafka, from Redis, and from the relay to one client."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

import msgspec
import redis
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from connectors.redis import keys as redis_keys
from models.messages import Bar

Place = tuple[str, int, int]


class _Row(msgspec.Struct):
    symbol: str
    start_ms: int


class _Outcome(msgspec.Struct):
    updated_ms: int


class _Letter(msgspec.Struct):
    topic: str
    partition: int
    offset: int


class Topics:
    """Follows the output topics. ``seen``: numbers of the tape's bars with a row; ``dead_letters``: positions."""

    def __init__(self, bootstrap: str, partitions: dict[str, int], tape: list[Bar]) -> None:
        from confluent_kafka import Consumer, TopicPartition

        self.seen: set[int] = set()
        self.newest = -1
        self.outcome_ms = 0
        self.dead_letters: set[Place] = set()
        self.received_at = time.monotonic()
        self._numbers = {(bar.symbol, bar.start_ms): number for number, bar in enumerate(tape)}
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "chaos-watch", "enable.auto.commit": False, "log_level": 0,
             "reconnect.backoff.max.ms": 500}
        )  # fmt: skip
        self._consumer.assign([TopicPartition(t, n, 0) for t, count in partitions.items() for n in range(count)])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for record in self._consumer.consume(2_000, 0.05):
                value = record.value()
                if record.error() is not None or value is None:
                    continue
                self.received_at = time.monotonic()
                match record.topic():
                    case "features":
                        row = msgspec.json.decode(value, type=_Row)
                        number = self._numbers.get((row.symbol, row.start_ms))
                        if number is not None:
                            self.seen.add(number)
                            self.newest = max(self.newest, number)
                    case "signal-outcomes":
                        self.outcome_ms = max(self.outcome_ms, msgspec.json.decode(value, type=_Outcome).updated_ms)
                    case "dead-letter":
                        letter = msgspec.json.decode(value, type=_Letter)
                        self.dead_letters.add((letter.topic, letter.partition, letter.offset))
        self._consumer.close()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()


def newest_price_ms(client: redis.Redis, symbols: list[str]) -> int:
    """The newest event time of a price in Redis; 0 while Redis is unavailable."""
    with contextlib.suppress(redis.RedisError, OSError):
        values: Any = client.mget([redis_keys.price_key(symbol) for symbol in symbols])
        return max((json.loads(value)["timestamp_ms"] for value in values if value), default=0)
    return 0


class Listener:
    """A client of the relay that follows everything and, after a disconnect, resumes."""

    def __init__(self, port: int, token: str) -> None:
        self._url, self._token = f"ws://127.0.0.1:{port}/ws", token
        self.number = ""
        #: Signal ids in the order they were received live, and those of snapshots.
        self.signals: list[str] = []
        self.in_snapshots: set[str] = set()
        self.newest_ms = 0
        #: Each welcome and snapshot, with the number it came after.
        self.restarts: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self._url, compression=None, max_size=None, open_timeout=5) as socket:
                    hello = {"type": "hello", "token": self._token, "all": True}
                    socket.send(json.dumps(hello | ({"after": self.number} if self.number else {})))
                    while not self._stop.is_set():
                        with contextlib.suppress(TimeoutError):
                            self._take(json.loads(socket.recv(timeout=0.5)))
            except (OSError, WebSocketException, TimeoutError):
                time.sleep(0.1)

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in ("welcome", "snapshot"):
            self.restarts.append(f"{kind} {message['number']} after {self.number or 'nothing'}")
        if kind == "dynamic_signal":
            self.signals.append(message["data"]["signal_id"])
        elif kind == "snapshot":
            self.in_snapshots |= {signal["data"]["signal_id"] for signal in message["signals"]}
        if kind in ("dynamic_signal", "signal_update", "price"):
            self.newest_ms = max(self.newest_ms, message["timestamp_ms"])
        if kind in ("dynamic_signal", "signal_update", "signal_withdrawn", "snapshot"):
            self.number = message["number"]

    def close(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join()


def snapshot(port: int, token: str) -> set[str]:
    """Signal ids that the relay sends to a new client."""
    with connect(f"ws://127.0.0.1:{port}/ws", compression=None, max_size=None) as socket:
        socket.send(json.dumps({"type": "hello", "token": token, "all": True}))
        while True:
            message = json.loads(socket.recv(timeout=10))
            if message["type"] == "snapshot":
                return {signal["data"]["signal_id"] for signal in message["signals"]}
