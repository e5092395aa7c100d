"""Files of bars as people have them."""

import gzip

import numpy as np
import pandas as pd
import pytest

from connectors.files.bars import read_bars

ROWS = [(1460727000000, 112.11, 112.5, 112.0, 112.06, 2316232.0), (1460727060000, 112.04, 112.1, 112.0, 112.085, 0.0)]


def write(path, header, rows, sep=","):
    text = "\n".join([sep.join(header), *(sep.join(map(str, row)) for row in rows)]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def times(kind):
    stamps = pd.to_datetime([r[0] for r in ROWS], unit="ms")
    return {
        "s": [r[0] // 1000 for r in ROWS],
        "ms": [r[0] for r in ROWS],
        "us": [r[0] * 1000 for r in ROWS],
        "ns": [r[0] * 1_000_000 for r in ROWS],
        "iso": [t.isoformat() for t in stamps],
        "zulu": [t.isoformat() + "Z" for t in stamps],
        "zone": [t.tz_localize("UTC").tz_convert("America/New_York").isoformat() for t in stamps],
        "us_date": [t.strftime("%m/%d/%Y %H:%M:%S") for t in stamps],
    }[kind]


@pytest.mark.parametrize("kind", ["s", "ms", "us", "ns", "iso", "zulu", "zone", "us_date"])
@pytest.mark.parametrize(("name", "sep"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv.gz", ","), ("a.txt", ";")])
def test_times_and_separators(tmp_path, kind, name, sep):
    rows = [(t, *row[1:]) for t, row in zip(times(kind), ROWS, strict=True)]
    bars, mapping, rejects = read_bars(write(tmp_path / name, ["Time", "O", "H", "L", "C", "Vol"], rows, sep))
    assert rejects == []
    assert bars["start_ms"].tolist() == [row[0] for row in ROWS]
    assert bars["end_ms"].tolist() == [row[0] + 60_000 for row in ROWS]
    assert bars[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [list(r[1:]) for r in ROWS]
    assert bars["symbol"].tolist() == ["A", "A"]
    assert mapping == {"start_ms": "Time", "open": "O", "high": "H", "low": "L", "close": "C", "volume": "Vol"}


@pytest.mark.parametrize("suffix", ["parquet", "parquet.gz"])
def test_parquet_with_its_own_types(tmp_path, suffix):
    table = pd.DataFrame(ROWS, columns=["timestamp", "open", "high", "low", "close", "volume"])
    table["timestamp"] = pd.to_datetime(table["timestamp"], unit="ms", utc=True)
    table["ticker"] = ["aapl", "msft"]
    path = tmp_path / f"x.{suffix}"
    table.to_parquet(tmp_path / "plain")
    data = (tmp_path / "plain").read_bytes()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    bars, _, rejects = read_bars(path, timeframe="5m")
    assert rejects == []
    assert bars["symbol"].tolist() == ["AAPL", "MSFT"]
    assert bars["start_ms"].tolist() == [row[0] for row in ROWS]
    assert (bars["end_ms"] - bars["start_ms"]).tolist() == [300_000] * 2


def test_separate_date_and_clock_and_no_volume(tmp_path):
    rows = [(20160415, 133000, 1, 2, 1, 2), (20160415, 133100, 1, 2, 1, 2)]
    path = write(tmp_path / "ES_1m.csv", ["<DATE>", "<TIME>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>"], rows)
    bars, mapping, _ = read_bars(path)
    assert bars["start_ms"].tolist() == [1460727000000, 1460727060000]
    assert bars["volume"].isna().all()
    assert bars["symbol"].tolist() == ["ES"] * 2
    assert mapping["clock"] == "<TIME>"


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ("x,1,2,1,2,5", "start_ms", "time is not"),
        (",1,2,1,2,5", "start_ms", "time is not"),
        ("1460727120000,,2,1,2,5", "open", "open is empty"),
        ("1460727120000,1,abc,1,2,5", "high", "high is not a number"),
        ("1460727120000,1,2,-1,2,5", "low", "low is not a positive price"),
        ("1460727120000,1,2,0,2,5", "low", "low is not a positive price"),
        ("1460727120000,1,2,1,inf,5", "close", "close is not finite"),
        ("1460727120000,1,2,1,2,-5", "volume", "volume is negative"),
        ("1460727120000,1,0.5,1,2,5", "high", "high 0.5 is below low 1.0"),
        ("1460727120000,1,3,2,2,5", "low", "low 2.0 is above open 1.0"),
        ("1460727120000", "open", "open is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, row, field, reason):
    good = ["1460727000000,1,2,1,2,5", "", "1460727060000,1,2,1,2,5"]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["time,open,high,low,close,volume", *good, row, "1460727180000,1,2,1,2,"]))
    bars, _, rejects = read_bars(path)
    assert bars["line"].tolist() == [2, 4, 6]
    assert np.isnan(bars["volume"].iloc[-1])
    assert [(r.line, r.field, r.raw) for r in rejects] == [(5, field, row)]
    assert rejects[0].reason.startswith(reason)


def test_a_row_with_too_many_fields_keeps_the_first_ones(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,open,high,low,close\n1460727000000,1,2,1,2\n1460727060000,1,2,1,2,9,9\n")
    bars, _, rejects = read_bars(path)
    assert (len(bars), rejects) == (2, [])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="no column for close among 'time', 'open', 'high', 'low'"):
        read_bars(write(tmp_path / "a.csv", ["time", "open", "high", "low"], [(1, 1, 1, 1)]))
    with pytest.raises(ValueError, match="too few bars to tell their timeframe"):
        read_bars(write(tmp_path / "b.csv", ["time", "open", "high", "low", "close"], [(1460727000000, 1, 1, 1, 1)]))
    with pytest.raises(ValueError, match="the file is empty"):
        read_bars(write(tmp_path / "c.csv", [""], []))
    with pytest.raises(ValueError, match="two columns are called 'open'"):
        read_bars(write(tmp_path / "d.csv", ["time", "open", "open", "low", "close"], [(1, 1, 1, 1, 1)]))
    with pytest.raises(FileNotFoundError, match=r"e\.csv: no such file"):
        read_bars(tmp_path / "e.csv")
