"""``signals parse``, ``signals bars`` and ``signals ingest``: market data in, the pipeline's messages out."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this file's commands to the ``signals`` command."""
    app.command()(parse)


def _lines(file: Path) -> Iterator[bytes]:
    if str(file) == "-":
        yield from sys.stdin.buffer
        return
    if not file.exists():
        raise typer.BadParameter(f"FILE = {file}: no such file (use - for standard input)")
    with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as lines:
        yield from lines


def parse(
    venue: Annotated[str, typer.Argument(help="alpaca, polygon, binance or binance_us")],
    file: Annotated[Path, typer.Argument(help="one JSON frame a line (.gz read too; - is standard input)")],
    time_unit: Annotated[str, typer.Option(help="Binance only: unit of the times, ms or us")] = "ms",
) -> None:
    """Print the messages that recorded frames become, as JSON lines; rejects and their reasons go to stderr.

    A line is a frame as it came over the socket, raw or wrapped as a combined stream, with or without a leading local
    time stamp in nanoseconds.

    Example: signals parse binance tests/fixtures/venues/binance/ws_events.json
    """
    from connectors.dedupe import Revisions
    from connectors.recorded import split_line
    from connectors.sentiment import score, text_of
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
