"""The Flink cluster of a chaos run: how a job is submitted, found again and resumed, with and without ZooKeeper."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from bench.cluster import failure_of, rest, start, state_of
from bench.kill_taskmanager import QUICK
from cli.local.servers import FlinkCluster, _Process, lasting_port
from connectors.paths import find_java

#: In addition to what shortens faults: a checkpoint per second, and a TaskManager that waits for its JobManager.
SETTINGS = QUICK | {
    "execution.checkpointing.interval": "1s",
    "restart-strategy.exponential-delay.max-backoff": "2s",
    "jobmanager.memory.process.size": "900m",
    "taskmanager.registration.timeout": "10min",
}


class ZooKeeper(_Process):
    """The ZooKeeper inside flink-dist, for Flink's own high availability."""

    name = "zookeeper"

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.port = lasting_port()

    @property
    def quorum(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """One server."""
        configuration = self.folder / "zoo.cfg"
        configuration.write_text(
            f"tickTime=500\ndataDir={self.folder / 'data'}\nclientPort={self.port}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=ruok\n"
        )
        jars = [*FlinkCluster.home().glob("lib/flink-dist-*.jar"), *FlinkCluster.home().glob("lib/log4j-*.jar")]
        main = "org.apache.flink.shaded.zookeeper3.org.apache.zookeeper.server.ZooKeeperServerMain"
        return [str(find_java()), "-Xmx128m", "-cp", os.pathsep.join(map(str, jars)), main, str(configuration)]

    def ready(self) -> bool:
        """Whether it reports that it is healthy."""
        import socket

        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
            sock.sendall(b"ruok")
            return sock.recv(4) == b"imok"
        return False

    def settings(self, storage: Path) -> dict[str, str]:
        """What turns Flink's high availability on."""
        return {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": self.quorum,
            "high-availability.storageDir": storage.as_uri(),
            "high-availability.zookeeper.client.session-timeout": "5000",
            "high-availability.zookeeper.client.connection-timeout": "5000",
            "high-availability.zookeeper.client.retry-wait": "1000",
        }


class Job:
    """One submitted job and how to resume it."""

    def __init__(self, name: str, cluster: FlinkCluster, arguments: list[str]) -> None:
        self.name, self.cluster, self._arguments = name, cluster, arguments
        self.id = ""

    def submit(self, checkpoint: Path | None = None, *more: str) -> None:
        """Start it, from a retained checkpoint if one is given."""
        self.id = start(self.cluster, self.name, *self._arguments, *more, savepoint=checkpoint)

    def cancel(self) -> None:
        """End it; its checkpoints stay."""
        done = self.cluster.flink("cancel", self.id)
        if done.returncode:
            raise RuntimeError(f"flink cancel failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def newest_checkpoint(self, folder: Path) -> Path:
        """The newest complete checkpoint."""
        made = sorted((folder / self.id).glob("chk-*/_metadata"), key=lambda file: int(file.parent.name[4:]))
        if not made:
            raise RuntimeError(f"{self.name} has no checkpoint under {folder / self.id}")
        return made[-1].parent

    def state(self) -> str:
        """RUNNING, RESTARTING, …; ``AWAY`` while the JobManager does not answer or does not know the job."""
        with contextlib.suppress(OSError, ValueError):
            return state_of(self.cluster, self.id)
        return "AWAY"

    def running(self) -> bool:
        """Whether every one of its tasks runs."""
        with contextlib.suppress(OSError, ValueError):
            told = rest(self.cluster, f"/jobs/{self.id}")
            return told["state"] == "RUNNING" and all(one["status"] == "RUNNING" for one in told["vertices"])
        return False

    def checkpoints(self) -> tuple[int, int]:
        """Newest completed checkpoint's id, and how many have failed; (-1, -1) while the JobManager is away."""
        with contextlib.suppress(OSError, ValueError):
            told = rest(self.cluster, f"/jobs/{self.id}/checkpoints")
            completed = told["latest"]["completed"]
            return (int(completed["id"]) if completed else 0), int(told["counts"]["failed"])
        return -1, -1

    def exception(self) -> str:
        """The cause of its last failure."""
        with contextlib.suppress(OSError, ValueError):
            return failure_of(self.cluster, self.id)
        return ""

    def task_manager_pid(self) -> int | None:
        """The process that runs its tasks: TaskManagers name themselves ``host:port-…``."""
        import psutil

        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            vertex = rest(self.cluster, f"/jobs/{self.id}")["vertices"][0]["id"]
            subtask = rest(self.cluster, f"/jobs/{self.id}/vertices/{vertex}")["subtasks"][0]
            port = int(subtask["endpoint"].rpartition(":")[2])
            name = subtask["taskmanager-id"]
            for pid in self.cluster.pids("taskexecutor"):
                with contextlib.suppress(psutil.Error):
                    ports = {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.status == "LISTEN"}
                    if port in ports or int(name.partition(":")[2].partition("-")[0]) in ports:
                        return pid
        return None


def wait(what: str, done, timeout_s: float, every_s: float = 0.05):
    """Wait until ``done()`` is true and return its result; RuntimeError naming what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not (found := done()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(every_s)
    return found
