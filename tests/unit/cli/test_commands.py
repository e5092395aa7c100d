"""Every command of ``signals``: an example in its help whose options exist, and shell completion."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from cli.doctor import findings
from cli.main import app
from tests.support.commands import COMMANDS, ROOT_COMMAND, options_of

ROOT = Path(__file__).resolve().parents[3]


def examples(command: click.Command) -> list[str]:
    """The command lines after ``Example:`` in the help."""
    return re.findall(r"Example: (.+)", command.help or "")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_has_an_example_whose_options_exist(path: tuple[str, ...]) -> None:
    found = examples(COMMANDS[path])
    assert found, f"signals {' '.join(path)}: its help has no example"
    seen = False
    for line in found:
        for part in re.split(r"\s\|\s", line):
            words = shlex.split(part)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if not words or words[0] != "signals":
                continue
            named = next(
                (p for p in sorted(COMMANDS, key=len, reverse=True) if tuple(words[1 : 1 + len(p)]) == p), None
            )
            assert named, f"{part}: no such command"
            known = options_of(named, COMMANDS[named])
            given = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
            assert given <= known, f"{part}: no option {sorted(given - known)}"
            seen = seen or named == path
    assert seen, f"the example of signals {' '.join(path)} calls another command"


def test_there_are_the_commands_that_run_and_look_after_the_system() -> None:
    wanted = "doctor up down status logs replay train check performance users dead-letter"
    assert set(wanted.split()) <= set(ROOT_COMMAND.commands)  # type: ignore[attr-defined]
    assert {("dead-letter", "list"), ("dead-letter", "requeue"), ("bundle", "sign")} <= set(COMMANDS)


def test_the_check_of_examples_can_fail() -> None:
    other = typer.Typer()

    @other.command()
    def one(size: int = 1) -> None:
        """Do it.

        Example: signals one --sise 2
        """

    command = get_command(other)
    assert examples(command) == ["signals one --sise 2"]
    assert "--sise" not in options_of(("one",), command)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_a_shell(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = CliRunner().invoke(app, ["--show-completion", shell], prog_name="signals")
    assert done.exit_code == 0, done.output
    assert "_SIGNALS_COMPLETE" in done.output


def test_completion_completes_commands() -> None:
    words = {"_SIGNALS_COMPLETE": "complete_bash", "COMP_WORDS": "signals dead", "COMP_CWORD": "1"}
    done = CliRunner().invoke(app, [], prog_name="signals", env=words)
    assert done.output.split() == ["dead-letter"]


def test_doctor_names_missing_keys_a_taken_port_and_a_bad_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    for name in ("ALPACA_API_KEY", "APCA_API_KEY_ID", "ALPACA_SECRET_KEY", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = {one.name: one for one in findings(venues="alpaca", ports=[port])}
    assert not found["Venue keys"].ok
    assert "ALPACA_API_KEY" in found["Venue keys"].fix
    assert not found[f"Port {port}"].ok
    assert found["Clock"].ok
    assert found["Sign-in"].ok
    monkeypatch.setenv("ALPACA_API_KEY", "k")
    monkeypatch.setenv("ALPACA_SECRET_KEY", "s")
    monkeypatch.setenv("SIGNALS_KAFKA_PROTOCOL", "SASL_SSL")
    found = {one.name: one for one in findings(venues="alpaca", ports=[port])}
    assert found["Venue keys"].ok
    assert found[f"Port {port}"].ok
    assert not found["Sign-in"].ok
    assert "SIGNALS_KAFKA_USERNAME" in found["Sign-in"].found
    assert all(one.fix for one in found.values() if not one.ok)
