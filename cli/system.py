"""``signals up``, ``down``, ``status`` and ``logs``: the whole system on this machine, in the background."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from cli.local.supervisor import Part, State

_START_S = 180.0


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (up, down, status, logs):
        app.command()(command)


def _default_folder() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(home) / "signal-pipeline"


_Folder = Annotated[
    Path, typer.Option("--state", envvar="SIGNALS_STATE", help="folder of logs, data and state", show_default=False)
]


def up(
    state: _Folder = _default_folder(),  # noqa: B008 - typer reads the default once
    venues: Annotated[
        str, typer.Option(help="ingest from these venues, comma-separated; none: publish bars yourself")
    ] = "",
    config: Annotated[Path | None, typer.Option(help="settings file of ingestion and bars", exists=True)] = None,
    build_bars: Annotated[bool, typer.Option("--build-bars", help="build bars from trades (one more JVM)")] = False,
    bundle: Annotated[str, typer.Option(help="model bundle: a shipped name or a folder")] = "daily-swing",
    kafka: Annotated[str, typer.Option(help="use this broker, host:port, instead of starting one")] = "",
    redis: Annotated[str, typer.Option(help="use this Redis, redis://host:port/db, instead of starting one")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of the page; 0 takes a free one")] = 0,
    demo_user: Annotated[str, typer.Option(help="sign the page in as a demo user: free, premium or dynamic")] = "",
) -> None:
    """Start the whole system in the background: broker, Redis, the jobs, the relay, and ingestion if venues are named.

    Data, logs and checkpoints stay in the state folder: after `signals down`, `signals up` resumes from there.

    Example: signals up --venues binance_us --demo-user dynamic
    """
    import subprocess
    import sys

    import msgspec

    from cli.local.supervisor import Plan, read_state
    from connectors.paths import ROOT

    state.mkdir(parents=True, exist_ok=True)
    if (running := read_state(state)) is not None:
        _stop(f"already running (pid {running.pid}, state in {state}): see `signals status`, end it by `signals down`")
    plan = Plan(
        kafka=kafka, redis=redis, venues=venues, config=str(config.resolve()) if config else "", port=port,
        bundle=str(Path(bundle).resolve()) if Path(bundle).is_dir() else bundle, demo_user=demo_user,
        build_bars=build_bars,
    )  # fmt: skip
    (state / "plan.json").write_bytes(msgspec.json.encode(plan))
    log = state / "supervisor.log"
    start = log.stat().st_size if log.exists() else 0
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with open(log, "ab") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "cli.local.supervisor", str(state)], stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, cwd=state,
            env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    deadline, printed = time.monotonic() + _START_S, 0
    while True:
        text = log.read_bytes()[start:].decode(errors="replace")
        lines = text.splitlines()
        for line in lines[printed:]:
            typer.echo(line)
        printed = len(lines)
        running = read_state(state)
        if running is not None and running.ready:
            break
        if supervisor.poll() is not None:
            _stop(f"it ended while starting; see the lines above and {log}")
        if time.monotonic() > deadline:
            _stop(f"not ready in {_START_S:.0f} s; still trying: see `signals status` and {log}")
        time.sleep(0.2)
    typer.echo(f"Kafka {running.kafka}, Redis {running.redis}, page {running.page}; `signals status` shows health")


def down(
    state: _Folder = _default_folder(),  # noqa: B008
    wait_s: Annotated[float, typer.Option(min=1, help="end parts by force after this long")] = 60.0,
) -> None:
    """Stop everything that `signals up` started here, by process id, and wait until it has ended.

    Example: signals down --wait-s 30
    """
    import psutil

    from cli.local.supervisor import alive, read_state

    running = read_state(state)
    if running is None:
        typer.echo(f"nothing runs (state in {state})")
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(running.pid)
        family = [*supervisor.children(recursive=True), supervisor]
        supervisor.terminate()
        deadline = time.monotonic() + wait_s
        while (left := [process for process in family if alive(process)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                typer.echo(f"ended by force: pid {process.pid}")
    typer.echo(f"ended: {', '.join(part.name for part in running.parts)}")


def status(
    state: _Folder = _default_folder(),  # noqa: B008
    json: Annotated[bool, typer.Option("--json", help="one JSON object instead of a table")] = False,
) -> None:
    """Show each part with its health; exit status 0 if all is well, 1 if not, 3 if nothing runs.

    Example: signals status --json
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from cli.local.supervisor import read_state

    running = read_state(state)
    if running is None:
        typer.echo("{}" if json else f"nothing runs (state in {state}): `signals up` starts it")
        raise typer.Exit(3)
    found = [(part, *health(part, running)) for part in running.parts]
    well = running.ready and all(ok for _, ok, _ in found)
    if json:
        parts = [{**msgspec.structs.asdict(part), "ok": ok, "health": detail} for part, ok, detail in found]
        whole = {
            "ok": well,
            "ready": running.ready,
            "kafka": running.kafka,
            "redis": running.redis,
            "page": running.page,
        }
        typer.echo(msgspec.json.encode(whole | {"pid": running.pid, "parts": parts}))
    else:
        table = Table(
            "part", "pid", "health", "up", "restarts", "address", title=f"pid {running.pid}, state in {state}"
        )
        for part, ok, detail in found:
            colour = "green" if ok else "red"
            up_s = time.time() - part.started_s
            hours = f"{up_s // 3600:.0f} h {up_s % 3600 // 60:.0f} min"
            table.add_row(
                part.name, str(part.pid), f"[{colour}]{detail}[/]", hours, str(part.restarts or ""), part.address
            )
        Console().print(table)
        if not running.ready:
            typer.echo("it is still starting")
    raise typer.Exit(0 if well else 1)


def logs(
    part: Annotated[
        str, typer.Argument(help="kafka, redis, signals, outcomes, bars, relay, ingest or supervisor")
    ] = "supervisor",
    state: _Folder = _default_folder(),  # noqa: B008
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="number of last lines to show")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="keep printing new lines, until Ctrl-C")] = False,
) -> None:
    """Show the output of a part; also after it ended.

    Example: signals logs relay --lines 20
    """
    file = state / "supervisor.log" if part == "supervisor" else state / part / f"{part}.log"
    if not file.exists():
        known = [
            "supervisor",
            *sorted(path.parent.name for path in state.glob("*/*.log") if path.stem == path.parent.name),
        ]
        _stop(f"no log of {part!r} in {state}; there are: {', '.join(known)}")
    for line in tail(file, lines):
        typer.echo(line)
    with contextlib.suppress(KeyboardInterrupt), open(file, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        while follow:
            if new := stream.read():
                typer.echo(new.decode(errors="replace"), nl=False)
            else:
                time.sleep(0.2)


def tail(file: Path, lines: int) -> Iterator[str]:
    """The last lines of a file."""
    from collections import deque

    with open(file, errors="replace") as stream:
        yield from (line.rstrip("\n") for line in deque(stream, maxlen=lines))


def health(part: Part, running: State) -> tuple[bool, str]:
    """Whether a part is healthy, and details."""
    import psutil

    from connectors.kafka.topics import require_broker
    from connectors.redis.client import require_redis

    if part.failed:
        return False, "ended too often; see its log"
    if not part.pid or not psutil.pid_exists(part.pid):
        return False, "ended; will be restarted"
    try:
        if part.name == "kafka":
            require_broker(running.kafka, timeout_s=5)
            return True, "answers"
        if part.name == "redis":
            require_redis(running.redis, timeout_s=5)
            return True, "answers"
        if part.name == "relay":
            return _fetch(f"{part.address}/healthz") is not None, "serves"
        if part.name == "ingest":
            return _venues(part.address)
        if part.address and (trouble := _trouble(part)) is not None:
            return trouble
        return _lag(running.kafka, part.name)
    except (ConnectionError, OSError) as error:
        return False, str(error)


def _fetch(url: str) -> str:
    from urllib.request import urlopen

    with urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def _venues(address: str) -> tuple[bool, str]:
    from prometheus_client.parser import text_string_to_metric_families

    connected: dict[str, bool] = {}
    for family in text_string_to_metric_families(_fetch(address)):
        if family.name == "ingest_connected":
            for sample in family.samples:  # one per channel
                venue = sample.labels["venue"]
                connected[venue] = connected.get(venue, True) and bool(sample.value)
    away = sorted(venue for venue, there in connected.items() if not there)
    if away or not connected:
        return False, f"not connected: {', '.join(away) or 'any venue'}"
    return True, f"connected: {', '.join(sorted(connected))}"


def _trouble(part: Part) -> tuple[bool, str] | None:
    """Why a job does not run (yet), as Flink reports it; None if it runs."""
    import msgspec

    try:
        jobs = msgspec.json.decode(_fetch(f"{part.address}/jobs/overview"))["jobs"]
    except OSError:
        jobs = []
    states = sorted({str(job["state"]) for job in jobs})
    if states == ["RUNNING"]:
        return None
    young = time.time() - part.started_s < _START_S
    return young, f"{'starting' if young else 'not running'}: {', '.join(states) or 'Flink does not answer yet'}"


def _lag(kafka: str, group: str) -> tuple[bool, str]:
    """How far the job's last checkpoint is behind the ends of its topics."""
    from connectors.kafka.lag import KafkaLag

    asked = KafkaLag(kafka, [group])
    try:
        found = asked.read()
    finally:
        asked.close()
    if not found:
        return True, "starting: no checkpoint yet"
    return True, f"runs, {sum(one.records_behind for one in found):,} messages since its last checkpoint"


def _stop(text: str) -> NoReturn:
    typer.secho(f"signals: {text}", fg="red", err=True)
    raise typer.Exit(2)
