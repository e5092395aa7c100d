"""Settings of the signals job: command line (``--kafka``), environment (``SIGNALS_KAFKA``), defaults; in that order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from connectors.settings.flink_job import StreamSettings, parse
from models.events import Event
from models.messages import News, OptionSummary
from models.signals.outputs import OUTPUT_TOPICS
from models.signals.protections import KillSwitch

DEFAULT_BUNDLE = "daily-swing"


class JobSettings(StreamSettings):
    """Where the signals job reads and writes, and how it cuts frames."""

    model_config = SettingsConfigDict(cli_prog_name="signals run")
    former_names: ClassVar[Mapping[str, str]] = {"control_topic": "kill_switch_topic", "model_topic": "rollout_topic"}

    status_topic: str = Field("market-data-status", description="topic of halts and splits, key = symbol")
    news_topic: str = Field("market-data-news", description="topic of news, key = symbol")
    options_topic: str = Field("market-data-options", description="topic of option summaries, key = symbol")
    kill_switch_topic: str = Field("risk-control", description="topic of the kill switch, see `signals kill`")
    rollout_topic: str = Field("model-control", description="topic of bundle changes, see `signals bundle promote`")
    bundle: str = Field(DEFAULT_BUNDLE, description="model bundle: a shipped name or a folder")
    feature_rows: bool = Field(True, description="write every row to topic features")
    policy: Path | None = Field(None, description="JSON file of the emission policy (docs/signals.md)")
    feature_config: Path | None = Field(
        None, description="JSON file of families, lookbacks and thresholds (docs/features.md); default: the catalogue"
    )
    accept_partitions: int | None = Field(
        None,
        ge=1,
        description="accept state built on another number of partitions of the bars topic; this is its number now; "
        "only when every bar from before the change was read (docs/runbook.md)",
    )
    accept_partitioner: bool = Field(
        False, description="replay a log with one key in two partitions: what comes late is a dead letter"
    )
    emit_from_ms: int | None = Field(
        None, description="write only what follows from bars that end at or after this (epoch ms); earlier ones warm up"
    )

    @property
    def source_topics(self) -> tuple[str, ...]:
        """Every topic that is read into frames: bars, and the messages of their symbols."""
        return self.bars_topic, *self.side_topics

    @property
    def side_topics(self) -> dict[str, type[Any]]:
        """The message type of each topic other than the bars."""
        return {
            self.status_topic: Event,
            self.news_topic: News,
            self.options_topic: OptionSummary,
            self.kill_switch_topic: KillSwitch,
        }

    def output_topics(self) -> list[str]:
        """Every topic the job writes."""
        return [self.topic(name) for name in OUTPUT_TOPICS]


def parse_settings(arguments: list[str]) -> JobSettings:
    """The settings from a command line; prints usage and exits with 2 on an error, naming option, value and remedy."""
    return parse(JobSettings, arguments)
