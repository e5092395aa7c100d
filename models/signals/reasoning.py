"""Why a signal was given, as a sentence a person can read: it states only what is true of this bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.messages import Action, Contribution

#: How many features the text names; the signal's list carries all that were given.
TOP_FEATURES = 3


def reasoning(
    symbol: str,
    action: Action,
    confidence: float,
    features: Mapping[str, float | None],
    votes: Mapping[str, tuple[Action, float]],
    contributions: Sequence[Contribution] = (),
) -> str:
    """The indicators that support the action, the models' agreement and the features that weighed most.

    A contribution is signed towards the action: ``+`` spoke for it, ``-`` against.

    >>> reasoning("AAPL", "buy", 0.72, {"rsi_14": 31.5, "macd": -0.2}, {"a": ("buy", 0.7), "b": ("buy", 0.6)},
    ...           [Contribution(feature="rsi_14", value=31.5, contribution=0.41)])
    'AAPL - RSI indicates oversold conditions. Strong model consensus (2/2 models bullish). Main features: rsi_14 31.5 (+0.41). Confidence: 72.0%'
    """  # noqa: E501
    parts = _indicators(action, features)
    agreement = _consensus(votes)
    if agreement:
        parts.append(agreement)
    top = sorted(contributions, key=lambda part: (-abs(part.contribution), part.feature))[:TOP_FEATURES]
    if top:
        parts.append("Main features: " + ", ".join(_named(part) for part in top))
    if not parts:
        parts = ["Mixed technical signals"]
    return f"{symbol} - {'. '.join(parts)}. Confidence: {confidence:.1%}"


def _indicators(action: Action, features: Mapping[str, float | None]) -> list[str]:
    """The fixed sentences whose condition is true; a missing feature supports nothing."""
    rsi, macd, volume = features.get("rsi_14"), features.get("macd"), features.get("volume_vs_ma_20")
    parts = []
    if action == "buy":
        if rsi is not None and rsi < 40:
            parts.append("RSI indicates oversold conditions")
        if macd is not None and macd > 0:
            parts.append("MACD showing bullish momentum")
        if volume is not None and volume > 1.5:
            parts.append("Above-average volume supporting the move")
    elif action == "sell":
        if rsi is not None and rsi > 60:
            parts.append("RSI indicates overbought conditions")
        if macd is not None and macd < 0:
            parts.append("MACD showing bearish momentum")
        if volume is not None and volume > 1.5:
            parts.append("High volume confirming bearish pressure")
    return parts


def _consensus(votes: Mapping[str, tuple[Action, float]]) -> str:
    actions = [vote[0] for vote in votes.values()]
    sides: tuple[tuple[Action, str], ...] = (("buy", "bullish"), ("sell", "bearish"))
    for side, word in sides:
        count = actions.count(side)
        if count > len(actions) * 0.6:
            return f"Strong model consensus ({count}/{len(actions)} models {word})"
    return ""


def _named(part: Contribution) -> str:
    value = "missing" if part.value is None else f"{part.value:.4g}"
    return f"{part.feature} {value} ({part.contribution:+.2f})"
