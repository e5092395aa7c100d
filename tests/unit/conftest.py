"""A small bundle trained once on seeded random bars in which today's momentum tells a little of tomorrow."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from models.serving.bundle import load_bundle, write_bundle
from models.training.config import SIXTEEN, TrainConfig
from models.training.train import train

DAY_MS = 86_400_000
OPEN_MS = 1_104_762_600_000  # 2005-01-03 09:30 New York
QUICK = {
    "xgboost_swing": {"rounds": 6, "max_depth": 3},
    "lightgbm_day": {"rounds": 6, "num_leaves": 6},
    "neural_net": {"hidden": [8], "epochs": 5},
    "random_forest": {"trees": 8, "max_depth": 4},
}


def random_walk(symbol: str, count: int, seed: int) -> pd.DataFrame:
    """Bars on consecutive calendar days (24/7 market), OHLC consistent."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.02, count)))
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(random.normal(0, 0.003, count))
    high = np.maximum(open_, close) * (1 + random.uniform(0, 0.01, count))
    low = np.minimum(open_, close) * (1 - random.uniform(0, 0.01, count))
    start = OPEN_MS + np.arange(count) * DAY_MS
    return pd.DataFrame(
        {
            "symbol": symbol,
            "start_ms": start,
            "end_ms": start + DAY_MS,
            "open": open_.round(2),
            "high": high.round(2) + 0.01,
            "low": low.round(2) - 0.01,
            "close": close.round(2),
            "volume": random.integers(1_000, 9_000, count).astype(float),
        }
    )


def stand_in_features(bars: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Sixteen columns of the right names: a peek at the future in momentum_1, else noise; the first 20 are missing."""
    random = np.random.default_rng(seed)
    found = bars[["symbol", "start_ms"]].copy()
    for name in SIXTEEN:
        found[name] = random.normal(size=len(bars))
    found["momentum_1"] = bars["close"].shift(-4).ffill() / bars["close"] - 1 + random.normal(0, 0.03, len(bars))
    found["atr_14"] = (bars["high"] - bars["low"]).rolling(14).mean()
    found.loc[found.index[:20], list(SIXTEEN)] = np.nan
    found.loc[found.index[30::50], "bb_position"] = np.nan
    return found


@pytest.fixture(scope="session")
def market():
    """(bars, features) of two symbols, 900 days."""
    bars = [random_walk(symbol, 900, seed) for seed, symbol in enumerate(("AAA", "BBB"))]
    features = [stand_in_features(frame, 10 + seed) for seed, frame in enumerate(bars)]
    return pd.concat(bars, ignore_index=True), pd.concat(features, ignore_index=True)


@pytest.fixture(scope="session")
def config():
    return TrainConfig(
        name="quick", timeframe="1d", cutoff="2007-01-01", market="24/7", folds=2, parameters=QUICK, reference_rows=64
    )


@pytest.fixture(scope="session")
def trained(config, market):
    """(manifest, files, extra) of one training run."""
    return train(config, *market, "hash-of-test", step=lambda _: None)


@pytest.fixture
def folder(trained, tmp_path):
    """The bundle on disk, a fresh copy for every test to spoil."""
    manifest, files, _ = trained
    write_bundle(tmp_path / "quick", manifest, files)
    return tmp_path / "quick"


@pytest.fixture
def bundle(folder):
    """The bundle in memory."""
    loaded = load_bundle(folder)
    yield loaded
    loaded.close()


@pytest.fixture
def edit(folder, trained):
    """Rewrites the manifest with other fields, sealed again, as somebody who means it would."""

    def edited(**fields):
        write_bundle(folder, msgspec.structs.replace(trained[0], **fields), {})
        return folder

    return edited
