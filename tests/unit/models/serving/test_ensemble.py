"""The vote against a plain reading of its rules, one row and one model at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.serving.ensemble import BUY, HOLD, NONE, SELL, combine, weight_of
from models.serving.manifest import Thresholds


def by_hand(row, weights, thresholds):
    """The rules in loops: each model's vote, then the weighted scores."""
    scores = {SELL: 0.0, HOLD: 0.0, BUY: 0.0}
    votes, total = [], 0.0
    for (sell, hold, buy), weight in zip(row, weights, strict=True):
        if np.isnan([sell, hold, buy]).any():
            votes.append(NONE)
            continue
        wants = [a for a, yes in ((BUY, buy > thresholds.buy), (SELL, 1 - sell < thresholds.sell)) if yes]
        if len(wants) == 2:
            wants = [BUY] if buy > sell else [SELL] if sell > buy else [HOLD]
        vote = wants[0] if wants else HOLD
        votes.append(vote)
        scores[vote] += weight * (sell, hold, buy)[vote]
        total += weight
    if total == 0:
        return NONE, np.nan, votes
    scores = {action: score / total for action, score in scores.items()}
    top = max(scores.values())
    winners = [action for action, score in scores.items() if score > top - 1e-11]
    action = winners[0] if len(winners) == 1 else HOLD
    return action, scores[action], votes


probability_rows = st.lists(
    st.tuples(*[st.integers(0, 8)] * 3).filter(any).map(lambda t: tuple(x / sum(t) for x in t))
    | st.just((np.nan,) * 3),
    min_size=4,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(probability_rows, min_size=1, max_size=5), buy=st.floats(0.2, 0.9), sell=st.floats(0.1, 0.8))
def test_batch_equals_the_rules_read_row_by_row(rows, buy, sell):
    weights = np.array([0.35, 0.30, 0.20, 0.15])
    thresholds = Thresholds(buy=buy, sell=sell)
    decision = combine(np.array(rows), weights, thresholds)
    for index, row in enumerate(rows):
        action, confidence, votes = by_hand(row, weights, thresholds)
        assert decision.votes[index].tolist() == votes
        assert decision.action[index] == action
        assert decision.confidence[index] == pytest.approx(confidence, nan_ok=True)
        alone = combine(np.array([row]), weights, thresholds)
        for one, many in zip(alone, decision, strict=True):
            assert one.dtype == many.dtype
            np.testing.assert_allclose(one[0], many[index], rtol=1e-12)


def test_a_tie_is_a_hold():
    buy, sell, hold = [0.2, 0.0, 0.8], [0.8, 0.0, 0.2], [0.1, 0.8, 0.1]
    opposed = combine(np.array([[buy, sell]]), np.ones(2), Thresholds())
    assert opposed.action[0] == HOLD
    assert opposed.confidence[0] == 0
    halved = combine(np.array([[buy, hold]]), np.ones(2), Thresholds())
    assert halved.action[0] == HOLD
    assert halved.confidence[0] == pytest.approx(0.4)


def test_seed_weights_and_default():
    assert [weight_of(n) for n in ("xgboost_swing", "lightgbm_day", "neural_net", "random_forest", "new")] == [
        0.35,
        0.30,
        0.20,
        0.15,
        0.10,
    ]


def test_no_model_gives_no_action():
    decision = combine(np.full((2, 4, 3), np.nan), np.ones(4), Thresholds())
    assert decision.action.tolist() == [NONE, NONE]
    assert np.isnan(decision.confidence).all()


def test_dissent_weakens_the_confidence():
    buy, hold = [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]
    together = combine(np.array([[buy, buy]]), np.ones(2), Thresholds())
    split = combine(np.array([[buy, hold]]), np.array([0.6, 0.4]), Thresholds())
    assert together.confidence[0] == pytest.approx(0.8)
    assert split.action[0] == BUY
    assert split.confidence[0] == pytest.approx(0.48)


def test_a_row_is_decided_bit_for_bit_the_same_in_any_batch() -> None:
    rng = np.random.default_rng(5)
    weights = np.array([0.35, 0.3, 0.2, 0.15])
    rows = rng.dirichlet(np.ones(3), (500, 4))
    rows[::7, 2] = np.nan
    together = combine(rows, weights, Thresholds(buy=0.4, sell=0.6))
    for size in (1, 3, 64):
        parts = [combine(rows[at : at + size], weights, Thresholds(buy=0.4, sell=0.6)) for at in range(0, 500, size)]
        np.testing.assert_array_equal(np.concatenate([part.confidence for part in parts]), together.confidence)
        np.testing.assert_array_equal(np.concatenate([part.action for part in parts]), together.action)
