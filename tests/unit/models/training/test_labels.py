"""Labels against an independent library, against the tracker's own walk, and on bars made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.serving.manifest import LabelSpec
from models.trade import exits
from models.trade.calendar import calendar
from models.trade.expiry import expires_ms
from models.trade.levels import levels
from models.training.labels import BUY, HOLD, SELL, UNKNOWN, SymbolBars, label
from models.training.uniqueness import uniqueness

DAY_MS = 86_400_000
FIXTURE = Path(__file__).parents[3] / "fixtures" / "labels" / "triple_barrier.csv"
ALWAYS = calendar("24/7")


def flat_bars(closes):
    """Bars whose only price is the close."""
    closes = np.asarray(closes, dtype=float)
    starts = np.arange(len(closes), dtype=np.int64) * DAY_MS
    return SymbolBars(starts, starts + DAY_MS, closes, closes, closes, closes)


def test_against_mlfinpy():
    """First touches, bars and average uniqueness of 400 random days as mlfinpy 0.1.2 finds them (see make.py)."""
    expected = pd.read_csv(FIXTURE)
    bars = flat_bars(expected["close"])
    atr = (expected["risk"] * expected["close"] / 3).to_numpy()  # 1w risks 3 ATR
    found = label(bars, atr, LabelSpec(horizon="1w"), "1d", ALWAYS)
    for name, path in (("buy", found.buy), ("sell", found.sell)):
        kinds = expected[f"{name}_kind"].to_numpy()
        assert path.status.tolist() == kinds.tolist()
        ended = kinds > 0
        assert path.exit_index[ended].tolist() == expected[f"{name}_bar"][ended].tolist()
    won_buy, won_sell = expected["buy_kind"] == 1, expected["sell_kind"] == 1
    still_open = (expected["buy_kind"] == 0) | (expected["sell_kind"] == 0)
    wanted = np.where(still_open, UNKNOWN, np.where(won_buy, BUY, np.where(won_sell, SELL, HOLD)))
    assert found.label.tolist() == wanted.tolist()
    last = np.maximum(found.buy.exit_index, found.sell.exit_index)
    weights = uniqueness(np.arange(399), last[:399], 400)
    np.testing.assert_allclose(weights, expected["uniqueness"][:399], rtol=1e-7)


@pytest.mark.parametrize("timeframe", ["1d", "1m"])
@pytest.mark.parametrize("horizon", ["1d", "3d", "1w", "2w"])
def test_a_label_is_what_the_tracker_would_say(horizon, timeframe):
    """Each bar's real signal (its levels, its expiry), walked one bar at a time by the tracker's rule."""
    random = np.random.default_rng(1)
    length = 60_000 if timeframe == "1m" else DAY_MS
    market = calendar("XNYS") if timeframe == "1m" else ALWAYS
    count = 120
    closes = (100 + np.cumsum(random.normal(0, 1.5, count))).round(2)
    opens = np.roll(closes, 1) + random.normal(0, 0.5, count).round(2)
    starts = 1_104_762_600_000 + np.arange(count) * length
    bars = SymbolBars(
        starts,
        starts + length,
        opens,
        np.maximum(opens, closes) + 0.3,
        np.minimum(opens, closes) - 0.3,
        closes,
    )
    atr = np.full(count, 0.05 if timeframe == "1m" else 1.2)
    found = label(bars, atr, LabelSpec(horizon=horizon, expiry_reward=0.1, cost_bps=10), timeframe, market)
    for side, action, path in ((1, "buy", found.buy), (-1, "sell", found.sell)):
        for index in range(0, count, 7):
            target, stop = levels(action, closes[index], atr[index], horizon, timeframe, 0.01, market.session_ms)
            assert (path.target[index], path.stop[index]) == (target, stop)
            until = expires_ms(int(bars.ends[index]), horizon, market)
            status, price = exits.ACTIVE, closes[index]
            for later in range(index + 1, count):
                status, price = exits.check_bar(side, target, stop, *(float(column[later]) for column in bars[2:]))
                if status == exits.ACTIVE and bars.ends[later] >= until:
                    status = exits.EXPIRED
                if status != exits.ACTIVE:
                    break
            assert path.status[index] == status
            assert path.exit_price[index] == price
            pnl = exits.pnl_percent(side, closes[index], price, 10.0)
            assert path.pnl_percent[index] == pytest.approx(pnl)


def by_hand(opens, highs, lows, closes, **spec):
    starts = np.arange(len(closes), dtype=np.int64) * DAY_MS
    bars = SymbolBars(
        starts, starts + DAY_MS, *(np.array(column, dtype=float) for column in (opens, highs, lows, closes))
    )
    return label(bars, np.full(len(closes), 1.0), LabelSpec(**{"horizon": "1d", **spec}), "1d", ALWAYS)


def test_both_barriers_inside_one_bar_are_stopped_and_counted():
    # at 100 with ATR 1: buy 103 / 98.5, sell 97 / 101.5; the second bar holds all four
    found = by_hand([100, 100, 100], [100, 104, 100], [100, 96, 100], [100, 100, 100])
    assert found.buy.status[0] == exits.HIT_STOP
    assert found.buy.exit_price[0] == 98.5
    assert found.sell.exit_price[0] == 101.5
    assert found.buy.both_inside.tolist() == [True, False, False]
    assert found.sell.both_inside.tolist() == [True, False, False]
    assert found.label[0] == HOLD


def test_an_expiry_in_profit_wins_only_if_the_spec_says_so():
    rise = ([100, 100, 101], [100, 101, 101], [100, 100, 101], [100, 101, 101])  # + 1 of 1.5 risked
    assert by_hand(*rise).label[0] == HOLD
    assert by_hand(*rise, expiry_reward=0.5).label[0] == BUY
    assert by_hand(*rise, expiry_reward=0.7).label[0] == HOLD
    assert by_hand(*rise, expiry_reward=0.0, cost_bps=150).label[0] == HOLD  # costs 1.5
    fall = ([100, 100, 99], [100, 100, 99], [100, 99, 99], [100, 99, 99])
    assert by_hand(*fall, expiry_reward=0.5).label[0] == SELL


def test_what_is_not_over_is_unknown_and_no_atr_gives_no_label():
    found = by_hand([100, 100], [100, 101], [100, 99.5], [100, 100])
    assert found.label[1] == UNKNOWN
    bars = flat_bars([100, 101, 102])
    silent = label(bars, np.array([np.nan, 1, 1]), LabelSpec(horizon="1d"), "1d", ALWAYS)
    assert silent.label[0] == UNKNOWN
    assert np.isnan(silent.buy.reward[0])


def test_a_split_is_no_profit_that_anyone_had():
    """Unadjusted halving: rows whose path crosses it are left out of the training rows."""
    import msgspec

    from models.training.config import SIXTEEN, TrainConfig
    from models.training.data import prepare

    closes = np.concatenate([np.full(100, 100.0), np.full(100, 50.0)]) + np.tile([0.0, 0.3], 100)
    bars = flat_bars(closes)
    frame = pd.DataFrame(dict(zip(("start_ms", "end_ms", "open", "high", "low", "close"), bars, strict=True)))
    frame["symbol"], frame["volume"] = "SPLT", 1.0
    features = frame[["symbol", "start_ms"]].assign(**dict.fromkeys(SIXTEEN, 1.0))
    config = TrainConfig(name="x", timeframe="1d", cutoff="1980-01-01", market="24/7")
    data = prepare(config, frame, features)
    crossing = (data.start_ms < 100 * DAY_MS) & (data.exit_ms > 100 * DAY_MS)
    assert data.counts["crossed_a_jump"] > 60
    assert not crossing.any()
    blind = prepare(msgspec.structs.replace(config, jump_max=9.0), frame, features)
    assert blind.counts["crossed_a_jump"] == 0
    assert np.abs(blind.rewards).max() > 10
