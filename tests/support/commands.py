"""Every command of ``signals`` and the options it takes."""

from collections.abc import Iterator

import click
from typer.main import get_command

from cli.main import app

ROOT_COMMAND = get_command(app)


def commands(
    command: click.Command = ROOT_COMMAND, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path; groups are walked."""
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))
    else:
        yield path, command


COMMANDS = dict(commands())


def options_of(path: tuple[str, ...], command: click.Command) -> set[str]:
    """Options that a command takes; of one that passes all on, those of the job."""
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if not command.context_settings.get("ignore_unknown_options"):
        return known
    from connectors.settings.bars_job import BarsJobSettings
    from connectors.settings.flink_job import RunSettings
    from connectors.settings.outcomes_job import OutcomeSettings
    from connectors.settings.signals_job import JobSettings

    others: dict[tuple[str, ...], type[RunSettings]] = {
        ("build-bars",): BarsJobSettings,
        ("run-outcomes",): OutcomeSettings,
    }
    return known | {f"--{name.replace('_', '-')}" for name in others.get(path, JobSettings).model_fields}
