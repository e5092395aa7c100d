"""``signals features``: the feature matrix of a file of bars."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def features(
    file: Annotated[Path, typer.Argument(help="Bars: CSV, TSV or Parquet, plain or gzip, one or many symbols.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write (.csv and .csv.gz work too).")],
    timeframe: Annotated[
        str | None, typer.Option(help="1s 1m 5m 1h 1d; default: the file's own, else guessed.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Symbol of a file without a symbol column.")] = None,
    config: Annotated[Path | None, typer.Option(help="FeatureConfig as JSON (default: the whole catalogue).")] = None,
    calendar: Annotated[str | None, typer.Option(help="XNYS or 24/7 for all symbols (default: by symbol).")] = None,
    side_inputs: Annotated[
        Path | None, typer.Option(help="News, option summaries and splits: JSON lines of messages, plain or gzip.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: one per core).")] = None,
) -> None:
    """Compute every feature of every bar of FILE, as the live job would: one row per bar, in the file's order.

    Rows that are not bars are reported with their line and left out. Training reads only this.

    Example: signals features bars.csv.gz --timeframe 1m --out features.parquet
    """
    import time

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from connectors.files.bars import read_bars
    from udfs.kernel.catalogue import FeatureConfig
    from udfs.offline.batch import features_table

    console = Console(stderr=True)
    try:
        table, mapping, rejects = read_bars(file, timeframe, symbol)
        chosen = FeatureConfig.from_json(config.read_text()) if config else FeatureConfig()
        messages = read_side_inputs(side_inputs) if side_inputs else []
    except (OSError, ValueError) as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        raise typer.Exit(1) from None
    shown = ", ".join(f"{name} = {column!r}" for name, column in mapping.items())
    console.print(
        f"{len(table):,} bars of {table['symbol'].nunique():,} symbols; columns: {shown}",
        highlight=False,
        soft_wrap=True,
    )
    for reject in rejects[:20]:
        console.print(f"line {reject.line}: {reject.reason} ({reject.field}={reject.value!r})", highlight=False)
    if len(rejects) > 20:
        console.print(f"… and {len(rejects) - 20:,} more rows that are not bars", highlight=False)
    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    began = time.perf_counter()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("bars", total=len(table))
        try:
            made = features_table(
                table, chosen, messages, calendar, threads, lambda done, total: bar.update(task, completed=done)
            )
        except ValueError as error:
            console.print(f"[red]error:[/red] {error}", highlight=False)
            raise typer.Exit(1) from None
    spent = time.perf_counter() - began
    if out.name.endswith((".csv", ".csv.gz")):
        made.to_csv(out, index=False)
    else:
        made.to_parquet(out, index=False)
    typer.echo(
        f"{out}: {len(made):,} rows, {len(made.attrs['names'])} features, set {made.attrs['feature_set_hash']}, "
        f"{len(rejects):,} rows rejected, {spent:.1f} s"
    )


def read_side_inputs(path: Path) -> list[object]:
    """Messages of a JSON-lines file: News, OptionSummary or a split event, distinguished by their fields."""
    import gzip

    import msgspec

    from models.events import Event
    from models.messages import News, OptionSummary, decode

    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    found: list[object] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = msgspec.json.decode(line, type=dict)
            kind = News if "news_id" in fields else Event if "kind" in fields else OptionSummary
            found.append(decode(line, kind))
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from None
    return found


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(features)
