"""The families TA-Lib has nothing for, against slow oracles from their definitions."""

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from tests.support.series import DAY, MINUTE, daily, walk
from udfs.kernel.compiler import FeatureConfig, Kernel

KERNEL = Kernel()
SEED = """rsi_14 rsi_overbought rsi_oversold rsi_momentum macd macd_signal macd_histogram macd_cross_bullish
macd_cross_bearish bb_position bb_squeeze bb_breakout_upper bb_breakout_lower stoch_k stoch_d stoch_overbought
stoch_oversold adx strong_trend ma_5 price_vs_ma_5 ma_5_slope ma_10 price_vs_ma_10 ma_10_slope ma_20 price_vs_ma_20
ma_20_slope ma_50 price_vs_ma_50 ma_50_slope ma_200 price_vs_ma_200 ma_200_slope momentum_1 momentum_3 momentum_5
momentum_10 distance_to_52w_high distance_to_52w_low volume_vs_ma_5 volume_vs_ma_10 volume_vs_ma_20 vpt obv obv_trend
volatility_5d volatility_10d volatility_20d true_range atr_14 atr_position unusual_call_volume unusual_put_volume
put_call_ratio iv_rank iv_percentile news_sentiment_1h news_sentiment_24h news_volume_1h news_volume_24h current_price
session minutes_to_close bar_age_ms"""


def run(bars, kernel=KERNEL):
    _, out, quality = kernel.compute(kernel.new_states(1), np.zeros(len(bars), np.int64), bars)
    return {n: out[:, i] for i, n in enumerate(kernel.names)}, {
        n: quality[:, i].tobytes().decode() for i, n in enumerate(kernel.names)
    }


def test_the_catalogue_has_every_feature_of_the_first_design():
    assert set(SEED.split()) <= set(KERNEL.names)


@pytest.mark.parametrize("name", ["AAPL", "walk"])
def test_derived_outputs_equal_their_definitions(name):
    bars = walk(1200) if name == "walk" else daily()[name]
    out, _ = run(bars)
    high, low, close, volume = (bars[:, i] for i in range(3, 7))
    rsi, macd, signal = out["rsi_14"], out["macd"], out["macd_signal"]
    year = 365 * 24 * 60 if name == "walk" else 252
    expect = {
        "rsi_overbought": rsi > 70,
        "rsi_oversold": rsi < 30,
        "rsi_momentum": rsi - np.r_[[np.nan] * 5, rsi[:-5]],
        "macd_cross_bullish": np.r_[False, (macd > signal)[1:] & (macd <= signal)[:-1]],
        "macd_cross_bearish": np.r_[False, (macd < signal)[1:] & (macd >= signal)[:-1]],
        "stoch_overbought": out["stoch_k"] > 80,
        "stoch_oversold": out["stoch_k"] < 20,
        "strong_trend": out["adx"] > 25,
        "vpt": volume * np.r_[np.nan, np.diff(close) / close[:-1]],
        "obv_trend": out["obv"] - np.r_[[np.nan] * 5, out["obv"][:-5]],
        "atr_position": (close - low) / out["atr_14"],
        "current_price": close,
    }
    for n in (5, 10, 20, 50, 200):
        mean = np.r_[[np.nan] * (n - 1), np.lib.stride_tricks.sliding_window_view(close, n).mean(1)]
        before = np.r_[[np.nan] * 5, mean[:-5]]
        expect |= {f"price_vs_ma_{n}": (close - mean) / mean, f"ma_{n}_slope": (mean - before) / before}
    for n in (5, 10, 20):
        mean = np.lib.stride_tricks.sliding_window_view(volume, n).mean(1)
        with np.errstate(all="ignore"):
            expect[f"volume_vs_ma_{n}"] = volume / np.r_[[np.nan] * (n - 1), mean]
        returns = np.lib.stride_tricks.sliding_window_view(np.diff(np.log(close)), n - 1)
        expect[f"volatility_{n}d"] = np.r_[[np.nan] * (n - 1), returns.std(1) * np.sqrt(year)]
    five = np.lib.stride_tricks.sliding_window_view(close, 5)
    middle, width = np.r_[[np.nan] * 4, five.mean(1)], np.r_[[np.nan] * 4, 2 * five.std(1)]
    expect |= {
        "bb_squeeze": 2 * width / middle < 0.1,
        "bb_breakout_upper": close > middle + width,
        "bb_breakout_lower": close < middle - width,
    }
    for column, values in expect.items():
        sound = ~np.isnan(out[column])
        assert sound.sum() > 0.8 * (len(bars) - 210), column
        np.testing.assert_allclose(out[column][sound], values[sound], rtol=1e-9, atol=1e-12, err_msg=column)
    assert np.nanmax(high) > 0


@pytest.mark.parametrize(("step", "calendar"), [(DAY, 2), (DAY, 1), (7 * 3_600_000, 1)])
def test_52_weeks_are_calendar_days(step, calendar):
    bars = walk(1500, 3, step)
    bars[:, 0] -= bars[0, 0] % DAY
    bars[:, 1] = bars[:, 0] + step
    bars = bars[np.random.default_rng(1).random(1500) > 0.3]
    bars[:, 8] = calendar
    out, _ = run(bars)
    day = np.floor((bars[:, 0] - (4 * 3_600_000 if calendar == 2 else 0)) / DAY)
    for i in range(0, len(bars), 7):
        window = (day > day[i] - 364) & (np.arange(len(bars)) <= i)
        high, low = bars[window, 3].max(), bars[window, 4].min()
        assert out["distance_to_52w_high"][i] == (bars[i, 5] - high) / high
        assert out["distance_to_52w_low"][i] == (bars[i, 5] - low) / low


def test_the_year_is_kept_to_1e9_for_any_price():
    bars = walk(900, 5, DAY)
    bars[:, 2:6] *= np.pi / 300
    out, _ = run(bars)
    day = np.floor(bars[:, 0] / DAY)
    for i in range(364, 900, 11):
        high = bars[(day > day[i] - 364) & (day <= day[i]), 3].max()
        assert abs(out["distance_to_52w_high"][i] - (bars[i, 5] - high) / high) < 1e-9


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize(
    ("start", "session", "minutes"),
    [
        ("2024-03-08T14:30:00", 2, 389),  # a Friday, 09:30 New York
        ("2024-03-08T20:59:00", 2, 0),
        ("2024-03-08T21:00:00", 3, 3 * 24 * 60 - 60 - 1),  # to Monday's close, an hour of sleep lost on the way
        ("2024-03-08T13:00:00", 1, 479),
        ("2024-03-09T15:00:00", 0, 2 * 24 * 60 + 299),  # a Saturday; clocks change on Sunday
        ("2024-03-11T13:30:00", 2, 389),  # 09:30 New York, summer time
        ("2024-11-29T17:30:00", 2, 29),  # a half day: closes at 13:00
        ("2024-07-04T15:00:00", 0, 24 * 60 + 299),  # a holiday
    ],
)
def test_sessions_follow_the_exchange(start, session, minutes):
    at = moment(start)
    bars = np.array([[at, at + MINUTE, 1, 1, 1, 1, 1, 0, 2]])
    out, _ = run(bars)
    assert out["session"][0] == session
    assert out["minutes_to_close"][0] == minutes


def test_round_the_clock_nothing_closes():
    out, quality = run(walk(3))
    assert out["session"].tolist() == [2, 2, 2]
    assert quality["minutes_to_close"] == "zzz"
    assert quality["bar_age_ms"] == "w.."
    assert out["bar_age_ms"][1:].tolist() == [0, 0]


def minutes_of(days, calendar=2):
    """390 minutes of each session day, and their closes."""
    starts = np.concatenate([moment(f"{d}T14:30:00") + MINUTE * np.arange(390) for d in days])
    bars = walk(len(starts))
    bars[:, 0], bars[:, 1], bars[:, 8] = starts, starts + MINUTE, calendar
    return bars


def test_nights_and_weekends_are_no_gap_but_missing_days_are():
    usual = minutes_of(["2024-01-11", "2024-01-12", "2024-01-16"])  # the 15th is a holiday
    _, quality = run(usual)
    assert "g" not in "".join(quality.values())
    holed = minutes_of(["2024-01-11", "2024-01-12", "2024-01-18"])
    _, quality = run(holed)
    assert quality["ma_200"][780:1000] == "g" * 199 + "." * 21
    assert quality["momentum_1"][779:783] == ".g.."
    assert "g" not in quality["current_price"]
    _, quality = run(np.delete(usual, slice(500, 600), 0))
    assert "g" not in quality["ma_200"], "a hundred quiet minutes are no gap"


def test_zero_and_missing_volume_and_constant_prices():
    bars = walk(300)
    bars[100:130, 6] = 0
    bars[200, 6] = np.nan
    bars[250:290, 2:6] = bars[249, 5]
    out, quality = run(bars)
    assert set(quality["volume_vs_ma_20"][119:130]) == {"z"}
    assert out["volume_vs_ma_20"][118] == 0.0
    assert quality["volume_vs_ma_5"][199:206] == ".mmmmm."
    assert (quality["obv"][200], quality["vpt"][200], quality["obv_trend"][200]) == ("m", "m", "m")
    assert out["obv"][201] - out["obv"][199] in (-bars[201, 6], 0, bars[201, 6])
    assert set(quality["bb_position"][254:290]) == {"z"}
    assert quality["stoch_k"][260:290] == "z" * 30
    assert out["volatility_20d"][275] == 0.0


def test_rsi_and_adx_are_undefined_while_nothing_moves():
    bars = walk(60)
    bars[:, 2:6] = 10.0
    _, quality = run(bars)
    assert quality["rsi_14"] == "w" * 14 + "z" * 46
    assert quality["adx"] == "w" * 27 + "z" * 33


@pytest.mark.parametrize("ratio", [4.0, 3.0, 0.1])
def test_an_announced_split_equals_adjusted_history(ratio):
    bars = walk(900, 2, 8 * 3_600_000)
    bars[:, 0] -= bars[0, 0] % DAY
    bars[:, 1] = bars[:, 0] + 8 * 3_600_000
    # Off the price grid: which of two equal moves is larger depends on rounding, and ADX looks at that.
    bars[:, 3] += np.random.default_rng(0).uniform(0, 0.01, 900)
    bars[:, 4] -= np.random.default_rng(1).uniform(0, 0.01, 900)
    at = bars[500, 0]
    raw = bars.copy()
    raw[500:, 2:6] /= ratio
    raw[500:, 6] *= ratio
    adjusted = bars.copy()
    adjusted[:, 2:6] /= ratio
    adjusted[:, 6] *= ratio
    _, expected, mask = KERNEL.compute(KERNEL.new_states(1), np.zeros(900, np.int64), adjusted)
    states, zeros = KERNEL.new_states(1), np.zeros(900, np.int64)
    KERNEL.compute(states, zeros[:450], raw[:450])
    assert KERNEL.split(states, zeros[:1], np.array([[at, ratio]])).tolist() == [0]
    assert KERNEL.split(states, zeros[:1], np.array([[at, ratio]])).tolist() == [2]
    KERNEL.compute(states, zeros[450:500], raw[450:500])
    wrong = raw[500].copy()
    wrong[3] *= 1.5
    KERNEL.compute(states, zeros[:1], wrong[None])
    raw[500, 7] = 1
    _, out, quality = KERNEL.compute(states, zeros[500:], raw[500:])
    assert quality.tobytes() == mask[500:].tobytes()
    np.testing.assert_allclose(out, expected[500:], rtol=1e-9, atol=1e-9)
    late = KERNEL.split(states, zeros[:1], np.array([[at, ratio]]))
    assert late.tolist() == [3]
    _, _, quality = KERNEL.compute(states, zeros[:1], walk(901, 2, 8 * 3_600_000)[900:] + np.r_[[1e9, 1e9], [0.0] * 7])
    assert chr(quality[0, KERNEL.column_of("rsi_14")]) == "g"


def test_thresholds_and_lookbacks_are_data():
    parameters = {"rsi": {"period": 7, "overbought": 60.0}}
    config = FeatureConfig((3, 7), ("averages", "rsi"), parameters)
    kernel = Kernel(FeatureConfig.from_json(msgspec.json.encode(config)))
    assert kernel.feature_set_hash == Kernel(config).feature_set_hash != KERNEL.feature_set_hash
    out, _ = run(walk(100), kernel)
    assert "ma_7_slope" in out
    assert "ma_200" not in out
    sound = ~np.isnan(out["rsi_7"])
    assert np.array_equal(out["rsi_overbought"][sound], out["rsi_7"][sound] > 60)
