"""Settings of the relay, each with its bound; from the environment as ``SIGNALS_RELAY_<NAME>`` or the command line.

Each may also be a file ``signals_relay_<name>`` in the folder ``SIGNALS_SECRETS_DIR``: for secrets. What one push
channel alone needs, its file in ``relay/push/channels`` declares.
"""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from connectors.kafka.lag import JOB_GROUPS
from relay.flink_status import FlinkStatus
from relay.secret_settings import SecretSettings


class RelaySettings(SecretSettings):
    """All settings of the relay. Secrets never appear in logs or error texts.

    >>> RelaySettings(redis_url="redis://127.0.0.1:6379/0").clients_max
    10000
    """

    model_config = SettingsConfigDict(env_prefix="SIGNALS_RELAY_", extra="forbid")

    redis_url: str = "redis://127.0.0.1:6379/0"
    #: ``sqlite://PATH`` or ``postgresql://...`` (see ``relay.users``).
    users_dsn: str = "sqlite://~/.local/share/signals/users.db"
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    #: Tier of a demo user whom a page on loopback signs in by itself; empty: off.
    demo_user: str = ""
    demo_token_s: int = Field(default=600, ge=5)

    #: Port of ``/metrics`` for Prometheus: -1 none, 0 a free one, logged. Counts only; without sign-in.
    metrics_port: int = Field(default=-1, ge=-1, le=65535)
    metrics_host: str = "127.0.0.1"

    #: Signs and verifies JWTs with HS256 (at least 32 bytes); empty: only API tokens sign in.
    jwt_secret: SecretStr = SecretStr("")
    #: PEM public key of an outside issuer, verified with ``jwt_algorithm`` instead of the secret.
    jwt_public_key: str = ""
    jwt_algorithm: str = "RS256"
    jwt_issuer: str = "signals"
    jwt_audience: str = "signals-relay"

    #: Origins other than the relay's own that a browser may connect from, as ``https://host[:port]``.
    origins: list[str] = Field(default_factory=list)

    #: A first message must come within this time, or the connection is closed.
    hello_timeout_s: float = 5.0
    message_bytes_max: int = Field(default=16_384, ge=256)
    messages_per_s: float = 20.0
    messages_burst: int = 40
    requests_per_s: float = 20.0
    requests_burst: int = 80
    connects_per_s: float = 20.0
    connects_burst: int = 60
    clients_max: int = 10_000
    clients_per_user_max: int = 20
    clients_per_address_max: int = 200
    subscriptions_max: int = 2_000
    #: Messages kept for one slow client before it is closed; updates of one signal replace each other.
    queue_messages_max: int = Field(default=1_024, ge=1)
    #: Bytes that a client's socket may buffer before messages are queued.
    socket_bytes_max: int = 65_536
    #: A client that has read nothing for this long, with messages waiting, is closed.
    stalled_s_max: float = 10.0

    #: Events kept for clients that resume; an older position gets a snapshot.
    log_events_max: int = 4_096
    snapshot_signals_max: int = 200

    #: Addresses of Flink's REST API, and of Kafka with the consumer groups to report, for the system page.
    flink_urls: list[str] = Field(default_factory=list)
    kafka: str = ""
    kafka_groups: list[str] = Field(default_factory=lambda: list(JOB_GROUPS))
    watch_every_s: float = Field(default=5.0, ge=0.1)

    chart_url_s: int = 86_400
    charts_cached_max: int = 512
    #: Attempts before a note is dead-lettered, and the first pause between them (it doubles).
    push_attempts_max: int = Field(default=6, ge=1)
    push_backoff_s: float = Field(default=2.0, gt=0)
    #: Allow deliveries to loopback and private addresses (tests, or a trusted network).
    push_private_addresses: bool = False

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr) -> SecretStr:
        if 0 < len(secret.get_secret_value().encode()) < 32:
            raise ValueError("jwt_secret is shorter than 32 bytes; make one with `openssl rand -hex 32`")
        return secret

    @field_validator("flink_urls")
    @classmethod
    def _addresses(cls, urls: list[str]) -> list[str]:
        for url in urls:
            FlinkStatus(url).close()
        return urls

    @field_validator("demo_user")
    @classmethod
    def _known_tier(cls, tier: str) -> str:
        if tier not in ("", "free", "premium", "dynamic"):
            raise ValueError(f"demo_user is {tier!r}; use free, premium or dynamic, or leave it out")
        return tier

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("127.0.0.1", "::1", "localhost")
