"""``signals demo``: the whole system on this machine, on real bars, until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cli.local.demo import Demo


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("demo")(demo)


def demo(
    bars: Annotated[
        Path | None, typer.Option(help="CSV or Parquet of bars to play instead of the real daily sample.")
    ] = None,
    timeframe: Annotated[str, typer.Option(help="Timeframe of the file's bars (default: found in the file).")] = "",
    symbol: Annotated[str, typer.Option(help="Symbol of a file without a symbol column.")] = "",
    speed: Annotated[float, typer.Option(help="Bars per second; 0: as fast as possible.", min=0)] = 50.0,
    bundle: Annotated[str, typer.Option(help="Model bundle: a shipped name or a folder.")] = "daily-swing",
    venues: Annotated[
        str, typer.Option(help="'simulated': bars from simulated venues, through ingestion and the bars job.")
    ] = "",
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)] = 0,
    exit_when_done: Annotated[bool, typer.Option(help="Exit when every bar has been processed.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep logs and state here (default: a temporary folder).")] = None,
) -> None:
    """Run the whole system on this machine: broker, Redis, both Flink jobs, the relay and its page; Ctrl-C ends it all.

    Example: signals demo --bars minutes.parquet --speed 0
    """
    # A closed terminal or `kill` ends the demo as Ctrl-C does: every process it started ends too.
    # SIGINT too: a shell ignores it for a program that it starts in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    from cli.local.servers import StartError, forget_sign_in
    from connectors.paths import MissingError

    forget_sign_in()
    try:
        with contextlib.ExitStack() as stack:
            home = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="signals-demo-")))
            kind_of(venues)(stack, home, bundle, port).play(bars, timeframe, symbol, speed, exit_when_done)
    except KeyboardInterrupt:
        typer.echo("\nstopped: every process of the demo has ended")
    except (StartError, MissingError, FileNotFoundError, ValueError) as error:
        typer.echo(f"demo: {error}", err=True)
        raise typer.Exit(1) from None


def kind_of(venues: str) -> type[Demo]:
    """The demo that brings bars from where ``--venues`` says."""
    if venues not in ("", "simulated"):
        raise ValueError(f"--venues = {venues!r}: must be simulated (live venues: see `signals ingest --help`)")
    if not venues:
        from cli.local.demo import Demo

        return Demo
    from cli.local.demo_venues import VenuesDemo

    return VenuesDemo
