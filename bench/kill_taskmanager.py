"""Kill the TaskManager during a replay and compare: are signals and outcomes equal, without loss or duplicates?

    python -m bench.kill_taskmanager --kills 20
    python -m bench.kill_taskmanager --kills 4 --job signals --exactly-once

Real daily bars (copied under more names) are replayed by the submitted jobs on a standalone cluster. Repeatedly,
once a checkpoint has completed since the last fault, and after a while drawn from the replay's printed seed, the
TaskManager is killed (``kill -9``) and another one started; a replay takes ``--kills-per-replay`` of these in turn.
The topics are then compared with those of an undisturbed replay: signals by id, outcomes (every update, not
only the final ones) by id, revision and time; ``emitted_ms`` is the only field left out. Repeats are dropped by these
ids, unless ``--exactly-once``: then one is a fault. The last line is JSON; the exit code is 1 when anything differed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import bokeh_sampledata
import msgspec

from bench.cluster import rest, start, state_of
from bench.machine import description
from cli.local.servers import Broker, FlinkCluster
from connectors.files.bars import read_bars
from connectors.kafka.partitioner import kafka_producer
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.messages import Bar, Outcome, Signal, decode, encode

STOCKS = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
BARS_TOPIC = "kill-bars"

#: A fault is detected and recovered from in seconds, so that many fit into a replay.
QUICK = {
    "execution.checkpointing.interval": "500ms",
    "execution.checkpointing.min-pause": "200ms",
    "heartbeat.interval": "500",
    "heartbeat.timeout": "10000",
    "restart-strategy.exponential-delay.max-backoff": "1s",
    "resourcemanager.standalone.start-up-time": "3600000",
}

#: Few records are in flight between the operators, so that a small tape is not behind one checkpoint barrier as a
#: whole: it could not be disturbed halfway.
SHORT_QUEUES = {
    "taskmanager.memory.segment-size": "4kb",
    "taskmanager.network.memory.buffers-per-channel": "1",
    "taskmanager.network.memory.floating-buffers-per-gate": "1",
}


class Difference(NamedTuple):
    """Contents of a topic compared with what is expected: counts of records; ``repeats`` were dropped by id."""

    records: int
    repeats: int
    lost: int
    extra: int
    changed: int


def real_bars(copies: int) -> list[Bar]:
    """Five stocks' daily bars under ``copies`` names each, in order of time."""
    table, _, _ = read_bars(STOCKS, timeframe="1d")
    names = ["symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume"]
    rows = table.sort_values("start_ms", kind="stable")[names].itertuples(index=False)
    plain = [Bar(**dict(zip(names, row, strict=True))) for row in rows]
    return [
        msgspec.structs.replace(bar, symbol=f"{bar.symbol}{copy}" if copy else bar.symbol)
        for bar in plain
        for copy in range(copies)
    ]


def publish(bootstrap: str, topic: str, bars: list[Bar]) -> None:
    """Bars to their topic, keyed by symbol, in event time."""
    from confluent_kafka import Producer

    # Idempotent: else a batch that is sent again, as right after a topic was made, comes behind the ones after it.
    producer = Producer(kafka_producer(bootstrap) | {"linger.ms": 20, "enable.idempotence": True})
    for bar in bars:
        while True:
            try:
                producer.produce(topic, encode(bar), bar.symbol, timestamp=bar.end_ms)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(60)


def build_wheel(folder: Path) -> Path:
    """The project's wheel."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # leftovers of an earlier build would go into the wheel too
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def fresh_task_manager(cluster: FlinkCluster) -> None:
    """Another TaskManager for another job.

    In thread mode one serves only one job: the library that embeds Python cannot be loaded again by another
    job's class loader on Java 17.
    """
    cluster.kill_task_managers()
    await_task_managers(cluster, 0)
    cluster.start_task_manager()
    await_task_managers(cluster, 1)


def await_task_managers(cluster: FlinkCluster, count: int) -> None:
    """Wait until so many are registered."""
    deadline = time.monotonic() + 60
    while cluster.registered_task_managers() != count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{cluster.registered_task_managers()} TaskManagers after 60 s, not {count}")
        time.sleep(0.1)


class Progress(NamedTuple):
    """How far a job is: its newest checkpoint since its last recovery (0: none yet), how often it has recovered, and
    records in its output topic.
    """

    checkpoint: int
    recoveries: int
    records: int


def progress(cluster: FlinkCluster, job: str, bootstrap: str, topic: str) -> Progress:
    """How far a job is."""
    told = rest(cluster, f"/jobs/{job}/checkpoints")
    completed, restored = told["latest"]["completed"], told["latest"]["restored"]
    if completed and restored and completed["trigger_timestamp"] <= restored["restore_timestamp"]:
        completed = None
    return Progress(int(completed["id"]) if completed else 0, int(told["counts"]["restored"]), count(bootstrap, topic))


def kill_in_midst(
    cluster: FlinkCluster,
    job: str,
    bootstrap: str,
    topic: str,
    rng: random.Random,
    before: Progress | None = None,
    spread_s: float = 2.0,
    each_after_checkpoint: bool = True,
) -> Progress | None:
    """Kill the TaskManager while the job runs and start another: the job's progress, or None if it finished first.

    That is a random while after its first checkpoint and record, or after it has recovered from the fault ``before``
    and written more, and with ``each_after_checkpoint`` completed a checkpoint again.
    """
    checkpointed = before is None or each_after_checkpoint
    before = before or Progress(0, -1, 0)
    deadline = time.monotonic() + 120
    while True:
        now = progress(cluster, job, bootstrap, topic)
        on = now.recoveries > before.recoveries and now.records > before.records
        if on and (now.checkpoint or not checkpointed):
            break
        if state_of(cluster, job) in ("FINISHED", "FAILED"):
            return None
        if time.monotonic() > deadline:
            raise RuntimeError(f"no progress after {before} within 120 s: see the logs in {cluster.folder}")
        time.sleep(0.1)
    time.sleep(rng.uniform(0.0, spread_s))
    if state_of(cluster, job) != "RUNNING":
        return None
    now = progress(cluster, job, bootstrap, topic)
    cluster.kill_task_managers()
    cluster.start_task_manager()
    return now


def wait(cluster: FlinkCluster, job: str, timeout_s: float) -> None:
    """Until the job has finished."""
    deadline = time.monotonic() + timeout_s
    while (state := state_of(cluster, job)) != "FINISHED":
        if state == "FAILED" or time.monotonic() > deadline:
            raise RuntimeError(f"job {job} is {state}, not finished")
        time.sleep(0.2)


def count(bootstrap: str, topic: str) -> int:
    """Records on the topic, by its offsets (transactions' marks and repeats included)."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "count", "log_level": 0})
    try:
        places = [
            TopicPartition(topic, number) for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        return sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
    finally:
        consumer.close()


def identified(bootstrap: str, topic: str) -> Iterator[tuple[str, bytes]]:
    """Each committed record's identity, and its bytes without the wall clock."""
    for *_, value in read_to_end(bootstrap, topic):
        if topic.endswith("signal-outcomes"):
            one = decode(value, Outcome)
            yield f"{one.signal_id} {one.revision} {one.updated_ms}", value
        else:
            made = msgspec.structs.replace(decode(value, Signal), emitted_ms=0)
            yield made.signal_id, encode(made)


def compare(bootstrap: str, topic: str, wanted: dict[str, bytes]) -> Difference:
    """The contents of ``topic`` compared with ``wanted``; a repeat in another form counts as changed."""
    held: dict[str, bytes] = {}
    records = repeats = changed = 0
    for name, value in identified(bootstrap, topic):
        records += 1
        if name in held:
            repeats += 1
            changed += held[name] != value
        held.setdefault(name, value)
    changed += sum(held[name] != wanted[name] for name in held.keys() & wanted.keys())
    return Difference(records, repeats, len(wanted.keys() - held.keys()), len(held.keys() - wanted.keys()), changed)


class Rig(NamedTuple):
    """A broker with bars, a cluster and the wheel: what every replay shares.

    ``frame_offsets``: small frames make a replay longer; ``spread_s``: a kill comes up to so long after a checkpoint;
    ``each_after_checkpoint``: see :func:`kill_in_midst` (else a small tape may be over before the last kill).
    """

    broker: Broker
    cluster: FlinkCluster
    wheel: Path
    frame_offsets: int = 50
    spread_s: float = 3.0
    timeout_s: float = 300.0
    each_after_checkpoint: bool = True

    def replay(self, job: str, prefix: str, kills: int, rng: random.Random, *arguments: str) -> int:
        """One replay into topics of its own; how often it was disturbed (it may be over before the last kill)."""
        out = f"{prefix}{'trading-signals' if job == 'signals' else 'signal-outcomes'}"
        own = ["--signals-topic", "calm-trading-signals"] if job == "outcomes" else []
        fresh_task_manager(self.cluster)
        job_id = start(
            self.cluster, job, "-pyfs", str(self.wheel), "--kafka", self.broker.bootstrap,
            "--bars-topic", BARS_TOPIC, "--replay",
            "--out-prefix", prefix, "--group-id", prefix, "--frame-offsets", str(self.frame_offsets), *own, *arguments,
        )  # fmt: skip
        began, done, at = time.monotonic(), 0, None
        while done < kills:
            at = kill_in_midst(
                self.cluster, job_id, self.broker.bootstrap, out, rng, at, self.spread_s, self.each_after_checkpoint
            )
            if at is None:
                break
            done += 1
            print(
                f"  kill {done} after {time.monotonic() - began:.1f} s, at checkpoint {at.checkpoint}, "
                f"{at.records:,} records out",
                flush=True,
            )
        wait(self.cluster, job_id, self.timeout_s)
        print(f"  {job} finished after {time.monotonic() - began:.1f} s", flush=True)
        return done


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills of each job")
    parser.add_argument("--kills-per-replay", type=int, default=10)
    parser.add_argument("--job", choices=["signals", "outcomes", "both"], default="both")
    parser.add_argument("--exactly-once", action="store_true", help="write in transactions; a repeat is then a fault")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first replay; the next add one")
    parser.add_argument("--copies", type=int, default=4, help="names each stock's bars are replayed under")
    parser.add_argument("--frame-offsets", type=int, default=50, help="small frames make a replay longer")
    parser.add_argument("--spread", type=float, default=3.0, help="a kill comes up to so many s after a checkpoint")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a job may take after its last kill")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers are stopped
    print(description())
    jobs = ["signals", "outcomes"] if options.job == "both" else [options.job]
    kills, repeats, differing, seed = dict.fromkeys(jobs, 0), 0, 0, options.seed
    records: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(Broker(folder / "kafka"))
        bars = real_bars(options.copies)
        broker.create_topic(BARS_TOPIC, partitions=2)
        publish(broker.bootstrap, BARS_TOPIC, bars)
        wheel = build_wheel(folder)
        cluster = stack.enter_context(FlinkCluster(settings=QUICK | SHORT_QUEUES))
        rig = Rig(broker, cluster, wheel, options.frame_offsets, options.spread, options.timeout)
        more = {"signals": ["--no-feature-rows"], "outcomes": []}
        for job in ["signals", *(["outcomes"] if "outcomes" in jobs else [])]:
            print(f"{job}, undisturbed:", flush=True)
            rig.replay(job, "calm-", 0, random.Random(), *more[job])
        for job in jobs:
            topic = "trading-signals" if job == "signals" else "signal-outcomes"
            calm = dict(identified(broker.bootstrap, f"calm-{topic}"))
            records[job] = len(calm)
            while kills[job] < options.kills:
                print(f"{job}, seed {seed}:", flush=True)
                wanted = min(options.kills_per_replay, options.kills - kills[job])
                prefix = f"{job}-{seed}-"
                own = [*more[job], *(["--exactly-once", "--checkpoint-ms", "500"] if options.exactly_once else [])]
                done = rig.replay(job, prefix, wanted, random.Random(seed), *own)
                if not done:
                    raise RuntimeError("the replay was over before the first kill: raise --copies")
                kills[job] += done
                seed += 1
                found = compare(broker.bootstrap, f"{prefix}{topic}", calm)
                repeats += found.repeats
                differing += found.lost + found.extra + found.changed + found.repeats * options.exactly_once
                print(f"  compared with {len(calm):,} undisturbed: {found}", flush=True)
                result = {
                    "bars": len(bars), "kills": kills, "records": records, "exactly_once": options.exactly_once,
                    "repeats": repeats, "differing": differing,
                }  # fmt: skip
                print(json.dumps(result), flush=True)  # after each replay: an interrupted run has its figures
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
