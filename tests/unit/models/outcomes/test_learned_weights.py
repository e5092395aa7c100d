"""Learned weights follow who was right, within their bounds, and end up in a bundle that loads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import Outcome, Signal
from models.outcomes.learned_weights import FACTOR_MAX, FACTOR_MIN, Verdict, learn, reweighed, verdicts
from models.serving.bundle import load_bundle, write_bundle

EQUAL = {"a": 0.5, "b": 0.5}


def signal(number, action="buy", **votes):
    return Signal(
        signal_id=f"s{number}-0",
        symbol="AAPL",
        timeframe="1d",
        action=action,
        confidence=0.6,
        entry_price=100.0,
        target_price=106.0,
        stop_loss=97.0,
        time_horizon="1d",
        created_ms=number,
        emitted_ms=number,
        expires_ms=number + 1,
        reasoning="",
        model_votes={model: (vote, 0.6) for model, vote in votes.items()},
    )


def outcome(number, status, pnl, revision=0):
    return Outcome(
        signal_id=f"s{number}-0",
        symbol="AAPL",
        status=status,
        entry_price=100.0,
        current_price=100.0,
        target_price=106.0,
        stop_loss=97.0,
        pnl_percent=pnl,
        created_ms=number,
        updated_ms=number,
        revision=revision,
    )


def test_only_finished_signals_with_a_side_count_and_the_last_outcome_holds():
    signals = [signal(1, a="buy"), signal(2, a="sell"), signal(3, a="buy"), signal(4, action="hold", a="hold")]
    outcomes = [
        outcome(1, "hit_target", 6.0),
        outcome(1, "hit_stop", -3.0, revision=1),
        outcome(2, "expired", 0.5),
        outcome(3, "active", 1.0),
        outcome(4, "expired", 0.0),
        outcome(9, "expired", 1.0),
    ]
    assert [(verdict.action, verdict.won) for verdict in verdicts(signals, outcomes)] == [("buy", False), ("buy", True)]


def test_a_dissenter_is_right_when_the_signal_lost():
    lost = Verdict("buy", False, {"a": ("buy", 0.6), "b": ("hold", 0.5)})
    learned, lines = learn(EQUAL, [lost] * 40)
    assert learned["b"] > learned["a"]
    assert lines[0].startswith("a: right in 0 of 40 (all models 50.0%)")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=200))
def test_weights_stay_within_their_bounds_and_total(drawn):
    history = [
        Verdict("buy", won, {"a": ("buy" if a else "hold", 0.5), "b": ("buy" if b else "sell", 0.5)})
        for won, a, b in drawn
    ]
    learned, _ = learn({"a": 0.35, "b": 0.15}, history)
    assert sum(learned.values()) == pytest.approx(0.5, abs=1e-5)
    ratio = (learned["a"] / learned["b"]) / (0.35 / 0.15)
    assert FACTOR_MIN / FACTOR_MAX - 1e-3 <= ratio <= FACTOR_MAX / FACTOR_MIN + 1e-2


def test_no_history_leaves_the_weights():
    assert learn(EQUAL, []) == (EQUAL, ["no finished signals: the weights stay"])


def test_a_reweighed_bundle_loads_and_keeps_its_log(trained, tmp_path):
    manifest, files, _ = trained
    votes = {"xgboost_swing": ("buy", 0.6), "random_forest": ("sell", 0.6)}
    changed, lines = reweighed(manifest, [Verdict("buy", True, votes)] * 80)
    write_bundle(tmp_path / "learned", changed, files)
    bundle = load_bundle(tmp_path / "learned")
    assert bundle.weights[0] > 0.35
    assert bundle.weights[3] < 0.15
    assert bundle.manifest.metrics["weights_learned"] == {"signals": 80, "log": lines}
    assert bundle.id != f"{manifest.name}@{manifest.digest[:8]}"
    bundle.close()
