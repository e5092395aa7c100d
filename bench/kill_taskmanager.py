"""Kill the TaskManager in mid-replay and compare: are signals and outcomes the same, none lost, none twice?

    python -m bench.kill_taskmanager --runs 20

Real daily bars (copied under more names) are replayed by the submitted jobs on standalone clusters. Each run kills
the TaskManager (``kill -9``) once the job has a checkpoint, at a moment drawn from its printed seed, starts another and
waits for the end. What the topics then hold, repeats dropped by id, is compared with a replay that nobody disturbed;
``emitted_ms`` is the one field left out. Odd runs disturb the signals job, even ones the outcomes job. The last line
is JSON; the exit code is 1 when anything differed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import bokeh_sampledata
import msgspec

from bench.machine import description
from connectors.bar_files import read_bars
from connectors.local import Broker, FlinkCluster
from connectors.runtime import ROOT
from connectors.topics import read_topic
from models.messages import Bar, Outcome, Signal, decode, encode

STOCKS = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"


def real_bars(copies: int) -> list[Bar]:
    """Five stocks' daily bars under ``copies`` names each."""
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

    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 20})
    for bar in bars:
        while True:
            try:
                producer.produce(topic, encode(bar), bar.symbol, timestamp=bar.end_ms)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(60)


def rest(cluster: FlinkCluster, path: str) -> Any:
    """An answer of the cluster's REST interface."""
    with urlopen(f"http://{cluster.address}{path}", timeout=10) as answer:
        return json.load(answer)


def submit(cluster: FlinkCluster, wheel: Path, job: str, *arguments: str) -> str:
    """Submit a job file; its id."""
    done = cluster.flink("run", "--detached", "-py", str(ROOT / "jobs" / f"{job}.py"), "-pyfs", str(wheel), *arguments)
    for line in done.stdout.splitlines():
        if "JobID" in line:
            return line.split("JobID")[1].split()[0]
    raise RuntimeError(f"flink run failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def kill_in_midst(cluster: FlinkCluster, job: str, rng: random.Random) -> bool:
    """After the first checkpoint and a random while, kill the TaskManager; false if the job was faster."""
    while rest(cluster, f"/jobs/{job}/checkpoints")["counts"]["completed"] < 1:
        if rest(cluster, f"/jobs/{job}")["state"] in ("FINISHED", "FAILED"):
            return False
        time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 2.0))
    if rest(cluster, f"/jobs/{job}")["state"] != "RUNNING":
        return False
    for pid in cluster.pids("taskexecutor"):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    cluster.start_task_manager()
    return True


def wait(cluster: FlinkCluster, job: str, timeout_s: float) -> None:
    """Until the job has finished."""
    deadline = time.monotonic() + timeout_s
    while (state := rest(cluster, f"/jobs/{job}")["state"]) != "FINISHED":
        if state == "FAILED" or time.monotonic() > deadline:
            raise RuntimeError(f"job {job} is {state}, not finished")
        time.sleep(0.2)


def signals_in(bootstrap: str, topic: str) -> tuple[dict[str, bytes], int]:
    """Signals by id without their wall clock, and how many records there were; RuntimeError if an id has two forms."""
    held: dict[str, bytes] = {}
    count = 0
    for *_, value in read_topic(bootstrap, topic):
        count += 1
        one = msgspec.structs.replace(decode(value, Signal), emitted_ms=0)
        if held.setdefault(one.signal_id, encode(one)) != encode(one):
            raise RuntimeError(f"{one.signal_id} was written in two forms")
    return held, count


def verdicts_in(bootstrap: str, topic: str) -> tuple[dict[str, bytes], int]:
    """The last word on each signal without its count of corrections, and how many records there were."""
    held: dict[str, Outcome] = {}
    count = 0
    for *_, value in read_topic(bootstrap, topic):
        count += 1
        one = decode(value, Outcome)
        known = held.get(one.signal_id)
        if known is None or (one.revision, one.updated_ms) >= (known.revision, known.updated_ms):
            held[one.signal_id] = one
    return {name: encode(msgspec.structs.replace(one, revision=0)) for name, one in held.items()}, count


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="kills; 20 for the full proof")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first run; the next add one")
    parser.add_argument("--copies", type=int, default=8, help="names each stock's bars are replayed under")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a job may take")
    options = parser.parse_args()
    print(description())
    differing = kills = repeats = 0
    with tempfile.TemporaryDirectory() as folder, Broker() as broker:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(ROOT)],
            check=True,
            capture_output=True,
        )
        wheel = next(Path(folder).glob("*.whl"))
        bars = real_bars(options.copies)
        broker.create_topic("market-data-bars", partitions=2)
        publish(broker.bootstrap, "market-data-bars", bars)
        settings = {"execution.checkpointing.interval": "500ms", "execution.checkpointing.min-pause": "200ms"}
        common = ["--kafka", broker.bootstrap, "--replay", "--frame-offsets", "250"]

        def run(job: str, prefix: str, rng: random.Random | None) -> bool:
            """One replay into topics of its own, on a cluster of its own; whether it was disturbed.

            In thread mode a TaskManager serves one job in its life: the library that embeds Python cannot be loaded
            again by another job's class loader on Java 17.
            """
            own = ["--signals-topic", "calm-trading-signals"] if job == "outcomes" else ["--no-feature-rows"]
            with FlinkCluster(settings=settings) as cluster:
                job_id = submit(cluster, wheel, job, *common, "--out-prefix", prefix, "--group-id", prefix, *own)
                killed = rng is not None and kill_in_midst(cluster, job_id, rng)
                wait(cluster, job_id, options.timeout)
            return killed

        run("signals", "calm-", None)
        run("outcomes", "calm-", None)
        calm_signals, _ = signals_in(broker.bootstrap, "calm-trading-signals")
        calm_verdicts, _ = verdicts_in(broker.bootstrap, "calm-signal-outcomes")
        print(f"{len(bars)} bars, undisturbed: {len(calm_signals)} signals, {len(calm_verdicts)} verdicts")
        for number in range(1, options.runs + 1):
            seed = options.seed + number - 1
            job = "signals" if number % 2 else "outcomes"
            prefix = f"run{number}-"
            killed = run(job, prefix, random.Random(seed))
            if job == "signals":
                got, count = signals_in(broker.bootstrap, f"{prefix}trading-signals")
                calm = calm_signals
            else:
                got, count = verdicts_in(broker.bootstrap, f"{prefix}signal-outcomes")
                calm = calm_verdicts
            lost, extra = calm.keys() - got.keys(), got.keys() - calm.keys()
            changed = sum(got[name] != calm[name] for name in got.keys() & calm.keys())
            wrong = len(lost) + len(extra) + changed
            differing += wrong
            kills += killed
            repeats += max(0, count - len(got)) if job == "signals" else 0
            print(
                f"run {number} seed {seed}: {job} {'killed' if killed else 'was faster than the kill'}; "
                f"{count} records, {len(got)} after dropping repeats; lost {len(lost)}, extra {len(extra)}, "
                f"changed {changed}",
                flush=True,
            )
    print(
        json.dumps(
            {
                "runs": options.runs,
                "kills": kills,
                "signals": len(calm_signals),
                "verdicts": len(calm_verdicts),
                "repeats_dropped": repeats,
                "differing": differing,
            }
        )
    )
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
