"""Stored savepoints of both jobs: what they are made of, and how a job goes on from one."""

import gzip
import json
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from bench import cluster as flink
from bench.kill_taskmanager import count, identified, publish, real_bars
from cli.local.servers import Broker, FlinkCluster
from connectors.kafka.partitioner import kafka_producer
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.messages import Bar, FeatureRow, Signal, decode, encode
from models.outcomes.tracker import Tracker
from udfs.frames.groups import group_of
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.kernel.layout import LAYOUT as FEATURES
from udfs.operators.signals import ACCOUNT, HALTS, LAST_EMITTED
from udfs.steps.outcome_frames import BARS, SIGNALS, SPLITS

FOLDER = ROOT / "tests" / "fixtures" / "savepoints"
TAPE = FOLDER / "trading-signals.jsonl.gz"

#: The offsets of these topics are in the savepoints: the tape must lie where it lay when they were made.
PREFIX, PARTITIONS = "savepoint-", 2
SIDES = ("status", "news", "options", "control", "model")
DAYS, COPIES = 300, 2
#: The tape is laid out piece by piece: up to these shares of its days.
STAGES = (0.4, 0.5, 0.6, 0.8, 1.0)
#: Long frames: what is stopped just after bars came has them in its windows.
FRAME_MS = 2_000
#: No event time: the topic of splits is empty, and an empty topic is waited for. So no signal ends but by a bar.
SETTINGS = {"table.exec.source.idle-timeout": "1h"}

#: The topics whose records are compared, by job.
OUTPUTS = {"signals": ("trading-signals", "features"), "outcomes": ("signal-outcomes",)}


def versions() -> list[Path]:
    """The stored savepoints, oldest first; the last is of the present layout."""
    return sorted((path for path in FOLDER.iterdir() if path.is_dir()), key=lambda path: int(path.name))


def layout() -> dict[str, object]:
    """What a record of each kind is made of now; a change needs a version of its own and a stored savepoint."""
    from models.outcomes import tracker
    from models.serving.rollout import Change, RolloutState
    from models.signals import emission as policy
    from models.signals import protections as risk
    from udfs.features.base import CONTEXT

    kinds = (FEATURES, LAST_EMITTED, ACCOUNT, HALTS, SIGNALS, BARS, SPLITS)

    def columns(module: object) -> dict[str, int]:
        return {name: value for name, value in vars(module).items() if name.strip("_").isupper() and type(value) is int}

    return {
        "versions": {kind.head.decode(): kind.version for kind in kinds},
        "context": list(CONTEXT),
        "families": Kernel(FeatureConfig()).layout_hash,
        "last_said": {name: columns(policy)[name] for name in SERIES_COLUMNS},
        "account": {name: columns(risk)[name] for name in ACCOUNT_ROW},
        "tracked_bars": {name: value for name, value in columns(tracker).items() if name in TRACKED_BARS},
        "tracked_signals": {name: value for name, value in columns(tracker).items() if name in TRACKED_SIGNALS},
        "tracked": list(tracker.Tracked.__struct_fields__),
        "control": [list(kind.__struct_fields__) for kind in (RolloutState, Change)],
    }


SERIES_COLUMNS = (
    "SAID", "SAID_CONFIDENCE", "SAID_MS", "SAID_EXPIRES", "SIDE", "ENTRY", "TARGET", "STOP", "LAST_CLOSE",
    "PAUSED_UNTIL", "STOPS", "LAST_START", "EMITTED_REVISION", "BOOKED", "BOOKED_STOP", "EMIT_BEFORE", "STATE_COLUMNS",
)  # fmt: skip
ACCOUNT_ROW = (
    "EQUITY", "PEAK", "ACCOUNT_PAUSED_UNTIL", "DRAWDOWN_UNTIL", "LAST_EMIT", "ACCOUNT_STOPS", "ACCOUNT_COLUMNS"
)  # fmt: skip
TRACKED_BARS = ("BAR_WIDTH", "_START", "_END", "_OPEN", "_HIGH", "_LOW", "_CLOSE", "_REVISION", "_SPLIT")
TRACKED_SIGNALS = (
    "SIGNAL_WIDTH", "_SIDE", "_ENTRY", "_TARGET", "_STOP", "_CREATED", "_EXPIRES", "_UNITS", "_STATUS", "_SEEN",
    "_PRICE", "_UPDATED", "_MINUTE", "_CORRECTIONS", "_SAID_STATUS", "_SAID_PRICE", "_SAID_UPDATED", "_VOID",
)  # fmt: skip


def tape(first: int = 0, last: int = len(STAGES)) -> list[Bar]:
    """Real daily bars of eight names, the last 300 days before 2010: the pieces from ``first`` to before ``last``."""
    bars = [bar for bar in real_bars(COPIES) if bar.end_ms < 1_262_304_000_000]
    days = sorted({bar.start_ms for bar in bars})[-DAYS:]
    shares = (0.0, *STAGES)
    chosen = set(days[round(shares[first] * DAYS) : round(shares[last] * DAYS)])
    return [bar for bar in bars if bar.start_ms in chosen]


def make_topics(broker: Broker) -> None:
    """The topics that the savepoints name, and the whole tape on one of its own."""
    names = ["bars", "signals", *SIDES]
    broker.create_topic("whole-bars", *(f"{PREFIX}{name}" for name in names), partitions=PARTITIONS)
    publish(broker.bootstrap, "whole-bars", tape())


def lay_out(broker: Broker, first: int, last: int) -> None:
    """Pieces of the tape, on the topic whose offsets the savepoints hold."""
    publish(broker.bootstrap, f"{PREFIX}bars", tape(first, last))


def put_signals(broker: Broker, signals: Iterable[bytes]) -> None:
    """The signals that the outcomes follow, on their topic."""
    from confluent_kafka import Producer

    producer = Producer(kafka_producer(broker.bootstrap) | {"enable.idempotence": True})
    for line in signals:
        one = msgspec.json.decode(line)
        producer.produce(f"{PREFIX}signals", line, one["symbol"], timestamp=one["created_ms"])
    assert producer.flush(30) == 0


def arguments(
    job: str, broker: Broker, out_prefix: str, parallelism: int = 1, bars_topic: str = f"{PREFIX}bars"
) -> list[str]:
    """The job's options."""
    sides = SIDES if job == "signals" else ("signals", "status")
    topics = [part for name in sides for part in (f"--{name}-topic", f"{PREFIX}{name}")]
    return [
        "--kafka", broker.bootstrap, "--bars-topic", bars_topic, *topics, "--out-prefix", out_prefix, "--group-id",
        out_prefix + job, "--frame-ms", str(FRAME_MS), "--parallelism", str(parallelism),
    ]  # fmt: skip


def undisturbed_signals(cluster: FlinkCluster, broker: Broker, code: Path = ROOT) -> dict[str, bytes]:
    """Rows and signals of one replay of the whole tape at parallelism 1, by topic and identity."""
    options = arguments("signals", broker, "whole-", bars_topic="whole-bars")
    flink.await_state(cluster, flink.start(cluster, "signals", *options, "--replay", code=code), "FINISHED", 120)
    held, repeats = records(broker, "whole-", "signals")
    assert not repeats
    return held


def undisturbed_outcomes(last: int = len(STAGES)) -> dict[str, bytes]:
    """Every update of every stored signal over the tape's first pieces, by the pure tracker."""
    signals = [decode(value, Signal) for value in stored_signals()]
    bars = tape(0, last)
    found = {}
    for group in range(8):  # the job's trackers: one a symbol group
        told = Tracker().take(
            [one for one in signals if group_of(one.symbol, 8) == group],
            [bar for bar in bars if group_of(bar.symbol, 8) == group],
        )
        found |= {f"signal-outcomes {one.signal_id} {one.revision} {one.updated_ms}": encode(one) for one in told}
    return found


def expected(job: str, whole: Mapping[str, bytes], last: int) -> set[str]:
    """Identities of what the job writes to its busiest topic over the tape's first pieces."""
    if job == "outcomes":
        return set(undisturbed_outcomes(last))
    return {f"features {bar.symbol} {bar.start_ms}" for bar in tape(0, last)} & whole.keys()


def await_records(cluster: FlinkCluster, job_id: str, broker: Broker, prefix: str, job: str, number: int) -> None:
    """Until the job's busiest topic holds so many records."""
    deadline = time.monotonic() + 120
    while (found := count(broker.bootstrap, f"{prefix}{OUTPUTS[job][-1]}")) < number:
        state = flink.state_of(cluster, job_id)
        assert state in ("RUNNING", "CREATED"), f"{job} is {state}: {flink.failure_of(cluster, job_id)[:3000]}"
        assert time.monotonic() < deadline, f"{found} records, not {number}\n{flink.task_manager_log(cluster)}"
        time.sleep(0.1)
    assert found == number, f"{found} records, not {number}"


def records(broker: Broker, prefix: str, job: str) -> tuple[dict[str, bytes], int]:
    """Each record's bytes, without the wall clock, by topic and identity; and how many came twice."""
    held: dict[str, bytes] = {}
    number = 0
    for topic in OUTPUTS[job]:
        found = (
            rows(broker, f"{prefix}{topic}")
            if topic == "features"
            else identified(broker.bootstrap, f"{prefix}{topic}")
        )
        for name, value in found:
            number += 1
            assert held.setdefault(f"{topic} {name}", value) == value, f"{name} came twice, in two forms"
    return held, number - len(held)


def rows(broker: Broker, topic: str) -> Iterator[tuple[str, bytes]]:
    """Each feature row's identity, and its bytes."""
    for *_, value in read_to_end(broker.bootstrap, topic):
        row = decode(value, FeatureRow)
        yield f"{row.symbol} {row.start_ms}", value


def stored_signals() -> list[bytes]:
    """The signals that the outcomes jobs of all stored savepoints follow."""
    return gzip.decompress(TAPE.read_bytes()).splitlines()


class Stored:
    """One folder below :data:`FOLDER`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def savepoint(self, job: str, where: Path) -> Path:
        """The job's savepoint, unpacked below ``where``: another place than it was made in."""
        with tarfile.open(self.folder / f"{job}.tar.gz") as archive:
            archive.extractall(where / job, filter="data")
        return where / job

    def before(self, job: str) -> set[str]:
        """Identities of what the job had written when the savepoint was taken."""
        return set(json.loads(gzip.decompress((self.folder / f"{job}.before.json.gz").read_bytes())))

    def keep(self, job: str, savepoint: Path, before: Iterable[str]) -> None:
        """Store a savepoint."""
        with tarfile.open(self.folder / f"{job}.tar.gz", "w:gz") as archive:
            for path in sorted(savepoint.iterdir()):
                archive.add(path, path.name)
        (self.folder / f"{job}.before.json.gz").write_bytes(gzip.compress(json.dumps(sorted(before)).encode(), mtime=0))
