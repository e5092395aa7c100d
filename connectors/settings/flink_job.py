"""Settings every Flink job has: command line, then environment (``SIGNALS_KAFKA``), then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

#: Between checkpoints of a job that writes in transactions, unless set otherwise.
EXACTLY_ONCE_CHECKPOINT_MS = 2_000


class RunSettings(BaseSettings):
    """Where a job runs and where it starts from: the same for every job."""

    model_config = SettingsConfigDict(
        env_prefix="SIGNALS_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        extra="forbid",
    )
    #: Former names of settings and their current names: still read from command line and environment.
    former_names: ClassVar[Mapping[str, str]] = {}

    replay: bool = Field(False, description="read to the end of the topic and stop; the Kafka offset is the clock")
    start: Literal["earliest-offset", "latest-offset", "group-offsets"] = Field(
        "earliest-offset", description="where to start in the topic"
    )
    parallelism: int = Field(1, ge=1, le=128, description="parallel instances of each operator")
    checkpoint_ms: int | None = Field(
        None,
        ge=100,
        le=300_000,
        description="ms between checkpoints; default: the Flink configuration's (10 s), or 2 s with exactly-once",
    )
    checkpoints: Path | None = Field(None, description="local runs: folder (or URI) for checkpoints")
    restore: str = Field("", description="local runs: savepoint or checkpoint to start from")
    rest_port: int = Field(
        0, ge=0, le=65535, description="local runs: port of Flink's REST interface (loopback only); 0 takes a free one"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, and last the environment under former names."""
        variables = {f"SIGNALS_{former.upper()}": name for former, name in cls.former_names.items()}
        former = {name: os.environ[variable] for variable, name in variables.items() if variable in os.environ}
        return init_settings, env_settings, InitSettingsSource(settings_cls, former)

    @property
    def checkpoint_interval_ms(self) -> int | None:
        """Milliseconds between checkpoints; None leaves it to the Flink configuration."""
        return self.checkpoint_ms


class StreamSettings(RunSettings):
    """Where a job reads and writes, how it cuts frames, and where it runs."""

    kafka: str = Field("127.0.0.1:9092", description="Kafka bootstrap address, host:port[,host:port]")
    redis: str = Field("", description="Redis URL, redis://host:port/db; empty writes to Kafka only")
    bars_topic: str = Field("market-data-bars", description="topic of bars, key = symbol")
    from_ms: int | None = Field(None, description="start at this Kafka timestamp (epoch ms) instead")
    to_ms: int | None = Field(None, description="replay: stop before this Kafka timestamp (epoch ms)")
    group_id: str = Field("signals", description="Kafka consumer group; also the transactional-id prefix: one per job")
    groups: int = Field(8, ge=1, le=4096, description="symbol groups; fixed for the life of the state")
    frame_ms: int = Field(20, ge=1, le=10_000, description="live: length of a frame in ms")
    frame_offsets: int = Field(4000, ge=1, description="replay: length of a frame in offsets per partition")
    execution_mode: Literal["thread", "process"] = Field(
        "thread", description="where Python runs: in the JVM or in a process next to it"
    )
    exactly_once: bool = Field(False, description="Kafka transactions: output appears at each checkpoint, once")
    out_prefix: str = Field("", description="prefix of each output topic's name (to compare runs)")

    @field_validator("kafka")
    @classmethod
    def _address(cls, value: str) -> str:
        for part in value.split(","):
            host, _, port = part.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{value!r} is not host:port[,host:port]; e.g. 127.0.0.1:9092")
        return value

    @field_validator("redis")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(f"{value!r} is not a Redis URL; e.g. redis://127.0.0.1:6379/0")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.to_ms is not None and not self.replay:
            raise ValueError("to_ms needs replay: a live job has no end")
        if self.parallelism > self.groups:
            raise ValueError(f"parallelism {self.parallelism} exceeds groups {self.groups}: the rest would idle")
        return self

    @property
    def checkpoint_interval_ms(self) -> int | None:
        """Milliseconds between checkpoints; None leaves it to the Flink configuration.

        With exactly-once it is also how long a reader of committed records waits, at most.
        """
        if self.checkpoint_ms is None and self.exactly_once:
            return EXACTLY_ONCE_CHECKPOINT_MS
        return self.checkpoint_ms

    @property
    def frame_length(self) -> int:
        """Length of a frame on its clock: milliseconds live, offsets in replay."""
        return self.frame_offsets if self.replay else self.frame_ms

    def topic(self, name: str) -> str:
        """An output topic's name."""
        return f"{self.out_prefix}{name}"


def _renamed(argument: str, former_names: Mapping[str, str]) -> str:
    """An argument of the command line, with the current name of its option.

    >>> _renamed("--control-topic=t", {"control_topic": "kill_switch_topic"})
    '--kill-switch-topic=t'
    """
    option, equals, value = argument.partition("=")
    names = {f"--{former.replace('_', '-')}": f"--{name.replace('_', '-')}" for former, name in former_names.items()}
    return names.get(option, option) + equals + value


S = TypeVar("S", bound=RunSettings)


def parse(kind: type[S], arguments: list[str]) -> S:
    """The settings from a command line; prints usage and exits with 2 on an error, naming option, value and remedy."""
    import sys

    from pydantic import ValidationError

    try:
        return CliApp.run(kind, cli_args=[_renamed(argument, kind.former_names) for argument in arguments])
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(map(str, problem["loc"])).replace("_", "-")
            message = problem["msg"].removeprefix("Value error, ")
            print(f"setting --{name}: {message}" if name else f"settings: {message}", file=sys.stderr)
        print("see --help for every option", file=sys.stderr)
        raise SystemExit(2) from None
