"""The supervisor of a system in the background: what runs, what is started again, what is left alone."""

import os
from pathlib import Path

import msgspec
import psutil
import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server
from typer.testing import CliRunner

import cli.local.supervisor
from cli.local.servers import PythonProcess
from cli.local.supervisor import Part, Plan, State, Supervisor, newest_checkpoint, read_state
from cli.main import app
from cli.system import health, tail


def test_the_newest_complete_checkpoint_is_found(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == ""
    for number, job in enumerate(("a", "b", "b")):
        folder = tmp_path / job / f"chk-{number}"
        folder.mkdir(parents=True)
        (folder / "_metadata").write_text("-")
        os.utime(folder / "_metadata", (1000 + number, 1000 + number))
    (tmp_path / "a" / "chk-9").mkdir()  # begun, never completed
    assert newest_checkpoint(tmp_path) == (tmp_path / "b" / "chk-2").as_uri()


def test_a_state_counts_only_while_its_very_process_runs(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    own = State(pid=os.getpid(), created_s=psutil.Process().create_time(), kafka="h:1")
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(own))
    found = read_state(tmp_path)
    assert found is not None
    assert found.kafka == "h:1"
    other = msgspec.structs.replace(own, created_s=own.created_s - 100)  # the pid was given to another process
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(other))
    assert read_state(tmp_path) is None
    (tmp_path / "state.json").write_text("{half")
    assert read_state(tmp_path) is None


def test_a_part_that_ends_is_started_again_and_then_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.local.supervisor, "RESTARTS_MAX", 1)
    marker = tmp_path / "starts"
    process = PythonProcess("short", ["-c", f"open({str(marker)!r}, 'a').write('x')"], tmp_path / "short")
    process.start()
    supervisor, part = Supervisor(tmp_path, Plan()), Part(name="short", pid=process.pid, log=str(process.log_path))
    first = process.pid
    for _ in range(3):
        assert process.process is not None
        process.process.wait(20)
        supervisor._look_after(part, process, "")
    assert marker.read_text() == "xx"
    assert part.restarts == 1
    assert part.failed
    assert part.pid != first
    state = State(pid=1, created_s=0.0)
    assert health(part, state) == (False, "ended too often; see its log")
    process.stop()


def test_a_job_is_started_again_from_its_newest_checkpoint(tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[1], 'w').write(' '.join(sys.argv[2:]))"
    told = tmp_path / "told"
    process = PythonProcess("job", ["-c", script, str(told)], tmp_path / "job")
    process.start()
    assert process.process is not None
    process.process.wait(20)
    checkpoint = tmp_path / "checkpoints" / "signals" / "id" / "chk-7"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").write_text("-")
    Supervisor(tmp_path, Plan())._look_after(Part(name="job", pid=0, log=""), process, "signals")
    assert process.process is not None
    process.process.wait(20)
    assert told.read_text() == f"--checkpoints {tmp_path}/checkpoints/signals --restore {checkpoint.as_uri()}"
    process.stop()


def test_health_of_ingestion_is_that_of_its_venues() -> None:
    registry = CollectorRegistry()
    connected = Gauge("ingest_connected", "-", ("venue",), registry=registry)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    address = f"http://127.0.0.1:{server.server_port}/metrics"
    part = Part(name="ingest", pid=os.getpid(), log="", address=address)
    state = State(pid=1, created_s=0.0)
    assert health(part, state) == (False, "not connected: any venue")
    connected.labels("alpaca").set(1)
    connected.labels("binance").set(0)
    assert health(part, state) == (False, "not connected: binance")
    connected.labels("binance").set(1)
    assert health(part, state) == (True, "connected: alpaca, binance")
    server.shutdown()
    server.server_close()
    thread.join(5)
    assert not health(part, state)[0]
    assert not health(Part(name="relay", pid=2**22 - 1, log=""), state)[0]


def test_logs_status_and_down_without_anything_running(tmp_path: Path) -> None:
    run = CliRunner()
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "relay.log").write_text("one\ntwo\nthree\n")
    assert list(tail(tmp_path / "relay" / "relay.log", 2)) == ["two", "three"]
    shown = run.invoke(app, ["logs", "relay", "--state", str(tmp_path), "-n", "1"])
    assert shown.output == "three\n"
    unknown = run.invoke(app, ["logs", "kafka", "--state", str(tmp_path)])
    assert unknown.exit_code == 2
    assert "there are: supervisor, relay" in unknown.output
    assert run.invoke(app, ["status", "--state", str(tmp_path)]).exit_code == 3
    assert "nothing runs" in run.invoke(app, ["down", "--state", str(tmp_path)]).output


def test_up_tells_why_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALS_JARS", str(tmp_path))
    done = CliRunner().invoke(app, ["up", "--state", str(tmp_path / "state")])
    assert done.exit_code == 2
    assert "run `make setup`, or set SIGNALS_JARS" in done.output
    assert not (tmp_path / "state" / "state.json").exists()
