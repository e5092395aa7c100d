"""The Flink environment a job runs in: a submitted one as it is, a local mini cluster set up like the cluster."""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pyflink.common import Configuration, JobClient
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from connectors.kafka.tables import bars_source, outbox_sink
from connectors.paths import ROOT, find_jars, flink_configuration
from connectors.settings.flink_job import RunSettings, StreamSettings


@dataclass(frozen=True)
class Environment:
    """A stream and its table environment, and whether it is a local mini cluster of this process.

    A savepoint finds an operator's state by the operator's id. For SQL's operators Flink derives it from the shape of
    the graph, or numbers them through the program: a change to one query would cut all the others off from their state,
    the Kafka offsets among it. Here each is named by its query, by what it is and, where the query has several of a
    kind, by its place among those: ``frames:kafka``, ``frames:calc``, ``frames:calc:2``.
    """

    stream: StreamExecutionEnvironment
    table: StreamTableEnvironment
    name: str
    local: bool

    def create_frame_tables(
        self, settings: StreamSettings, inputs: Sequence[str], outputs: Sequence[str], *, lateness_ms: int | None = None
    ) -> None:
        """Declare what a job of frames reads and writes: table ``messages`` over ``inputs``, the sink over ``outputs``.

        ``lateness_ms`` as in :func:`connectors.kafka.tables.bars_source`.
        """
        self.table.execute_sql(
            bars_source(
                settings.kafka,
                ";".join(inputs),
                "kafka-offset" if settings.replay else "processing-time",
                startup=settings.start,
                start_ms=settings.from_ms,
                end_ms=settings.to_ms,
                bounded=settings.replay,
                group=settings.group_id,
                lateness_ms=lateness_ms,
            )
        )
        self.table.execute_sql(
            outbox_sink(
                settings.kafka,
                list(outputs),
                exactly_once=settings.exactly_once,
                transaction_prefix=settings.group_id,
            )
        )

    def begin_query(self, query: str) -> None:
        """What is translated from here on belongs to ``query``."""
        configuration = self.table.get_config()
        configuration.set("table.exec.uid.generation", "ALWAYS")
        configuration.set("table.exec.uid.format", f"{query}:<transformation>:<id>")

    def insert(self, query: str, *sql: str) -> None:
        """Make INSERTs a part of the job, as one query of that name: they share what they have in common."""
        self.begin_query(query)
        statements = self.table.create_statement_set()
        for statement in sql:
            statements.add_insert_sql(statement)
        statements.attach_as_datastream()

    def fix_ids(self) -> None:
        """Give SQL's operators the ids that last."""
        found = {}
        for root in self.stream._j_stream_execution_environment.getTransformations().toArray():
            for transformation in root.getTransitivePredecessors().toArray():
                found[transformation.getId()] = transformation
        seen: Counter[str] = Counter()
        for _, transformation in sorted(found.items()):
            query, _, rest = (transformation.getUid() or "").partition(":")
            kind, _, number = rest.rpartition(":")
            if kind and number.isdigit():  # else it is not SQL's
                seen[name := f"{query}:{kind}"] += 1
                transformation.setUid(name if seen[name] == 1 else f"{name}:{seen[name]}")

    def start(self) -> JobClient:
        """Start the job."""
        self.fix_ids()
        client = self.stream.execute_async(self.name)
        gc.enable()
        return client

    def run(self) -> None:
        """Start the job and, on a local mini cluster, wait for its end."""
        client = self.start()
        if self.local:
            client.get_job_execution_result().result()


def environment_soon(settings: RunSettings, name: str = "signals") -> Future[Environment]:
    """:func:`stream_environment`, being made while the caller goes on: a JVM takes seconds to start."""
    pool = ThreadPoolExecutor(1, "environment")
    future = pool.submit(stream_environment, settings, name)
    pool.shutdown(wait=False)
    return future


def stream_environment(settings: RunSettings, name: str = "signals") -> Environment:
    """The environment for these settings.

    Submitted by ``flink run``, the cluster's configuration rules and holds the connector in its ``lib/``: setting
    ``pipeline.jars`` here would overwrite the list in which ``flink run -py`` put flink-python's own JAR. Locally the
    same ``flink-conf/config.yaml`` is applied, and the connector comes from ``.jars``.

    From here to :meth:`Environment.start` Python's cycle collector is off. It reports to the JVM each Java object it
    frees, from whichever thread it happens to run in, and if that is amid a call it opens a second connection, which
    later calls may then take. A connection is a thread in the JVM, and Flink's SQL planner keeps what it needs in the
    thread that made it: on another it fails with a NullPointerException.
    """
    gc.disable()
    submitted = "PYFLINK_GATEWAY_PORT" in os.environ
    if not submitted:  # before the first call into the JVM, which inherits this environment
        # Else a process-mode worker would be a thread of this client and share its interpreter lock.
        os.environ.setdefault("_python_worker_execution_mode", "process")
        # The interpreter inside the JVM does not know of a virtual environment.
        paths = [str(ROOT), sysconfig.get_paths()["purelib"], os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    configuration = Configuration()
    if not submitted:
        for key, value in flink_configuration().items():
            configuration.set_string(key, value)
        jars = find_jars("flink-sql-connector-kafka-*.jar")
        configuration.set_string("pipeline.jars", ";".join(jar.as_uri() for jar in jars))
        configuration.set_string("python.executable", sys.executable)
        configuration.set_string("python.client.executable", sys.executable)
        # Flink has no sign-in, and its REST interface and file server would listen on every address.
        configuration.set_string("rest.address", "127.0.0.1")
        configuration.set_string("rest.bind-address", "127.0.0.1")
        configuration.set_string("rest.port", str(settings.rest_port))
        configuration.set_string("rest.bind-port", str(settings.rest_port))
        configuration.set_string("web.submit.enable", "false")
        configuration.set_string("jobmanager.bind-host", "127.0.0.1")
        configuration.set_string("taskmanager.numberOfTaskSlots", str(settings.parallelism))
        # A person waits at the terminal: a fault that comes back at once must end the run and show itself.
        configuration.set_string("restart-strategy.exponential-delay.attempts-before-reset-backoff", "10")
        if settings.checkpoints is not None:
            where = str(settings.checkpoints)
            configuration.set_string(
                "execution.checkpointing.dir", where if "://" in where else settings.checkpoints.resolve().as_uri()
            )
        if settings.restore:
            configuration.set_string("execution.state-recovery.path", settings.restore)
    if (every_ms := settings.checkpoint_interval_ms) is not None:
        configuration.set_string("execution.checkpointing.interval", f"{every_ms}ms")
        configuration.set_string("execution.checkpointing.min-pause", f"{min(1000, every_ms // 2)}ms")
    if isinstance(settings, StreamSettings):  # else the job has no Python to run
        configuration.set_string("python.execution-mode", settings.execution_mode)
    configuration.set_string("pipeline.name", name)
    env = StreamExecutionEnvironment.get_execution_environment(configuration)
    env.set_parallelism(settings.parallelism)
    table = StreamTableEnvironment.create(env)
    if settings.replay:
        # The clock is the offset, and what is behind it is dropped: a partition that is slow for a while must be waited
        # for. None stays empty for ever, as the input has an end.
        table.get_config().set("table.exec.source.idle-timeout", "0 ms")
    # Windows that nobody reads in one piece must not be aggregated twice.
    table.get_config().set("table.optimizer.agg-phase-strategy", "ONE_PHASE")
    return Environment(env, table, name, local=not submitted)
