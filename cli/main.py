"""The ``signals`` command: every module of this package with a ``register(app)`` adds its own commands."""

from __future__ import annotations

import importlib
import pkgutil

import typer

import cli

app = typer.Typer(
    name="signals",
    help="Real-time trading signals on Apache Flink from Python.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _module in sorted(module.name for module in pkgutil.iter_modules(cli.__path__)):
    if _module not in ("main", "__main__"):
        _register = getattr(importlib.import_module(f"cli.{_module}"), "register", None)
        if _register is not None:
            _register(app)
