"""The decision rules over random inputs: what must hold of every signal, whatever the market."""

import math
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import TIMEFRAME_MS, Signal, decode, encode
from models.signals.decide import HORIZONS, NoSignal, decide, horizon_of, minimum_tier, profiles, signal_id
from models.trade.calendar import calendar
from models.trade.levels import levels, risk_per_atr

ACTIONS = ("buy", "sell", "hold")
prices = st.floats(1.0, 1e5)
parts = st.floats(1e-6, 0.05)  # ATR as a share of the price
confidences = st.floats(0.0, 1.0)
horizons = st.sampled_from(HORIZONS)
times = st.integers(1_000_000_000_000, 1_800_000_000_000)
FEATURES = {"rsi_14": 50.0, "macd": 0.1, "volume_vs_ma_20": 1.0}


def make(**changes):
    given_ = {
        "symbol": "AAPL",
        "timeframe": "1d",
        "end_ms": 1_078_520_400_000,
        "price": 100.0,
        "atr": 2.0,
        "action": "buy",
        "confidence": 0.72,
        "votes": {"xgboost_swing": ("buy", 0.72)},
        "features": FEATURES,
    }
    return decide(**{**given_, **changes})


@given(prices, parts, horizons)
@settings(deadline=None)
def test_levels_are_mirrored_on_the_right_side_and_pay_two_to_one(price, part, horizon):
    price = round(price, 2)
    atr = price * part
    target, stop = levels("buy", price, atr, horizon, "1d")
    low, high = levels("sell", price, atr, horizon, "1d")
    assert stop < price < target
    assert low < price < high
    assert target - price == pytest.approx(price - low, abs=0.011)
    assert price - stop == pytest.approx(high - price, abs=0.011)
    # each level is rounded to a cent: the reward is twice the risk to within one and a half cents
    assert target - price == pytest.approx(2 * (price - stop), abs=0.0151 + 1e-9 * price)
    for level in (target, stop, low, high):
        assert Decimal(repr(level)) == round(Decimal(repr(level)), 2)


@given(prices, parts, horizons)
@settings(deadline=None)
def test_risk_is_the_multiple_of_the_atr(price, part, horizon):
    multiple = {"1d": 1.5, "3d": 2.0, "1w": 3.0, "2w": 3.0}[horizon]
    price, atr = round(price, 2), price * part
    _, stop = levels("buy", price, atr, horizon, "1d")
    assert price - stop == pytest.approx(max(atr * multiple, 0.01), abs=0.00501 + 1e-9 * price)


@given(prices, st.sampled_from((0.01, 0.05, 0.25, 0.0001)), parts)
@settings(deadline=None)
def test_levels_are_multiples_of_the_tick(price, tick, part):
    for action in ("buy", "sell"):
        for level in levels(action, price, price * part, "3d", "1d", tick):
            assert abs(level / tick - round(level / tick)) < 1e-6 * max(1.0, level / tick * 1e-3)


def test_a_short_bar_has_its_range_scaled_to_a_day():
    assert risk_per_atr("1d", "1m") == pytest.approx(1.5 * math.sqrt(390))
    assert risk_per_atr("1d", "1d") == 1.5
    assert risk_per_atr("1d", "1h", session_ms=86_400_000) == pytest.approx(1.5 * math.sqrt(24))


def test_an_atr_of_a_fraction_of_a_tick_still_leaves_a_tick():
    assert levels("buy", 100.0, 1e-6, "1d", "1d") == (100.02, 99.99)
    assert levels("sell", 100.0, 1e-6, "1d", "1d") == (99.98, 100.01)
    target, stop = levels("buy", 100.004, 1e-6, "1d", "1d")
    assert stop < 100.004 < target


@given(
    st.sampled_from(ACTIONS),
    confidences,
    prices,
    parts,
    times,
    st.sampled_from(sorted(TIMEFRAME_MS)),
    st.sampled_from(("XNYS", "24/7")),
)
@settings(deadline=None)
def test_every_signal(action, confidence, price, part, end_ms, timeframe, market):
    signal = make(
        action=action,
        confidence=confidence,
        price=price,
        atr=price * part / 100,
        end_ms=end_ms,
        timeframe=timeframe,
        calendar=calendar(market),
    )
    assert isinstance(signal, Signal), signal
    assert set(signal.risk_profiles) == {"conservative", "moderate", "aggressive"}
    for profile in signal.risk_profiles.values():
        assert 0.0 <= profile.confidence <= 1.0
        assert profile.expires_ms > end_ms
        side = {"buy": 1, "sell": -1, "hold": 0}[profile.action]
        if side:
            assert side * (profile.target_price - price) > 0
            assert side * (price - profile.stop_loss) > 0
        else:
            assert (profile.target_price, profile.stop_loss) == (price, price)
    moderate = signal.risk_profiles["moderate"]
    assert (moderate.action, moderate.confidence, moderate.time_horizon) == (action, confidence, signal.time_horizon)
    assert (moderate.target_price, moderate.stop_loss) == (signal.target_price, signal.stop_loss)
    assert signal.created_ms == end_ms
    assert decode(encode(signal), Signal) == signal


@pytest.mark.parametrize("bad", [None, 0.0, -1.0, math.nan, math.inf])
def test_no_signal_without_price_or_atr(bad):
    assert make(price=bad).reason == "no_price"
    assert make(atr=bad).reason == "no_atr"


@pytest.mark.parametrize("name", sorted(FEATURES))
@pytest.mark.parametrize("value", [None, math.nan])
def test_no_signal_without_what_explains_it(name, value):
    assert make(features={**FEATURES, name: value}) == NoSignal("missing_feature", name)


def test_no_signal_without_a_model_and_the_failed_ones_are_named():
    refused = make(votes={}, skipped={"neural_net": "file is missing"})
    assert (refused.reason, refused.detail) == ("no_models", "neural_net: file is missing")


def test_no_signal_when_a_level_would_not_be_a_price():
    assert make(price=1.0, atr=0.5, action="sell", confidence=0.9).reason == "level_not_positive"


def test_no_signal_where_the_calendar_does_not_reach():
    assert make(end_ms=-5_000_000_000_000).reason == "outside_calendar"


def test_confidence_must_be_normalised():
    with pytest.raises(ValueError, match=r"confidence 1\.2 of AAPL"):
        make(confidence=1.2)


@pytest.mark.parametrize(
    ("confidence", "horizon", "tier"),
    [
        (0.81, "1d", "premium"),
        (0.8, "3d", "premium"),
        (0.61, "3d", "premium"),
        (0.6, "1w", "premium"),
        (0.5999, "1w", "free"),
        (0.0, "1w", "free"),
    ],
)
def test_horizon_and_tier(confidence, horizon, tier):
    assert horizon_of(confidence) == horizon
    assert minimum_tier(confidence) == tier


@pytest.mark.parametrize(
    ("action", "confidence", "conservative", "aggressive"),
    [
        ("buy", 0.9, ("buy", 0.72, "1d"), ("buy", 0.95, "1d")),
        ("sell", 0.75, ("sell", 0.6, "3d"), ("sell", 0.9, "1d")),
        ("sell", 0.69, ("hold", 0.5, "3d"), ("sell", 0.828, "1d")),
        ("buy", 0.5, ("hold", 0.5, "1w"), ("buy", 0.6, "3d")),
        ("hold", 0.8, ("hold", 0.64, "3d"), ("hold", 0.8, "1d")),
    ],
)
def test_profiles_worked_by_hand(action, confidence, conservative, aggressive):
    seen = profiles(action, confidence, horizon_of(confidence))
    for name, expected in (("conservative", conservative), ("aggressive", aggressive)):
        assert (seen[name][0], pytest.approx(seen[name][1]), seen[name][2]) == expected
    assert seen["moderate"] == (action, confidence, horizon_of(confidence))


def test_the_same_input_gives_the_same_bytes_but_for_the_wall_clock():
    first, second = make(emitted_ms=1), make(emitted_ms=2)
    assert encode(first) != encode(second)
    assert encode(msgspec.structs.replace(first, emitted_ms=0)) == encode(msgspec.structs.replace(second, emitted_ms=0))


def test_numbers_of_numpy_are_taken():
    plain = make(contributions=[("rsi_14", 35.0, 0.4)])
    exotic = make(
        price=np.float64(100.0),
        atr=np.float64(2.0),
        confidence=np.float64(0.72),
        votes={"xgboost_swing": ("buy", np.float64(0.72))},
        features={name: np.float64(value) for name, value in FEATURES.items()},
        contributions=[("rsi_14", np.float64(35.0), np.float64(0.4))],
    )
    assert encode(exotic) == encode(plain)


def test_an_id_names_its_bar_and_bundle_and_revisions_share_the_stem():
    ids = {
        signal_id(symbol, timeframe, end_ms, revision, bundle)
        for symbol in ("AAPL", "AAP")
        for timeframe in ("1d", "1h")
        for end_ms in (0, 1)
        for revision in (0, 1)
        for bundle in ("a", "b")
    }
    assert len(ids) == 32
    assert len({id_.rsplit("-", 1)[0] for id_ in ids}) == 16


def test_reasoning_says_only_what_holds():
    text = make(
        features={"rsi_14": 35.0, "macd": -0.1, "volume_vs_ma_20": 2.0},
        votes={"a": ("buy", 0.7), "b": ("buy", 0.6), "c": ("hold", 0.6)},
        contributions=[("rsi_14", 35.0, 0.4), ("macd", -0.1, -0.9), ("adx", None, 0.1), ("obv", 5.0, 0.0)],
    ).reasoning
    assert text == (
        "AAPL - RSI indicates oversold conditions. Above-average volume supporting the move. "
        "Strong model consensus (2/3 models bullish). Main features: macd -0.1 (-0.90), rsi_14 35 (+0.40), "
        "adx missing (+0.10). Confidence: 72.0%"
    )
    assert make().reasoning.startswith("AAPL - MACD showing bullish momentum. Strong")
    quiet = make(action="hold", votes={"a": ("hold", 0.7)}).reasoning
    assert quiet == "AAPL - Mixed technical signals. Confidence: 72.0%"
