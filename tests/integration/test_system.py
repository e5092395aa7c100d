"""``signals up`` to ``signals down``: the whole system in the background, a killed part, and going on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.messages import FeatureRow, decode
from tests.support.job import minute_bars, publish_bars

pytestmark = pytest.mark.integration


class System:
    """The commands, with a state folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments], cwd=ROOT, text=True, capture_output=True, timeout=240,
            env=os.environ | {
                "PYTHONPATH": str(ROOT), "SIGNALS_STATE": str(self.folder), "COLUMNS": "200",
                "SIGNALS_CHECKPOINT_MS": "1000",
            },
        )  # fmt: skip
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "cli", "status", "--json", "--state", str(self.folder)],
            cwd=ROOT, text=True, capture_output=True, timeout=120,
        )  # fmt: skip
        return json.loads(done.stdout)

    def until(self, what: str, done: Callable[[], Any], timeout_s: float = 150) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := done()):
            assert time.monotonic() < deadline, f"{what} not in {timeout_s:.0f} s: {self.status()}\n{self.logs()}"
            time.sleep(1)
        return found

    def logs(self) -> str:
        return "\n".join(f"{path}:\n{path.read_text(errors='replace')[-2000:]}" for path in self.folder.rglob("*.log"))


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    held = System(tmp_path / "state")
    yield held
    if (held.folder / "state.json").exists():
        held.run("down")


def features(kafka: str) -> set[tuple[str, int]]:
    try:
        rows = [decode(value, FeatureRow) for *_, value in read_to_end(kafka, "features")]
    except ConnectionError:
        return set()
    return {(row.symbol, row.start_ms) for row in rows}


def part(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(part for part in status["parts"] if part["name"] == name)


def test_up_status_logs_a_kill_down_and_up_again(system: System) -> None:
    assert "nothing runs" in system.run("status", code=3)
    told = system.run("up")
    assert "started signals" in told
    assert "already running" in system.run("up", code=2)
    first = system.status()
    assert [one["name"] for one in first["parts"]] == ["kafka", "redis", "signals", "outcomes", "relay"]
    pids = [first["pid"], *(one["pid"] for one in first["parts"])]

    bars = minute_bars(symbols=5, bars=40)
    publish_bars(first["kafka"], "market-data-bars", bars[:150])
    wanted = {(bar.symbol, bar.start_ms) for bar in bars}
    system.until("the first bars", lambda: len(features(first["kafka"])) == 150)

    os.kill(part(first, "relay")["pid"], signal.SIGKILL)
    again = system.until(
        "a new relay", lambda: part(now := system.status(), "relay")["restarts"] == 1 and now["ok"] and now
    )
    assert part(again, "relay")["pid"] != part(first, "relay")["pid"]
    assert "relay ended with status -9" in system.run("logs", "supervisor")
    assert "there are: supervisor, kafka, outcomes, redis, relay, signals" in system.run("logs", "nobody", code=2)
    system.until("a checkpoint", lambda: "since its last checkpoint" in part(system.status(), "signals")["health"])

    assert "ended: kafka, redis, signals, outcomes, relay" in system.run("down")
    left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert not left, f"still running: {left}"
    assert "nothing runs" in system.run("down")

    system.run("up")
    second = system.status()
    publish_bars(second["kafka"], "market-data-bars", bars[150:])
    system.until("the last bars", lambda: features(second["kafka"]) == wanted)
    command = " ".join(psutil.Process(part(second, "signals")["pid"]).cmdline())
    assert "--restore file://" in command
    system.run("down")
