"""Parallelism over two TaskManagers: is the output that of parallelism 1, and what does it bring on this machine?

    python bench/scale_out.py                          60,000 bars of 400 symbols at parallelism 1, 2 and 4
    python bench/scale_out.py --minutes 1000

A standalone cluster of two TaskManagers, each a process of its own. Parallelism 1 and 2 run with one slot per
TaskManager, as ``flink-conf/config.yaml`` has it (in thread mode the slots of a process share one interpreter's lock);
4 runs as 2 x 2. Every run is a replay of the same topic of four partitions; rows and signals must equal those of
parallelism 1 byte for byte, but for ``emitted_ms``, and none may come twice. The rate is rows over the time between the
first and the last broker stamp. The last line is JSON; the exit code is 1 when anything differed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import cluster as flink  # noqa: E402
from bench.kill_taskmanager import identified  # noqa: E402
from bench.machine import description  # noqa: E402
from bench.topics import create_stamped, publish, stamps  # noqa: E402

#: (parallelism, slots of each of the two TaskManagers)
RUNS = ((1, 1), (2, 1), (4, 2))


def output(bootstrap: str, prefix: str) -> dict[str, bytes]:
    """Every row and signal by its identity; RuntimeError if one came twice."""
    from connectors.kafka.read import read_to_end
    from models.messages import FeatureRow, decode

    held: dict[str, bytes] = {}
    read = 0
    for *_, value in read_to_end(bootstrap, f"{prefix}features"):
        row = decode(value, FeatureRow)
        held[f"{row.symbol} {row.start_ms}"] = value
        read += 1
    for name, value in identified(bootstrap, f"{prefix}trading-signals"):
        held[name] = value
        read += 1
    if read != len(held):
        raise RuntimeError(f"{read - len(held)} of {read} records came twice")
    return held


def main() -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=150)
    parser.add_argument("--symbols", type=int, default=400)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a replay may take")
    given = parser.parse_args()

    from cli.local.servers import Broker, FlinkCluster

    machine = description()
    print(machine)
    rates: dict[int, float] = {}
    differing = 0
    with tempfile.TemporaryDirectory(prefix="scale-out-") as name, Broker(heap_mb=1024) as broker:
        policy = Path(name) / "policy.json"
        policy.write_text(json.dumps({"risk": {"symbol_cooldown_ms": 3_600_000}}))
        bars = publish(broker.bootstrap, "market-data-bars", given.minutes, given.symbols)
        print(f"published {bars:,} bars of {given.symbols} symbols", flush=True)
        alone: dict[str, bytes] = {}
        for parallelism, slots in RUNS:
            prefix = f"p{parallelism}-"
            create_stamped(broker.bootstrap, f"{prefix}features")
            with FlinkCluster(2, {"taskmanager.numberOfTaskSlots": str(slots)}, checkout=ROOT) as cluster:
                began = time.monotonic()
                job = flink.start(
                    cluster, "signals", "--kafka", broker.bootstrap, "--replay", "--out-prefix", prefix, "--policy",
                    str(policy), "--parallelism", str(parallelism),
                )  # fmt: skip
                flink.await_state(cluster, job, "FINISHED", given.timeout)
                took = time.monotonic() - began
                used = flink.task_managers_of(cluster, job)
            count, first, last = stamps(broker.bootstrap, f"{prefix}features")
            if count != bars:
                raise SystemExit(f"parallelism {parallelism} wrote {count:,} rows for {bars:,} bars")
            rates[parallelism] = count / max(last - first, 0.001)
            held = output(broker.bootstrap, prefix)
            alone = alone or held
            differing += len(alone.keys() ^ held.keys())
            differing += sum(held[one] != alone[one] for one in held.keys() & alone.keys())
            print(
                f"parallelism {parallelism} on {used} TaskManagers of {slots}: {rates[parallelism]:,.0f} bars/s, "
                f"{took:.1f} s from submit to end, {len(held):,} records, {differing} differ so far", flush=True,
            )  # fmt: skip
    figures = {f"parallelism_{one}_bars_per_s": round(rate) for one, rate in rates.items()}
    print(json.dumps({**figures, "records": len(alone), "differing": differing, "machine": machine}))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
