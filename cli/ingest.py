"""``signals parse``, ``signals bars`` and ``signals ingest``: market data to the pipeline's messages."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from connectors.venues import names as venue_names


def register(app: typer.Typer) -> None:
    """Add this file's commands to the ``signals`` command."""
    app.command()(ingest)
    app.command()(parse)
    app.command()(bars)
    app.command(
        "build-bars",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(build_bars)


def _lines(file: Path) -> Iterator[bytes]:
    if str(file) == "-":
        yield from sys.stdin.buffer
        return
    if not file.exists():
        raise typer.BadParameter(f"FILE = {file}: no such file (use - for standard input)")
    with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as lines:
        yield from lines


def parse(
    venue: Annotated[str, typer.Argument(help=f"one of {', '.join(venue_names())}")],
    file: Annotated[Path, typer.Argument(help="one JSON frame per line (also .gz; - is standard input)")],
    time_unit: Annotated[str, typer.Option(help="ms or us, for a venue whose times may be either (Binance)")] = "ms",
) -> None:
    """Parse recorded frames and print their messages as JSON lines; rejects and their reasons go to stderr.

    A line is a frame as received from the socket, raw or wrapped as a combined stream, with or without a leading local
    time stamp in nanoseconds.

    Example: signals parse binance tests/fixtures/venues/binance/ws_events.json
    """
    from connectors.files.venue_frames import split_line
    from connectors.ingest.dedupe import Revisions
    from connectors.ingest.sentiment import score, text_of
    from connectors.venues import load
    from models.messages import Bar, News, encode

    try:
        adapter = load(venue, **({"time_unit": time_unit} if time_unit != "ms" else {}))
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from None
    import msgspec

    revisions = Revisions()
    write = sys.stdout.buffer.write
    for number, line in enumerate(_lines(file), start=1):
        frame, arrival_ms = split_line(line)
        if not frame:
            continue
        parsed = adapter.parse(frame, arrival_ms)
        for message in parsed.messages:
            if isinstance(message, Bar):
                message = revisions.number(message) or message
            elif isinstance(message, News):
                message = msgspec.structs.replace(message, sentiment=score(text_of(message)))
            write(encode(message) + b"\n")
        for refused in parsed.rejects:
            text = refused.payload.decode(errors="backslashreplace")
            print(f"line {number}: {refused.reason}: {text}", file=sys.stderr)
    sys.stdout.flush()


def bars(
    file: Annotated[Path, typer.Argument(help="trades, one JSON message per line, as `signals parse` prints them")],
    timeframe: Annotated[str, typer.Option(help="1s, 1m, 5m, 1h or 1d")] = "1m",
    calendar: Annotated[str, typer.Option(help="exchange calendar for days, as XNYS, CMES or 24/7")] = "",
) -> None:
    """Build bars from trades and print them as JSON lines; lines that are not trades go to stderr with the reason.

    The SQL is that of the bars job. Bars are ordered by symbol and start; messages other than trades are skipped.

    Example: signals parse binance FILE | signals bars - --timeframe 1m
    """
    import msgspec

    from connectors.settings.ingest import load
    from jobs.bars import bars_of
    from models.messages import TIMEFRAME_MS, Trade, decode, encode
    from models.trade.calendar import calendar as calendar_named

    if timeframe not in TIMEFRAME_MS:
        raise typer.BadParameter(f"--timeframe = {timeframe!r}: must be one of {', '.join(TIMEFRAME_MS)}")
    settings = load(None, venues=[]).bars
    if calendar:
        try:
            calendar_named(calendar)
        except ValueError as error:
            raise typer.BadParameter(f"--{error}") from None
        settings = settings.model_copy(update={"calendars": {"*": calendar}})
    others = ("timeframe", "bid_price", "ask_price", "news_id", "contracts", "put_call_ratio", "implied_volatility")

    def trades() -> Iterator[Trade]:
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            try:
                yield decode(line, Trade)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                try:
                    fields = msgspec.json.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    fields = None
                if isinstance(fields, dict) and any(name in fields for name in others):
                    continue
                print(f"line {number}: {error}: {line.decode(errors='backslashreplace').strip()}", file=sys.stderr)

    for bar in bars_of(trades(), timeframe, settings):
        sys.stdout.buffer.write(encode(bar) + b"\n")
    sys.stdout.flush()


def build_bars(context: typer.Context) -> None:
    """Run the bars job (trades to bars in Kafka) on a local mini cluster, until Ctrl-C.

    Example: signals build-bars --kafka 127.0.0.1:9092 --timeframes 1m,1d
    """
    from jobs.bars import main

    main(context.args)


def ingest(
    venues: Annotated[str, typer.Option(help=f"comma-separated, of {', '.join(venue_names())}")] = "",
    kafka: Annotated[str, typer.Option(help="bootstrap address, host:port")] = "",
    config: Annotated[Path | None, typer.Option(help="settings file (default: signals.toml)")] = None,
    metrics_port: Annotated[int, typer.Option(help="port of /metrics; 0: a free port, printed")] = -1,
    metrics_host: Annotated[str, typer.Option(help="address on which /metrics is served")] = "",
    redis: Annotated[str, typer.Option(help="redis://host:port/0: report each venue to the relay's system page")] = "",
    accept_partitioner: Annotated[
        bool, typer.Option(help="go on with topics whose keys another partitioner dealt, once every job has read them")
    ] = False,
    check: Annotated[bool, typer.Option(help="only report what is missing")] = False,
) -> None:
    """Ingest market data into Kafka from every configured source, until Ctrl-C.

    Example: ALPACA_API_KEY=... ALPACA_SECRET_KEY=... signals ingest --venues alpaca,binance_us
    """
    from connectors.settings.ingest import SettingsError, load

    overrides: dict[str, object] = {}
    if venues:
        overrides["venues"] = [name.strip() for name in venues.split(",") if name.strip()]
    if kafka:
        overrides["kafka"] = kafka
    if metrics_host:
        overrides["metrics_host"] = metrics_host
    if metrics_port >= 0:
        overrides["metrics_port"] = metrics_port
    if redis:
        overrides["redis"] = redis
    if accept_partitioner:
        overrides["accept_partitioner"] = True
    try:
        settings = load(config, **overrides)
        settings.require()
    except SettingsError as error:
        print(f"ingest: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if check:
        print(f"ready: {', '.join(settings.venues) or 'no venue'}; {len(settings.feeds)} Kafka feeds")
        return

    from jobs.ingest import main

    raise typer.Exit(main(settings))
