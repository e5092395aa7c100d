"""The Flink environment a job runs in: a submitted one as it is, a local mini cluster set up like the cluster."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from connectors.runtime import ROOT, find_jars, flink_configuration
from connectors.stream_settings import StreamSettings


@dataclass(frozen=True)
class Environment:
    """A stream and its table environment, and whether it is a local mini cluster of this process."""

    stream: StreamExecutionEnvironment
    table: StreamTableEnvironment
    local: bool


def stream_environment(settings: StreamSettings, name: str = "signals") -> Environment:
    """The environment for these settings.

    Submitted by ``flink run``, the cluster's configuration rules and holds the connector in its ``lib/``: setting
    ``pipeline.jars`` here would overwrite the list in which ``flink run -py`` put flink-python's own JAR. Locally the
    same ``flink-conf/config.yaml`` is applied, and the connector comes from ``.jars``.
    """
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
    configuration.set_string("python.execution-mode", settings.execution_mode)
    configuration.set_string("pipeline.name", name)
    env = StreamExecutionEnvironment.get_execution_environment(configuration)
    env.set_parallelism(settings.parallelism)
    table = StreamTableEnvironment.create(env)
    # Windows that nobody reads in one piece must not be aggregated twice.
    table.get_config().set("table.optimizer.agg-phase-strategy", "ONE_PHASE")
    return Environment(env, table, local=not submitted)
