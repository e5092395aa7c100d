"""Bars per second from Kafka to Kafka: this job and its peers doing the same work, in one run on one machine.

    python bench/peers.py                            every engine; about eight minutes
    python bench/peers.py --only thread,loop,sql     some of them
    python bench/peers.py --minutes 1200             more bars
    python bench/peers.py --groups 1                 as many symbol groups as instances, for whoever keys by group

Every engine reads the same topic of minute bars, computes the whole feature catalogue in state that survives a failure,
scores four models, decides, and writes one row per bar and the signals (``bench/engines/work.py`` says what exactly,
and what is left to this job alone). All call the same compiled kernel, models and decisions, so that the engine is what
differs: how it carries bars, batches them and keeps state. Flink SQL alone only copies the bar.

The rate is the number of rows after the first batch over the time from that batch's stamp to the last (LogAppendTime of
the broker), so it leaves out the start-up, which is printed separately. Each engine runs alone, on one worker, with
snapshots every ten seconds.
Slow engines get the same minutes of fewer symbols. Rows are counted; those of a few symbols, and all signals, are
compared with this job's, and an engine that differs or fails is marked so.

Peers are installed by this script, each into a virtual environment of its own under ``.bench-venvs`` that sees this
project's packages behind its own. Licences: Bytewax and Quix Streams Apache 2.0; Pathway Business Source License 1.1.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402

from bench.machine import description  # noqa: E402
from bench.processes import ProcessorTime, end  # noqa: E402
from bench.topics import PARTITIONS, count, create_stamped, publish, random_walk, records  # noqa: E402
from models.messages import FeatureRow, Signal  # noqa: E402

#: Symbols whose rows are compared; the slow engines' symbols include them.
SAMPLE = ("S0003", "S0017", "S0029", "S0041")
#: A peer that writes nothing for this long is stopped.
STALLED_S = 90.0
#: One that has its own limit in this run.
LIMIT_S = 150.0
#: A realistic cooldown for minute bars; on a random walk the models change their decision at four bars in ten.
POLICY = {"risk": {"symbol_cooldown_ms": 3_600_000}}


class Engine(NamedTuple):
    """One line of the table. ``few``: gets fewer symbols. ``ends``: stops by itself at the end of the topic.

    ``grouped``: keyed by symbol group, so given their number.
    """

    name: str
    title: str
    module: str
    recovery: str
    options: tuple[str, ...] = ()
    venv: str = ""
    few: bool = False
    ends: bool = True
    flink: bool = False
    rows_compared: bool = True
    grouped: bool = False


FLINK_RECOVERY = "keyed state, checkpoints"
INPUT_KEPT = "input kept, processed again"
ENGINES = (
    Engine("thread", "this job, Python in the JVM", "jobs.signals", FLINK_RECOVERY, flink=True,
           grouped=True),
    Engine("process", "this job, Python outside the JVM", "jobs.signals", FLINK_RECOVERY,
           ("--execution-mode", "process"), flink=True, grouped=True),
    Engine("chatty", "this job, default policy", "jobs.signals", FLINK_RECOVERY, few=True, flink=True,
           rows_compared=False, grouped=True),
    Engine("naive", "PyFlink bar by bar", "bench.row_job", FLINK_RECOVERY, few=True, flink=True),
    Engine("bytewax", "Bytewax, keyed by symbol", "bench.engines.bytewax_flow", "recovery store", venv="bytewax"),
    Engine("bytewax_groups", "Bytewax, keyed by symbol group", "bench.engines.bytewax_flow", "recovery store",
           venv="bytewax", grouped=True),
    Engine("quix", "Quix Streams", "bench.engines.quix_app", "RocksDB, changelog topics", (), "quix", few=True,
           ends=False),
    Engine("pathway", "Pathway, keyed by symbol", "bench.engines.pathway_flow", INPUT_KEPT, (), "pathway",
           ends=False),
    Engine("pathway_groups", "Pathway, keyed by symbol group", "bench.engines.pathway_flow", INPUT_KEPT,
           venv="pathway", ends=False, grouped=True),
    Engine("loop", "bare confluent-kafka loop", "bench.engines.loop", "none"),
    Engine("sql", "Flink SQL copying the bar", "bench.sql_job", "checkpoints", flink=True, rows_compared=False),
)  # fmt: skip
OURS = ("thread", "process")
#: As their documentation keys a stream, and with this job's symbol groups applied to them.
PEERS_BY_SYMBOL = ("bytewax", "quix", "pathway")
PEERS = (*PEERS_BY_SYMBOL, "bytewax_groups", "pathway_groups")


class EngineError(RuntimeError):
    """An engine that could not be installed or did not do its work; the message says how it ended."""


def interpreter(name: str) -> Path:
    """The Python of an engine's environment, made on first use and again when its requirements change."""
    if not name:
        return Path(sys.executable)
    folder, wanted = ROOT / ".bench-venvs" / name, (ROOT / "bench" / "engines" / f"{name}.txt").read_text()
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"installing {', '.join(wanted.split())} into {folder.relative_to(ROOT)}", flush=True)
    requirements = ROOT / "bench" / "engines" / f"{name}.txt"
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)],
    ):
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            lines = ran.stderr.strip().splitlines()
            raise EngineError(f"could not be installed: {lines[-1] if lines else ran.returncode}")
    own = Path(sysconfig.get_paths("posix_prefix", {"base": str(folder), "platbase": str(folder)})["purelib"])
    (own / "this-project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    done.write_text(wanted)
    return python


class Outcome(msgspec.Struct):
    """What an engine wrote and how fast."""

    engine: str
    bars: int = 0
    bars_per_s: float = 0.0
    start_s: float = 0.0
    cores: float = 0.0
    cpu_us: float = 0.0
    signals: int = 0
    fault: str = ""
    #: Of the sample: (symbol, end_ms) -> row; and (symbol, created_ms) -> signal.
    rows: dict[tuple[str, int], FeatureRow] = {}
    said: dict[tuple[str, int], Signal] = {}


class Bench:
    """A broker with the bars, and the folder of the run."""

    def __init__(self, bootstrap: str, folder: Path, minutes: int, symbols: int, few: int, groups: int) -> None:
        self.bootstrap, self.folder, self._groups = bootstrap, folder, groups
        self.policy, self.default_policy = folder / "policy.json", folder / "default_policy.json"
        self.policy.write_text(json.dumps(POLICY))
        self.default_policy.write_text("{}")
        self.bars = {
            "bench-bars": publish(bootstrap, "bench-bars", minutes, symbols),
            "bench-few-bars": publish(bootstrap, "bench-few-bars", minutes, symbols, few),
        }

    def run(self, engine: Engine) -> Outcome:
        """Run an engine to its end and read what it wrote."""
        outcome = Outcome(engine.name)
        try:
            python = interpreter(engine.venv)
            self._run(engine, python, outcome)
        except EngineError as error:
            outcome.fault = str(error)
        return outcome

    def _run(self, engine: Engine, python: Path, outcome: Outcome) -> None:
        topic = "bench-few-bars" if engine.few else "bench-bars"
        wanted, prefix = self.bars[topic], f"{engine.name}-"
        folder = self.folder / engine.name
        folder.mkdir()
        rows_topic, signals_topic = f"{prefix}features", f"{prefix}trading-signals"
        for name in (rows_topic, signals_topic):
            create_stamped(self.bootstrap, name)
        policy = self.default_policy if engine.name == "chatty" else self.policy
        command = [str(python), "-m", engine.module, "--kafka", self.bootstrap, "--bars-topic", topic]
        command += ["--out-prefix", prefix, "--policy", str(policy), *engine.options]
        if engine.grouped:
            command += ["--groups", str(self._groups)]
        if engine.flink:
            command += ["--replay", "--checkpoints", str(folder / "checkpoints")]
        else:
            command += ["--bars", str(wanted), "--folder", str(folder)]
        log = folder / "engine.log"
        began = time.time()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            spent = ProcessorTime(process.pid)
            try:
                self._wait(engine, process, spent, rows_topic, wanted)
            except EngineError as error:
                tail = log.read_text(errors="replace").splitlines()[-25:]
                print("\n".join("    " + line for line in tail), flush=True)
                raise error
            finally:
                end(process)
        stamps: list[int] = []
        for record in records(self.bootstrap, rows_topic):
            stamps.append(record.timestamp()[1])
            value = record.value()
            if engine.rows_compared and value[11:16].decode() in SAMPLE:
                row = msgspec.json.decode(value, type=FeatureRow)
                outcome.rows[row.symbol, row.end_ms] = row
        for record in records(self.bootstrap, signals_topic):
            made = msgspec.json.decode(record.value(), type=Signal)
            outcome.said[made.symbol, made.created_ms] = msgspec.structs.replace(made, emitted_ms=0)
            outcome.signals += 1
        outcome.bars, outcome.start_s = len(stamps), min(stamps, default=0) / 1000 - began
        if len(stamps) != wanted:
            raise EngineError(f"wrote {len(stamps):,} rows for {wanted:,} bars")
        done, first_s, last_s = steady(stamps)
        busy_s = spent.between(first_s, last_s)
        outcome.bars_per_s = done / (last_s - first_s)
        outcome.cores, outcome.cpu_us = busy_s / (last_s - first_s), busy_s / done * 1e6

    def _wait(
        self, engine: Engine, process: subprocess.Popen[bytes], spent: ProcessorTime, topic: str, wanted: int
    ) -> None:
        """Until it has ended or, for an engine that does not end, written everything."""
        began = moved = time.monotonic()
        written = 0
        while (code := process.poll()) is None:
            spent.sample()
            time.sleep(0.25)
            now = time.monotonic()
            if (found := count(self.bootstrap, topic)) > written:
                written, moved = found, now
            if written >= wanted and not engine.ends:
                spent.sample()
                time.sleep(1)
                return
            if now - moved > STALLED_S or now - began > LIMIT_S:
                raise EngineError(f"given up after {now - began:.0f} s with {written:,} of {wanted:,} rows written")
        if code:
            raise EngineError(f"ended with code {code} after {time.monotonic() - began:.0f} s")


def steady(stamps: list[int]) -> tuple[int, float, float]:
    """Records after the first burst, and the times (s) of its end and of the last: a first batch's work is before it.

    >>> steady([0] * 500 + [1_000] * 500 + [2_000] * 500)
    (1000, 0.0, 2.0)
    """
    ordered = sorted(stamps)
    burst = bisect.bisect_right(ordered, ordered[0] + max(50.0, 0.02 * (ordered[-1] - ordered[0])))
    if burst > len(ordered) / 2:
        raise EngineError(f"{burst:,} of {len(ordered):,} rows came out at once, so that no rate can be computed")
    return len(ordered) - burst, ordered[burst - 1] / 1000, ordered[-1] / 1000


def differences(mine: Outcome, ours: Outcome, few: int | None) -> str:
    """What an engine wrote that this job did not, or the other way about; empty where there is none."""
    wrong = [place for place, row in ours.rows.items() if mine.rows.get(place) != row]
    if wrong or len(mine.rows) != len(ours.rows):
        return f"{len(wrong):,} of {len(ours.rows):,} rows differ, first {min(wrong, default=None)}"
    symbols = None if few is None else {f"S{s:04d}" for s in range(few)}
    said = {place: made for place, made in ours.said.items() if symbols is None or place[0] in symbols}
    lost = [place for place, made in said.items() if mine.said.get(place) != made]
    if lost or len(mine.said) != len(said):
        return f"{len(lost):,} of {len(said):,} signals differ, first {min(lost, default=None)}"
    return ""


def work_us(policy: Path) -> dict[int, float]:
    """Microseconds of the work alone by bars per call, without any engine: the floor under every line."""
    from bench.engines.work import Work

    work = Work("", policy)
    features, decisions = work.feature_states(), work.decision_states()
    bars = [bar for minute in random_walk(400, 100) for bar in minute]
    found = {}
    at = 0
    for batch, calls in ((2_000, 10), (125, 40), (4, 250), (1, 500)):
        began = time.perf_counter()
        for _ in range(calls):
            frame = work.features(features, bars[at : at + batch])
            work.decide(decisions, frame, work.scores([frame])[0])
            at += batch
        found[batch] = round((time.perf_counter() - began) / batch / calls * 1e6, 1)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=500, help="minutes of bars")
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--few", type=int, default=50, help="symbols that the slow engines get, of those")
    parser.add_argument("--groups", type=int, default=8, help="symbol groups of this job and of peers keyed by them")
    parser.add_argument("--only", default="", help=f"of {','.join(engine.name for engine in ENGINES)}")
    given = parser.parse_args()
    names = [name for name in given.only.split(",") if name]
    if unknown := set(names) - {engine.name for engine in ENGINES}:
        parser.error(f"--only {','.join(unknown)}: no such engine; see --help")
    if not 42 <= given.few <= given.symbols:
        parser.error(f"--few {given.few}: must be 42 (the compared symbols) to --symbols {given.symbols}")

    from cli.local.servers import Broker

    machine = description()
    print(machine)
    found: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as name, Broker(partitions=PARTITIONS, heap_mb=1024) as broker:
        bench = Bench(broker.bootstrap, Path(name), given.minutes, given.symbols, given.few, given.groups)
        many, few = bench.bars["bench-bars"], bench.bars["bench-few-bars"]
        print(f"{many:,} bars of {given.symbols} symbols; slow engines {few:,} of {given.few}", flush=True)
        for engine in ENGINES:
            if names and engine.name not in names:
                continue
            outcome = found[engine.name] = bench.run(engine)
            reference = next((found[ours] for ours in OURS if ours in found), None)
            if not outcome.fault and engine.rows_compared and reference is not None and outcome is not reference:
                outcome.fault = differences(outcome, reference, given.few if engine.few else None)
            print(
                f"{engine.title:<32} {outcome.bars:>8,} bars {outcome.bars_per_s:>9,.0f} bars/s "
                f"{outcome.cores:5.2f} cores {outcome.cpu_us:7.1f} us CPU a bar, started in {outcome.start_s:5.1f} s, "
                f"{outcome.signals:,} signals; {engine.recovery}{'; FAULT: ' * bool(outcome.fault)}{outcome.fault}",
                flush=True,
            )
            if engine.name in OURS and outcome.fault:
                raise SystemExit(f"this job failed: {outcome.fault}")
        alone = work_us(bench.policy)
    print("processing alone, us per bar by bars per call: " + ", ".join(f"{n:,}: {us}" for n, us in alone.items()))
    print(json.dumps(figures(found) | {"work_us_by_batch": alone, "groups": given.groups, "machine": machine}))


def figures(found: dict[str, Outcome]) -> dict[str, Any]:
    """The last line: bars/s by engine, and this job's best over the best peer, the loop, naive PyFlink, SQL."""
    sound = {name: outcome.bars_per_s for name, outcome in found.items() if not outcome.fault}
    ours = max((sound[name] for name in OURS if name in sound), default=None)
    peer = max((sound[name] for name in PEERS if name in sound), default=None)
    by_symbol = max((sound[name] for name in PEERS_BY_SYMBOL if name in sound), default=None)

    def times(other: float | None) -> float | None:
        return None if ours is None or other is None else round(ours / other, 3)

    return {
        "bars_per_s": {name: round(rate) for name, rate in sound.items()},
        "cores": {name: round(outcome.cores, 2) for name, outcome in found.items() if not outcome.fault},
        "x_best_peer": times(peer),
        "x_best_peer_by_symbol": times(by_symbol),
        "x_bare_loop": times(sound.get("loop")),
        "x_naive": times(sound.get("naive")),
        "x_sql": times(sound.get("sql")),
        "faults": {name: outcome.fault for name, outcome in found.items() if outcome.fault},
    }


if __name__ == "__main__":
    main()
