"""`signals replay` gives what the running job gave, byte for byte: a policy, halts, kill switch and revised bars."""

import subprocess
import sys
import time

import msgspec
import pytest

from cli.local.servers import PythonProcess
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.events import Halt
from models.messages import FeatureRow, Signal, decode, encode
from models.signals.hash_chain import verify
from tests.support.job import minute_bars, publish, publish_bars

pytestmark = pytest.mark.integration

POLICY = {
    "confidence_step": 0.05,
    "risk": {"symbol_cooldown_ms": 180_000, "symbol_stops": {"stops": 2, "window_ms": 3_600_000, "pause_ms": 600_000}},
}


def signals_on(kafka, topic):
    """The signals of a topic in its own order, without their wall clock."""
    return [
        msgspec.structs.replace(decode(value, Signal), emitted_ms=0)
        for *_, value in sorted(read_to_end(kafka.bootstrap, topic))
    ]


def rows_on(kafka, topic):
    return [decode(value, FeatureRow) for *_, value in read_to_end(kafka.bootstrap, topic)]


def cli(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, text=True, capture_output=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_replay_equals_the_live_run(kafka, tmp_path) -> None:
    bars = minute_bars(symbols=12, bars=150)
    ends = sorted({bar.end_ms for bar in bars})
    policy = tmp_path / "policy.json"
    policy.write_bytes(msgspec.json.encode(POLICY))
    outputs = [f"was-{name}" for name in ("features", "trading-signals", "dead-letter")]
    kafka.create_topic("was-bars", "was-status", "was-control", *outputs, partitions=2)
    own = ["--kafka", kafka.bootstrap, "--bars-topic", "was-bars", "--status-topic", "was-status",
           "--kill-switch-topic", "was-control", "--policy", str(policy)]  # fmt: skip
    sent = 0

    def send(some):
        nonlocal sent
        publish_bars(kafka.bootstrap, "was-bars", some)
        sent += len(some)
        deadline = time.monotonic() + 120
        while len(rows_on(kafka, "was-features")) < sent:
            assert time.monotonic() < deadline, job.tail()
            time.sleep(0.5)

    def control(kind, at_ms):
        cli(kind, "--kafka", kafka.bootstrap, "--topic", "was-control", "--effective-ms", str(at_ms))

    with PythonProcess("signals", ["-m", "jobs.signals", *own, "--out-prefix", "was-"], tmp_path / "job") as job:
        send([bar for bar in bars if bar.end_ms <= ends[80]])
        # the newest bar of half the symbols again, revised: another signal, the same or none
        again = [bar for bar in bars if bar.end_ms == ends[80]][::2]
        send([msgspec.structs.replace(bar, close=(bar.high + 3 * bar.low) / 4, revision=1) for bar in again])
        control("kill", ends[80])
        halt = Halt(symbol="S003", timestamp_ms=ends[100])
        publish(kafka.bootstrap, "was-status", [("S003", encode(halt), ends[100])])
        time.sleep(2)  # a control holds from its effective time, if it is there by then
        send([bar for bar in bars if ends[80] < bar.end_ms <= ends[95]])
        control("resume", ends[95])
        time.sleep(2)
        send([bar for bar in bars if bar.end_ms > ends[95]])
    live = signals_on(kafka, "was-trading-signals")
    begin, end = ends[70], ends[140]
    # the options go through to the job
    cli("replay", *own, "--from", str(begin), "--to", str(end), "--out-prefix", "replayed-")
    wanted = [one for one in live if begin <= one.created_ms < end]
    again = signals_on(kafka, "replayed-trading-signals")
    assert sorted(map(encode, again)) == sorted(map(encode, wanted))
    # in the order of the log too, symbol by symbol
    for symbol in {one.symbol for one in wanted}:
        of = [[encode(one) for one in some if one.symbol == symbol] for some in (again, wanted)]
        assert of[0] == of[1]
    assert verify(live).problems == []
    # and each of the rules had something to do
    assert {one.trigger for one in wanted} >= {"action", "confidence", "revision"}
    withheld = {row.withheld for row in rows_on(kafka, "was-features")}
    assert withheld >= {"halted", "cooldown"}
    assert not [one for one in live if ends[80] < one.created_ms <= ends[95] and one.action != "hold"]
