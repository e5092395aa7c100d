"""A faulty run compared with an undisturbed run of the same bars: what is lost, wrong or duplicated."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import redis

from bench.kill_taskmanager import publish
from cli.local.servers import RedisServer
from cli.local.system import System
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from connectors.redis import keys as redis_keys
from connectors.redis.bars import unpack
from models.messages import Bar, DeadLetter, FeatureRow, Outcome, Signal, decode, encode
from tests.chaos.system import HISTORY_HOURS, ChaosSystem, with_chaos_user
from tests.chaos.watch import Place, snapshot

CALM = "calm-"
#: Live, an outcome of a signal that nothing else ends waits until event time is this far past its expiry.
LATENESS_MS = 60_000


class Findings:
    """Counts, and examples of what differs."""

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self.repeats: Counter[str] = Counter()
        self.examples: list[str] = []

    def maps(self, what: str, wanted: dict[Any, Any], got: dict[Any, Any]) -> None:
        """Compare two maps; ``got`` must be ``wanted``."""
        self.compared[what] += len(wanted)
        for key in wanted.keys() - got.keys():
            self._note(self.lost, what, f"lost {key}: {wanted[key]!r:.600}")
        for key in got.keys() - wanted.keys():
            self._note(self.wrong, what, f"extra {key}: {got[key]!r:.600}")
        for key in wanted.keys() & got.keys():
            if wanted[key] != got[key]:
                self._note(self.wrong, what, f"changed {key}: {wanted[key]!r:.600} became {got[key]!r:.600}")

    def sets(self, what: str, wanted: Iterable[Any], got: Iterable[Any]) -> None:
        """Compare two sets."""
        self.maps(what, dict.fromkeys(wanted), dict.fromkeys(got))

    def twice(self, what: str, ids: Iterable[Any]) -> None:
        """Count ids that come more than once."""
        for one, count in Counter(ids).items():
            if count > 1:
                self._note(self.duplicates, what, f"{count} times {one}")

    def changed(self, what: str, text: str) -> None:
        """Note something wrong."""
        self._note(self.wrong, what, text)

    def _note(self, counter: Counter[str], what: str, text: str) -> None:
        counter[what] += 1
        if counter[what] <= 3:
            self.examples.append(f"{what}: {text}")


def calm_run(system: ChaosSystem, bars: list[Bar], folder: Path) -> RedisServer:
    """The same bars in an undisturbed replay, into separate topics and another Redis (started, to stop)."""
    bootstrap = system.broker.bootstrap
    server = RedisServer(folder / "redis")
    server.start()
    system.broker.create_topic(f"{CALM}bars", partitions=2)
    publish(bootstrap, f"{CALM}bars", bars)
    common = ["--kafka", bootstrap, "--redis", server.url, "--bars-topic", f"{CALM}bars", "--out-prefix", CALM,
              "--replay"]  # fmt: skip
    outcomes = ["--signals-topic", f"{CALM}trading-signals", "--history-hours", HISTORY_HOURS]
    for job, arguments in (("signals", common), ("outcomes", [*common, *outcomes])):
        logs = folder / job
        logs.mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, "-m", f"jobs.{job}", *arguments, "--group-id", f"{CALM}{job}",
             "--checkpoints", str(logs / "checkpoints")],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "FLINK_LOG_DIR": str(logs)}, text=True,
            capture_output=True, timeout=900,
        )  # fmt: skip
        if done.returncode:
            server.stop()
            raise RuntimeError(f"the calm {job} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return server


def kept(bootstrap: str, topic: str, kind: type[Any], key: Any, found: Findings | None = None) -> dict[Any, Any]:
    """Each record of a topic by its identity, without the wall clock; a repeat in another form is wrong."""
    held: dict[Any, Any] = {}
    for *_, value in read_to_end(bootstrap, topic):
        one = decode(value, kind)
        if kind is Signal:
            one = msgspec.structs.replace(one, emitted_ms=0)
        name = key(one)
        if found is not None and name in held:
            found.repeats[topic] += 1
            if held[name] != one:
                found.changed(topic, f"{name} repeated in another form: {held[name]!r:.600} and {one!r:.600}")
        held[name] = one
    return held


def row_key(row: FeatureRow) -> tuple[Any, ...]:
    """The identity of a row."""
    return row.symbol, row.timeframe, row.start_ms, row.revision


def dead_letter_key(letter: DeadLetter) -> Place:
    """The identity of a dead letter."""
    return letter.topic, letter.partition, letter.offset


def verdicts(outcomes: Iterable[Outcome]) -> dict[str, tuple[Any, ...]]:
    """The last outcome of each signal, by id: status, prices and time.

    How often it was corrected depends on what came first, a signal's last bar or the event time that ended it.
    """
    last: dict[str, Outcome] = {}
    for one in outcomes:
        held = last.get(one.signal_id)
        if held is None or (one.revision, one.updated_ms) >= (held.revision, held.updated_ms):
            last[one.signal_id] = one
    return {
        name: (one.status, one.exit_reason, one.exit_price, one.pnl_percent, one.updated_ms)
        for name, one in last.items()
    }


def corrections(bootstrap: str) -> int:
    """How many verdicts of the faulty run were corrected later."""
    every = (decode(value, Outcome) for *_, value in read_to_end(bootstrap, "signal-outcomes"))
    return len({one.signal_id for one in every if one.revision})


def redis_content(url: str, without: set[str]) -> dict[str, Any]:
    """The contents of Redis except marks, the capped stream and what processes report about themselves."""
    client: Any = redis.Redis.from_url(url)
    content: dict[str, Any] = {}
    for raw in client.scan_iter(count=1_000):
        name = raw.decode()
        kind = name.partition(":")[0]
        if kind in ("features", "price"):
            content[name] = client.hgetall(raw) if kind == "features" else client.get(raw)
        elif name == redis_keys.SIGNALS_ACTIVE:
            content |= {f"active {one.decode()}": at for one, at in client.zrange(raw, 0, -1, withscores=True)}
        elif kind == "signal":
            content[name] = encode(msgspec.structs.replace(decode(client.get(raw), Signal), emitted_ms=0))
        elif kind == "bars":
            content[name] = unpack(client.lrange(raw, 0, -1))
        elif kind == "outcomes":
            held = [decode(value, Outcome) for value in client.hvals(raw)]
            content |= {f"outcome {key}": word for key, word in verdicts(held).items()}
    return {key: value for key, value in content.items() if key.rpartition(" ")[2] not in without}


def compare(
    system: ChaosSystem, bars: list[Bar], prelude: int, injected: set[Place], calm: RedisServer, folder: Path
) -> Findings:
    """All output of the faulty run compared with that of the undisturbed one.

    Signals of the first ``prelude`` bars, which come all at once, may exceed the capacity of Redis's stream: the
    relay's client need not have received them.
    """
    found, bootstrap = Findings(), system.broker.bootstrap

    wanted = kept(bootstrap, f"{CALM}features", FeatureRow, row_key)
    found.maps("features", wanted, kept(bootstrap, "features", FeatureRow, row_key, found))
    signals = kept(bootstrap, f"{CALM}trading-signals", Signal, lambda one: one.signal_id)
    made = kept(bootstrap, "trading-signals", Signal, lambda one: one.signal_id, found)
    found.maps("signals", signals, made)
    found.twice("signals", ((s.symbol, s.timeframe, s.created_ms, s.revision) for s in made.values()))

    calm_dead_letters = [decode(value, DeadLetter) for *_, value in read_to_end(bootstrap, f"{CALM}dead-letter")]
    unsound = Counter(sound_key(letter) for letter in calm_dead_letters)
    dead_letters = kept(bootstrap, "dead-letter", DeadLetter, dead_letter_key)
    by_itself = {place: one for place, one in dead_letters.items() if place not in injected}
    found.sets("dead letters of injected messages", injected, dead_letters.keys() & injected)
    found.maps("other dead letters", dict(unsound), dict(Counter(sound_key(one) for one in by_itself.values())))

    end_ms = bars[-1].end_ms
    at_the_end = {name for name, one in signals.items() if end_ms - LATENESS_MS < one.expires_ms <= end_ms}
    words = {}
    for prefix in (CALM, ""):
        every = (decode(value, Outcome) for *_, value in read_to_end(bootstrap, f"{prefix}signal-outcomes"))
        words[prefix] = {k: v for k, v in verdicts(every).items() if k not in at_the_end}
    found.maps("outcomes", words[CALM], words[""])

    found.maps("Redis", redis_content(calm.url, at_the_end), redis_content(system.redis.url, at_the_end))
    found.compared["corrected outcomes"] = corrections(bootstrap)
    streamed: Any = redis.Redis.from_url(system.redis.url).xrange(redis_keys.SIGNALS_STREAM)
    found.twice("Redis stream", (fields[b"id"] for _, fields in streamed if fields[b"kind"] == b"signal"))

    begun_ms = bars[prelude].end_ms
    emitted = {name for name, one in signals.items() if not one.cancels and one.created_ms > begun_ms}
    early = signals.keys() - emitted
    received = (set(system.listener.signals) | system.listener.in_snapshots) - early
    found.sets("received by the relay's client", emitted, received)
    for name in sorted(emitted - received)[:3]:
        told = [
            (number.decode(), fields[b"kind"].decode()) for number, fields in streamed if fields[b"id"].decode() == name
        ]
        found.examples.append(f"  {name} in the stream: {told}; the client started over: {system.listener.restarts}")
    found.twice("received by the relay's client", system.listener.signals)
    relay, access = with_chaos_user(System(folder, system.broker.bootstrap, calm.url))
    with relay:
        time.sleep(3)
        calm_snapshot = snapshot(*access) - at_the_end
    found.sets("the relay's snapshot", calm_snapshot, snapshot(*system.access) - at_the_end)
    return found


def sound_key(letter: DeadLetter) -> str:
    """A dead letter of the tape itself by its bar and reason: its position differs between runs."""
    try:
        bar = json.loads(base64.b64decode(letter.payload_base64))
        return f"{bar['symbol']} {bar['start_ms']} {letter.field}"
    except (ValueError, KeyError, TypeError):
        return f"{letter.topic} {letter.partition}:{letter.offset} {letter.payload_base64:.80}"
