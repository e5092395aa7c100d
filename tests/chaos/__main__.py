"""The whole system under faults drawn from a seed, compared with an undisturbed run of the same bars.

    python -m tests.chaos --faults 200 --minutes 55
    python -m tests.chaos --faults 10 --seed 7 --kinds poison,redis,task_manager

A feed plays real daily bars at a constant rate through ingestion, both jobs and the relay, while one fault after
another is done to them: see tests/chaos/faults.py for the kinds. A fault counts as recovered when a bar that was
published after it has passed through the failed part; that is its recovery time. Then the same bars are replayed
undisturbed, and signals, feature rows, dead letters, outcomes, Redis and what the relay delivered are compared.

The last line is JSON; the exit code is 1 when anything was lost, wrong or duplicated.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.machine import description
from tests.chaos.cluster import wait
from tests.chaos.compare import calm_run, compare
from tests.chaos.faults import WEIGHTS, Faults, Recovery, by_kind, percentile, schedule
from tests.chaos.system import ChaosSystem
from tests.chaos.tape import Player, make_tape

#: Every kind; ``partitions`` is done once, at the end.
KINDS = [*WEIGHTS, "partitions"]
#: Trading days published at once in the beginning, so that features have warmed up and signals are made.
PRELUDE_DAYS = 300


def run(
    faults: int,
    seed: int,
    minutes: float,
    folder: Path,
    kinds: list[str],
    per_s: float = 40.0,
    away_s: float = 60.0,
    high_availability: bool = True,
) -> dict[str, Any]:
    """One run; its figures. Progress is printed. ``minutes`` bound the faults: the remaining ones are skipped."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    rng = random.Random(seed)
    tape = make_tape(copies=max(1, math.ceil(minutes * 60 * per_s / 10_000)))
    days = sorted({bar.end_ms for bar in tape})
    prelude = sum(bar.end_ms <= days[PRELUDE_DAYS - 1] for bar in tape)
    say(f"seed {seed}: {faults} faults of {', '.join(kinds)}; {len({b.symbol for b in tape})} symbols")
    recoveries: list[Recovery] = []
    with ChaosSystem(folder, tape, say) as system:
        skipped = {"disk_full": system.fillable} if system.fillable and "disk_full" in kinds else {}
        for kind, reason in skipped.items():
            say(f"no {kind}: {reason}")
        kinds = [kind for kind in kinds if kind not in skipped]
        say("started; playing")
        player = Player(system.broker.bootstrap, tape, prelude, per_s, rng)
        player.start()
        doing = Faults(system, player, rng, away_s)
        wait("the first bars' rows and outcomes", lambda: system.row_after(prelude)(), 180)
        wait("outcomes", system.outcome_after(prelude), 120)
        say(f"running: {len(system.topics.seen):,} rows")
        drawn, by_chance = faults - ("partitions" in kinds), [kind for kind in kinds if kind != "partitions"]
        half = drawn // 2 if high_availability else drawn
        planned = [schedule(rng, half, by_chance), schedule(rng, drawn - half, by_chance)]
        deadline = began + minutes * 60
        for turn, kinds_of_turn in enumerate(planned):
            if turn and kinds_of_turn:
                say("moving both jobs to a cluster with high availability by ZooKeeper")
                system.turn_high_availability_on()
                wait("rows again", system.row_after(player.position), 180)
                wait("outcomes again", system.outcome_after(player.position), 120)
            for kind in kinds_of_turn:
                if time.monotonic() > deadline or player.position >= len(tape):
                    break
                time.sleep(rng.uniform(0.2, 1.5))
                one = doing.do(kind)
                recoveries.append(one)
                say(f"fault {len(recoveries)}: {one.kind}: {one.what}; recovered in {one.recovery_s:.1f} s")
        if "partitions" in kinds:
            recoveries.append(doing.do("partitions"))
            one = recoveries[-1]
            say(f"fault {len(recoveries)}: partitions: {one.what}; recovered in {one.recovery_s:.1f} s")
        if len(recoveries) < faults:
            say(f"only {len(recoveries)} of {faults} faults fit into {minutes} minutes")
        bars = tape[: player.stop()]
        system.wait_for_output(len(bars), 300)
        say(f"{len(bars):,} bars played; now the same without faults")
        calm = calm_run(system, bars, folder / "calm")
        try:
            found = compare(system, bars, prelude, doing.injected, calm, folder / "calm")
        finally:
            calm.stop()
    say(f"compared {dict(found.compared)}; repeats dropped {dict(found.repeats)}")
    for example in found.examples:
        print(f"  {example}")
    for kind, row in by_kind(recoveries).items():
        print(f"  {kind:16}{row['faults']:5} times  p50 {row['p50_s']:6.1f} s  p95 {row['p95_s']:6.1f} s")
    seconds = [one.recovery_s for one in recoveries]
    return {
        "faults": len(recoveries),
        "lost": found.lost.total(),
        "wrong": found.wrong.total(),
        "duplicates": found.duplicates.total(),
        "recovery_p50_s": percentile(seconds, 50),
        "recovery_p95_s": percentile(seconds, 95),
        "task_managers_ended_by_themselves": system.ended_by_itself,
        "seed": seed,
        "by_kind": by_kind(recoveries),
        "bars": len(bars),
        "compared": dict(found.compared),
        "differences": {
            "lost": dict(found.lost), "wrong": dict(found.wrong), "duplicates": dict(found.duplicates)
        },
        "repeats_dropped": dict(found.repeats),
        "skipped": skipped,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }  # fmt: skip


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock; printed")
    parser.add_argument("--minutes", type=float, default=55.0, help="no fault is started later than this")
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated")
    parser.add_argument("--per-s", type=float, default=40.0, help="bars per second")
    parser.add_argument("--away-s", type=float, default=60.0, help="how long redis_away stops Redis")
    parser.add_argument("--no-ha", action="store_true", help="skip the half with high availability")
    parser.add_argument("--folder", type=Path, help="keep logs and data here")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"--kinds {', '.join(unknown)}: must be among {', '.join(KINDS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers are stopped
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    print(description(), flush=True)
    with tempfile.TemporaryDirectory(prefix="signals-chaos-") as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        result = run(
            options.faults, seed, options.minutes, folder, kinds, options.per_s, options.away_s, not options.no_ha
        )
    print(json.dumps(result))
    return 1 if result["lost"] or result["wrong"] or result["duplicates"] else 0


if __name__ == "__main__":
    sys.exit(main())
