"""Model weights learned from what became of signals: bounded, explained, and off unless somebody asks.

Each finished signal shows for each model that voted on it whether it was right: a vote for the signal's side was right
if the signal won, any other vote if it lost. A model's share of right votes, pulled towards the average of all models
by :data:`PRIOR_SIGNALS` imagined signals, over that average is its factor, kept within 0.5 and 2. Weights are the
factors times the present weights, scaled to the same total.

>>> votes = {"a": ("buy", 0.6), "b": ("hold", 0.5)}
>>> learned, _ = learn({"a": 0.5, "b": 0.5}, [Verdict("buy", True, votes)] * 50)
>>> learned["a"] > 0.6 > 0.4 > learned["b"]
True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from models.messages import Action, Outcome, Signal
from models.serving.manifest import Manifest

#: Imagined signals on which every model did as the average does.
PRIOR_SIGNALS = 50.0
#: No history moves a weight further than this, down or up.
FACTOR_MIN, FACTOR_MAX = 0.5, 2.0


class Verdict(NamedTuple):
    """A finished signal: its side, whether it won, and each model's ``(action, probability)``."""

    action: Action
    won: bool
    votes: Mapping[str, tuple[Action, float]]


def verdicts(signals: Iterable[Signal], outcomes: Iterable[Outcome]) -> list[Verdict]:
    """The finished buy and sell signals; an outcome still active, or of an unknown signal, is skipped."""
    last: dict[str, Outcome] = {}
    for outcome in outcomes:
        known = last.get(outcome.signal_id)
        if known is None or (outcome.revision, outcome.updated_ms) >= (known.revision, known.updated_ms):
            last[outcome.signal_id] = outcome
    found = []
    for signal in signals:
        ended = last.get(signal.signal_id)
        if ended is not None and ended.status != "active" and signal.action != "hold":
            found.append(Verdict(signal.action, ended.pnl_percent > 0, signal.model_votes))
    return found


def learn(weights: Mapping[str, float], history: Sequence[Verdict]) -> tuple[dict[str, float], list[str]]:
    """New weights, and a line per model that explains how they came about."""
    right, voted = dict.fromkeys(weights, 0), dict.fromkeys(weights, 0)
    for verdict in history:
        for model, (action, _) in verdict.votes.items():
            if model in weights:
                voted[model] += 1
                right[model] += (action == verdict.action) == verdict.won
    total = sum(voted.values())
    if not total:
        return dict(weights), ["no finished signals: the weights stay"]
    average = sum(right.values()) / total
    factors = {}
    for model in weights:
        share = (right[model] + PRIOR_SIGNALS * average) / (voted[model] + PRIOR_SIGNALS)
        factors[model] = min(max(share / average, FACTOR_MIN), FACTOR_MAX) if average else 1.0
    scale = sum(weights.values()) / sum(weights[model] * factors[model] for model in weights)
    learned = {model: round(weights[model] * factors[model] * scale, 6) for model in weights}
    lines = [
        f"{model}: right in {right[model]} of {voted[model]} (all models {average:.1%}), factor {factors[model]:.3f}, "
        f"weight {weights[model]:g} -> {learned[model]:g}"
        for model in weights
    ]
    return learned, lines


def reweighed(manifest: Manifest, history: Sequence[Verdict], name: str = "") -> tuple[Manifest, list[str]]:
    """The manifest with learned weights, the log kept in its metrics."""
    learned, lines = learn({spec.name: spec.weight for spec in manifest.models}, history)
    models = tuple(msgspec.structs.replace(spec, weight=learned[spec.name]) for spec in manifest.models)
    metrics: dict[str, Any] = manifest.metrics | {"weights_learned": {"signals": len(history), "log": lines}}
    return msgspec.structs.replace(manifest, name=name or manifest.name, models=models, metrics=metrics), lines
