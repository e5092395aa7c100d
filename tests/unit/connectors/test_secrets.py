"""Sign-in and encryption: what the settings become, and what is refused, without a server."""

import ast
from pathlib import Path

import pytest

from cli.local.servers import forget_sign_in
from connectors.bars.sql import bars_sink
from connectors.kafka.security import KafkaSecurityError, kafka_client, kafka_security
from connectors.kafka.tables import bars_source, outbox_sink
from connectors.redis.client import security_options
from connectors.secrets import SecretError, secret
from connectors.settings.ingest import load
from relay.settings import RelaySettings

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "correct horse battery"


@pytest.fixture
def sasl(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("SIGNALS_KAFKA_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("SIGNALS_KAFKA_USERNAME", "pipeline")
    return monkeypatch


def test_a_password_from_the_environment_reaches_librdkafka_and_not_the_job(sasl: pytest.MonkeyPatch) -> None:
    sasl.setenv("SIGNALS_KAFKA_PASSWORD", PASSWORD)
    assert kafka_client("b:1")["sasl.password"] == PASSWORD
    sources = (bars_source("b:1", "t", "processing-time"), outbox_sink("b:1", ["t"]), bars_sink("b:1", ("t", "u")))
    for ddl in sources:
        assert PASSWORD not in ddl
        assert "${secret:SIGNALS_KAFKA_PASSWORD}" in ddl
        assert "EnvVarConfigProvider" in ddl


def test_a_password_from_a_file_is_named_by_folder_and_file(sasl: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sasl.setenv("SIGNALS_SECRETS_DIR", str(tmp_path))
    (tmp_path / "signals_kafka_password").write_text(PASSWORD)
    assert kafka_client("b:1")["sasl.password"] == PASSWORD
    options = kafka_security().connector_options()
    assert f"${{secret:{tmp_path}:signals_kafka_password}}" in options["sasl.jaas.config"]
    assert options["config.providers.secret.class"].endswith("DirectoryConfigProvider")
    (tmp_path / "signals_kafka_password").write_text(PASSWORD + "\n")
    with pytest.raises(SecretError, match="line break"):
        kafka_security().connector_options()


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PROTOCOL": "SASL_SSL"}, "SIGNALS_KAFKA_USERNAME is missing"),
        ({"PROTOCOL": "SASL_SSL", "USERNAME": "u"}, "SIGNALS_KAFKA_PASSWORD is missing"),
        ({"PROTOCOL": "SASL_SSL", "USERNAME": "u", "PASSWORD": 'a"b'}, "quote"),
        ({"PROTOCOL": "SASL_SSL", "USERNAME": 'u"', "PASSWORD": "p"}, "SIGNALS_KAFKA_USERNAME"),
        ({"PROTOCOL": "TLS"}, "SIGNALS_KAFKA_PROTOCOL = 'TLS'"),
        ({"USERNAME": "u"}, "set it to SASL_SSL"),
        ({"CA_FILE": "/dev/null"}, "has no TLS"),
        ({"PROTOCOL": "SSL", "CA_FILE": "/no/such.pem"}, "/no/such.pem: no such file"),
        ({"PROTOCOL": "SSL", "PASWORD": "p"}, "SIGNALS_KAFKA_PASWORD: not a setting"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SIGNALS_KAFKA_{name}", value)
    with pytest.raises((KafkaSecurityError, SecretError), match=r".") as caught:
        kafka_client("b:1")
    assert named in str(caught.value)
    assert 'a"b' not in str(caught.value)


def test_without_settings_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kafka_security().client_options() == kafka_security().connector_options() == {}
    monkeypatch.setenv("SIGNALS_KAFKA_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("SIGNALS_REDIS_PASSWORD", "p")
    forget_sign_in()
    assert kafka_client("b:1") == {"bootstrap.servers": "b:1"}
    assert security_options("redis://h") == {}


def test_redis_files_need_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("-")
    monkeypatch.setenv("SIGNALS_REDIS_CA_FILE", str(file))
    assert security_options("rediss://h") == {"ssl_ca_certs": str(file)}
    with pytest.raises(SecretError, match="write rediss://"):
        security_options("redis://h")


def test_keys_of_venues_and_relay_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ALPACA_API_KEY", raising=False)
    monkeypatch.setenv("SIGNALS_SECRETS_DIR", str(tmp_path))
    (tmp_path / "alpaca_api_key").write_text("AK1\n")
    (tmp_path / "signals_relay_jwt_secret").write_text("x" * 32)
    assert load(None, venues=["alpaca"]).venue("alpaca").key.get_secret_value() == "AK1"
    assert RelaySettings().jwt_secret.get_secret_value() == "x" * 32
    monkeypatch.setenv("ALPACA_API_KEY", "AK2")
    assert secret("ALPACA_API_KEY") == "AK2"
    monkeypatch.setenv("SIGNALS_SECRETS_DIR", str(tmp_path / "absent"))
    with pytest.raises(SecretError, match="no such folder"):
        secret("POLYGON_API_KEY")


def test_no_client_goes_round_the_security_settings() -> None:
    """Every Kafka client is configured by ``kafka_client``, every Redis client by ``redis_client``."""
    found = []
    for package in ("models", "connectors", "udfs", "jobs", "relay", "cli"):
        for path in (ROOT / package).rglob("*.py"):
            place = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text())):
                plain = isinstance(node, ast.Constant) and node.value == "bootstrap.servers"
                url = isinstance(node, ast.Attribute) and node.attr == "from_url"
                if plain and place not in ("connectors/kafka/security.py", "cli/local/servers.py"):
                    found.append(f"{place}:{node.lineno} builds a Kafka configuration of its own")
                if url and place != "connectors/redis/client.py":
                    found.append(f"{place}:{node.lineno} opens Redis on its own")
    assert not found, "\n".join(found)
