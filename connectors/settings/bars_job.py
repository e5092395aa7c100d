"""Settings of the bars job: command line, then environment (``SIGNALS_PARALLELISM``), then defaults.

Which bars are built, and whose are published, is in ``[bars]`` of signals.toml
(:class:`connectors.settings.ingest.BarsSettings`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from connectors.settings.flink_job import RunSettings, parse
from connectors.settings.ingest import BarsSettings, Base, load
from models.messages import TIMEFRAME_MS


class BarsJobSettings(RunSettings):
    """Where the bars job reads, and where it starts from."""

    model_config = SettingsConfigDict(cli_prog_name="signals build-bars")

    replay: bool = Field(False, description="read to the end of the topic and stop")
    kafka: str = Field("", description="bootstrap address (default: signals.toml's, or 127.0.0.1:9092)")
    config: Path | None = Field(None, description="settings file (default: signals.toml)")
    timeframes: str = Field("", description="comma-separated, of 1s 1m 5m 1h 1d (default: the settings file's)")

    @field_validator("timeframes")
    @classmethod
    def _known(cls, value: str) -> str:
        for name in value.split(",") if value else ():
            if name not in TIMEFRAME_MS:
                raise ValueError(f"{name!r}: must be among {','.join(TIMEFRAME_MS)}, separated by commas alone")
        return value

    def load(self) -> tuple[Base, BarsSettings]:
        """The settings file overridden by these options; SettingsError or ValueError names what is wrong."""
        settings = load(self.config, **({"kafka": self.kafka} if self.kafka else {}))
        if not self.timeframes:
            return settings, settings.bars
        wanted = settings.bars.model_dump() | {"timeframes": self.timeframes.split(",")}
        return settings, BarsSettings.model_validate(wanted)


def parse_bars_settings(arguments: list[str]) -> BarsJobSettings:
    """The settings from a command line; prints usage and exits with 2 on an error, naming option, value and remedy."""
    return parse(BarsJobSettings, arguments)
