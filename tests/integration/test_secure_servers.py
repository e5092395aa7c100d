"""The job, the command line and the relay's client against a broker and a Redis that ask who comes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from connectors.kafka.publisher import Publisher
from connectors.kafka.read import read_to_end
from connectors.kafka.topics import ensure_topics, require_broker
from connectors.redis.client import connect, connect_asyncio, require_redis
from models.messages import FeatureRow, decode
from tests.support.job import minute_bars, run_job
from tests.support.secure import PASSWORD, USER, Authority, SecureBroker, SecureRedis, TlsFront

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with SecureBroker(tmp_path_factory.mktemp("kafka"), authority) as server:
        server.add_user(USER, PASSWORD)
        yield server


@pytest.fixture(scope="module")
def redis_url(authority: Authority) -> Iterator[str]:
    with SecureRedis() as server, TlsFront(server.port, authority) as front:
        yield f"rediss://127.0.0.1:{front.port}/0"


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch, authority: Authority, tmp_path: Path) -> pytest.MonkeyPatch:
    client = authority.issue("client")
    variables = {
        "SIGNALS_SECRETS_DIR": str(tmp_path),
        "SIGNALS_KAFKA_PROTOCOL": "SASL_SSL",
        "SIGNALS_KAFKA_USERNAME": USER,
        "SIGNALS_KAFKA_CA_FILE": str(authority.ca_file),
        "SIGNALS_KAFKA_CLIENT_FILE": str(client),
        "SIGNALS_REDIS_USERNAME": USER,
        "SIGNALS_REDIS_CA_FILE": str(authority.ca_file),
        "SIGNALS_REDIS_CLIENT_FILE": str(client),
    }
    for name in ("signals_kafka_password", "signals_redis_password"):
        (tmp_path / name).write_text(PASSWORD)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_job_reads_and_writes_with_sign_in_and_tls(
    broker: SecureBroker, redis_url: str, signed_in: pytest.MonkeyPatch
) -> None:
    bars = minute_bars(symbols=5, bars=30)
    ensure_topics(broker.address, ["secure-bars"])
    publisher = Publisher(broker.address)
    for bar in bars:
        publisher.publish(bar, "secure-bars")
    publisher.flush()
    done = run_job("--kafka", broker.address, "--redis", redis_url, "--bars-topic", "secure-bars", "--replay")
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [decode(value, FeatureRow) for *_, value in read_to_end(broker.address, "features")]
    assert {(row.symbol, row.start_ms) for row in rows} == {(bar.symbol, bar.start_ms) for bar in bars}
    assert connect(redis_url).exists("features:S000:1m")
    assert PASSWORD not in done.stdout + done.stderr


def test_the_relay_s_client_signs_in(redis_url: str, signed_in: pytest.MonkeyPatch) -> None:
    import asyncio

    async def ping() -> bool:
        client = connect_asyncio(redis_url)
        try:
            return bool(await client.ping())
        finally:
            await client.aclose()

    assert asyncio.run(ping())


def test_a_wrong_password_is_told_as_such(broker: SecureBroker, redis_url: str, signed_in: pytest.MonkeyPatch) -> None:
    require_broker(broker.address)
    require_redis(redis_url)
    signed_in.setenv("SIGNALS_KAFKA_PASSWORD", "wrong words")
    signed_in.setenv("SIGNALS_REDIS_PASSWORD", "wrong words")
    with pytest.raises(ConnectionError, match=r"(?i)authentication failed") as caught:
        require_broker(broker.address, timeout_s=5)
    assert "wrong words" not in str(caught.value)
    with pytest.raises(ConnectionError, match="invalid username-password pair") as caught:
        require_redis(redis_url)
    assert "wrong words" not in str(caught.value)


def test_a_stranger_certificate_and_no_tls_are_refused(
    broker: SecureBroker, redis_url: str, signed_in: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    signed_in.setenv("SIGNALS_KAFKA_CA_FILE", str(other.ca_file))
    signed_in.setenv("SIGNALS_REDIS_CA_FILE", str(other.ca_file))
    with pytest.raises(ConnectionError, match=r"(?i)certificate"):
        require_broker(broker.address, timeout_s=5)
    with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        require_redis(redis_url)
    for name in ("PROTOCOL", "USERNAME", "CA_FILE", "CLIENT_FILE"):
        signed_in.delenv(f"SIGNALS_KAFKA_{name}")
    with pytest.raises(ConnectionError, match="SIGNALS_KAFKA_PROTOCOL"):
        require_broker(broker.address, timeout_s=3)
    with pytest.raises((redis.RedisError, ConnectionError), match=r"."):
        redis.Redis.from_url(redis_url.replace("rediss", "redis"), socket_timeout=2).ping()
