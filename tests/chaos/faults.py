"""The faults: what each does to the system, and what shows that it has recovered."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections import Counter
from typing import IO, Any, NamedTuple

from models.messages import encode
from tests.chaos import tape
from tests.chaos.cluster import Job, wait
from tests.chaos.system import PARTITIONS, ChaosSystem, Condition
from tests.chaos.watch import Place

#: How often each kind is drawn; those that recover in a second more often than those that take half a minute.
WEIGHTS = {
    "poison": 10.0,
    "duplicate": 9.0,
    "late": 8.0,
    "skew": 8.0,
    "relay": 12.0,
    "redis": 12.0,
    "ingest": 7.0,
    "broker": 5.0,
    "task_manager": 5.0,
    "job_manager": 2.5,
    "disk_full": 2.0,
    "redis_away": 0.5,
}


class Recovery(NamedTuple):
    """One fault: its kind, what was done, and seconds from it to the first output that needed the failed part."""

    kind: str
    what: str
    recovery_s: float


def schedule(rng: random.Random, count: int, kinds: list[str]) -> list[str]:
    """``count`` kinds in random order: each once if there is room, the rest by weight."""
    weights = [WEIGHTS[kind] for kind in kinds]
    if count >= len(kinds):
        drawn = kinds + rng.choices(kinds, weights, k=count - len(kinds))
    else:
        drawn = sorted(kinds, key=lambda kind: rng.random() ** (1 / WEIGHTS[kind]), reverse=True)[:count]
    return rng.sample(drawn, k=len(drawn))


class Faults:
    """Injects faults into a system whose tape is being played, one at a time."""

    def __init__(
        self,
        system: ChaosSystem,
        player: tape.Player,
        rng: random.Random,
        away_s: float = 60.0,
        timeout_s: float = 300.0,
    ) -> None:
        self.system, self._player, self._rng = system, player, rng
        self._away_s, self._timeout_s = away_s, timeout_s
        self._producer = tape.producer(system.broker.bootstrap)
        #: Positions of injected messages: each must have its dead letter.
        self.injected: set[Place] = set()
        self.done: Counter[str] = Counter()

    def do(self, kind: str) -> Recovery:
        """One fault, until it has recovered; RuntimeError with the parts' reports if it has not in time."""
        began = time.monotonic()
        what, conditions = getattr(self, f"_{kind}")()
        try:
            for name, condition in conditions.items():
                wait(f"{kind} ({what}): {name}", condition, self._timeout_s)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.system.troubles()}") from None
        if kind == "job_manager" and self.system.high_availability:
            kind = "job_manager_ha"
        self.done[kind] += 1
        return Recovery(kind, what, time.monotonic() - began)

    def _next(self) -> int:
        """The number of the first bar that is published from now on."""
        return min(self._player.position, len(self.system.tape) - 1)

    # Messages

    def _seen(self, behind: int) -> list[int]:
        """Numbers of some bars that have their row, of the last ``behind``."""
        newest = self.system.topics.newest
        known = [number for number in range(max(0, newest - behind), newest + 1) if number in self.system.topics.seen]
        return self._rng.sample(known, k=min(len(known), self._rng.randint(1, 20)))

    def _inject(self, topic: str, key: str, value: bytes, stamp_ms: int, dead_letters: bool = True) -> None:
        def delivered(error: Any, record: Any) -> None:
            if error is not None:
                raise RuntimeError(f"an injected message was not delivered: {error}")
            if dead_letters:
                self.injected.add((record.topic(), record.partition(), record.offset()))

        self._producer.produce(topic, value, key, timestamp=max(0, stamp_ms), on_delivery=delivered)

    def _injected(self, what: str) -> tuple[str, dict[str, Condition]]:
        self._producer.flush(60)
        wanted = set(self.injected)
        return what, {
            "a dead letter for each": lambda: wanted <= self.system.topics.dead_letters,
            "the next bar's row": self.system.row_after(self._next()),
        }

    def _poison(self) -> tuple[str, dict[str, Condition]]:
        bars = [self.system.tape[number] for number in self._seen(50)]
        topic = self._rng.choice([tape.BARS_TOPIC, tape.BARS_TOPIC, tape.FEED_TOPIC])
        for bar in bars:
            self._inject(topic, bar.symbol, tape.poison(self._rng, bar), bar.end_ms)
        return self._injected(f"{len(bars)} messages that are no bars on {topic}")

    def _duplicate(self) -> tuple[str, dict[str, Condition]]:
        bars = [self.system.tape[number] for number in self._seen(50)]
        topic = self._rng.choice([tape.BARS_TOPIC, tape.FEED_TOPIC])
        for bar in bars:  # ingestion silently drops what its feed repeats
            self._inject(topic, bar.symbol, encode(bar), bar.end_ms, dead_letters=topic == tape.BARS_TOPIC)
        return self._injected(f"{len(bars)} bars again on {topic}")

    def _late(self) -> tuple[str, dict[str, Condition]]:
        bars = [self.system.tape[number] for number in self._seen(2_000)]
        for bar in bars:
            self._inject(tape.BARS_TOPIC, bar.symbol, encode(bar), bar.end_ms)
        return self._injected(f"{len(bars)} bars late and out of order")

    def _skew(self) -> tuple[str, dict[str, Condition]]:
        bars = [self.system.tape[number] for number in self._seen(50)]
        by_ms = self._rng.choice([-1, 1]) * tape.SKEW_MS
        for bar in bars:
            self._inject(tape.BARS_TOPIC, bar.symbol, tape.skewed(self._rng, bar), bar.end_ms + by_ms)
        self._player.skew(40, by_ms)
        return self._injected(f"{len(bars)} bars of clocks 5 min off, 40 of the feed stamped {by_ms // 60_000:+d} min")

    # Processes

    def _relay(self) -> tuple[str, dict[str, Condition]]:
        self.system.relay.kill()
        number = self._next()
        self.system.relay.start()
        return "kill -9, restart", {"the client receives a new bar": self.system.received_after(number)}

    def _redis(self, away_s: float | None = None) -> tuple[str, dict[str, Condition]]:
        away_s = self._rng.uniform(0.0, 2.0) if away_s is None else away_s
        self.system.redis.kill()
        number = self._next()
        time.sleep(away_s)
        self.system.redis.start()
        return f"kill -9, restart after {away_s:.1f} s", {
            "a new price in Redis": self.system.price_after(number),
            "the client receives it": self.system.received_after(number),
        }

    def _redis_away(self) -> tuple[str, dict[str, Condition]]:
        return self._redis(self._away_s)

    def _ingest(self) -> tuple[str, dict[str, Condition]]:
        self.system.ingest.kill()
        number = self._next()
        self.system.ingest.start()
        return "kill -9, restart", {"a new bar's row": self.system.row_after(number)}

    def _broker(self) -> tuple[str, dict[str, Condition]]:
        self.system.broker.kill()
        number = self._next()
        time.sleep(self._rng.uniform(0.0, 2.0))
        self.system.broker.start()
        return "kill -9, restart", self._flowing(number)

    def _task_manager(self) -> tuple[str, dict[str, Condition]]:
        cluster = self.system.cluster
        assert cluster is not None
        pids = cluster.pids("taskexecutor")
        killed = pids if self._rng.random() < 0.2 else [self._rng.choice(pids)]
        which = [job.name for job in self.system.jobs if job.task_manager_pid() in killed]
        with self.system.cluster_lock:
            cluster.kill_task_managers(*killed)
            number = self._next()
            for _ in killed:
                cluster.start_task_manager()
        return f"kill -9 of {' and '.join(which) or 'one'}, another started", self._flowing(number)

    def _job_manager(self) -> tuple[str, dict[str, Condition]]:
        cluster = self.system.cluster
        assert cluster is not None
        cluster.kill_job_manager()
        cluster.start_job_manager()
        what = "kill -9, restart; the jobs come back by ZooKeeper"
        if not self.system.high_availability:
            self.system.await_task_managers()
            self.system.submit(resume=True)
            what = "kill -9, restart, both jobs resubmitted from their last checkpoint"
        for job in self.system.jobs:  # until then the previous tasks may still run
            wait(f"job_manager: {job.name} runs again", job.running, self._timeout_s)
        return what, self._flowing(self._next())

    def _disk_full(self) -> tuple[str, dict[str, Condition]]:
        before = [job.checkpoints() for job in self.system.jobs]
        filler = self.system.checkpoints / "filler"
        try:
            with open(filler, "wb", buffering=0) as file:
                for job, (_, failures) in zip(self.system.jobs, before, strict=True):

                    def failed(job: Job = job, failures: int = failures) -> bool:
                        fill(file)  # again: space freed by a failed or old checkpoint is room for the next one
                        return job.checkpoints()[1] > failures

                    wait(f"disk_full: {job.name}'s checkpoint fails", failed, 60)
        finally:
            filler.unlink()
        after = [job.checkpoints()[0] for job in self.system.jobs]
        return "no space for checkpoints until one of each job failed", {
            f"a checkpoint of {job.name}": lambda job=job, last=last: job.checkpoints()[0] > last
            for job, last in zip(self.system.jobs, after, strict=True)
        } | self._flowing(self._next())

    def _partitions(self) -> tuple[str, dict[str, Condition]]:
        """Not drawn at random, and last: afterwards the tape's symbols lie in other partitions."""
        from confluent_kafka.admin import AdminClient, NewPartitions

        published = self._player.pause()
        wait("partitions: a row for every bar", lambda: len(self.system.topics.seen) >= published, self._timeout_s)
        count = PARTITIONS[tape.BARS_TOPIC] * 2
        admin = AdminClient({"bootstrap.servers": self.system.broker.bootstrap})
        admin.create_partitions([NewPartitions(tape.BARS_TOPIC, count)])[tape.BARS_TOPIC].result(30)
        self.system.ingest.kill()  # its successor sees them at once
        self.system.ingest.start()
        self._player.resume()
        job, accept = self.system.signals, f"--accept-partitions {count}"
        wait("partitions: the job refuses and names the remedy", lambda: accept in job.exception(), 120, every_s=0.5)
        job.cancel()
        job.submit(job.newest_checkpoint(self.system.checkpoints), *accept.split())
        return f"the bars topic got {count} partitions: refused, then accepted", self._flowing(published)

    def _flowing(self, number: int) -> dict[str, Condition]:
        return {"a new bar's row": self.system.row_after(number), "its outcomes": self.system.outcome_after(number)}


def fill(file: IO[bytes]) -> None:
    """Write until there is no space left."""
    with contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


def percentile(values: list[float], percent: float) -> float:
    """Of the values, in seconds; the nearest rank.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([1.0, 2.0], 95)
    (2.0, 2.0)
    """
    ordered = sorted(values)
    return round(ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1], 1) if ordered else 0.0


def by_kind(recoveries: list[Recovery]) -> dict[str, dict[str, float]]:
    """Count and seconds of recovery of each kind."""
    table = {}
    for kind in sorted({one.kind for one in recoveries}):
        seconds = [one.recovery_s for one in recoveries if one.kind == kind]
        table[kind] = {"faults": len(seconds), "p50_s": percentile(seconds, 50), "p95_s": percentile(seconds, 95)}
    return table
