"""Settings of ingestion and bars: a TOML file, overridden by environment variables. Errors name what is missing.

The file is ``signals.toml`` here, or the one ``SIGNALS_CONFIG`` names. A variable is ``SIGNALS_`` and the path,
joined by two underscores: ``SIGNALS_KAFKA``, ``SIGNALS_ALPACA__FEED=v2/sip``. Keys are secrets and never printed.
Each venue adds its own section, named after its folder in ``connectors/venues``.

>>> settings = load(None, venues=["binance_us"])
>>> settings.venue("binance_us").symbols
['BTCUSDT', 'ETHUSDT', 'ADAUSDT']
"""

from __future__ import annotations

import fnmatch
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from connectors import venues
from connectors.venues.base import VenueSettings
from models.messages import TIMEFRAME_MS


class SettingsError(ValueError):
    """Settings that cannot work; each line names a setting, its value and the remedy."""


class Choice(BaseModel):
    """Whose bars are published for some symbols and timeframes: the vendor's or those built from its trades."""

    model_config = ConfigDict(extra="forbid")

    source: str = "*"
    symbol: str = "*"
    timeframe: str = "*"
    use: Literal["vendor", "built"]


def default_choices() -> list[Choice]:
    """The vendor's minute bars of each venue that sends them, all others built.

    >>> [choice.source for choice in default_choices()]
    ['alpaca', 'binance*', 'binance_us*', 'polygon', '*']
    """
    sending = [name for name in venues.names() if venues.capabilities(name).minute_bars]
    # Where the settings may give the source another name, that name begins with the venue's.
    sources = [f"{name}*" if "source" in venues.settings_of(name).model_fields else name for name in sending]
    return [*(Choice(source=source, timeframe="1m", use="vendor") for source in sources), Choice(use="built")]


class BarsSettings(BaseModel):
    """Which bars are built, and whose are published. The first matching choice wins.

    ``calendars`` gives a source (or ``source:symbol``) another exchange calendar; ``late_s`` is how long a bar waits
    for late trades before it is first published, ``revise_h`` how long later ones still revise it.
    """

    model_config = ConfigDict(extra="forbid")

    timeframes: list[str] = ["1m"]
    choices: list[Choice] = Field(default_factory=default_choices)
    calendars: dict[str, str] = {}
    late_s: float = Field(2.0, ge=0)
    revise_h: float = Field(24, gt=0)
    idle_s: float = Field(10, gt=0, description="a partition silent for this long no longer holds back the watermark")

    @field_validator("timeframes")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in TIMEFRAME_MS:
                raise ValueError(f"{name!r}: must be one of {', '.join(TIMEFRAME_MS)}")
        return value

    def use(self, source: str, symbol: str, timeframe: str) -> Literal["vendor", "built"]:
        """Whose bar is published.

        >>> BarsSettings().use("alpaca", "AAPL", "1m"), BarsSettings().use("alpaca", "AAPL", "5m")
        ('vendor', 'built')
        """
        for choice in self.choices:
            if (
                fnmatch.fnmatchcase(source, choice.source)
                and fnmatch.fnmatchcase(symbol, choice.symbol)
                and fnmatch.fnmatchcase(timeframe, choice.timeframe)
            ):
                return choice.use
        return "built"


class Base(BaseSettings):
    """Settings that all venues share; their sections are added by :func:`settings_class`."""

    model_config = SettingsConfigDict(env_prefix="SIGNALS_", env_nested_delimiter="__", extra="ignore")

    kafka: str = "127.0.0.1:9092"
    venues: list[str] = ["alpaca", "polygon", "binance_us"]
    feeds: list[Path] = Field(default_factory=list, description="mapping files of Kafka topics that are sources")
    bars: BarsSettings = BarsSettings.model_validate({})
    sentiment: str = "vader+lm"
    metrics_host: str = Field("127.0.0.1", description="address on which /metrics is served")
    metrics_port: int = Field(0, ge=0, le=65535, description="0: a free port, printed at start")
    redis: str = Field("", description="redis://host:port/0: report venues to the relay's system page; empty: do not")
    resume: bool = Field(True, description="find what was missed while ingestion was down, from its own topics")
    accept_partitioner: bool = Field(False, description="go on with topics whose keys another partitioner dealt")
    resume_records: int = Field(50_000, gt=0, description="newest records of each partition read for that")

    @field_validator("venues")
    @classmethod
    def _exist(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in venues.names():
                raise ValueError(f"{name!r}: must be among {', '.join(venues.names())}")
        return value

    def venue(self, name: str) -> VenueSettings:
        """The settings of one venue."""
        section: VenueSettings = getattr(self, name)
        return section

    def missing(self) -> list[str]:
        """What the chosen venues still need, each with its remedy."""
        return [line for name in self.venues for line in self.venue(name).missing()]

    def require(self) -> None:
        """Raise SettingsError naming everything that is missing."""
        if lines := self.missing():
            raise SettingsError("\n".join(lines))


def settings_class() -> type[Base]:
    """The settings model with a section for each venue."""
    return _settings_class(tuple(venues.names()))


@cache
def _settings_class(names: tuple[str, ...]) -> type[Base]:
    sections: dict[str, Any] = {}
    for name in names:
        model = venues.settings_of(name)
        sections[name] = (model, Field(default_factory=model))
    return create_model("Settings", __base__=Base, **sections)


def load(path: Path | None = None, **overrides: Any) -> Base:
    """Read the settings; overrides win over variables, variables over the file. Raises SettingsError."""
    named = path or (Path(os.environ["SIGNALS_CONFIG"]) if os.environ.get("SIGNALS_CONFIG") else None)
    if named and not named.exists():
        raise SettingsError(f"SIGNALS_CONFIG / --config = {named}: no such file")
    file = named or Path("signals.toml")

    model: Any = settings_class()

    class FromFile(model):  # type: ignore[misc]
        """The model bound to one file."""

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Arguments, environment, file."""
            toml = TomlConfigSettingsSource(settings_cls, toml_file=file)
            return (named["init_settings"], named["env_settings"], toml)

    try:
        settings: Base = FromFile(**overrides)
        return settings
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = ".".join(map(str, problem["loc"]))
            value = "" if any(word in name for word in ("key", "secret")) else f" = {problem['input']!r}"
            lines.append(f"{name}{value}: {problem['msg']}")
        raise SettingsError("\n".join(lines)) from None
