"""The kill switch and a venue's halt, in a replay of the real job: nothing is emitted in their spans of event time."""

import subprocess
import sys

import pytest

from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.events import Halt
from models.messages import FeatureRow, Signal, decode, encode
from tests.support.job import minute_bars, publish, publish_bars, run_job

pytestmark = pytest.mark.integration


def test_no_signal_while_killed_or_halted(kafka) -> None:
    bars = minute_bars(symbols=12, bars=120)
    ends = sorted({bar.end_ms for bar in bars})
    killed, resumed, halted = ends[70], ends[90], ends[30]
    kafka.create_topic("halt-bars", "halt-status", "halt-control", partitions=2)
    for kind, at in (("kill", killed), ("resume", resumed)):
        command = ["-m", "cli", kind, "--kafka", kafka.bootstrap, "--topic", "halt-control", "--effective-ms", str(at)]
        assert subprocess.run([sys.executable, *command], cwd=ROOT, timeout=60).returncode == 0
    halt = Halt(symbol="S003", timestamp_ms=halted)
    publish(kafka.bootstrap, "halt-status", [("S003", encode(halt), halted)])
    publish_bars(kafka.bootstrap, "halt-bars", bars)
    done = run_job(
        "--kafka", kafka.bootstrap, "--bars-topic", "halt-bars", "--status-topic", "halt-status", "--kill-switch-topic",
        "halt-control", "--replay", "--out-prefix", "halt-",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    signals = [decode(value, Signal) for *_, value in read_to_end(kafka.bootstrap, "halt-trading-signals")]
    rows = [decode(value, FeatureRow) for *_, value in read_to_end(kafka.bootstrap, "halt-features")]
    assert len(rows) == len(bars)
    sides = [one for one in signals if one.action != "hold"]
    assert not [one for one in sides if killed < one.created_ms <= resumed]
    assert not [one for one in sides if one.symbol == "S003" and one.created_ms > halted]
    assert [one for one in sides if one.created_ms <= killed]
    assert [one for one in sides if one.created_ms > resumed]
    held = {(row.symbol, row.end_ms) for row in rows if row.withheld == "halted"}
    assert held
    assert all(killed < end <= resumed or symbol == "S003" for symbol, end in held)
