"""``signals outcomes``, ``signals performance``, ``signals verify-record``, ``signals run-outcomes``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from models.messages import Outcome
    from models.outcomes.performance import History, Row


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("outcomes")(outcomes)
    app.command("performance")(performance)
    app.command("verify-record")(verify_record)
    app.command(
        "run-outcomes",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(run_outcomes)


def _wrong(message: str) -> typer.Exit:
    """Print what is wrong with the command's input; exit code 2."""
    typer.echo(f"signals: {message}", err=True)
    return typer.Exit(2)


def outcomes(
    bars: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="bars: JSON lines, CSV, TSV or Parquet")],
    signals: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="signals: JSON lines, CSV or Parquet")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="where outcomes go: .jsonl, .csv or .parquet")],
    splits: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="table of symbol, effective_ms, ratio (new shares per old one), or status events as JSON lines",
        ),
    ] = None,
    timeframe: Annotated[str | None, typer.Option(help="of the bars, if the file does not name it: 1m, 1h, 1d")] = None,
    cost_bps: Annotated[float, typer.Option(min=0.0, help="costs of a round trip, basis points")] = 0.0,
    updates: Annotated[bool, typer.Option("--updates", help="write every update, not only each signal's last")] = False,
) -> None:
    """Track signals over bars from files to their end, by the rules of the running tracker.

    A signal is tracked over the bars of its own symbol and timeframe. Open signals are written as active.

    Example: signals outcomes --bars bars.csv --signals signals.jsonl --out outcomes.jsonl --cost-bps 10
    """
    from connectors.files.messages import read_bar_messages, read_signals, read_splits, write_messages
    from models.outcomes.performance import latest
    from models.outcomes.tracker import Tracker

    try:
        made = read_signals(signals)
        path, rejects = read_bar_messages(bars, timeframe)
        split = read_splits(splits) if splits else []
    except ValueError as error:
        raise _wrong(str(error)) from None
    for reject in rejects[:10]:
        typer.echo(f"skipped {reject}", err=True)
    if len(rejects) > 10:
        typer.echo(f"skipped {len(rejects) - 10} more bars", err=True)
    tracker = Tracker(cost_bps=cost_bps)
    outcomes = tracker.take(made, path, split)
    outcomes += tracker.expire(max((bar.end_ms for bar in path), default=0))
    unseen = {(one.symbol, one.timeframe) for one in made} - {(bar.symbol, bar.timeframe) for bar in path}
    for symbol, frame in sorted(unseen):
        typer.echo(f"no bars of {symbol} {frame} in {bars}: its signals cannot end by price", err=True)
    outcomes.sort(key=lambda one: (one.updated_ms, one.signal_id))
    try:
        count = write_messages(out, outcomes if updates else latest(outcomes))
    except OSError as error:
        raise _wrong(f"{out} cannot be written: {error.strerror or error}") from None
    typer.echo(f"{len(made)} signals, {len(path)} bars -> {count} outcomes in {out}")
    _say_totals(outcomes)


def _say_totals(outcomes: list[Outcome]) -> None:
    from models.outcomes.performance import summarise

    history = summarise(outcomes)
    ended = ", ".join(f"{row.count} {row.key}" for row in history.tables["exit"])
    typer.echo(f"finished {history.finished} ({ended or 'none'}), active {history.active}, void {history.void}")
    if history.total is not None:
        total = history.total
        typer.echo(
            f"P&L {total.total_pnl_percent:+.6f} % in all, {total.mean_pnl_percent:+.6f} % per signal; "
            f"hit rate {total.hit_rate:.1%}, max drawdown {total.max_drawdown_percent:.3f} points"
        )


def _read_history(file: Path | None, kafka: str, topic: str, redis: str) -> list[Outcome]:
    from models.messages import Outcome, decode

    if sum(map(bool, (file, kafka, redis))) != 1:
        raise _wrong("pass one of --outcomes FILE, --kafka HOST:PORT or --redis URL")
    try:
        if file is not None:
            from connectors.files.messages import read_outcomes

            return read_outcomes(file)
        if kafka:
            from connectors.kafka.read import read_to_end

            return [decode(value, Outcome) for _, _, value in read_to_end(kafka, topic)]
        return _from_redis(redis)
    except (ValueError, ConnectionError) as error:
        raise _wrong(str(error)) from None


def _from_redis(url: str) -> list[Outcome]:
    import redis

    from connectors.redis.client import address_of, connect, require_redis
    from connectors.redis.keys import outcomes_key
    from models.messages import Outcome, decode

    require_redis(url)
    client = connect(url)
    try:
        hvals: Any = client.hvals
        return [decode(value, Outcome) for key in client.scan_iter(outcomes_key("*")) for value in hvals(key)]
    except redis.RedisError as error:
        raise ConnectionError(f"Redis at {address_of(url)} stopped answering ({error}): try again") from None
    finally:
        client.close()


def performance(
    outcomes: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="outcomes as JSON lines")] = None,
    kafka: Annotated[str, typer.Option(help="read the topic of outcomes at HOST:PORT")] = "",
    topic: Annotated[str, typer.Option(help="topic of outcomes")] = "signal-outcomes",
    redis: Annotated[str, typer.Option(help="read what Redis keeps, redis://HOST:PORT/DB")] = "",
    by: Annotated[
        str, typer.Option(help="only this table: symbol, action, horizon, bundle, vote, confidence, exit")
    ] = "",
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="write a page with plots too")] = None,
) -> None:
    """Print the history of finished signals: how many reached their target or ended with a profit, P&L in percent of
    the entry (mean, total, deepest drawdown of the running total), mean holding time in hours, and reliability.

    Example: signals performance --outcomes outcomes.jsonl --by symbol --html performance.html
    """
    from models.outcomes.performance import DIMENSIONS, summarise

    if by and by not in DIMENSIONS:
        raise _wrong(f"--by {by} is not one of {', '.join(DIMENSIONS)}")
    history = summarise(_read_history(outcomes, kafka, topic, redis))
    _print_history(history, by)
    if html is not None:
        from cli.reports.performance_page import page

        html.write_text(page(history), encoding="utf-8")
        typer.echo(f"page written to {html}")


def _print_history(history: History, by: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 100
    console.print(f"finished {history.finished}, active {history.active}, void {history.void}", highlight=False)
    if history.total is None:
        console.print("no finished signal yet")
        return
    for name, rows in {**history.tables, "all": [history.total]}.items():
        if by and name not in (by, "all"):
            continue
        table = Table(title=f"by {name}" if name != "all" else None, title_justify="left", min_width=78)
        table.add_column(name, no_wrap=True)
        for title in ("count", "target", "profit", "mean %", "total %", "drawdown", "hours"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)
    if not by or by == "confidence":
        table = Table(title="reliability: predicted and observed", title_justify="left", min_width=78)
        for title in ("confidence", "count", "promised", "profit", "95 % interval"):
            table.add_column(title, justify="left" if title == "confidence" else "right")
        for one in history.reliability:
            table.add_row(
                one.bucket,
                str(one.count),
                f"{one.confidence:.1%}",
                f"{one.win_rate:.1%}",
                f"{one.low:.1%} to {one.high:.1%}",
            )
        console.print(table)


def _cells(row: Row) -> list[str]:
    return [
        row.key,
        str(row.count),
        f"{row.hit_rate:.1%}",
        f"{row.win_rate:.1%}",
        f"{row.mean_pnl_percent:+.3f}",
        f"{row.total_pnl_percent:+.2f}",
        f"{row.max_drawdown_percent:.2f}",
        f"{row.holding_hours:.1f}",
    ]


def verify_record(
    signals: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="signals as JSON lines")] = None,
    kafka: Annotated[str, typer.Option(help="read the topic of signals at HOST:PORT")] = "",
    topic: Annotated[str, typer.Option(help="topic of signals")] = "trading-signals",
    heads: Annotated[
        Path | None, typer.Option(dir_okay=False, help="last hash of each symbol, kept from an earlier run")
    ] = None,
    save_heads: Annotated[bool, typer.Option("--save-heads", help="write the heads found to that file")] = False,
) -> None:
    """Verify that no signal was removed, altered or back-dated: check the hash chain of each symbol.

    A record cut off at its end shows only against heads kept elsewhere: keep the file of --heads apart and pass it
    each time. Exits with 1 when a problem is found.

    Example: signals verify-record --kafka 127.0.0.1:9092 --heads heads.json --save-heads
    """
    import msgspec

    from models.signals.hash_chain import verify

    if bool(signals) == bool(kafka):
        raise _wrong("pass one of --signals FILE or --kafka HOST:PORT")
    kept = {}
    try:
        if signals is not None:
            from connectors.files.messages import read_signals

            read = read_signals(signals)
        else:
            from connectors.kafka.read import read_to_end
            from models.messages import Signal, decode

            read = [decode(value, Signal) for _, _, value in read_to_end(kafka, topic)]
        if heads is not None and heads.exists():
            kept = msgspec.json.decode(heads.read_bytes(), type=dict[str, str])
        elif heads is not None and not save_heads:
            raise ValueError(f"{heads} does not exist: write it with --save-heads")
    except (ValueError, ConnectionError, msgspec.MsgspecError) as error:
        raise _wrong(str(error)) from None
    report = verify(read, kept)
    typer.echo(f"{report.signals} signals of {len(report.heads)} symbols, {report.repeats} repeats")
    for problem in report.problems:
        typer.echo(f"{problem.what}: {problem.symbol} {problem.signal_id}: {problem.detail}")
    if report.problems:
        typer.echo(f"{len(report.problems)} problems", err=True)
        raise typer.Exit(1)
    if save_heads and heads is not None:
        heads.write_bytes(msgspec.json.format(msgspec.json.encode(report.heads, order="sorted"), indent=1) + b"\n")
        typer.echo(f"heads kept in {heads}")
    typer.echo("record is whole")


def run_outcomes(context: typer.Context) -> None:
    """Run the outcomes job against given Kafka and Redis, on a local mini cluster, until Ctrl-C.

    Every option of the job is passed on; `signals run-outcomes --help` lists them. The same job file goes to a cluster
    with `flink run -py jobs/outcomes.py -pyfs dist/*.whl --kafka ... --redis ...`.

    Example: signals run-outcomes --kafka 127.0.0.1:9092 --redis redis://127.0.0.1:6379/0 --cost-bps 10
    """
    from jobs.outcomes import main

    main(context.args)
