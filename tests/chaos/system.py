"""The whole system as processes: broker, Redis, ingestion, both jobs on a Flink cluster, relay; and their observers.

A part that dies is started again by the same command, as a supervisor would; the parts are unaware of each other's end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from bench.kill_taskmanager import await_task_managers
from cli.local.servers import FlinkCluster, PythonProcess, lasting_port
from cli.local.system import System
from connectors.kafka.topics import ensure_topics
from connectors.paths import ROOT
from models.messages import Bar
from relay.users import open_store
from tests.chaos.cluster import SETTINGS, Job, ZooKeeper, wait
from tests.chaos.tape import BARS_TOPIC, FEED_TOPIC, MAPPING
from tests.chaos.watch import Listener, Topics, newest_price_ms

#: Whether a condition has been met.
Condition = Callable[[], Any]

#: Topics that are watched or compared, and their partitions.
PARTITIONS = {FEED_TOPIC: 2, BARS_TOPIC: 2, "features": 2, "trading-signals": 2, "signal-outcomes": 2, "dead-letter": 1}
#: The checkpoint folder can be filled when it is a file system of its own, of this size.
CHECKPOINTS_MB = 256
#: Bars of history that the outcomes job keeps, for signals that are late by the longest fault.
HISTORY_HOURS = "1000000"


def with_chaos_user(system: System) -> tuple[PythonProcess, tuple[int, str]]:
    """The relay on a port that stays the same, and what a client needs: that port and a token."""
    port, users = lasting_port(), f"sqlite://{system.folder / 'users.db'}"
    store = open_store(users)
    store.add("chaos", tier="dynamic")
    access = port, store.issue_token("chaos")
    kept = {"SIGNALS_RELAY_SNAPSHOT_SIGNALS_MAX": "1000000"}
    return system.relay(port, users=users, variables=kept), access


class ChaosSystem:
    """Use as a context; ``say`` prints a line of progress."""

    def __init__(self, folder: Path, tape: list[Bar], say: Callable[[str], None]) -> None:
        self.folder, self.tape, self.say = folder, tape, say
        self.symbols = sorted({bar.symbol for bar in tape})
        self._stack = contextlib.ExitStack()
        self.cluster: FlinkCluster | None = None
        self.high_availability = False
        self.fillable = ""
        self.checkpoints = folder / "checkpoints"
        #: Locked while a fault ends or starts processes of the cluster: the supervisor must not react to them.
        self.cluster_lock = threading.Lock()
        #: TaskManagers that ended without being killed (docs/chaos.md gives the cause), and were started again.
        self.ended_by_itself = 0
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> ChaosSystem:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        self._stack.close()

    def _start(self) -> None:
        self.fillable = self._mount()
        system = System(self.folder)
        system.start_servers(self._stack, partitions=2, keep_redis=True)
        assert system.broker is not None
        assert system.redis_server is not None
        self.broker, self.redis = system.broker, system.redis_server
        self.store = redis.Redis.from_url(self.redis.url, socket_timeout=2)
        for topic, count in PARTITIONS.items():
            ensure_topics(self.broker.bootstrap, [topic], count)
        mapping, settings = self.folder / "tape.toml", self.folder / "ingest.toml"
        mapping.write_text(MAPPING)
        settings.write_text(f'venues = []\nfeeds = ["{mapping}"]\nresume_records = 20000\n')
        self.ingest = self._stack.enter_context(system.ingest(config=settings, page=False))
        self.relay, self.access = with_chaos_user(system)
        self._stack.enter_context(self.relay)
        self.listener = Listener(*self.access)
        self._stack.callback(self.listener.close)
        self.topics = Topics(
            self.broker.bootstrap,
            {name: PARTITIONS[name] for name in ("features", "signal-outcomes", "dead-letter")},
            self.tape,
        )
        self._stack.callback(self.topics.close)
        self._stack.callback(self._stop_cluster)
        self._start_cluster({})
        assert self.cluster is not None
        self.signals = Job("signals", self.cluster, [*system.servers, "--group-id", "chaos-signals"])
        more = ["--group-id", "chaos-outcomes", "--history-hours", HISTORY_HOURS]
        self.outcomes = Job("outcomes", self.cluster, [*system.servers, *more])
        self.submit()
        self._supervisor.start()

    def _supervise(self) -> None:
        """Start a TaskManager again that ends, as docker/compose.yaml and Kubernetes do."""
        while not self._closing.wait(1.0):
            with self.cluster_lock:
                if self.cluster is not None and (ended := self.cluster.replace_ended_task_managers()):
                    self.ended_by_itself += ended
                    self.say(f"{ended} TaskManager ended by itself; started again (its log is kept)")

    def _mount(self) -> str:
        """Give checkpoints a file system of their own; the reason, if that is not possible."""
        self.checkpoints.mkdir()
        if os.geteuid() != 0:
            return "the checkpoint folder cannot be a small file system: mounting one needs root"
        mount = ["mount", "-t", "tmpfs", "-o", f"size={CHECKPOINTS_MB}m", "tmpfs", str(self.checkpoints)]
        done = subprocess.run(mount, capture_output=True, text=True)
        if done.returncode:
            return f"the checkpoint folder cannot be a small file system: {done.stderr.strip()}"
        self._stack.callback(subprocess.run, ["umount", "-l", str(self.checkpoints)], check=False)
        return ""

    # The cluster

    @property
    def jobs(self) -> tuple[Job, Job]:
        """Both."""
        return self.signals, self.outcomes

    def _start_cluster(self, more: dict[str, str]) -> None:
        folder = self.folder / ("cluster-ha" if more else "cluster")
        settings = SETTINGS | {"execution.checkpointing.dir": self.checkpoints.as_uri()} | more
        self.cluster = FlinkCluster(task_managers=2, settings=settings, folder=folder, checkout=ROOT)
        self.cluster.start()

    def _stop_cluster(self) -> None:
        if self.cluster is not None:
            self.cluster.stop()
            self.cluster = None

    def submit(self, *, resume: bool = False) -> None:
        """Submit both jobs, side by side; with ``resume`` each from its last retained checkpoint."""
        failures: list[BaseException] = []

        def one(job: Job) -> None:
            try:
                job.submit(job.newest_checkpoint(self.checkpoints) if resume else None)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=one, args=(job,)) for job in self.jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def turn_high_availability_on(self) -> None:
        """Move both jobs from their last checkpoints to a cluster that keeps its own in ZooKeeper."""
        keeper = self._stack.enter_context(ZooKeeper(self.folder / "zookeeper"))
        with self.cluster_lock:
            self._stop_cluster()
            self._stack.callback(self._stop_cluster)  # before the keeper
            self._start_cluster(keeper.settings(self.folder / "ha"))
        assert self.cluster is not None
        for job in self.jobs:
            job.cluster = self.cluster
        self.submit(resume=True)
        self.high_availability = True

    def await_task_managers(self) -> None:
        """Until both are registered."""
        assert self.cluster is not None
        await_task_managers(self.cluster, 2)

    # Progress

    def row_after(self, number: int) -> Condition:
        """Whether a bar of this number on the tape, or a later one, has its row."""
        return lambda: self.topics.newest >= number

    def outcome_after(self, number: int) -> Condition:
        """Whether an outcome was published for a bar of this number or a later one."""
        return lambda: self.topics.outcome_ms >= self.tape[number].end_ms

    def price_after(self, number: int) -> Condition:
        """Whether Redis has a price of a bar of this number or a later one."""
        return lambda: newest_price_ms(self.store, self.symbols) >= self.tape[number].end_ms

    def received_after(self, number: int) -> Condition:
        """Whether the relay's client received a bar of this number or a later one."""
        return lambda: self.listener.newest_ms >= self.tape[number].end_ms

    def wait_for_output(self, bars: int, timeout_s: float) -> None:
        """Wait until every bar has its row, and everything that follows from it has been written."""
        wait("a row for every bar", lambda: len(self.topics.seen) >= bars, timeout_s)
        last = bars - 1
        wait("the last price in Redis", self.price_after(last), timeout_s)
        wait("the last price at the relay's client", self.received_after(last), timeout_s)
        # the last days' bars have no outcome if no signal is open then
        wait("the last outcomes", self.outcome_after(max(0, last - 5 * len(self.symbols))), timeout_s)
        wait("silence", lambda: time.monotonic() - self.topics.received_at > 3, timeout_s)

    def troubles(self) -> str:
        """The parts' reports, for a fault that did not recover."""
        told = [f"{job.name}: {job.state()}\n{job.exception()[:3000]}" for job in self.jobs]
        told += [f"{one.name}:\n{one.tail()}" for one in (self.ingest, self.relay)]
        told += [f"newest row {self.topics.newest}, newest outcome {self.topics.outcome_ms}"]
        return "\n".join(told)
