"""``signals run``: the signals job against a given Kafka and Redis, on a local mini cluster."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(
        "run",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(run)


def run(context: typer.Context) -> None:
    """Run the signals job against given Kafka and Redis, on a local mini cluster, until Ctrl-C.

    Every option of the job is passed on; `signals run --help` lists them. The same job file goes to a cluster with
    `flink run -py jobs/signals.py -pyfs dist/*.whl --kafka ... --redis ...`.

    Example: signals run --kafka 127.0.0.1:9092 --redis redis://127.0.0.1:6379/0 --bundle daily-swing
    """
    from jobs.signals import main

    main(context.args)
