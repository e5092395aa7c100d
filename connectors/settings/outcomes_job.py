"""Settings of the outcomes job: command line, then environment (``SIGNALS_KAFKA``), then defaults."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from connectors.settings.flink_job import StreamSettings, parse


class OutcomeSettings(StreamSettings):
    """Where the outcomes job reads and writes, and how it tracks signals."""

    model_config = SettingsConfigDict(cli_prog_name="signals run-outcomes")

    signals_topic: str = Field("trading-signals", description="topic of signals, key = symbol")
    status_topic: str = Field("market-data-status", description="topic of splits, key = symbol")
    group_id: str = Field("outcomes", description="Kafka consumer group; also the transactional-id prefix: one per job")
    frame_ms: int = Field(50, ge=1, le=10_000, description="live: length of a frame in ms")
    cost_bps: float = Field(0.0, ge=0.0, description="costs of a round trip in basis points of the entry price")
    update_every_ms: int = Field(60_000, ge=1, description="minimum event time between two updates of an open signal")
    history_hours: float = Field(
        72.0,
        gt=0.0,
        description="live: bars kept, behind the event time reached, for what comes late; a replay keeps all",
    )
    lateness_ms: int = Field(
        60_000,
        ge=0,
        description="live: event time past its expiry after which a signal without bars ends",
    )

    @property
    def source_topics(self) -> tuple[str, str, str]:
        """Bars, signals, status; always in this order."""
        return self.bars_topic, self.signals_topic, self.status_topic

    def output_topics(self) -> list[str]:
        """Every topic the job writes."""
        return [self.topic(name) for name in ("signal-outcomes", "dead-letter")]


def parse_outcome_settings(arguments: list[str]) -> OutcomeSettings:
    """The settings from a command line; prints usage and exits with 2 on an error, naming option, value and remedy."""
    return parse(OutcomeSettings, arguments)
