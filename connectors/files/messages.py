"""Signals, outcomes, splits and bars in files: JSON lines as on the topics, or tables (CSV, TSV, Parquet).

In a table each column is a field of the message. A signal needs ``symbol``, ``action``, ``entry_price``,
``target_price``, ``stop_loss``, ``created_ms`` and ``expires_ms``; its id, timeframe and the rest have defaults. An
error names the file, the line or row, and the field.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from models.events import Split, event_of
from models.messages import Bar, Outcome, Signal, encode

T = TypeVar("T")

_SIGNAL_DEFAULTS: dict[str, Any] = {
    "timeframe": "1d",
    "confidence": 0.0,
    "time_horizon": "1d",
    "emitted_ms": 0,
    "reasoning": "",
}


def _is_json(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith((".jsonl", ".json", ".ndjson"))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _rows(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    name = path.name.removesuffix(".gz")
    if name.endswith((".parquet", ".pq")):
        table = pd.read_parquet(path)
    else:
        table = pd.read_csv(path, sep="\t" if name.endswith(".tsv") else ",")
    return [
        {str(key): value for key, value in row.items() if value is not None and value == value}
        for row in table.astype(object).to_dict("records")
    ]


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        yield number, msgspec.json.decode(line, type=dict[str, Any])


def read_messages(path: Path, kind: type[T], defaults: dict[str, Any] | None = None) -> list[T]:
    """All messages of a file; ValueError naming file, line and field of one that is invalid."""
    out = []
    try:
        if _is_json(path):
            decoder = msgspec.json.Decoder(kind)
            for number, line in _lines(path):  # noqa: B007 - the number is named in the error
                out.append(decoder.decode(line))
        else:
            for number, row in enumerate(_rows(path), 2):  # noqa: B007
                out.append(msgspec.convert({**(defaults or {}), **row}, kind, strict=False))
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    return out


def read_signals(path: Path) -> list[Signal]:
    """Signals of a file; one without an id gets one from its row (``row-1``)."""
    if _is_json(path):
        return read_messages(path, Signal)
    plain = read_messages(path, Signal, {**_SIGNAL_DEFAULTS, "signal_id": ""})
    return [
        one if one.signal_id else msgspec.structs.replace(one, signal_id=f"row-{number}")
        for number, one in enumerate(plain, 1)
    ]


def read_outcomes(path: Path) -> list[Outcome]:
    """Outcomes of a file."""
    return read_messages(path, Outcome)


def read_bar_messages(path: Path, timeframe: str | None = None) -> tuple[list[Bar], list[str]]:
    """Bars of a file in the file's order (JSON lines, or a table as ``connectors.files.bars`` reads it), and rejects.

    A reject is a line of text that names the row and its error.
    """
    if _is_json(path):
        return read_messages(path, Bar), []
    from connectors.files.bars import read_bars

    try:
        table, _, rejects = read_bars(path, timeframe=timeframe)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    names = ["symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "revision"]
    columns = zip(*(table[name].tolist() for name in names), strict=True)
    bars = [
        Bar(
            symbol=symbol,
            timeframe=frame,
            start_ms=start,
            end_ms=end,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=0.0,
            revision=int(revision),
        )
        for symbol, frame, start, end, open_, high, low, close, revision in columns
    ]
    return bars, [f"{path}, line {one.line}: {one.reason}" for one in rejects]


def read_splits(path: Path) -> list[tuple[str, int, float]]:
    """Splits as (symbol, effective_ms, new shares for one old), from fields ``symbol, effective_ms, ratio``.

    JSON lines may also be events as on ``market-data-status``, of any release; of these the splits are taken.
    ValueError names file, line and field.
    """
    strict, number, found = _is_json(path), 0, []
    try:
        rows = _json_rows(path) if strict else enumerate(_rows(path), 2)
        for number, row in rows:  # noqa: B007 - the number is named in the error
            if "kind" not in row:
                row = {"kind": "split", "timestamp_ms": row.get("effective_ms", 0), **row}
            event = event_of(row, strict=strict)
            if isinstance(event, Split):
                found.append((event.symbol, event.effective_ms, event.ratio))
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}, line {number}: {error} (ratio is 2 for a 2-for-1 split)") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    return found


def write_messages(path: Path, messages: Iterable[Any]) -> int:
    """Write messages as JSON lines, or as CSV or Parquet by the file's name; how many."""
    if _is_json(path):
        lines = [encode(message) + b"\n" for message in messages]
        with gzip.open(path, "wb") if path.name.endswith(".gz") else open(path, "wb") as file:
            file.writelines(lines)
        return len(lines)
    import pandas as pd

    rows = [msgspec.structs.asdict(message) for message in messages]
    for row in rows:
        row.update({key: encode(value).decode() for key, value in row.items() if isinstance(value, dict | list)})
    table = pd.DataFrame(rows)
    if path.name.endswith((".parquet", ".pq")):
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t" if path.name.endswith(".tsv") else ",")
    return len(rows)
