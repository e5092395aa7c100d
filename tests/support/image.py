"""The Flink image's file system in a folder, made by the very files the Dockerfile copies, and its processes."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from cli.local.servers import ROOT, FlinkCluster, _Process, lasting_port
from connectors.paths import find_jars, find_java


class FlinkImage:
    """``home`` is FLINK_HOME as in the image; processes started by :meth:`run` see the image's environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "flink"
        packages = folder / "packages"
        packages.mkdir(parents=True)
        shutil.copytree(FlinkCluster.home(), packages / "pyflink", ignore=shutil.ignore_patterns("log"))
        install = ROOT / "docker" / "install-flink.sh"
        subprocess.run(["bash", str(install), str(packages / "pyflink"), str(self.home)], check=True)
        for jar in find_jars("flink-sql-connector-kafka-*.jar"):
            shutil.copy(jar, self.home / "lib")
        conf = (ROOT / "flink-conf" / "config.yaml").read_text() + (ROOT / "docker" / "flink.yaml").read_text()
        (self.home / "conf" / "config.yaml").write_text(conf.replace("/opt/venv/bin/python", sys.executable))
        shutil.copy(ROOT / "docker" / "log4j-console.properties", self.home / "conf")
        self.rest_port, self._rpc_port = lasting_port(), lasting_port()
        self.metrics_port, self.manager_metrics_port = lasting_port(), lasting_port()

    def environment(self) -> dict[str, str]:
        """What the image's ENV lines set."""
        path = [str(self.folder / "packages"), str(ROOT), sysconfig.get_paths()["purelib"]]
        return os.environ | {
            "FLINK_HOME": str(self.home),
            "FLINK_CONF_DIR": str(self.home / "conf"),
            "FLINK_LOG_DIR": str(self.folder / "log"),
            "FLINK_PID_DIR": str(self.folder / "log"),
            "JAVA_HOME": str(find_java().parent.parent),
            "JOBS_DIR": str(ROOT / "jobs"),
            "STATE_DIR": str(self.folder / "state"),
            "PYTHONPATH": os.pathsep.join(path),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def addresses(self) -> list[str]:
        """Ports of this test and loopback, where the image has its own and every address."""
        values = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self._rpc_port,
            "jobmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest_port,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "execution.checkpointing.interval": "1s",
        }
        return [f"-D{key}={value}" for key, value in values.items()]

    def job_manager(self, job: str, *options: str) -> "Foreground":
        """``/start-job.sh JOB`` as compose.yaml has it."""
        start = str(ROOT / "docker" / "start-job.sh")
        reporter = f"-Dmetrics.reporter.prom.port={self.manager_metrics_port}"
        return Foreground(self, "jobmanager", ["bash", start, job, *self.addresses(), reporter, "--", *options])

    def task_manager(self) -> "Foreground":
        """``taskmanager.sh start-foreground``."""
        reporter = f"-Dmetrics.reporter.prom.port={self.metrics_port}"
        start = str(self.home / "bin" / "taskmanager.sh")
        return Foreground(self, "taskmanager", ["bash", start, "start-foreground", *self.addresses(), reporter])


class Foreground(_Process):
    """One process of the image."""

    def __init__(self, image: FlinkImage, name: str, command: list[str]) -> None:
        self.name = name
        super().__init__(image.folder / name)
        self._image, self._command = image, ["bash", str(ROOT / "docker" / "docker-entrypoint.sh"), *command]

    def command(self) -> list[str]:
        return self._command

    def environment(self) -> dict[str, str]:
        return self._image.environment()

    def ready(self) -> bool:
        return True

    def output(self) -> str:
        """Everything it has printed."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_text(errors="replace")
        return ""
