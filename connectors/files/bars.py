"""Bars from a file: CSV, TSV or Parquet, plain or gzip, with guessed column names and line-numbered rejects.

>>> import tempfile, pathlib
>>> file = pathlib.Path(tempfile.mkdtemp()) / "IBM.csv"
>>> _ = file.write_text("Date,Open,High,Low,Close,Volume\\n2000-03-01,1,2,1,2,10\\n2000-03-02,2,1,1,2,10\\n")
>>> bars, mapping, rejects = read_bars(file, timeframe="1d")
>>> bars[["symbol", "start_ms", "close"]].values.tolist(), mapping["start_ms"]
([['IBM', 951868800000, 2.0]], 'Date')
>>> rejects[0].line, rejects[0].reason
(3, 'high 1.0 is below low 1.0, open 2.0 or close 2.0')
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.messages import TIMEFRAME_MS

#: Column names each field may have in a file, lower case, without spaces and punctuation; the first present is taken.
NAMES: dict[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker", "sym", "instrument", "name", "asset", "secid", "s"),
    "start_ms": (
        "startms", "startts", "start", "starttime", "timestamp", "timestampms", "ts", "datetime", "date", "time",
        "opentime", "windowstart", "tstamp", "t", "eventtime", "dt", "index",
    ),
    "end_ms": ("endms", "end", "endtime", "closetime"),
    "open": ("open", "openprice", "o", "op", "first"),
    "high": ("high", "highprice", "h", "hi", "max"),
    "low": ("low", "lowprice", "l", "lo", "min"),
    "close": ("close", "closeprice", "c", "cl", "last", "price"),
    "volume": ("volume", "vol", "v", "qty", "quantity", "volumeshares", "basevolume", "size"),
    "timeframe": ("timeframe", "interval", "resolution", "freq"),
    "trade_count": ("tradecount", "trades", "transactions", "numtrades", "n"),
    "vwap": ("vwap", "vw", "averageprice"),
    "revision": ("revision", "rev"),
}  # fmt: skip
_CLOCK = ("time", "clock", "hour")
_REQUIRED = ("start_ms", "open", "high", "low", "close")
_FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Reject:
    """A row that is no bar: its line in the file (the header is line 1), the field and value at fault, and why."""

    line: int
    field: str
    value: str
    reason: str
    raw: str


def read_bars(
    path: str | Path, timeframe: str | None = None, symbol: str | None = None
) -> tuple[pd.DataFrame, dict[str, str], list[Reject]]:
    """The bars of a file in input order, the column taken for each field, and the rows that are no bars.

    Columns of the frame: symbol, timeframe, start_ms, end_ms (int64), open, high, low, close, volume (float64, NaN
    where the file has none), trade_count, vwap where the file has them, revision, and ``line``, the row's line.

    Times may be epoch seconds, milliseconds, microseconds or nanoseconds, or text dates and times (without a zone:
    UTC), in one column or as a date and a time column. ``timeframe`` defaults to the file's own column, else to the
    commonest step between a symbol's rows. A file without a symbol column has one symbol: ``symbol``, else the start of
    its name.

    Raises ``ValueError`` naming what is missing and which names are understood.
    """
    path = Path(path)
    table, lines, raw = _read_table(path)
    mapping = guess_columns(list(table.columns))
    missing = [name for name in _REQUIRED if name not in mapping]
    if missing:
        raise ValueError(
            f"{path.name}: no column for {', '.join(missing)} among {', '.join(map(repr, table.columns))}; "
            + "rename one to "
            + " and ".join(repr(name) for name in missing)
        )
    return _checked(table, lines, raw, mapping, timeframe, symbol, path)


def guess_columns(columns: list[str]) -> dict[str, str]:
    """Our field -> the file's column, for every field that some column name suggests.

    >>> guess_columns(["<TICKER>", "<DATE>", "<TIME>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>", "Adj Close"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'symbol': '<TICKER>', 'start_ms': '<DATE>', 'open': '<OPEN>', 'high': '<HIGH>', 'low': '<LOW>',
     'close': '<CLOSE>', 'volume': '<VOL>', 'clock': '<TIME>'}
    """
    plain = {re.sub(r"[^a-z0-9]", "", str(column).lower()): column for column in reversed(columns)}
    mapping: dict[str, str] = {}
    for name, known in NAMES.items():
        for candidate in known:
            if candidate in plain and plain[candidate] not in mapping.values():
                mapping[name] = plain[candidate]
                break
    started = re.sub(r"[^a-z]", "", mapping.get("start_ms", "").lower())
    if started == "date":
        for candidate in _CLOCK:
            if candidate in plain and plain[candidate] not in mapping.values():
                mapping["clock"] = plain[candidate]
                break
    return mapping


def _read_table(path: Path) -> tuple[pd.DataFrame, np.ndarray[Any, Any], list[str] | None]:
    """The file as a table, each row's line number, and the raw lines (None for Parquet)."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as stream:
        head = stream.read(4)
    if head == b"PAR1":
        table = pd.read_parquet(path)
        if not isinstance(table.index, pd.RangeIndex):
            table = table.reset_index()
        return table, np.arange(len(table)) + 1, None
    data = path.read_bytes()
    if head[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data[:4] == b"PAR1":
        table = pd.read_parquet(io.BytesIO(data))
        return table, np.arange(len(table)) + 1, None
    text = data.decode("utf-8-sig", "replace")
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ValueError(f"{path.name}: the file is empty")
    delimiter = max(",\t;|", key=lines[first].count)
    header = [name.strip() for name in next(csv.reader([lines[first]], delimiter=delimiter))]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{path.name}: two columns are called {twice!r}; rename one")
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(lines[first + 1 :])),
            sep=delimiter,
            names=header,
            index_col=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            float_precision="round_trip",
            low_memory=False,
            quoting=csv.QUOTE_NONE if '"' not in text else csv.QUOTE_MINIMAL,
            on_bad_lines="error",
        )
        if len(table) != len(lines) - first - 1:
            raise pd.errors.ParserError("a quoted field runs over several lines")
    except (pd.errors.ParserError, pd.errors.EmptyDataError):
        rows = (next(csv.reader([line], delimiter=delimiter), []) for line in lines[first + 1 :])
        table = pd.DataFrame([(row + [""] * len(header))[: len(header)] for row in rows], columns=header, dtype=object)
    numbers = np.arange(len(table)) + first + 2
    filled = np.array([bool(line.strip()) for line in lines[first + 1 :]], bool)
    return table[filled].reset_index(drop=True), numbers[filled], lines


def _checked(
    table: pd.DataFrame,
    lines: np.ndarray[Any, Any],
    raw: list[str] | None,
    mapping: dict[str, str],
    timeframe: str | None,
    symbol: str | None,
    path: Path,
) -> tuple[pd.DataFrame, dict[str, str], list[Reject]]:
    """Convert column by column, remembering the first rule each row breaks."""
    n = len(table)
    bad_field = np.full(n, "", object)
    reason = np.full(n, "", object)

    def refuse(rows: np.ndarray[Any, Any], name: str, why: str | list[str]) -> None:
        fresh = np.flatnonzero(rows & (bad_field == ""))
        bad_field[fresh] = name
        reason[fresh] = why if isinstance(why, str) else np.array(why, object)[fresh]

    def shown(name: str) -> pd.Series[Any]:
        return table[mapping[name]].astype(str)

    bars = pd.DataFrame(index=table.index)
    if "symbol" in mapping:
        names = table[mapping["symbol"]].fillna("").astype(str).str.strip().str.upper()
        refuse((names == "").to_numpy(), "symbol", "symbol is empty")
        bars["symbol"] = names.to_numpy(object)
    else:
        bars["symbol"] = (symbol or _symbol_of(path)).upper()

    start = _times(table, mapping)
    refuse(np.isnan(start), "start_ms", "time is not a date, a time or an epoch number")
    for name in _FIELDS:
        if name not in mapping:
            bars[name] = np.nan
            continue
        column = table[mapping[name]]
        values = pd.to_numeric(column, errors="coerce").to_numpy(float)
        absent = column.isna().to_numpy() | (column.astype(str).str.strip() == "").to_numpy()
        refuse(np.isnan(values) & ~absent, name, f"{name} is not a number")
        refuse(np.isinf(values), name, f"{name} is not finite")
        if name == "volume":
            refuse(values < 0, name, "volume is negative")
        else:
            refuse(absent, name, f"{name} is empty")
            refuse(values <= 0, name, f"{name} is not a positive price")
        bars[name] = values
    o, h, lo, c = (bars[name].to_numpy() for name in ("open", "high", "low", "close"))
    wrong = (h < lo) | (h < o) | (h < c)
    refuse(wrong, "high", _texts(wrong, "high {} is below low {}, open {} or close {}", h, lo, o, c))
    wrong = (lo > o) | (lo > c)
    refuse(wrong, "low", _texts(wrong, "low {} is above open {} or close {}", lo, o, c))

    good = bad_field == ""
    kept = bars[good].reset_index(drop=True)
    kept.insert(1, "start_ms", start[good].astype(np.int64))
    if "timeframe" in mapping and timeframe is None:
        frames = table[mapping["timeframe"]][good].astype(str).str.strip().to_numpy(object)
        unknown = sorted(set(frames) - set(TIMEFRAME_MS))
        if unknown:
            raise ValueError(f"{path.name}: timeframe {unknown[0]!r} is not one of {', '.join(TIMEFRAME_MS)}")
    else:
        frames = np.full(len(kept), timeframe or _timeframe_of(kept, path), object)
    if timeframe is not None and timeframe not in TIMEFRAME_MS:
        raise ValueError(f"timeframe {timeframe!r} is not one of {', '.join(TIMEFRAME_MS)}")
    kept.insert(1, "timeframe", frames)
    lengths = pd.Series(frames).map(TIMEFRAME_MS).to_numpy(np.int64) if len(kept) else np.empty(0, np.int64)
    kept.insert(3, "end_ms", kept["start_ms"].to_numpy() + lengths)
    for name in ("trade_count", "vwap"):
        if name in mapping:
            kept[name] = pd.to_numeric(table[mapping[name]], errors="coerce").to_numpy(float)[good]
    revisions = np.zeros(n)
    if "revision" in mapping:
        revisions = np.nan_to_num(pd.to_numeric(table[mapping["revision"]], errors="coerce").to_numpy(float))
    kept["revision"] = revisions[good].astype(np.int64)
    kept["line"] = lines[good]
    rejects = []
    for i in np.flatnonzero(~good):
        name = str(bad_field[i])
        value = str(shown(name).iloc[i]) if name in mapping else ""
        line = int(lines[i])
        text = raw[line - 1] if raw is not None else ",".join(map(str, table.iloc[i].tolist()))
        rejects.append(Reject(line, name, value, str(reason[i]), text))
    return kept, mapping, rejects


def _texts(rows: np.ndarray[Any, Any], text: str, *columns: np.ndarray[Any, Any]) -> list[str]:
    made = [""] * len(rows)
    for i in np.flatnonzero(rows):
        made[i] = text.format(*(float(column[i]) for column in columns))
    return made


def _symbol_of(path: Path) -> str:
    """``AAPL_1m_2016.tsv.gz`` -> ``AAPL``."""
    return re.split(r"[_\s.]", path.name)[0] or "UNKNOWN"


def _times(table: pd.DataFrame, mapping: dict[str, str]) -> np.ndarray[Any, Any]:
    """Epoch milliseconds as float64, NaN where the text is no time."""
    column = table[mapping["start_ms"]]
    if pd.api.types.is_datetime64_any_dtype(column):
        return _epoch_ms(pd.to_datetime(column, utc=True))
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
    present = numbers[~np.isnan(numbers)]
    dates_like = (len(present) and "clock" in mapping) or _looks_like_yyyymmdd(present)
    if len(present) * 2 > len(column) and not dates_like:
        # Seconds of any date since 1973 are below 1e11, milliseconds below 1e14, microseconds below 1e17.
        size = float(np.median(np.abs(present)))
        per_ms = 1e-3 if size < 1e11 else 1.0 if size < 1e14 else 1e3 if size < 1e17 else 1e6
        return np.round(numbers / per_ms)
    text = column.astype(str).str.strip()
    if dates_like:
        text = text.str.replace(r"\.0$", "", regex=True)
    if "clock" in mapping:
        clock = table[mapping["clock"]].astype(str).str.strip().str.replace(r"\.0$", "", regex=True)
        short = clock.str.fullmatch(r"\d{1,6}")
        clock = clock.where(~short, clock.str.zfill(6).str.replace(r"^(\d\d)(\d\d)(\d\d)$", r"\1:\2:\3", regex=True))
        text = text + " " + clock
    parsed = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
    if parsed.isna().any():
        other = pd.to_datetime(text[parsed.isna()], utc=True, errors="coerce", format="mixed")
        parsed = parsed.fillna(other)
    return _epoch_ms(parsed)


def _looks_like_yyyymmdd(numbers: np.ndarray[Any, Any]) -> bool:
    return bool(len(numbers)) and bool(((numbers >= 19000101) & (numbers <= 21001231)).all())


def _epoch_ms(times: pd.Series[Any]) -> np.ndarray[Any, Any]:
    values = times.dt.tz_localize(None).to_numpy("datetime64[ms]")
    return np.where(np.isnat(values), np.nan, values.astype(np.int64).astype(float))


def _timeframe_of(bars: pd.DataFrame, path: Path) -> str:
    """The commonest positive step between a symbol's bars."""
    steps = bars.groupby("symbol", sort=False)["start_ms"].diff().dropna()
    steps = steps[steps > 0]
    if not len(steps):
        raise ValueError(
            f"{path.name}: too few bars to tell their timeframe; pass timeframe, one of " + ", ".join(TIMEFRAME_MS)
        )
    step = int(steps.mode().iloc[0])
    for name, length in TIMEFRAME_MS.items():
        if length == step:
            return name
    raise ValueError(f"{path.name}: bars are {step} ms apart; pass timeframe, one of {', '.join(TIMEFRAME_MS)}")
