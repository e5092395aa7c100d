"""Real servers for integration tests, started once a session on ports given by the OS."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cli.local.servers import Broker, RedisServer

# Flink's JVMs live for seconds here and share two cores with what they wait for: the quick compiler alone.
os.environ.setdefault("JVM_ARGS", "-XX:TieredStopAtLevel=1")

# The same examples in every run, and no verdict by how quick the machine is.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

#: Recipes that made the fixtures; they need packages that our pins exclude.
collect_ignore_glob = ["fixtures/*"]


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """A real Kafka broker; use topics with names of your own."""
    with Broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis-protocol server."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, as users submit it."""
    from bench.kill_taskmanager import build_wheel

    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The server's URL, emptied before each test."""
    import redis

    redis.Redis.from_url(redis_server.url).flushall()
    return redis_server.url
