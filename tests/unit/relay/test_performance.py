"""Performance against sums done by hand, and risk against plain definitions."""

import itertools
import math
import statistics

from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import Outcome
from relay.performance import CURVE_POINTS_MAX, historical, report
from relay.risk import similar, volatility_percentile


def closed(at: int, pnl: float, status: str = "expired", confidence: float = 0.7, reason: str = "") -> Outcome:
    return Outcome(
        signal_id=f"s{at}", symbol="A" if at % 2 else "B", status=status, entry_price=1, current_price=1,
        target_price=1, stop_loss=1, pnl_percent=pnl, created_ms=0, updated_ms=at, confidence=confidence, bundle="b",
        exit_reason=reason or status, votes={"forest": "buy", "net": "sell" if at % 2 else "buy"},
    )  # fmt: skip


def test_a_report_by_hand():
    told = report([
        closed(1, 4.0, "hit_target", 0.83), closed(2, -2.0, "hit_stop", 0.81), closed(3, -1.0, "expired", 0.55),
        closed(4, 6.0, "hit_target", 0.57), closed(5, 1.0, "active", 0.9),
    ])  # fmt: skip
    assert told["total"]["signals"] == 4
    assert told["total"]["hit_rate"] == 0.5
    assert told["total"]["average_pnl_percent"] == 1.75
    assert told["curve"] == [[1, 4.0], [2, 2.0], [3, 1.0], [4, 7.0]]
    assert told["drawdown_percent"] == 3.0
    assert {row["key"]: row["signals"] for row in told["by_reason"]} == {"expired": 1, "hit_stop": 1, "hit_target": 2}
    assert {row["key"]: row["hit_rate"] for row in told["by_symbol"]} == {"A": 0.5, "B": 0.5}
    assert {row["key"]: (row["signals"], row["hit_rate"]) for row in told["by_vote"]} == {
        "forest": (4, 0.5), "net": (2, 0.5),
    }  # fmt: skip
    assert told["total"]["win_rate"] == 0.5
    assert [(row["bucket"], row["win_rate"], row["count"]) for row in told["reliability"]] == [
        ("0.5-0.6", 0.5, 2),
        ("0.8-0.9", 0.5, 2),
    ]
    assert math.isclose(told["reliability"][1]["confidence"], 0.82)


def test_a_signal_that_was_revised_or_cancelled_counts_nowhere():
    real = [closed(1, 4.0, "hit_target"), closed(4, -2.0, "expired")]
    void = [closed(2, 0.0, "expired", reason="revised"), closed(3, 0.0, "expired", reason="cancelled")]
    assert report([*real, *void]) == report(real)
    assert historical([*real, *void]) == historical(real)
    assert historical(real).expired == 1
    assert historical([]).hit_rate is None
    assert similar("buy", "1d", [*real, *void]) == similar("buy", "1d", real)


def test_nothing_closed_is_not_a_division_by_zero():
    told = report([])
    assert told["total"]["hit_rate"] is None
    assert told["curve"] == []


def test_a_long_curve_is_thinned_and_keeps_its_end():
    told = report([closed(n, 1.0) for n in range(3_000)])
    assert len(told["curve"]) == CURVE_POINTS_MAX
    assert told["curve"][-1] == [2_999, 3_000.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-50, 50), max_size=30))
def test_drawdown_is_the_worst_fall_between_any_two_moments(results):
    levels = [0.0]
    for result in results:
        levels.append(levels[-1] + result)
    worst = max((a - b for i, a in enumerate(levels) for b in levels[i:]), default=0.0)
    assert math.isclose(report([closed(n, r) for n, r in enumerate(results)])["drawdown_percent"], worst, abs_tol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=39, max_size=80))
def test_volatility_percentile_is_a_rank_of_deviations(returns):
    closes = [100.0]
    for value in returns:
        closes.append(closes[-1] * math.exp(value))
    found = [math.log(b / a) for a, b in itertools.pairwise(closes)]
    deviations = [statistics.pvariance(found[i - 20 : i]) for i in range(20, len(found) + 1)]
    told = volatility_percentile([(n, 0.0, 0.0, 0.0, close, 0.0, 0) for n, close in enumerate(closes)])
    lower = sum(d < deviations[-1] * (1 - 1e-9) - 1e-18 for d in deviations) + 1
    upper = sum(d <= deviations[-1] * (1 + 1e-9) + 1e-18 for d in deviations)
    assert told is not None
    assert 100 * lower / len(deviations) - 1e-9 <= told <= 100 * upper / len(deviations) + 1e-9


def test_too_few_bars_have_no_percentile():
    assert volatility_percentile([(n, 0.0, 0.0, 0.0, 1.0, 0.0, 0) for n in range(39)]) is None
