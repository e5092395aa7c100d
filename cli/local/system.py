"""The system on one machine: the only place that defines its parts and how each is started.

`signals demo`, `signals up`, the chaos suite and the soak get their servers and processes from here. What differs
between them is set by options: which servers run elsewhere, how long the outcomes job keeps bars, who signs in.

    system = System(folder)
    system.start_servers(stack)          # broker and Redis, where no address was given
    signals = system.job("signals", "--bundle", "daily-swing")
    with signals: ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.local.servers import Broker, PythonProcess, RedisServer, free_port

RELAY_READY = "relay listening on "
INGEST_READY = "metrics: "
BARS_READY = "bars: running"


class System:
    """Addresses of the servers, and each of our parts as a process ready to start.

    ``folder`` holds the data and log of each part; ``kafka`` and ``redis`` are addresses of servers elsewhere.
    """

    def __init__(self, folder: Path, kafka: str = "", redis: str = "") -> None:
        self.folder, self.kafka, self.redis = folder, kafka, redis
        self.broker: Broker | None = None
        self.redis_server: RedisServer | None = None
        #: Flink's REST addresses of the jobs that were given one, for the relay's system page.
        self.pages: list[str] = []

    def start_servers(self, stack: contextlib.ExitStack, partitions: int = 4, keep_redis: bool = False) -> None:
        """Start the servers that have no address yet; ``stack`` ends them."""
        if not self.kafka:
            self.broker = stack.enter_context(Broker(self.folder / "kafka", partitions))
            self.kafka = self.broker.bootstrap
        if not self.redis:
            self.redis_server = stack.enter_context(RedisServer(self.folder / "redis", keep=keep_redis))
            self.redis = self.redis_server.url

    @property
    def servers(self) -> list[str]:
        """The options by which each part finds the servers."""
        return ["--kafka", self.kafka, "--redis", self.redis]

    def job(self, name: str, *options: str, page: bool = True) -> PythonProcess:
        """``jobs/<name>.py`` on a local mini cluster; with ``page`` the relay gets its REST address."""
        given = ["-m", f"jobs.{name}", *self.servers, *options]
        if page:
            port = free_port()
            self.pages.append(f"http://127.0.0.1:{port}")
            given += ["--rest-port", str(port)]
        return PythonProcess(name, given, self.folder / name)

    def bars_job(self, config: Path | str = "", *options: str) -> PythonProcess:
        """The job that builds bars from trades."""
        given = ["-m", "jobs.bars", "--kafka", self.kafka, *_config(config), *options]
        return PythonProcess("bars", given, self.folder / "bars", ready_line=BARS_READY)

    def relay(
        self, port: int = 0, demo_user: str = "", users: str = "", variables: Mapping[str, str] | None = None
    ) -> PythonProcess:
        """The relay; ``users`` is the store's address (default: a file in the folder), ``demo_user`` a tier."""
        given = ["-m", "cli", "relay", "--redis", self.redis, "--port", str(port)]
        given += ["--users", users or f"sqlite://{self.folder / 'users.db'}", "--kafka", self.kafka]
        given += ["--demo-user", demo_user] if demo_user else []
        given += [word for page in self.pages for word in ("--flink", page)]
        return PythonProcess("relay", given, self.folder / "relay", RELAY_READY, variables)

    def ingest(self, venues: str = "", config: Path | str = "", page: bool = True) -> PythonProcess:
        """Ingestion; with ``page`` it reports each stream to the relay's system page."""
        given = ["-m", "cli", "ingest", *(self.servers if page else self.servers[:2])]
        given += ["--venues", venues] if venues else []
        return PythonProcess("ingest", [*given, *_config(config)], self.folder / "ingest", INGEST_READY)


def _config(file: Path | str) -> Sequence[str]:
    return ["--config", str(file)] if str(file) else []
