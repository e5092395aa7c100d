"""What each tier sees, field by field, and the commands."""

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from models.messages import encode
from relay import protocol
from relay.state import Event

# Written from the product's rules, not from the code: what a tier's message may hold beside type, symbol and time.
FREE = {"historical_performance", "signal_count_today", "upgrade_prompt", "tier_required"}
PREMIUM = {
    "signal_id", "timeframe", "action", "confidence", "entry_price", "target_price", "stop_loss", "time_horizon",
    "reasoning", "created_ms", "revision", "risk_profile", "image_url", "dynamic_upgrade_available",
    "dynamic_upgrade_price",
}  # fmt: skip
DYNAMIC = (PREMIUM - {"dynamic_upgrade_available", "dynamic_upgrade_price"}) | {
    "news_context", "risk_analysis", "features_snapshot", "model_votes", "contributions", "skipped_models",
    "missing_inputs", "bundle", "base_rate", "live_updates",
}  # fmt: skip
#: Values that are only in fields of a higher tier.
ABOVE_FREE = ["REASONING-SECRET", "100.0", "110.0", "95.0", "0.72", "s1", "/charts/"]
ABOVE_PREMIUM = ["0.8125", "28.25", "0.4125", "0.21875", "HEADLINE-SECRET", "bundle-secret", "timed out", "0.34375"]


def image_url(signal_id, profile):
    return f"/charts/{signal_id}.png?profile={profile}"


def project(event, tier, state, profile="moderate"):
    message = protocol.project(event, tier, profile, state, image_url)
    return None if message is None else json.loads(protocol.encode(message))


@pytest.fixture
def event(make_signal, state):
    state.set_bars("AAPL", [(i, 0.0, 0.0, 0.0, 100.0 + i % 7, 0.0, 0) for i in range(60)])
    made = state.apply("1-0", "s1", "signal", encode(make_signal()))
    assert made is not None
    return made


def test_free_is_told_history_only(event, state):
    message = project(event, "free", state)
    assert message["type"] == "signal_summary"
    assert set(message["data"]) == FREE
    text = json.dumps(message)
    assert [secret for secret in ABOVE_FREE + ABOVE_PREMIUM if secret in text] == []
    assert message["data"]["tier_required"] == "premium"
    assert message["data"]["signal_count_today"] == 1


def test_premium_gets_the_static_signal(event, state):
    message = project(event, "premium", state)
    assert message["type"] == "trading_signal"
    assert set(message["data"]) == PREMIUM
    text = json.dumps(message)
    assert [secret for secret in ABOVE_PREMIUM if secret in text] == []
    assert message["data"]["dynamic_upgrade_price"] == 4.99
    assert message["data"]["image_url"] == "/charts/s1.png?profile=moderate"


def test_dynamic_gets_everything(event, state):
    message = project(event, "dynamic", state)
    assert message["type"] == "dynamic_signal"
    assert set(message["data"]) == DYNAMIC
    data = message["data"]
    assert data["risk_analysis"]["atr_percent"] == 2.5
    assert data["risk_analysis"]["stop_distance_percent"] == 5.0
    assert data["risk_analysis"]["reward_to_risk"] == 2.0
    assert 0 <= data["risk_analysis"]["volatility_percentile"] <= 100
    assert data["base_rate"] == 0.34375
    assert data["news_context"]["sentiment_24h"] == 0.21875


def test_news_after_the_bar_is_not_told(event, state):
    headlines = [n["headline"] for n in project(event, "dynamic", state)["data"]["news_context"]["articles"]]
    assert headlines == ["HEADLINE-SECRET"]


@pytest.mark.parametrize("confidence", [0.0, 0.3, 0.59, 0.599999])
def test_premium_is_not_sent_signals_below_sixty_percent(confidence, make_signal, state):
    event = state.apply("1-0", "s1", "signal", encode(make_signal(confidence=confidence)))
    message = project(event, "premium", state)
    assert message["type"] == "signal_summary"
    assert message["data"]["tier_required"] == "dynamic"
    assert project(event, "dynamic", state)["type"] == "dynamic_signal"


def test_the_subscribers_risk_profile_is_picked(event, state):
    data = project(event, "premium", state, "conservative")["data"]
    assert (data["action"], data["confidence"], data["target_price"], data["time_horizon"]) == (
        "hold",
        0.576,
        108.0,
        "1w",
    )


def test_updates_go_to_dynamic_only(event, state, make_outcome):
    update = state.apply("2-0", "s1", "outcome", encode(make_outcome(pnl_percent=1.5)))
    assert project(update, "dynamic", state)["updates"] == {
        "status": "active", "pnl_percent": 1.5, "current_price": 101.5,
    }  # fmt: skip
    assert project(update, "premium", state) is None
    assert project(update, "free", state) is None


def test_the_end_of_a_signal(event, state, make_outcome):
    end = state.apply("2-0", "s1", "outcome", encode(make_outcome(status="hit_stop", pnl_percent=-5.0)))
    premium = project(end, "premium", state)
    assert (premium["type"], premium["reason"]) == ("signal_withdrawn", "closed")
    assert "-5.0" not in json.dumps(premium)
    assert project(end, "free", state)["data"]["historical_performance"]["hit_stop"] == 1
    assert project(end, "dynamic", state)["updates"]["status"] == "hit_stop"


@pytest.mark.parametrize("tier", ["free", "premium", "dynamic"])
def test_an_expired_signal_is_withdrawn_from_those_who_saw_it(tier, event, state):
    expired = state.apply("2-0", "s1", "expired", b"{}")
    message = project(expired, tier, state)
    assert (message and (message["type"], message["reason"])) == (
        None if tier == "free" else ("signal_withdrawn", "expired")
    )


def test_a_snapshot_keeps_the_tiers_apart(event, state, make_outcome):
    state.apply("2-0", "s1", "outcome", encode(make_outcome()))
    for tier, secrets in (("free", ABOVE_FREE + ABOVE_PREMIUM), ("premium", ABOVE_PREMIUM)):
        held = protocol.snapshot(list(state.signals.values()), tier, "moderate", state, image_url, True, 10)
        text = protocol.encode(held).decode()
        assert [secret for secret in secrets if secret in text] == []
        assert held.updates == []
        assert held.number == "2-0"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", b"[]", b"{}", b'{"type": "nothing"}', b'{"type": "hello", "tier": "dynamic"}', b"\xff\xfe",
        b'{"type": "hello", "after": "1"}', b'{"type": "hello", "after": "-1-0"}',
        b'{"type": "subscribe", "symbols": "A"}',
        b'{"type": "subscribe", "symbols": ["' + b"A" * 25 + b'"]}', b'{"type": "subscribe", "symbols": [1]}',
        b'{"type": "hello", "token": "' + b"t" * 9_000 + b'"}', b"[" * 5_000,
    ],
)  # fmt: skip
def test_bad_commands_are_refused_with_words(data):
    with pytest.raises(protocol.CommandError, match="not a command"):
        protocol.command(data)


def test_every_sample_in_the_document_is_what_the_relay_speaks():
    text = (Path(__file__).parents[3] / "docs" / "relay.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```json\n")[1:]]
    kinds = {"commands": set(), "messages": set()}
    for block in blocks:
        sample = json.loads(block)
        direction = "commands" if sample["type"] in COMMANDS else "messages"
        kinds[direction].add(sample["type"])
        jsonschema.validate(sample, protocol.schemas()[direction])
        if direction == "commands":
            protocol.command(block)
        else:
            again = json.loads(protocol.encode(protocol.decode(block)))
            assert again == sample, f"{sample['type']}: the sample lacks or misnames a field"
    assert kinds == {"commands": COMMANDS, "messages": MESSAGES}


COMMANDS = {"hello", "auth", "subscribe", "unsubscribe", "ping"}
MESSAGES = {
    "welcome", "snapshot", "signal_summary", "trading_signal", "dynamic_signal", "signal_update", "signal_withdrawn",
    "price", "system", "pong", "error",
}  # fmt: skip


def test_the_published_schemas_are_the_codes():
    kept = (Path(__file__).parents[3] / "docs" / "relay.schema.json").read_text()
    assert json.loads(kept) == json.loads(msgspec.json.encode(protocol.schemas())), (
        "docs/relay.schema.json is old; renew it with `python -m relay.protocol > docs/relay.schema.json`"
    )


def test_an_event_without_anything_to_tell_is_nothing(state):
    event = Event(number="1-0", kind="update", symbol="X", signal_id="gone")
    assert project(event, "premium", state) is None
