"""``signals train``: from a file of bars to a bundle that the job accepts, in one command, the same every time."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from models.serving.bundle import load_bundle
from models.serving.feature_set import families_hash
from udfs.kernel.catalogue import FeatureConfig, feature_set

CONFIG = """
name = "tiny"
timeframe = "1d"
market = "24/7"
bars = "bars.csv"
cutoff = "2006-06-01"
folds = 1
reference_rows = 64
[label]
horizon = "3d"
expiry_reward = 0.0
[parameters.xgboost_swing]
rounds = 3
[parameters.lightgbm_day]
rounds = 3
[parameters.neural_net]
epochs = 2
[parameters.random_forest]
trees = 4
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a config and 700 days of two symbols, one row of them broken."""
    random = np.random.default_rng(0)
    parts = []
    for symbol in ("AAA", "BBB"):
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, 700)))
        days = pd.date_range("2005-01-01", periods=700).strftime("%Y-%m-%d")
        parts.append(
            pd.DataFrame(
                {
                    "Ticker": symbol,
                    "Date": days,
                    "Open": close,
                    "High": close * 1.01,
                    "Low": close * 0.99,
                    "Close": close,
                }
            ).assign(Volume=random.integers(1_000, 9_000, 700))
        )
    bars = pd.concat(parts)
    bars.iloc[650, bars.columns.get_loc("High")] = 1.0
    bars.to_csv(tmp_path / "bars.csv", index=False)
    (tmp_path / "tiny.toml").write_text(CONFIG)
    return tmp_path


def train(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_bars_to_a_bundle_with_its_report(place):
    said = train(place / "tiny.toml", "--out", place / "one")
    assert said.exit_code == 0, said.output
    assert "line 652: high 1.0 is below low" in said.output
    assert "1,399 bars of 2 symbols, 1 rejected" in said.output
    assert "than taking the same side on every bar" in said.output
    bundle = load_bundle(place / "one")
    job = feature_set(FeatureConfig())
    assert bundle.manifest.feature_set_hash == job.hash
    assert bundle.manifest.families == {
        name: identity for name, identity in job.families.items() if name in bundle.manifest.families
    }
    assert {"rsi", "macd", "volatility"} <= bundle.manifest.families.keys() < job.families.keys()
    assert bundle.feature_set_hash == families_hash(bundle.manifest.families)
    assert "<svg" in (place / "one.html").read_text()
    again = train(place / "tiny.toml", "--out", place / "two")
    assert again.exit_code == 0
    for file in (place / "one").iterdir():
        assert (place / "two" / file.name).read_bytes() == file.read_bytes()
    bundle.close()


def test_what_is_wrong_is_named(place):
    absent = train("nothing-like-it")
    assert absent.exit_code == 2
    assert "no config 'nothing-like-it'" in absent.output
    assert "daily-swing, minute-day" in absent.output
    assert "names no bars: give --bars FILE" in train("minute-day").output
    early = train(place / "tiny.toml", "--cutoff", "1990-01-01", "--out", place / "none")
    assert early.exit_code == 2
    assert "0 usable rows before the cut-off 1990-01-01" in early.output
    assert not (place / "none").exists()
