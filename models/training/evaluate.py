"""Metrics, each alongside its base-rate baseline.

A forecast is compared with the base rates of the rows it was taught on; a signal's reward with that of buying, or
selling, every bar. Rewards are in units of risk, after costs, weighted by uniqueness because neighbouring rows share
their paths; ``independent`` is the sum of those weights, about how many separate trades the mean rests on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.serving.ensemble import BUY, HOLD, SELL, combine
from models.serving.manifest import Thresholds
from models.training.calibrate import log_loss
from models.training.data import Dataset

Floats = npt.NDArray[np.float64]


def mean_probabilities(probabilities: Floats, weights: Floats) -> Floats:
    """The ensemble's P(sell, hold, buy): the weighted mean of the models that answered, n x 3."""
    answered = ~np.isnan(probabilities).any(axis=2)
    share = answered * weights
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(probabilities * share[..., None], axis=1) / share.sum(axis=1, keepdims=True))


def forecast(probabilities: Floats, data: Dataset, base_rates: Floats) -> dict[str, float]:
    """Log loss, Brier score, accuracy and AUC of P(class), each with its baseline (the base rates of the training)."""
    known = ~np.isnan(probabilities).any(axis=1)
    probabilities, labels, weights = probabilities[known], data.labels[known], data.weights[known]
    if not len(labels):
        return {"rows": 0}
    flat = np.tile(base_rates, (len(labels), 1))
    truth = np.eye(3)[labels]
    figures: dict[str, float] = _rounded(
        {
            "rows": len(labels),
            "log_loss": log_loss(probabilities, labels, weights),
            "log_loss_base_rates": log_loss(flat, labels, weights),
            "brier": float(np.average(((probabilities - truth) ** 2).sum(axis=1), weights=weights)),
            "brier_base_rates": float(np.average(((flat - truth) ** 2).sum(axis=1), weights=weights)),
            "accuracy": float(np.average(probabilities.argmax(axis=1) == labels, weights=weights)),
            "accuracy_commonest_class": float(np.average(labels == base_rates.argmax(), weights=weights)),
            "auc_buy": auc(probabilities[:, BUY], labels == BUY),
            "auc_sell": auc(probabilities[:, SELL], labels == SELL),
            "auc_chance": 0.5,
        }
    )
    return figures


def auc(score: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive row scores above a negative one, ties counting half; NaN without both kinds.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return float("nan")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def trading(actions: npt.NDArray[np.int8], data: Dataset) -> dict[str, Any]:
    """What the buy and sell signals won, alongside buying or selling every bar; and how often the side changed."""
    weights = data.weights
    found: dict[str, Any] = {
        "bars": len(actions),
        "signal_share": float(np.isin(actions, (SELL, BUY)).mean()) if len(actions) else 0.0,
        "turnover_changes_a_100_bars": turnover(actions, data) * 100,
    }
    for name, action, column in (("sell", SELL, 0), ("buy", BUY, 1)):
        on = actions == action
        every = float(np.average(data.rewards[:, column], weights=weights)) if len(actions) else float("nan")
        found[name] = {
            "signals": int(on.sum()),
            "independent": float(weights[on].sum()),
            "won": float(np.average(data.labels[on] == action, weights=weights[on])) if on.any() else None,
            "won_base_rate": float(np.average(data.labels == action, weights=weights)),
            "reward": float(np.average(data.rewards[on, column], weights=weights[on])) if on.any() else None,
            "reward_every_bar": every,
            "pnl_percent": float(np.average(data.pnl_percent[on, column], weights=weights[on])) if on.any() else None,
            "pnl_percent_every_bar": float(np.average(data.pnl_percent[:, column], weights=weights)),
        }
    excess = excess_rewards(actions, data)
    on = ~np.isnan(excess)
    found["reward"] = float(np.average(signal_rewards(actions, data)[on], weights=weights[on])) if on.any() else None
    found["reward_over_every_bar"] = float(np.average(excess[on], weights=weights[on])) if on.any() else None
    found["t_value"] = t_value(excess[on], weights[on])
    figures: dict[str, Any] = _rounded(found)
    return figures


def signal_rewards(actions: npt.NDArray[np.int8], data: Dataset) -> Floats:
    """Each row's reward if its signal was taken; NaN for a hold."""
    taken: Floats = np.where(actions == BUY, data.rewards[:, 1], np.where(actions == SELL, data.rewards[:, 0], np.nan))
    return taken


def excess_rewards(actions: npt.NDArray[np.int8], data: Dataset) -> Floats:
    """Each signal's reward less what its side won on every bar: the part that choosing added; NaN for a hold."""
    every = np.average(data.rewards, axis=0, weights=data.weights)
    excess: Floats = signal_rewards(actions, data) - np.where(actions == BUY, every[1], every[0])
    return excess


def t_value(values: Floats, weights: Floats) -> float:
    """Weighted mean over its standard error, counting the sum of uniqueness weights as the sample; 0 for none."""
    if not len(values):
        return 0.0
    mean = np.average(values, weights=weights)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=weights))
    return float(mean / spread * np.sqrt(weights.sum())) if spread > 0 else 0.0


def turnover(actions: npt.NDArray[np.int8], data: Dataset) -> float:
    """The share of bars whose action differs from the bar before of the same symbol."""
    changes, pairs = 0, 0
    for symbol in np.unique(data.symbols.astype(str)):
        own = actions[data.symbols == symbol]
        changes += int((own[1:] != own[:-1]).sum())
        pairs += max(len(own) - 1, 0)
    return changes / pairs if pairs else 0.0


def choose_thresholds(
    probabilities: Floats,
    weights: Floats,
    data: Dataset,
    min_share: float,
    symmetric: bool = False,
    hold_zone: bool = True,
) -> Thresholds:
    """The pair whose signals, on validation rows, beat their side's every-bar reward with the highest t-value.

    Against the every-bar reward, because in a rising market always buying would win without choosing anything. Only
    pairs whose signals make up at least ``min_share`` of the rows count, each side at least a quarter of that; if none
    does, the product's .7/.3 stay. ``symmetric`` tries only pairs that ask the same of both sides;
    without a ``hold_zone`` a model that does not vote buy votes sell, or nearly so: the gap that
    the label's share of holds would leave between both is closed twice over.
    """
    best, best_value = Thresholds(), -np.inf
    grid = np.round(np.arange(0.30, 0.7001, 0.02), 2)
    pairs = [(buy, 1 - sell) for buy in grid for sell in grid]
    if symmetric:
        pairs = [(buy, 1 - buy) for buy in grid]
    if not hold_zone:
        holds = float(np.average(data.labels == HOLD, weights=data.weights))
        pairs = [(0.5 - holds, 0.5 + holds)] if symmetric else [(buy, buy + 2 * holds) for buy in grid]
    for buy, sell in pairs:
        pair = Thresholds(buy=float(round(buy, 2)), sell=float(round(sell, 2)))
        actions = combine(probabilities, weights, pair).action
        shares = [(actions == side).mean() for side in (BUY, SELL)]
        if sum(shares) < min_share or min(shares) < min_share / 4:
            continue
        excess = excess_rewards(actions, data)
        on = ~np.isnan(excess)
        value = t_value(excess[on], data.weights[on])
        if value > best_value:
            best, best_value = pair, value
    return best


def reliability(confidence: Floats, right: npt.NDArray[np.bool_], bins: int = 10) -> list[dict[str, float]]:
    """Stated confidence against how often it came true, in bins of equal counts."""
    known = ~np.isnan(confidence)
    confidence, right = confidence[known], right[known]
    order = np.argsort(confidence, kind="stable")
    return [
        _rounded(
            {"confidence": float(confidence[part].mean()), "came_true": float(right[part].mean()), "rows": len(part)}
        )
        for part in np.array_split(order, bins)
        if len(part)
    ]


def _rounded(value: Any) -> Any:
    """Six digits are more than these figures can bear, and keep the manifest short."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value
