"""How every Kafka client of the system signs in and encrypts: one set of settings, for librdkafka and for Flink.

Variables, all optional: ``SIGNALS_KAFKA_PROTOCOL`` (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL),
``SIGNALS_KAFKA_MECHANISM`` (SCRAM-SHA-512, SCRAM-SHA-256, PLAIN), ``SIGNALS_KAFKA_USERNAME``,
``SIGNALS_KAFKA_PASSWORD`` (or a file, see :mod:`connectors.secrets`), ``SIGNALS_KAFKA_CA_FILE`` (PEM; default:
the machine's own authorities) and ``SIGNALS_KAFKA_CLIENT_FILE`` (PEM: private key in PKCS#8, then certificates).

The password is never part of a job: Flink's connector is given the *name* of the variable or file, and each process of
the cluster reads it where it runs (Kafka's configuration providers). So the variables must be set for JobManager and
TaskManagers too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.secrets import SecretError, secret, secret_file

_PREFIX = "SIGNALS_KAFKA_"
PASSWORD = f"{_PREFIX}PASSWORD"
#: Package of the Kafka client's classes inside Flink's SQL connector JAR.
_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common"
_LOGIN = {"PLAIN": f"{_SHADED}.security.plain.PlainLoginModule"}
_SCRAM = f"{_SHADED}.security.scram.ScramLoginModule"


class KafkaSecurityError(ConnectionError):
    """Settings with which no broker can be reached; each line names a variable and the remedy."""


class KafkaSecurity(BaseSettings):
    """The variables above. Use :func:`kafka_security` to read them.

    >>> KafkaSecurity(protocol="SSL").sasl, KafkaSecurity(protocol="SSL").tls
    (False, True)
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid")

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    username: str = Field(default="", pattern=r"""^[^"\\\r\n]*$""")
    ca_file: Path | None = None
    client_file: Path | None = None

    @property
    def sasl(self) -> bool:
        """Whether clients sign in with a name and password."""
        return self.protocol.startswith("SASL_")

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol.endswith("SSL")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sasl and not self.username:
            raise ValueError(f"{_PREFIX}USERNAME is missing: {self.protocol} signs in with a name")
        if not self.sasl and self.username:
            raise ValueError(
                f"{_PREFIX}USERNAME is set but {_PREFIX}PROTOCOL = {self.protocol} has no sign-in: "
                "set it to SASL_SSL, or unset the name"
            )
        for name in ("ca_file", "client_file"):
            file = getattr(self, name)
            if file is not None and not self.tls:
                raise ValueError(f"{_PREFIX}{name.upper()} is set but {_PREFIX}PROTOCOL = {self.protocol} has no TLS")
            if file is not None and not file.is_file():
                raise ValueError(f"{_PREFIX}{name.upper()} = {file}: no such file")
        return self

    def password(self) -> str:
        """The password; SecretError naming the variable if it is missing or cannot be passed to the JVM."""
        value = secret(PASSWORD)
        if not value:
            raise SecretError(f"{PASSWORD} is missing: set it, or put {PASSWORD.lower()} into SIGNALS_SECRETS_DIR")
        if any(character in value for character in '"\\\r\n'):
            raise SecretError(f'{PASSWORD} contains a quote ("), backslash or line break: choose one without')
        return value

    def client_options(self) -> dict[str, str]:
        """For librdkafka (confluent-kafka), the password included: never log it."""
        if self.protocol == "PLAINTEXT":
            return {}
        options: dict[str, str] = {"security.protocol": self.protocol}
        if self.sasl:
            options |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password(),
            }
        if self.ca_file:
            options["ssl.ca.location"] = str(self.ca_file)
        if self.client_file:
            options |= {"ssl.certificate.location": str(self.client_file), "ssl.key.location": str(self.client_file)}
        return options

    def connector_options(self) -> dict[str, str]:
        """For the Kafka client in Flink's connector; the password as a reference that the cluster resolves."""
        if self.protocol == "PLAINTEXT":
            return {}
        options: dict[str, str] = {"security.protocol": self.protocol}
        if self.sasl:
            self.password()
            reference, provider = self._password_reference()
            login = _LOGIN.get(self.mechanism, _SCRAM)
            options |= {
                "sasl.mechanism": self.mechanism,
                "sasl.jaas.config": f'{login} required username="{self.username}" password="{reference}";',
                "config.providers": "secret",
                "config.providers.secret.class": f"{_SHADED}.config.provider.{provider}",
            }
        if self.ca_file:
            options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(self.ca_file)}
        if self.client_file:
            options |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self.client_file)}
        return options

    @staticmethod
    def _password_reference() -> tuple[str, str]:
        if os.environ.get(PASSWORD):
            return f"${{secret:{PASSWORD}}}", "EnvVarConfigProvider"
        file = secret_file(PASSWORD)
        assert file is not None  # password() found it
        if file.read_text() != secret(PASSWORD):  # Kafka's provider takes the file as it is
            raise SecretError(f"{file} ends with a line break: write it without one (printf %s PASSWORD > FILE)")
        return f"${{secret:{file.parent}:{file.name}}}", "DirectoryConfigProvider"


def kafka_security() -> KafkaSecurity:
    """The settings of this process's environment; KafkaSecurityError naming what is wrong."""
    known = {_PREFIX + name.upper() for name in KafkaSecurity.model_fields} | {PASSWORD}
    if unknown := sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in known):
        raise KafkaSecurityError(f"{', '.join(unknown)}: not a setting; there are {', '.join(sorted(known))}")
    try:
        return KafkaSecurity()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            field = "".join(map(str, problem["loc"]))
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{_PREFIX}{field.upper()} = {problem['input']!r}: {message}" if field else message)
        raise KafkaSecurityError("\n".join(lines)) from None


def kafka_client(bootstrap: str, **options: Any) -> dict[str, Any]:
    """A librdkafka configuration for that address: signed in and encrypted as configured, and these options.

    Option names have underscores for dots. Raises KafkaSecurityError or SecretError.

    >>> kafka_client("127.0.0.1:9092", log_level=0, group_id="readers")
    {'bootstrap.servers': '127.0.0.1:9092', 'log_level': 0, 'group.id': 'readers'}
    """
    plain = ("log_level", "error_cb")  # librdkafka writes these two with underscores
    named = {name if name in plain else name.replace("_", "."): value for name, value in options.items()}
    return {"bootstrap.servers": bootstrap, **kafka_security().client_options(), **named}
