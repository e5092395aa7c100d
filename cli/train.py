"""``signals train``: bars to a verified bundle and its report, in one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from models.training.config import TrainConfig


def train(
    config: Annotated[str, typer.Argument(help="TOML file, or the name of a shipped one (daily-swing, minute-day)")],
    bars: Annotated[
        list[Path] | None,
        typer.Option(help="CSV, TSV or Parquet of bars (repeat for several), instead of the config's"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the bundle's folder; default ./bundles/NAME")] = None,
    cutoff: Annotated[str, typer.Option(help="the first day excluded from training, instead of the config's")] = "",
    trials: Annotated[int | None, typer.Option(help="settings to try per model, instead of the config's")] = None,
    journal: Annotated[Path | None, typer.Option(help="where a search resumes; default OUT.journal")] = None,
    report: Annotated[Path | None, typer.Option(help="the HTML report; default OUT.html")] = None,
    seed: Annotated[int | None, typer.Option(help="instead of the config's")] = None,
) -> None:
    """Train a bundle: features, labels, search, walk-forward, calibration, thresholds, report.

    Same bars, config and seed: the same files, byte for byte. The figures are printed next to their baselines.

    Example: signals train daily-swing --out bundles/daily-swing
    """
    import msgspec
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from models.serving.bundle import load_bundle, write_bundle
    from models.training import train as training
    from models.training.report import report as html_report
    from models.training.report import verdict
    from udfs.offline.batch import features_table

    console = Console(stderr=True, highlight=False)
    try:
        settings, base = read_config(config)
        given = {"cutoff": cutoff or None, "trials": trials, "seed": seed}
        settings = msgspec.structs.replace(
            settings, **{key: value for key, value in given.items() if value is not None}
        )
        settings.cutoff_ms()
        folder = out or Path("bundles") / settings.name
        table = read_all(bars or [], settings, base, console.print)
        columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("features", total=training.step_count(settings) + 2)
            features = features_table(table, calendar=settings.market)

            def step(what: str) -> None:
                progress.update(task, advance=1, description=what)

            manifest, files, extra = training.train(
                settings,
                table,
                features,
                features.attrs["feature_set_hash"],
                step,
                (journal or folder.with_name(folder.name + ".journal")) if settings.trials else None,
            )
            step("report")
            write_bundle(folder, manifest, files)
            page = report or folder.with_name(folder.name + ".html")
            page.write_text(html_report(manifest, extra))
            step("done")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        console.print(f"training stopped: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    loaded = load_bundle(folder)
    loaded.close()
    size = sum(map(len, files.values()))
    typer.echo(f"{loaded.id} in {folder}: {size:,} bytes, {manifest.training.rows if manifest.training else 0:,} rows")
    typer.echo(verdict(manifest))
    typer.echo(f"report: {page}")


def read_config(config: str) -> tuple[TrainConfig, Path]:
    """The config and the folder that its relative paths start from; ``ValueError`` naming the shipped ones."""
    from importlib.resources import files

    from models.training.config import parse

    path = Path(config)
    if path.is_file():
        return parse(path.read_bytes()), path.parent
    shipped = files("models") / "configs"
    found = shipped / f"{config}.toml"
    if not found.is_file():
        names = ", ".join(sorted(child.name.removesuffix(".toml") for child in shipped.iterdir()))
        raise ValueError(f"no config {config!r}: give a TOML file, or one of {names}")
    return parse(found.read_bytes()), Path()


def read_all(bars: list[Path], settings: TrainConfig, base: Path, say: Callable[[str], None] = print) -> pd.DataFrame:
    """The bars of all files in time order; rows that are not bars are reported and left out."""
    import pandas as pd

    from connectors.files.bars import read_bars
    from connectors.files.samples import DAILY, daily_bars_file

    paths = bars or [daily_bars_file() if settings.bars == DAILY else base / settings.bars]
    if not bars and not settings.bars:
        raise ValueError(f"config {settings.name} names no bars: give --bars FILE")
    parts = []
    for path in paths:
        table, _, rejects = read_bars(path, settings.timeframe)
        for reject in rejects[:10]:
            say(f"{path.name}, line {reject.line}: {reject.reason}")
        say(f"{path.name}: {len(table):,} bars of {table['symbol'].nunique():,} symbols, {len(rejects):,} rejected")
        parts.append(table)
    joined = pd.concat(parts, ignore_index=True)
    return joined.sort_values(["start_ms", "symbol"], kind="stable", ignore_index=True)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)
