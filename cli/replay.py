"""``signals replay``: replays a range of the Kafka log as fast as possible and emits the same signals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("replay", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(replay)


def replay(
    context: typer.Context,
    begin: Annotated[
        str, typer.Option("--from", help="First bar end: a date, a date and time (UTC), or epoch ms.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Stop before this bar end, in the same form.")] = "",
    kafka: Annotated[str, typer.Option(help="Kafka address, host:port.", envvar="SIGNALS_KAFKA")] = "127.0.0.1:9092",
    bars_topic: Annotated[str, typer.Option(help="Topic of bars.")] = "market-data-bars",
    out_prefix: Annotated[str, typer.Option(help="Prefix of each output topic's name.")] = "replay-",
    bundle: Annotated[str, typer.Option(help="Model bundle: a shipped name or a folder.")] = "daily-swing",
    parallelism: Annotated[int, typer.Option(help="Parallel instances.", min=1)] = 1,
) -> None:
    """Read the log from its beginning, write the output of the bars of the range, and stop.

    Bars before the range are read too, because they build the state that the range began with: signals are the same,
    byte for byte but for `emitted_ms`. They go to topics of their own (`replay-trading-signals`, `replay-features`,
    `replay-dead-letter`), not to Redis. Any other option of `signals run` is passed on: give --policy, --groups and
    the topics of halts and the kill switch as set for the running job.

    Example: signals replay --kafka 127.0.0.1:9092 --from 2010-03-01 --to 2010-06-01
    """
    from jobs.signals import main

    arguments = ["--kafka", kafka, "--bars-topic", bars_topic, "--out-prefix", out_prefix, "--bundle", bundle]
    arguments += ["--replay", "--parallelism", str(parallelism), "--group-id", "signals-replay"]
    if begin:
        arguments += ["--emit-from-ms", str(time_ms(begin, "--from"))]
    if end:
        arguments += ["--to-ms", str(time_ms(end, "--to"))]
    main([*arguments, *context.args])


def time_ms(text: str, option: str) -> int:
    """Epoch milliseconds of a date, a date and time (UTC if no zone is given), or epoch milliseconds.

    >>> time_ms("2010-03-01", "--from"), time_ms("1267401600000", "--from")
    (1267401600000, 1267401600000)
    """
    if text.isdigit() and len(text) >= 11:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a date like 2010-03-01 nor epoch ms", param_hint=option
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
