"""An hour at half load: does anything grow, restart or slow down?

    python bench/soak.py                             1 hour at 50 % of the system's capacity
    python bench/soak.py --minutes 5 --warm-up-s 60 --groups 1     unknown options are passed to the job

A standalone Flink cluster with the memory of `flink-conf/config.yaml`, a broker whose topics keep 256 MB per partition,
Redis, and a relay with clients that stay and one that comes and goes. The capacity (100 %) is measured first: bars per
second over a backlog, with all of these on the machine. Bars are of one second: event time passes about as fast as the
clock.

Of each process, every few seconds: resident memory (and the anonymous part of it, which file mappings do not move),
CPU, threads, file descriptors. Flink's JVMs touch their whole heap at startup, so that growth of resident memory
is native memory and not heap being used for the first time. The heap is reported separately: the minimum in use, and
what a full collection leaves of it at both ends of the measured time (by the JDK's `jcmd`; what young collections leave
grows for hours before Flink's collector looks at the old ones). Latency is from a bar's append to its row's append, by
the broker's stamps. After the warm-up the growth is a straight line through the samples, in MiB per hour. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402

from bench.cluster import rest, start  # noqa: E402
from bench.kill_taskmanager import build_wheel  # noqa: E402
from bench.live import Market, percentiles  # noqa: E402
from bench.machine import description  # noqa: E402
from cli.local.servers import FlinkCluster  # noqa: E402
from cli.local.system import System  # noqa: E402
from connectors.paths import find_java  # noqa: E402
from relay.users import open_store  # noqa: E402

TOPICS = ("market-data-bars", "features", "trading-signals")
PARTITIONS = 4
MIB = 2**20
#: At most one signal per symbol every ten minutes, so that signals arrive continuously.
COOLDOWN_MS = 600_000


class Sample(NamedTuple):
    """One process (or the workers of one) at one moment."""

    at_s: float
    rss_mib: float
    anonymous_mib: float
    threads: int
    files: int
    cpu_s: float


class _Place(msgspec.Struct):
    symbol: str
    end_ms: int = 0


class Rig:
    """Every process of the system, and a consumer of what the job writes; use as a context."""

    def __init__(self, folder: Path, clients: int, *arguments: str) -> None:
        self._folder, self._clients, self._stack = folder, clients, ExitStack()
        self._arguments = arguments
        self._stop = threading.Event()
        self.relay_messages = 0

    def __enter__(self) -> Rig:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        system = System(self._folder)
        system.start_servers(stack, PARTITIONS)
        assert system.broker is not None
        assert system.redis_server is not None
        self.broker, self.redis = system.broker, system.redis_server
        for topic in TOPICS:
            self._create(topic)
        users = f"sqlite://{self._folder}/users.db"
        store = open_store(users)
        store.add("soak", tier="dynamic")
        token = store.issue_token("soak")
        store.close()
        self.relay = stack.enter_context(system.relay(users=users))
        port = int(self.relay.ready_text.rpartition(":")[2].strip("/ "))
        touched = "-XX:+AlwaysPreTouch"
        options = {"env.java.opts.taskmanager": touched, "env.java.opts.jobmanager": touched}
        self.cluster = stack.enter_context(FlinkCluster(settings=options, folder=self._folder / "flink"))
        policy = self._folder / "policy.json"
        policy.write_text(json.dumps({"risk": {"symbol_cooldown_ms": COOLDOWN_MS}}))
        self.job = start(
            self.cluster, "signals", "-pyfs", str(build_wheel(self._folder)), *system.servers,
            "--policy", str(policy), *self._arguments,
        )  # fmt: skip
        stack.callback(self._stop.set)
        for number in range(self._clients + 1):
            stays = number < self._clients
            threading.Thread(target=self._listen, args=(port, token, stays), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _create(self, topic: str) -> None:
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        config = {
            "message.timestamp.type": "LogAppendTime", "retention.bytes": str(256 * MIB),
            "segment.bytes": str(64 * MIB),
        }  # fmt: skip
        client = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        client.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)])[topic].result(30)

    def _listen(self, port: int, token: str, stays: bool) -> None:
        """One client of the relay: it stays, or reconnects every few seconds."""
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        hello = json.dumps({"type": "hello", "token": token, "all": True})
        while not self._stop.is_set():
            with contextlib.suppress(WebSocketException, OSError), connect(f"ws://127.0.0.1:{port}/ws") as socket:
                socket.send(hello)
                leave_s = time.monotonic() + (1e9 if stays else 3)
                while time.monotonic() < leave_s and not self._stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        socket.recv(timeout=1)
                        self.relay_messages += 1
            time.sleep(0.5)

    def heap_kept_mib(self) -> float | None:
        """What a full collection leaves in the TaskManager's heap; None where the JDK's ``jcmd`` is not installed."""
        jcmd = find_java().with_name("jcmd")
        if not jcmd.exists():
            return None
        (pid,) = self.cluster.pids("taskexecutor")
        told = ""
        for order in "GC.run", "GC.heap_info":
            told = subprocess.run([str(jcmd), str(pid), order], capture_output=True, text=True, check=True).stdout
        found = re.search(r"used (\d+)K", told)
        return round(int(found[1]) / 1024, 1) if found else None

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The processes by what they are; a TaskManager's children are its Python worker."""
        (manager,) = self.cluster.pids("standalonesession")
        workers = []
        for pid in self.cluster.pids("taskexecutor"):
            with contextlib.suppress(psutil.NoSuchProcess):
                workers += psutil.Process(pid).children(recursive=True)
        named = {"jobmanager": [manager], "taskmanager": self.cluster.pids("taskexecutor")}
        named |= {"broker": [self.broker.pid], "redis": [self.redis.pid], "relay": [self.relay.pid]}
        return {name: [psutil.Process(pid) for pid in pids] for name, pids in named.items()} | {
            "python worker": workers
        }

    def redis_kib(self) -> dict[str, int]:
        """Redis memory: KiB by kind of key, and total in use."""
        import redis

        client = redis.Redis.from_url(self.redis.url)
        held: dict[str, int] = defaultdict(int)
        keys = list(client.scan_iter(count=1_000))
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.memory_usage(key)
            for key, size in zip(keys, pipeline.execute(), strict=True):
                held[key.decode() if key.startswith(b"signals:") else key.decode().split(":")[0]] += size or 0
        found = {kind: size // 1024 for kind, size in sorted(held.items())}
        return found | {"used": client.info("memory")["used_memory"] // 1024}

    def heap_mib(self) -> float:
        """Heap of the TaskManager in use; NaN while the JobManager does not know."""
        (found,) = rest(self.cluster, "/taskmanagers")["taskmanagers"]
        told = rest(self.cluster, f"/taskmanagers/{found['id']}/metrics?get=Status.JVM.Memory.Heap.Used")
        return float(told[0]["value"]) / MIB if told else np.nan

    def job_counts(self) -> dict[str, int]:
        """Restarts of the job, failed and completed checkpoints, bytes of the newest checkpoint."""
        while not (restarts := rest(self.cluster, f"/jobs/{self.job}/metrics?get=numRestarts")):
            time.sleep(1)  # the JobManager gathers metrics when it is asked for them
        told = rest(self.cluster, f"/jobs/{self.job}/checkpoints")
        newest = told["latest"]["completed"]
        return {
            "restarts": int(float(restarts[0]["value"])), "failed_checkpoints": told["counts"]["failed"],
            "checkpoints": told["counts"]["completed"], "checkpoint_bytes": newest["state_size"] if newest else 0,
        }  # fmt: skip


class Flow:
    """Bars in at a steady rate, rows out; latencies as (second of the run, ms), and counts."""

    def __init__(self, bootstrap: str, symbols: int) -> None:
        from confluent_kafka import Consumer, TopicPartition

        self.market = Market(bootstrap, symbols, timeframe="1s")
        self.rate = 0
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "soak", "enable.auto.commit": False})
        self._consumer.assign([TopicPartition(topic, n, 0) for topic in TOPICS[1:] for n in range(PARTITIONS)])
        self._decode = msgspec.json.Decoder(_Place).decode
        self._rows: dict[tuple[str, int], int] = {}
        self._bars = iter(self.market.minute())
        self._began = time.monotonic()
        self.sent = self.rows = self.signals = 0
        self.at_s, self.took_ms = array("d"), array("i")

    @property
    def behind(self) -> int:
        """Bars that have no row yet."""
        return self.sent - self.rows

    def step(self) -> None:
        """Send due bars, read new records."""
        self._send(int((time.monotonic() - self._began) * self.rate) - self.sent)
        self.collect(0.005)

    def backlog(self, bars: int, timeout_s: float = 180) -> float:
        """Send so many bars at once and wait for their rows; bars per second from the first bar to the last row."""
        began = time.monotonic()
        self._send(bars)
        while self.behind:
            self.collect(0.05)
            if time.monotonic() - began > timeout_s:
                raise SystemExit(f"{self.rows:,} rows of {self.sent:,} bars after {timeout_s:.0f} s")
        return bars / (time.monotonic() - began)

    def _send(self, bars: int) -> None:
        for number in range(bars):
            bar = next(self._bars, None)
            if bar is None:
                self._bars = iter(self.market.minute())
                bar = next(self._bars)
            self.market.send(bar)
            self.sent += 1
            if number % 1_000 == 0:
                self.market.producer.poll(0)
        self.market.producer.poll(0)

    def collect(self, wait_s: float) -> None:
        """Read rows and signals; a row meets its bar's stamp, whichever comes first."""
        for record in self._consumer.consume(5_000, wait_s):
            value = record.value()
            if record.error() is not None or value is None:
                continue
            if record.topic() == "trading-signals":
                self.signals += 1
                continue
            self.rows += 1
            place = self._decode(value)
            self._rows[place.symbol, place.end_ms] = record.timestamp()[1]
        at_s, sent = time.monotonic() - self._began, self.market.sent
        for key in [key for key in self._rows if key in sent]:
            self.at_s.append(at_s)
            self.took_ms.append(self._rows.pop(key) - sent.pop(key))

    def start(self, rate: int) -> None:
        """Send so many bars per second from now on, and reset the counts."""
        self.rate = rate
        self._began, self.sent, self.rows, self.signals = time.monotonic(), 0, 0, 0
        self.at_s, self.took_ms = array("d"), array("i")

    def latency(self, from_s: float, to_s: float) -> dict[str, float]:
        """Percentiles of the rows that came in that time."""
        first, last = bisect_left(self.at_s, from_s), bisect_left(self.at_s, to_s)
        return percentiles(self.took_ms[first:last].tolist())


def samples(rig: Rig, at_s: float) -> dict[str, Sample]:
    """Every process now."""
    found = {}
    for name, processes in rig.processes().items():
        total = np.zeros(5)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                memory, cpu = process.memory_info(), process.cpu_times()
                anonymous, cpu_s = memory.rss - memory.shared, cpu.user + cpu.system
                total += (memory.rss, anonymous, process.num_threads(), process.num_fds(), cpu_s)
        rss, anonymous, threads, files, cpu_s = total.tolist()
        found[name] = Sample(at_s, rss / MIB, anonymous / MIB, int(threads), int(files), cpu_s)
    return found


def growth(series: list[Sample], field: str) -> float:
    """Slope of a straight line through the samples, units per hour."""
    at_h = np.array([one.at_s for one in series]) / 3600
    return float(np.polyfit(at_h, [getattr(one, field) for one in series], 1)[0])


def watch(rig: Rig, flow: Flow, warm_up_s: float, seconds: float, every_s: float) -> dict[str, Any]:
    """Run, print progress, and summarise what came after the warm-up."""
    series: dict[str, list[Sample]] = defaultdict(list)
    heaps: list[tuple[float, float]] = []
    ids: dict[str, list[int]] = {}
    replaced: dict[str, int] = {}
    began = time.monotonic()
    next_sample_s, next_heap_s = 0.0, 0.0
    before = rig.job_counts()
    redis_kib: dict[str, int] = {}
    kept: list[float | None] = []
    while (at_s := time.monotonic() - began) < warm_up_s + seconds:
        flow.step()
        if at_s >= next_heap_s:  # often, so that the minimum per quarter is what a collection left
            heaps.append((at_s, rig.heap_mib()))
            next_heap_s = at_s + 2
        if at_s < next_sample_s:
            continue
        next_sample_s += every_s
        now = samples(rig, at_s)
        for name, processes in rig.processes().items():
            own = sorted(process.pid for process in processes)
            replaced[name] = replaced.get(name, 0) + (ids.get(name, own) != own and at_s > warm_up_s)
            ids[name] = own
        recent = flow.latency(at_s - every_s, at_s)
        if at_s >= warm_up_s:
            redis_kib = redis_kib or rig.redis_kib()
            kept = kept or [rig.heap_kept_mib()]
            for name, sample in now.items():
                series[name].append(sample)
        memory = ", ".join(f"{name} {s.rss_mib:.0f} MiB {s.threads} thr {s.files} fd" for name, s in now.items())
        latency = f"p50 {recent['p50_ms']:.0f} p99 {recent['p99_ms']:.0f} ms" if recent else "no rows"
        print(
            f"{at_s / 60:6.1f} min{'' if at_s >= warm_up_s else ' (warm-up)'}: {latency}, {flow.behind:,} behind, "
            f"{flow.signals:,} signals; {memory}; heap {heaps[-1][1]:.0f} MiB", flush=True,
        )  # fmt: skip
    kept.append(rig.heap_kept_mib())
    end_s = warm_up_s + seconds
    first, last = flow.latency(warm_up_s, warm_up_s + seconds / 4), flow.latency(end_s - seconds / 4, end_s)
    floors = [
        np.nanmin([mib for at_s, mib in heaps if 0 <= at_s - warm_up_s - k * seconds / 4 < seconds / 4])
        for k in range(4)
    ]
    processes = {}
    for name, some in series.items():
        quarters = np.array_split(np.array(some), 4)
        medians = {field: [float(np.median(part[:, number])) for part in quarters if len(part)]
                   for number, field in enumerate(Sample._fields)}  # fmt: skip
        processes[name] = {
            "cpu_pct": round(100 * (some[-1].cpu_s - some[0].cpu_s) / (some[-1].at_s - some[0].at_s)),
            "rss_mib_per_h": round(growth(some, "rss_mib"), 1),
            "anonymous_mib_per_h": round(growth(some, "anonymous_mib"), 1),
            "rss_mib_by_quarter": [round(value) for value in medians["rss_mib"]],
            "threads_by_quarter": [round(value) for value in medians["threads"]],
            "files_by_quarter": [round(value) for value in medians["files"]],
            "process_replaced": replaced[name],
        }
    after = rig.job_counts()
    return {
        "minutes": round(seconds / 60, 2), "warm_up_s": warm_up_s, "bars_per_s": flow.rate, "bars": flow.sent,
        "rows": flow.rows, "signals": flow.signals, "relay_messages": rig.relay_messages,
        **{name: after[name] - before[name] for name in ("restarts", "failed_checkpoints", "checkpoints")},
        "checkpoint_bytes": after["checkpoint_bytes"],
        "redis_kib_before": redis_kib, "redis_kib_after": rig.redis_kib(),
        "latency_first_quarter": first, "latency_last_quarter": last,
        "p50_drift_pct": round(100 * (last["p50_ms"] / first["p50_ms"] - 1), 1),
        "p99_drift_pct": round(100 * (last["p99_ms"] / first["p99_ms"] - 1), 1),
        "heap_floor_mib_by_quarter": [round(float(mib), 1) for mib in floors],
        "heap_after_collection_mib": kept, "processes": processes,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", type=float, default=50, help="percent of the system's capacity")
    parser.add_argument("--capacity", type=float, help="bars per second that are 100 %%; default: measured first")
    parser.add_argument("--symbols", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, default=60, help="after the warm-up")
    parser.add_argument("--warm-up-s", type=float, default=300)
    parser.add_argument("--every-s", type=float, default=15, help="seconds between samples")
    parser.add_argument("--clients", type=int, default=8, help="clients of the relay that stay")
    given, job = parser.parse_known_args()
    machine = description()
    print(machine)
    with tempfile.TemporaryDirectory(prefix="soak-") as name, Rig(Path(name), given.clients, *job) as rig:
        flow = Flow(rig.broker.bootstrap, given.symbols)
        began = time.monotonic()
        flow.backlog(given.symbols)
        print(f"first rows after {time.monotonic() - began:.1f} s", flush=True)
        flow.backlog(20_000)
        capacity = given.capacity or flow.backlog(40_000)
        flow.start(int(capacity * given.load / 100))
        print(f"100 % are {capacity:,.0f} bars/s; now {flow.rate:,} bars/s", flush=True)
        found = watch(rig, flow, given.warm_up_s, given.minutes * 60, given.every_s)
        for _ in range(200):  # records still in flight
            if not flow.behind:
                break
            flow.market.producer.flush(1)
            flow.collect(0.05)
        found |= {"rows": flow.rows, "capacity_bars_per_s": round(capacity), "symbols": given.symbols}
    for process, figures in found["processes"].items():
        print(f"{process:<14} {figures}")
    print(json.dumps(found | {"job": job, "machine": machine}))
    if found["rows"] != found["bars"]:
        raise SystemExit(f"{found['bars'] - found['rows']:,} bars have no row")


if __name__ == "__main__":
    main()
