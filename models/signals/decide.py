"""From an ensemble's answer to a trading signal: pure rules, no clock, no I/O.

The ensemble says action and confidence; this module adds horizon, levels, expiry, the three risk profiles, the least
tier and the reasoning, or says why there is no signal. The same input gives the same signal, byte for byte, except
``emitted_ms``, which is passed in.

>>> decision = decide(symbol="AAPL", timeframe="1d", end_ms=1_078_520_400_000, price=100.0, atr=2.0, action="buy",
...                   confidence=0.72, votes={"xgboost_swing": ("buy", 0.72)}, required=())
>>> decision.time_horizon, decision.target_price, decision.stop_loss, decision.tier
('3d', 108.0, 96.0, 'premium')
>>> decide(symbol="AAPL", timeframe="1d", end_ms=1_078_520_400_000, price=100.0, atr=None, action="buy",
...        confidence=0.72, votes={"xgboost_swing": ("buy", 0.72)}).reason
'no_atr'
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import msgspec

from models.messages import Action, Contribution, Horizon, ProfileDecision, Signal
from models.signals.reasoning import reasoning
from models.signals.tiers import minimum_tier
from models.trade.calendar import Calendar, calendar
from models.trade.expiry import expires_ms
from models.trade.levels import default_tick, levels

__all__ = [
    "HORIZONS",
    "REQUIRED_FEATURES",
    "NoSignal",
    "cancellation",
    "decide",
    "expires_ms",
    "horizon_of",
    "levels",
    "minimum_tier",
    "profiles",
    "signal_id",
]

#: Every horizon, shortest first.
HORIZONS: tuple[Horizon, ...] = ("1d", "3d", "1w", "2w")

#: Without these a decision is not explained by anything: no signal.
REQUIRED_FEATURES: tuple[str, ...] = ("rsi_14", "macd", "volume_vs_ma_20")

_SHORTER: dict[Horizon, Horizon] = {"1d": "1d", "3d": "1d", "1w": "3d", "2w": "2w"}


class NoSignal(msgspec.Struct, frozen=True):
    """Why a bar gave no signal: ``reason`` is a short code to count by, ``detail`` names the input."""

    reason: str
    detail: str = ""


def horizon_of(confidence: float) -> Horizon:
    """The stronger the signal, the shorter its life: above .8 one day, above .6 three, else a week."""
    return "1d" if confidence > 0.8 else "3d" if confidence > 0.6 else "1w"


def profiles(action: Action, confidence: float, horizon: Horizon) -> dict[str, tuple[Action, float, Horizon]]:
    """``(action, confidence, horizon)`` as a conservative, a moderate and an aggressive subscriber sees them.

    Conservative: below .7 a hold at .5, else confidence × .8. Aggressive: confidence × 1.2 up to .95 (a hold keeps
    its own), one horizon shorter.
    """
    if confidence < 0.7:
        conservative: tuple[Action, float, Horizon] = ("hold", 0.5, horizon)
    else:
        conservative = (action, confidence * 0.8, horizon)
    bolder = confidence if action == "hold" else min(0.95, confidence * 1.2)
    return {
        "conservative": conservative,
        "moderate": (action, confidence, horizon),
        "aggressive": (action, bolder, _SHORTER[horizon]),
    }


def signal_id(symbol: str, timeframe: str, end_ms: int, revision: int, bundle: str) -> str:
    """The id of a decision: a hash of symbol, timeframe, bar end and bundle, then ``-`` and the revision.

    >>> signal_id("AAPL", "1d", 0, 0, "b")[:-2] == signal_id("AAPL", "1d", 0, 1, "b")[:-2]
    True
    """
    stem = hashlib.blake2b(f"{symbol}\x1f{timeframe}\x1f{end_ms}\x1f{bundle}".encode(), digest_size=12).hexdigest()
    return f"{stem}-{revision}"


def decide(
    *,
    symbol: str,
    timeframe: str,
    end_ms: int,
    price: float | None,
    atr: float | None,
    action: Action,
    confidence: float,
    votes: Mapping[str, tuple[Action, float]],
    revision: int = 0,
    skipped: Mapping[str, str] | None = None,
    features: Mapping[str, float | None] | None = None,
    contributions: Sequence[Contribution | tuple[str, float | None, float]] = (),
    missing: Mapping[str, str] | None = None,
    feature_set_hash: str = "",
    bundle: str = "",
    emitted_ms: int = 0,
    trigger: str = "",
    calendar: Calendar | None = None,
    tick: float | None = None,
    required: Sequence[str] = REQUIRED_FEATURES,
) -> Signal | NoSignal:
    """The signal of one bar, or why there is none.

    ``price`` and ``atr`` are the bar's close and its timeframe's ATR; ``votes`` maps each model that answered to its
    action and probability, ``skipped`` each that failed to its reason; ``features`` are the values to record and to
    explain with (``None`` where missing), ``missing`` their reasons; ``contributions`` are signed towards ``action``.
    ``calendar`` defaults to New York's, ``tick`` to :func:`models.trade.levels.default_tick`; ``required`` lists the
    features without which there is no signal. ``ValueError`` for a confidence outside [0, 1].
    """
    features = features or {}
    refusal = _refusal(price, atr, votes, features, required, skipped or {})
    if refusal is not None:
        return refusal
    assert price is not None
    assert atr is not None
    price, atr, confidence = float(price), float(atr), float(confidence)  # NumPy's own would not encode
    if not 0.0 <= confidence <= 1.0:
        raise ValueError(f"confidence {confidence} of {symbol} is outside [0, 1]: the ensemble must normalise")

    market = calendar if calendar is not None else _new_york()
    step = default_tick(price) if tick is None else tick
    horizon = horizon_of(confidence)
    decisions: dict[str, ProfileDecision] = {}
    for name, (act, sure, lasts) in profiles(action, confidence, horizon).items():
        target, stop = levels(act, price, atr, lasts, timeframe, step, market.session_ms)
        if not (target > 0.0 and stop > 0.0):
            return NoSignal("level_not_positive", f"{name} {act}: target {target}, stop {stop}, atr {atr}")
        try:
            until = expires_ms(end_ms, lasts, market)
        except ValueError as error:
            return NoSignal("outside_calendar", str(error))
        decisions[name] = ProfileDecision(
            action=act,
            confidence=sure,
            time_horizon=lasts,
            target_price=target,
            stop_loss=stop,
            expires_ms=until,
        )
    own = decisions["moderate"]
    parts = [_contribution(part) for part in contributions]
    return Signal(
        signal_id=signal_id(symbol, timeframe, end_ms, revision, bundle),
        symbol=symbol,
        timeframe=timeframe,
        action=action,
        confidence=confidence,
        entry_price=price,
        target_price=own.target_price,
        stop_loss=own.stop_loss,
        time_horizon=horizon,
        created_ms=end_ms,
        emitted_ms=emitted_ms,
        expires_ms=own.expires_ms,
        reasoning=reasoning(symbol, action, confidence, features, votes, parts),
        contributions=parts,
        model_votes={model: (vote, float(sure)) for model, (vote, sure) in votes.items()},
        skipped_models=dict(skipped or {}),
        features_used={name: _plain(value) for name, value in features.items()},
        feature_set_hash=feature_set_hash,
        bundle=bundle,
        risk_profiles=decisions,
        missing_inputs=dict(missing or {}),
        tier=minimum_tier(confidence),
        revision=revision,
        trigger=trigger,
    )


def cancellation(
    *,
    symbol: str,
    timeframe: str,
    end_ms: int,
    revision: int,
    cancels: str,
    price: float,
    bundle: str = "",
    feature_set_hash: str = "",
    emitted_ms: int = 0,
) -> Signal:
    """The record that withdraws signal ``cancels``: its bar was revised and no longer gives one.

    A hold at the revised ``price`` that ends when it begins, with the revision's own id.
    """
    return Signal(
        signal_id=signal_id(symbol, timeframe, end_ms, revision, bundle),
        symbol=symbol,
        timeframe=timeframe,
        action="hold",
        confidence=0.0,
        entry_price=price,
        target_price=price,
        stop_loss=price,
        time_horizon="1d",
        created_ms=end_ms,
        emitted_ms=emitted_ms,
        expires_ms=end_ms,
        reasoning=f"{symbol} - Withdrawn: the bar it was made from was revised",
        feature_set_hash=feature_set_hash,
        bundle=bundle,
        revision=revision,
        cancels=cancels,
        trigger="cancel",
    )


def _refusal(
    price: float | None,
    atr: float | None,
    votes: Mapping[str, tuple[Action, float]],
    features: Mapping[str, float | None],
    required: Sequence[str],
    skipped: Mapping[str, str],
) -> NoSignal | None:
    if not _positive(price):
        return NoSignal("no_price", f"price {price}")
    if not _positive(atr):
        return NoSignal("no_atr", f"atr {atr}")
    if not votes:
        return NoSignal("no_models", ", ".join(f"{model}: {why}" for model, why in skipped.items()))
    for name in required:
        value = features.get(name)
        if value is None or value != value:
            return NoSignal("missing_feature", name)
    return None


def _contribution(part: Contribution | tuple[str, float | None, float]) -> Contribution:
    if isinstance(part, Contribution):
        return part
    feature, value, share = part
    return Contribution(feature=feature, value=_plain(value), contribution=float(share))


def _plain(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0.0


def _new_york() -> Calendar:
    return calendar("XNYS")
