"""Signals and outcomes for the relay's unit tests."""

from collections.abc import Callable
from typing import Any

import pytest

from models.messages import Contribution, News, Outcome, ProfileDecision, Signal
from relay.state import State

T0 = 1_700_000_000_000
DAY = 86_400_000


def _signal(signal_id: str = "s1", symbol: str = "AAPL", **changes: Any) -> Signal:
    values: dict[str, Any] = {
        "signal_id": signal_id, "symbol": symbol, "timeframe": "1m", "action": "buy", "confidence": 0.72,
        "entry_price": 100.0, "target_price": 110.0, "stop_loss": 95.0, "time_horizon": "3d", "created_ms": T0,
        "emitted_ms": T0 + 40, "expires_ms": T0 + 3 * DAY, "reasoning": "REASONING-SECRET",
        "contributions": [Contribution(feature="rsi_14", value=28.25, contribution=0.4125)],
        "model_votes": {"xgboost_swing": ("buy", 0.8125)}, "skipped_models": {"neural_net": "timed out"},
        "features_used": {"atr_14": 2.5, "rsi_14": 28.25, "news_sentiment_24h": 0.21875},
        "missing_inputs": {"options": "none received"}, "bundle": "bundle-secret", "tier": "premium",
        "risk_profiles": {
            "conservative": ProfileDecision(
                action="hold", confidence=0.576, time_horizon="1w", target_price=108.0, stop_loss=97.0
            ),
            "moderate": ProfileDecision(
                action="buy", confidence=0.72, time_horizon="3d", target_price=110.0, stop_loss=95.0
            ),
        },
    }  # fmt: skip
    return Signal(**(values | changes))


def _outcome(signal_id: str = "s1", status: str = "active", pnl_percent: float = 1.0, **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "signal_id": signal_id, "symbol": "AAPL", "status": status, "entry_price": 100.0,
        "current_price": 100.0 + pnl_percent, "target_price": 110.0, "stop_loss": 95.0, "pnl_percent": pnl_percent,
        "created_ms": T0, "updated_ms": T0 + 60_000, "action": "buy", "time_horizon": "3d", "confidence": 0.72,
        "bundle": "bundle-secret", "exit_reason": "" if status == "active" else status,
    }  # fmt: skip
    return Outcome(**(values | changes))


@pytest.fixture
def make_signal() -> Callable[..., Signal]:
    return _signal


@pytest.fixture
def make_outcome() -> Callable[..., Outcome]:
    return _outcome


@pytest.fixture
def state() -> State:
    held = State()
    held.news["AAPL"] = [
        News(symbol="AAPL", news_id="n1", created_ms=T0 - 5, updated_ms=T0 - 5, headline="HEADLINE-SECRET"),
        News(symbol="AAPL", news_id="n2", created_ms=T0 + 5, updated_ms=T0 + 5, headline="HEADLINE-OF-THE-FUTURE"),
    ]
    held.set_system({"bundle": {"name": "bundle-secret", "base_rates": {"buy": 0.34375}}})
    return held
