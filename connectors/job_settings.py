"""Settings of the signals job: command line (``--kafka``), environment (``SIGNALS_KAFKA``), defaults; in that order."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from connectors.stream_settings import StreamSettings, parse

DEFAULT_BUNDLE = "daily-swing"


class JobSettings(StreamSettings):
    """Where the signals job reads and writes, and how it cuts frames."""

    model_config = SettingsConfigDict(cli_prog_name="signals run")

    status_topic: str = Field("market-data-status", description="topic of halts, key = symbol")
    control_topic: str = Field("risk-control", description="topic of the kill switch, see `signals kill`")
    bundle: str = Field(DEFAULT_BUNDLE, description="model bundle: a shipped name or a folder")
    feature_rows: bool = Field(True, description="write every row to topic features")
    policy: Path | None = Field(None, description="JSON file of when to speak (docs/signals.md); default: the defaults")
    emit_from_ms: int | None = Field(
        None, description="write only what follows from bars that end at or after this (epoch ms); earlier ones warm up"
    )

    @property
    def source_topics(self) -> tuple[str, str, str]:
        """Bars, status, control."""
        return self.bars_topic, self.status_topic, self.control_topic

    def output_topics(self) -> list[str]:
        """Every topic the job writes."""
        return [self.topic(name) for name in ("trading-signals", "features", "dead-letter")]


def parse_settings(arguments: list[str]) -> JobSettings:
    """The settings from a command line; prints usage and exits with 2 on an error, naming option, value and remedy."""
    return parse(JobSettings, arguments)
