"""``signals check``: verifies the features on the sample bars or on your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

app = typer.Typer(help="Verify the features: parity, TA-Lib, convergence, no lookahead.", no_args_is_help=True)

Bars = Annotated[
    list[Path] | None,
    typer.Option("--bars", help="Your own bars (CSV, TSV, Parquet, plain or gzip); repeatable."),
]
Timeframe = Annotated[str | None, typer.Option(help="Timeframe of --bars: 1s 1m 5m 1h 1d (default: guessed).")]


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if Console().is_terminal else 140)


def _sets(bars: list[Path] | None, timeframe: str | None, minutes: bool = True) -> list[tuple[str, pd.DataFrame]]:
    """The named sets of bars a check runs on."""
    from connectors.files.bars import read_bars
    from udfs.offline.checks import real_daily, synthetic_minutes

    try:
        if bars:
            found = []
            for path in bars:
                table, _, rejects = read_bars(path, timeframe)
                name = f"{path.name} ({len(rejects):,} rows rejected)" if rejects else path.name
                found.append((name, table))
            return found
        made = [("real daily bars, 5 symbols", real_daily())]
        return [*made, ("generated minutes, 10 symbols", synthetic_minutes(10, 3000))] if minutes else made
    except (OSError, ValueError) as error:
        _console().print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from None


def _verdict(console: Console, good: bool, text: str) -> None:
    console.print(f"[{'green' if good else 'red'}]{'ok' if good else 'FAILED'}[/] {text}", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    return table


@app.command("parity")
def parity_command(
    bars: Bars = None,
    timeframe: Timeframe = None,
    synthetic: Annotated[int, typer.Option(help="Number of generated bars to compare as well (0: none).")] = 10_000_000,
    seed: Annotated[int, typer.Option(help="Seed of the cuts, the restore points and the generated bars.")] = 0,
    flink: Annotated[bool, typer.Option(help="Also replay through Kafka and the Flink job.")] = True,
    bundle: Annotated[str, typer.Option(help="Bundle for the Flink job (default: the shipped one).")] = "",
) -> None:
    """Compare frames cut anywhere and states restored anywhere with the batch matrix: equal bit by bit.

    Example: signals check parity --bars bars.csv.gz --synthetic 0
    """
    from rich.progress import Progress

    from udfs.kernel.compiler import Kernel
    from udfs.offline.checks import parity, synthetic_minutes

    console = _console()
    kernel = Kernel()
    good = True
    sets = _sets(bars, timeframe, minutes=False)
    for name, table in sets:
        result = parity(kernel, table, seed)
        good &= result.different == 0
        _verdict(
            console,
            result.different == 0,
            f"{name}: {result.bars:,} bars in {result.frames:,} frames, {result.restores:,} restores, "
            f"{result.different:,} rows differ {result.first_difference}",
        )
    done = frames = restores = different = 0
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("generated bars", total=max(synthetic, 1))
        block = 0
        while done < synthetic:
            symbols = 50
            each = min(10_000, -(-(synthetic - done) // symbols))
            result = parity(kernel, synthetic_minutes(symbols, each, seed + block), seed + block)
            done, frames, restores = done + result.bars, frames + result.frames, restores + result.restores
            different += result.different
            block += 1
            progress.update(task, completed=done)
    if synthetic:
        good &= different == 0
        _verdict(
            console,
            different == 0,
            f"generated minutes: {done:,} bars in {frames:,} frames, {restores:,} restores, {different:,} rows differ",
        )
    if flink:
        from cli.local.flink_replay import FLINK_BARS_MAX, through_flink

        for name, table in sets:
            some = table.head(FLINK_BARS_MAX)
            try:
                with console.status(f"{name}: {len(some):,} bars through Kafka and Flink"):
                    answer = through_flink(some, bundle=bundle)
            except (RuntimeError, OSError) as error:
                _verdict(console, False, f"{name} through Flink: {error}")
                raise typer.Exit(1) from None
            good &= answer.different == 0 and answer.missing == 0
            _verdict(
                console,
                answer.different == 0 and answer.missing == 0,
                f"{name} through Flink: {answer.compared:,} rows of topic features compared, "
                f"{answer.different:,} differ, {answer.missing:,} missing {answer.first_difference}",
            )
    raise typer.Exit(0 if good else 1)


@app.command("talib")
def talib_command(bars: Bars = None, timeframe: Timeframe = None) -> None:
    """Compare every indicator TA-Lib has on the full history of each symbol: differences of at most 1e-9.

    Example: signals check talib --bars bars.parquet
    """
    from udfs.kernel.compiler import Kernel
    from udfs.offline.checks import agreement

    console = _console()
    kernel = Kernel()
    good = True
    for name, table in _sets(bars, timeframe):
        shown = _table(f"{name}: {len(table):,} bars", "feature", "TA-Lib", "compared", "masked", "worst difference")
        try:
            found = agreement(kernel, table)
        except ValueError as error:
            console.print(f"[red]error:[/red] {error}")
            raise typer.Exit(1) from None
        for a in found:
            shown.add_row(a.feature, a.function, f"{a.compared:,}", f"{a.masked:,}", f"{a.worst:.1e}")
        console.print(shown)
        worst = max((a.worst for a in found), default=0.0)
        good &= worst <= 1e-9
        compared = sum(a.compared for a in found)
        _verdict(console, worst <= 1e-9, f"{compared:,} values compared, worst difference {worst:.1e} (bound 1e-9)")
    console.print("masked: TA-Lib gives a number where ours is undefined (constant price) or spans a gap or a jump")
    raise typer.Exit(0 if good else 1)


@app.command("convergence")
def convergence_command(bars: Bars = None, timeframe: Timeframe = None) -> None:
    """Measure how many bars each feature needs until it no longer depends on where its history began.

    Compares the whole history with one that began k bars ago, in units of the feature's own spread; the
    published warm-up must bring it under 1e-6.

    Example: signals check convergence --bars bars.csv --timeframe 1d
    """
    from udfs.kernel.compiler import Kernel
    from udfs.offline.checks import AFTER, convergence

    console = _console()
    kernel = Kernel()
    good = True
    for name, table in _sets(bars, timeframe):
        found = convergence(kernel, table)
        if not any(c.after for c in found):
            _verdict(console, True, f"{name}: no symbol has 1,600 bars, nothing to measure")
            continue
        shown = _table(name, "feature", "first value", "warm-up", "measured", *(f"after {k}" for k in AFTER), "")
        for c in found:
            after = [f"{c.after[k]:.0e}" if k in c.after else "" for k in AFTER]
            published = "" if c.settled is None else str(c.settled)
            measured = "no value" if not c.after else "never" if c.measured is None else str(c.measured)
            shown.add_row(c.feature, str(c.first), published, measured, *after, "" if c.holds else "EXCEEDED")
        console.print(shown)
        late = [c.feature for c in found if not c.holds]
        good &= not late
        _verdict(
            console, not late, f"{name}: warm-ups hold" if not late else f"{name}: too short for {', '.join(late)}"
        )
    raise typer.Exit(0 if good else 1)


@app.command("lookahead")
def lookahead_command(
    bars: Bars = None,
    timeframe: Timeframe = None,
    cuts: Annotated[int, typer.Option(help="Number of times t to cut at.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the times and the corruption.")] = 0,
) -> None:
    """Verify that features at t do not change when all data after t, news and options too, is removed or corrupted.

    Example: signals check lookahead --bars bars.csv.gz
    """
    from udfs.kernel.compiler import Kernel
    from udfs.offline.checks import lookahead

    console = _console()
    kernel = Kernel()
    good = True
    for name, table in _sets(bars, timeframe):
        result = lookahead(kernel, table, cuts, seed)
        good &= result.changed == 0
        _verdict(
            console,
            result.changed == 0,
            f"{name}: {result.cuts} cuts, {result.compared:,} rows before them compared with the future removed and "
            f"corrupted, {result.changed:,} changed {result.first_change}",
        )
    raise typer.Exit(0 if good else 1)


@app.command("features-docs")
def docs_command(
    write: Annotated[bool, typer.Option("--write", help="Write the file instead of comparing it.")] = False,
    path: Annotated[Path, typer.Option(help="The generated page.")] = Path("docs/features.md"),
) -> None:
    """Compare docs/features.md with the families' docstrings.

    Example: signals check features-docs --write
    """
    from udfs.offline.docs import page

    console = _console()
    text = page()
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        console.print(f"{path} written")
        return
    current = path.exists() and path.read_text() == text
    remedy = "is current" if current else "is out of date: run signals check features-docs --write"
    _verdict(console, current, f"{path} {remedy}")
    raise typer.Exit(0 if current else 1)


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="check")
