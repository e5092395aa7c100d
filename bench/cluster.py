"""Jobs on a standalone cluster: start one, from a savepoint or not, and stop it with one.

Shared by the savepoint tests, the scale-out test and the state measurements.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from cli.local.servers import FlinkCluster
from connectors.paths import ROOT

#: Every savepoint is canonical: the same bytes with any state backend, and it may be moved to another folder.
CANONICAL = "CANONICAL"


def rest(cluster: FlinkCluster, path: str, body: dict[str, Any] | None = None) -> Any:
    """An answer of the cluster's REST interface; with ``body`` a POST."""
    return rest_at(cluster.address, path, body)


def rest_at(address: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The same for the cluster at ``host:port``, including a job's own mini cluster."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://{address}{path}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def start(cluster: FlinkCluster, job: str, *arguments: str, savepoint: Path | None = None, code: Path = ROOT) -> str:
    """Submit ``jobs/<job>.py`` of the checkout ``code``, from a savepoint if there is one; the job's id.

    ``arguments``: the job's own, behind Flink's (``-pyfs WHEEL``) if there are any.
    """
    given = ["--fromSavepoint", str(savepoint)] if savepoint else []
    done = cluster.flink("run", "--detached", *given, "-py", str(code / "jobs" / f"{job}.py"), *arguments)
    for line in done.stdout.splitlines():
        if "JobID" in line:
            return line.split("JobID")[1].split()[0]
    # Every layer reports a failure with its stack; Java's stack frames are omitted, so that the cause is visible.
    told = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("\tat ")]
    raise RuntimeError("flink run failed:\n" + "\n".join(told)[-12_000:])


def state_of(cluster: FlinkCluster, job_id: str) -> str:
    """RUNNING, RESTARTING, FINISHED, …"""
    return str(rest(cluster, f"/jobs/{job_id}")["state"])


def failure_of(cluster: FlinkCluster, job_id: str) -> str:
    """The stack of the job's last failure."""
    told = rest(cluster, f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
    return str(told[0]["stacktrace"]) if told else ""


def stop(cluster: FlinkCluster, job_id: str, folder: Path, timeout_s: float = 60) -> Path:
    """Stop the job, once all its tasks run, with a canonical savepoint below ``folder``; the savepoint."""
    deadline = time.monotonic() + timeout_s
    while any(one["status"] not in ("RUNNING", "FINISHED") for one in rest(cluster, f"/jobs/{job_id}")["vertices"]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not every task of {job_id} runs\n{failure_of(cluster, job_id)[:3000]}")
        time.sleep(0.05)
    asked = {"targetDirectory": folder.as_uri(), "drain": False, "formatType": CANONICAL}
    request = rest(cluster, f"/jobs/{job_id}/stop", asked)["request-id"]
    while True:
        told = rest(cluster, f"/jobs/{job_id}/savepoints/{request}")
        if told["status"]["id"] == "COMPLETED":
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"no savepoint of {job_id} within {timeout_s:.0f} s: see the logs in {cluster.folder}")
        time.sleep(0.05)
    operation = told["operation"]
    if "location" not in operation:
        raise RuntimeError(f"the savepoint of {job_id} failed: {operation['failure-cause']['stack-trace'][:3000]}")
    await_state(cluster, job_id, "FINISHED", timeout_s)
    return Path(operation["location"].removeprefix("file:"))


def await_state(cluster: FlinkCluster, job_id: str, wanted: str, timeout_s: float) -> None:
    """Wait until the job is in that state; raises with its failure if it is FAILED instead."""
    deadline = time.monotonic() + timeout_s
    while (state := state_of(cluster, job_id)) != wanted:
        if state == "FAILED" or time.monotonic() > deadline:
            raise RuntimeError(f"job {job_id} is {state}, not {wanted}\n{failure_of(cluster, job_id)[:3000]}")
        time.sleep(0.1)


def task_manager_log(cluster: FlinkCluster, characters: int = 4000) -> str:
    """The ends of the TaskManagers' logs."""
    found = sorted((cluster.folder / "log").glob("*taskexec*.log"), key=os.path.getmtime)
    return "\n".join(f"{path.name}\n{path.read_text(errors='replace')[-characters:]}" for path in found)


def task_managers_of(cluster: FlinkCluster, job_id: str) -> int:
    """How many TaskManagers the job's tasks run, or ran, on."""
    found = set()
    for vertex in rest(cluster, f"/jobs/{job_id}")["vertices"]:
        told = rest(cluster, f"/jobs/{job_id}/vertices/{vertex['id']}")
        found |= {one.get("taskmanager-id") or one["endpoint"] for one in told["subtasks"]}
    return len(found)
