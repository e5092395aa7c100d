"""The commands over files, as a user runs them."""

import json

import msgspec
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from cli.outcomes import register
from models.events import Halt
from models.messages import Bar, Outcome, Signal, decode, encode
from models.signals.hash_chain import record_hash, seal

DAY = 86_400_000
BASE = 12_000 * DAY


@pytest.fixture
def run():
    app = typer.Typer()
    register(app)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(part) for part in arguments])

    return invoke


def bars():
    prices = [(100, 102, 99, 101), (101, 107, 100, 106), (104, 105, 96, 97), (97, 98, 90, 91)]
    return [
        Bar(symbol="A", timeframe="1d", start_ms=BASE + i * DAY, end_ms=BASE + (i + 1) * DAY, open=float(o),
            high=float(h), low=float(low), close=float(c), volume=1.0)
        for i, (o, h, low, c) in enumerate(prices)
    ]  # fmt: skip


def signals():
    plain = [
        Signal(
            signal_id=f"s{i}-0", symbol="A", timeframe="1d", action=action, confidence=0.7, entry_price=100.0,
            target_price=target, stop_loss=stop, time_horizon="3d", created_ms=BASE + created, emitted_ms=1,
            expires_ms=BASE + created + 3 * DAY, reasoning="", model_votes={"m": (action, 0.7)},
        )
        for i, (action, target, stop, created) in enumerate(
            [
                ("buy", 106.0, 97.0, 0),
                ("sell", 94.0, 103.0, 0),
                ("sell", 94.0, 103.0, 2 * DAY),
                ("buy", 200.0, 50.0, 3 * DAY),
            ]
        )
    ]  # fmt: skip
    out, previous = [], ""
    for one in plain:
        out.append(seal(one, previous))
        previous = record_hash(out[-1])
    return out


EXPECTED = {
    "s0-0": ("hit_target", 6.0),  # 107 in the second bar
    "s1-0": ("hit_stop", -3.0),  # 107 again
    "s2-0": ("hit_stop", -4.0),  # opens at 104, beyond its stop
    "s3-0": ("active", -9.0),  # the bars end
}


def write(path, messages):
    path.write_bytes(b"".join(encode(one) + b"\n" for one in messages))
    return path


def read(path):
    if path.suffix == ".jsonl":
        return [decode(line, Outcome) for line in path.read_bytes().splitlines()]
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    return [msgspec.convert(row, Outcome, strict=False) for row in
            table[["signal_id", "symbol", "status", "entry_price", "current_price", "target_price", "stop_loss",
                   "pnl_percent", "created_ms", "updated_ms"]].astype(object).to_dict("records")]  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_outcomes_of_files_of_every_kind(run, tmp_path, kind):
    bar_file, signal_file, out = (tmp_path / f"{name}.{kind}" for name in ("bars", "signals", "out"))
    if kind == "jsonl":
        write(bar_file, bars())
        write(signal_file, signals())
    else:
        names = ["symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume"]
        table = pd.DataFrame([{name: getattr(one, name) for name in names} for one in bars()])
        names = [
            "signal_id",
            "symbol",
            "action",
            "entry_price",
            "target_price",
            "stop_loss",
            "created_ms",
            "expires_ms",
        ]
        made = pd.DataFrame([{name: getattr(one, name) for name in names} for one in signals()])
        for frame, path in ((table, bar_file), (made, signal_file)):
            frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    result = run("outcomes", "--bars", bar_file, "--signals", signal_file, "--out", out)
    assert result.exit_code == 0, result.output
    got = {one.signal_id: (one.status, pytest.approx(one.pnl_percent, abs=1e-12)) for one in read(out)}
    assert got == EXPECTED
    assert "4 signals, 4 bars -> 4 outcomes" in result.output
    assert "finished 3 (1 stop, 1 stop_gap, 1 target), active 1, void 0" in result.output


def test_updates_costs_and_splits(run, tmp_path):
    bar_file, signal_file = write(tmp_path / "b.jsonl", bars()), write(tmp_path / "s.jsonl", signals())
    out, splits = tmp_path / "o.jsonl", tmp_path / "splits.csv"
    recorded = tmp_path / "status.jsonl"
    splits.write_text(f"symbol,effective_ms,ratio\nA,{BASE + DAY},2\n")
    recorded.write_bytes(
        encode(Halt(symbol="A", timestamp_ms=BASE)) + b"\n\n"
        b'{"symbol":"A","timestamp_ms":5,"kind":"split","detail":'
        b'{"split_to":2,"split_from":1,"effective_ms":%d}}\n' % (BASE + DAY)
    )
    arguments = ["outcomes", "--bars", bar_file, "--signals", signal_file, "--out", out, "--cost-bps", 10, "--updates"]
    assert run(*arguments).exit_code == 0
    assert len(read(out)) == 6
    assert read(out)[-1].pnl_percent == pytest.approx(-9.1)
    for file in (splits, recorded):  # a table, or the status topic as it was recorded
        assert run(*arguments, "--splits", file).exit_code == 0
        # after a 2-for-1 split the second bar opens at 202 in the old units: through the target of the first buy
        assert {one.signal_id: one.exit_price for one in read(out)}["s0-0"] == 202.0
    splits.write_text(f"symbol,effective_ms,ratio\nA,{BASE + DAY},2\nA,{BASE + DAY},0\n")
    refused = run(*arguments, "--splits", splits)
    assert (refused.exit_code, "line 3" in refused.output, "ratio" in refused.output) == (2, True, True)


def test_what_is_wrong_with_a_file_is_named(run, tmp_path):
    bar_file, signal_file = write(tmp_path / "b.jsonl", bars()), tmp_path / "s.jsonl"
    signal_file.write_text('{"signal_id": "x"}\n')
    result = run("outcomes", "--bars", bar_file, "--signals", signal_file, "--out", tmp_path / "o.jsonl")
    assert result.exit_code == 2
    assert "line 1" in result.output
    assert "symbol" in result.output


def test_signals_without_bars_are_named(run, tmp_path):
    bar_file, signal_file = write(tmp_path / "b.jsonl", bars()[:0]), write(tmp_path / "s.jsonl", signals())
    result = run("outcomes", "--bars", bar_file, "--signals", signal_file, "--out", tmp_path / "o.jsonl")
    assert result.exit_code == 0
    assert "no bars of A 1d" in result.output


def test_performance_prints_tables_and_writes_a_page(run, tmp_path):
    bar_file, signal_file = write(tmp_path / "b.jsonl", bars()), write(tmp_path / "s.jsonl", signals())
    run("outcomes", "--bars", bar_file, "--signals", signal_file, "--out", tmp_path / "o.jsonl")
    result = run("performance", "--outcomes", tmp_path / "o.jsonl", "--html", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "finished 3, active 1, void 0" in result.output
    for name in ("by symbol", "by action", "by horizon", "by bundle", "by vote", "by confidence", "by exit"):
        assert name in result.output
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    only = run("performance", "--outcomes", tmp_path / "o.jsonl", "--by", "symbol").output
    assert "by symbol" in only
    assert "by action" not in only
    assert run("performance", "--outcomes", tmp_path / "o.jsonl", "--by", "colour").exit_code == 2
    assert run("performance").exit_code == 2


def test_verify_record_finds_what_was_done_to_it(run, tmp_path):
    made, heads = signals(), tmp_path / "heads.json"
    whole = write(tmp_path / "whole.jsonl", made)
    result = run("verify-record", "--signals", whole, "--heads", heads, "--save-heads")
    assert result.exit_code == 0, result.output
    assert "4 signals of 1 symbols, 0 repeats" in result.output
    assert json.loads(heads.read_text()) == {"A": record_hash(made[-1])}
    assert run("verify-record", "--signals", whole, "--heads", heads).exit_code == 0
    removed = run("verify-record", "--signals", write(tmp_path / "hole.jsonl", made[:1] + made[2:]))
    assert removed.exit_code == 1
    assert "removed or altered: A s2-0" in removed.output
    better = msgspec.structs.replace(made[1], action="buy")
    altered = run("verify-record", "--signals", write(tmp_path / "altered.jsonl", [made[0], better, *made[2:]]))
    assert altered.exit_code == 1
    assert "removed or altered: A s2-0" in altered.output
    late = msgspec.structs.replace(made[0], signal_id="s9-0", previous=record_hash(made[-1]))  # well linked, but old
    dated = run("verify-record", "--signals", write(tmp_path / "dated.jsonl", [*made, late]))
    assert dated.exit_code == 1
    assert "back-dated: A s9-0" in dated.output
    cut = run("verify-record", "--signals", write(tmp_path / "cut.jsonl", made[:-1]), "--heads", heads)
    assert cut.exit_code == 1
    assert "truncated: A" in cut.output
    assert run("verify-record", "--signals", whole, "--heads", tmp_path / "none.json").exit_code == 2
