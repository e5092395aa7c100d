"""Many models, one decision: the weighted vote of a batch, in plain numpy.

Each model votes for one action: buy when P(buy) > ``thresholds.buy``, sell when 1 - P(sell) < ``thresholds.sell``, the
likelier of both if both apply, else hold. It counts weight x the probability it gives to the action it votes for. An
action's score is its voters' sum over the weights of all models that voted, so a split vote is a weak one; the highest
score wins and is the confidence. A tie is a hold.

>>> decision = combine(np.array([[[0.1, 0.1, 0.8], [0.1, 0.6, 0.3]]]), np.array([0.35, 0.15]), Thresholds())
>>> ACTIONS[decision.action[0]], round(float(decision.confidence[0]), 3), decision.votes[0].tolist()
('buy', 0.56, [2, 1])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.backends.base import Matrix
from models.messages import CLASSES
from models.serving.manifest import Thresholds

#: Names of ``Decision.action`` and ``Decision.votes``; -1 is none.
ACTIONS = CLASSES
SELL, HOLD, BUY = 0, 1, 2
NONE = -1

#: Scores this close are a tie: rounding must not decide.
TIE = 1e-12

#: A model's weight in the vote by its name, as the product's first design weighs them.
DEFAULT_WEIGHTS = {"xgboost_swing": 0.35, "lightgbm_day": 0.30, "neural_net": 0.20, "random_forest": 0.15}
DEFAULT_WEIGHT = 0.10


class Decision(NamedTuple):
    """The ensemble's decisions on n rows, from m models.

    ``action`` int8[n]: 0 sell, 1 hold, 2 buy, -1 no model could score the row. ``confidence`` float64[n] in [0, 1],
    NaN with -1. ``votes`` int8[n, m], -1 where a model did not vote; ``vote_probability`` float64[n, m], NaN there.
    """

    action: npt.NDArray[np.int8]
    confidence: Matrix
    votes: npt.NDArray[np.int8]
    vote_probability: Matrix


def weight_of(model: str) -> float:
    """The default weight of a model of that name."""
    return DEFAULT_WEIGHTS.get(model, DEFAULT_WEIGHT)


def combine(probabilities: Matrix, weights: Matrix, thresholds: Thresholds) -> Decision:
    """The decision for each row; ``probabilities`` float64[n, m, 3] (NaN: did not vote), ``weights`` float64[m]."""
    if len(probabilities) == 1:
        return _combine_one(probabilities[0].tolist(), weights.tolist(), thresholds)
    sell, hold, buy = probabilities[..., SELL], probabilities[..., HOLD], probabilities[..., BUY]
    for_buy = buy > thresholds.buy
    for_sell = (1.0 - sell) < thresholds.sell
    both = for_buy & for_sell
    if both.any():
        for_buy = for_buy & ~(both & (sell >= buy))
        for_sell = for_sell & ~(both & (buy >= sell))
    for_side = for_buy | for_sell
    chosen = np.where(for_side, np.where(for_buy, buy, sell), hold)
    votes = np.where(for_side, np.where(for_buy, np.int8(BUY), np.int8(SELL)), np.int8(HOLD))
    skipped = np.isnan(probabilities)
    if skipped.any():
        skipped = skipped.any(axis=2)
        votes[skipped] = NONE
        chosen[skipped] = np.nan
        share = np.where(skipped, 0.0, chosen) * weights
        total = np.add.reduce(np.where(skipped, 0.0, weights), axis=1)  # in the order of the sum below, bit for bit
    else:
        share = chosen * weights
        total = np.full(len(share), np.add.reduce(weights))
    nobody = total <= 0.0
    total[nobody] = 1.0

    buys, sells, holds = (np.add.reduce(share * on, axis=1) for on in (for_buy, for_sell, ~for_side))
    best_side = np.maximum(buys, sells)
    undecided = (holds >= best_side - TIE) | (np.abs(buys - sells) <= TIE)
    action = np.where(undecided, np.int8(HOLD), np.where(buys > sells, np.int8(BUY), np.int8(SELL)))
    confidence = np.where(undecided, holds, best_side) / total
    if nobody.any():
        action[nobody] = NONE
        confidence[nobody] = np.nan
    return Decision(action, confidence, votes, chosen)


def _combine_one(rows: list[list[float]], weights: list[float], thresholds: Thresholds) -> Decision:
    """:func:`combine` of a single row without numpy, whose thirty calls would cost more than the vote itself."""
    votes, chosen, scores, total = [], [], [0.0, 0.0, 0.0], 0.0
    for (sell, hold, buy), weight in zip(rows, weights, strict=True):
        if sell + hold + buy != sell + hold + buy:
            votes.append(NONE)
            chosen.append(math.nan)
            continue
        wants_buy, wants_sell = buy > thresholds.buy, 1.0 - sell < thresholds.sell
        if wants_buy and wants_sell:
            wants_buy, wants_sell = buy > sell, sell > buy
        vote = BUY if wants_buy else SELL if wants_sell else HOLD
        probability = (sell, hold, buy)[vote]
        votes.append(vote)
        chosen.append(probability)
        scores[vote] += probability * weight
        total += weight
    best_side = max(scores[BUY], scores[SELL])
    if total <= 0.0:
        action, confidence = NONE, math.nan
    elif scores[HOLD] >= best_side - TIE or abs(scores[BUY] - scores[SELL]) <= TIE:
        action, confidence = HOLD, scores[HOLD] / total
    else:
        action, confidence = BUY if scores[BUY] > scores[SELL] else SELL, best_side / total
    return Decision(
        np.array([action], dtype=np.int8),
        np.array([confidence]),
        np.array([votes], dtype=np.int8),
        np.array([chosen]),
    )
