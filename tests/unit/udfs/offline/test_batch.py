"""The batch matrix: the input's order, the same bits as bar by bar, side inputs, the command."""

import gzip

import msgspec
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from connectors.files.bars import read_bars
from models.events import Split
from models.messages import News, OptionSummary
from tests.support.series import DAY, walk
from udfs.kernel.compiler import Kernel
from udfs.offline.batch import bars_matrix, features_table, series_of
from udfs.steps.side_inputs import side_input

KERNEL = Kernel()


def table_of(count=3, n=300):
    parts = []
    for i in range(count):
        bars = walk(n, i)
        part = pd.DataFrame(bars[:, 2:7], columns=["open", "high", "low", "close", "volume"])
        part.insert(0, "symbol", f"S{i}USDT")
        part.insert(1, "timeframe", "1m")
        part.insert(2, "start_ms", bars[:, 0].astype(np.int64))
        part.insert(3, "end_ms", bars[:, 1].astype(np.int64))
        parts.append(part)
    mixed = pd.concat(parts).sample(frac=1, random_state=1).sort_values("start_ms", kind="stable")
    return mixed.reset_index(drop=True)


def test_batch_equals_bar_by_bar_in_the_inputs_order():
    table = table_of()
    made = features_table(table, kernel=KERNEL)
    assert list(made.columns) == ["symbol", "timeframe", "start_ms", *KERNEL.names, "quality"]
    assert made["symbol"].tolist() == table["symbol"].tolist()
    assert made["start_ms"].tolist() == table["start_ms"].tolist()
    rows, _ = series_of(table)
    states, bars = KERNEL.new_states(3), bars_matrix(table)
    for i in range(len(table)):
        _, out, quality = KERNEL.compute(states, rows[i : i + 1], bars[i : i + 1])
        assert out[0].tobytes() == made[list(KERNEL.names)].iloc[i].to_numpy(float).tobytes()
        assert bytes(quality[0]).decode() == made["quality"].iloc[i]


def test_side_inputs_and_timeframes_of_one_symbol():
    table = table_of(1, 200)
    hourly = table.iloc[::60].assign(timeframe="1h")
    hourly["end_ms"] = hourly["start_ms"] + 3_600_000
    both = pd.concat([table, hourly], ignore_index=True)
    first = int(table["start_ms"].iloc[0])
    messages = [
        News(symbol="S0USDT", news_id="1", created_ms=first + 600_000, updated_ms=first + 600_000, headline="x"),
        OptionSummary(symbol="S0USDT", timestamp_ms=first + 1_200_000, put_call_ratio=0.75),
        News(symbol="OTHER", news_id="2", created_ms=first, updated_ms=first, headline="x"),
    ]  # fmt: skip
    made = features_table(both, kernel=KERNEL, side_inputs=messages)
    minutes, hours = made[:200], made[200:]
    assert minutes["news_volume_1h"].iloc[:9].isna().all()
    assert minutes["news_volume_1h"].iloc[9:69].tolist() == [1] * 60
    assert minutes["put_call_ratio"].iloc[18:20].fillna(-1).tolist() == [-1, 0.75]
    assert hours["news_volume_1h"].tolist() == [1, 0, 0, 0]
    assert hours["ma_5"].isna().all()


def test_a_split_in_the_batch_leaves_no_jump():
    table = table_of(1, 300)
    at = int(table["start_ms"].iloc[150])
    table.loc[150:, ["open", "high", "low", "close"]] /= 4
    table.loc[150:, "volume"] *= 4
    split = Split(symbol="S0USDT", timestamp_ms=at, ratio=4.0, effective_ms=at)
    plain = features_table(table, kernel=KERNEL)
    adjusted = features_table(table, kernel=KERNEL, side_inputs=[split])
    assert plain["momentum_1"].iloc[150] < -0.7
    assert abs(adjusted["momentum_1"].iloc[150]) < 0.01
    assert side_input(split) is not None


def test_the_command_writes_parquet_and_reports_bad_rows(tmp_path):
    from cli.main import app

    table = table_of(2, 60)[["symbol", "start_ms", "open", "high", "low", "close", "volume"]]
    text = table.to_csv(index=False).splitlines()
    text[5] = text[5].replace(text[5].split(",")[3], "oops")
    source = tmp_path / "bars.csv.gz"
    source.write_bytes(gzip.compress("\n".join(text).encode()))
    aside = tmp_path / "aside.jsonl"
    aside.write_bytes(
        msgspec.json.encode(
            OptionSummary(symbol="S1USDT", timestamp_ms=int(table["start_ms"].iloc[0]), put_call_ratio=2)
        )
    )
    target = tmp_path / "features.parquet"
    arguments = ["features", str(source), "--timeframe", "1m", "--out", str(target), "--side-inputs", str(aside)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "line 6: high is not a number" in result.output
    made = pd.read_parquet(target)
    bars, _, rejects = read_bars(source)
    assert len(made) == len(bars) == 119
    assert [r.line for r in rejects] == [6]
    expected = features_table(bars, kernel=KERNEL)
    same = [c for c in made.columns if c not in ("put_call_ratio", "quality")]
    pd.testing.assert_frame_equal(made[same], expected[same])
    assert set(made.loc[made["symbol"] == "S1USDT", "put_call_ratio"]) == {2.0}
    failed = CliRunner().invoke(app, ["features", str(tmp_path / "no.csv"), "--out", str(target)])
    assert failed.exit_code == 1
    assert "no.csv: no such file" in " ".join(failed.output.split())


def test_bars_without_a_needed_column_say_which():
    with pytest.raises(ValueError, match="no column 'close'"):
        bars_matrix(table_of(1, 5).drop(columns="close"))
    assert DAY > 0
