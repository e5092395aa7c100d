"""The process behind ``signals up``: it supervises every part of a system on this machine.

Parts die with it, however it dies, so no process is ever orphaned. A part that ends by itself is restarted
with growing pauses; a job then resumes from its newest checkpoint. What runs where is kept in ``state.json``.

    python -m cli.local.supervisor FOLDER      (reads FOLDER/plan.json)
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import psutil

    from cli.local.servers import PythonProcess

#: Give up on a part after this many restarts in a row.
RESTARTS_MAX = 5
#: Running this long resets a part's count of restarts.
_SOUND_S = 120.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. ``kafka`` and ``redis`` are addresses of servers elsewhere; empty starts one here."""

    kafka: str = ""
    redis: str = ""
    venues: str = ""
    config: str = ""
    bundle: str = "daily-swing"
    port: int = 0
    demo_user: str = ""
    build_bars: bool = False


class Part(msgspec.Struct, kw_only=True):
    """One process. ``failed`` is set when it is not restarted any more."""

    name: str
    pid: int
    log: str
    address: str = ""
    started_s: float = 0.0
    restarts: int = 0
    failed: bool = False


class State(msgspec.Struct, kw_only=True):
    """What runs: the supervisor, the addresses, the parts. ``created_s`` guards against a reused pid."""

    pid: int
    created_s: float
    kafka: str = ""
    redis: str = ""
    page: str = ""
    ready: bool = False
    parts: list[Part] = []


def read_state(folder: Path) -> State | None:
    """The state of a running supervisor; None if none runs."""
    import psutil

    try:
        state = msgspec.json.decode((folder / "state.json").read_bytes(), type=State)
        supervisor = psutil.Process(state.pid)
        running = abs(supervisor.create_time() - state.created_s) < 1 and alive(supervisor)
    except (OSError, msgspec.DecodeError, psutil.NoSuchProcess):
        return None
    return state if running else None


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def newest_checkpoint(folder: Path) -> str:
    """The URI of the newest complete checkpoint under a folder; empty if there is none."""
    found = [(file.stat().st_mtime, file.parent) for file in folder.glob("*/chk-*/_metadata")]
    return max(found)[1].as_uri() if found else ""


class Supervisor:
    """Starts the parts of a plan in order and keeps them running until it is terminated."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        import psutil

        self._folder, self._plan = folder, plan
        self._state = State(pid=os.getpid(), created_s=psutil.Process().create_time())
        self._watched: list[tuple[Part, PythonProcess, str]] = []

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, which raise KeyboardInterrupt."""
        with contextlib.ExitStack() as stack:
            stack.callback((self._folder / "state.json").unlink, missing_ok=True)
            self._save()
            self._start(stack)
            self._state.ready = True
            self._save()
            while True:
                time.sleep(1)
                for part, process, job in self._watched:
                    self._look_after(part, process, job)

    def _start(self, stack: contextlib.ExitStack) -> None:
        from cli.local.servers import free_port
        from cli.local.system import System

        plan, state = self._plan, self._state
        system = System(self._folder, plan.kafka, plan.redis)
        system.start_servers(stack)
        state.kafka, state.redis = system.kafka, system.redis
        if broker := system.broker:
            self._note(Part(name="kafka", pid=broker.pid, log=str(broker.log_path), address=state.kafka))
        if redis := system.redis_server:
            self._note(Part(name="redis", pid=redis.pid, log=str(redis.log_path), address=state.redis))
        self._run(stack, system.job("signals", "--bundle", plan.bundle), "signals", system.pages[-1])
        self._run(stack, system.job("outcomes"), "outcomes", system.pages[-1])
        if plan.build_bars:
            self._run(stack, system.bars_job(plan.config), "bars")
        self._run(stack, system.relay(plan.port or free_port(), plan.demo_user))
        if plan.venues:
            self._run(stack, system.ingest(plan.venues, plan.config))

    def _run(self, stack: contextlib.ExitStack, process: PythonProcess, job: str = "", address: str = "") -> None:
        """Start a part; ``job`` is the name of its checkpoints' folder, if it keeps any."""
        process.resume_with(self._resumed(job))
        stack.enter_context(process)
        address = process.ready_text or address
        part = Part(name=process.name, pid=process.pid, log=str(process.log_path), address=address)
        if process.name == "relay":
            self._state.page = part.address
        self._watched.append((part, process, job))
        self._note(part)

    def _resumed(self, job: str) -> list[str]:
        """Where a job keeps its checkpoints, and the one it resumes from."""
        if not job:
            return []
        checkpoints = self._folder / "checkpoints" / job
        newest = newest_checkpoint(checkpoints)
        return ["--checkpoints", str(checkpoints), *(["--restore", newest] if newest else [])]

    def _look_after(self, part: Part, process: PythonProcess, job: str) -> None:
        from cli.local.servers import StartError

        ended = process.process.poll() if process.process else 1  # it did not start the last time
        if ended is None:
            if part.restarts and time.time() - part.started_s > _SOUND_S:
                part.restarts = 0
                self._save()
            return
        if part.failed:
            return
        if part.restarts >= RESTARTS_MAX:
            part.failed = True
            print(f"{part.name} ended {RESTARTS_MAX + 1} times (status {ended}); given up", flush=True)
            self._save()
            return
        part.restarts += 1
        print(f"{part.name} ended with status {ended}; restart {part.restarts}", flush=True)
        time.sleep(min(2.0 ** (part.restarts - 1) / 2, 10))
        if job:
            process.resume_with(self._resumed(job))
        try:
            process.start()
        except StartError as error:
            print(error, flush=True)
        part.pid = process.process.pid if process.process else 0
        part.address, part.started_s = process.ready_text or part.address, time.time()
        self._save()

    def _note(self, part: Part) -> None:
        part.started_s = time.time()
        self._state.parts.append(part)
        print(f"started {part.name}, pid {part.pid} {part.address}", flush=True)
        self._save()

    def _save(self) -> None:
        file = self._folder / "state.json"
        new = file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self._state))
        new.replace(file)


def main(folder: Path) -> int:
    """Run the system of ``folder/plan.json``; returns the exit status."""
    from cli.local.servers import StartError, forget_sign_in
    from connectors.paths import MissingError

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    plan = msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)
    if not plan.kafka and not plan.redis:
        forget_sign_in()
    try:
        Supervisor(folder, plan).run()
    except KeyboardInterrupt:
        print("every part has ended", flush=True)
        return 0
    except (StartError, MissingError, OSError) as error:
        print(f"supervisor: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
