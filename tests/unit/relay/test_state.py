"""The fold over the stream: repeats, revisions, ends, clocks."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import Outcome, ProfileDecision, Signal, encode
from relay import protocol
from relay.state import State, position

T0, DAY = 1_700_000_000_000, 86_400_000


def test_base_rates_are_those_of_the_signals_own_bundle(state, make_signal):
    state.apply("1-0", "a", "signal", encode(make_signal("a", bundle="mine@1")))
    assert state.set_system({"bundle": {"name": "mine@1", "base_rates": {"buy": 0.4}}})
    assert not state.set_system({"bundle": {"name": "mine@1", "base_rates": {"buy": 0.4}}})
    assert not state.set_system({"bundle": {"name": "next@2", "base_rates": {"buy": 0.1}}})
    assert not state.set_system({"bundle": "no object"})
    assert state.base_rates["mine@1"] == {"buy": 0.4}


def test_a_repeated_entry_changes_nothing(state, make_signal, make_outcome):
    assert state.apply("1-0", "s1", "signal", encode(make_signal())) is not None
    assert state.apply("2-0", "s1", "signal", encode(make_signal())) is None
    end = encode(make_outcome(status="hit_target", pnl_percent=10.0))
    assert state.apply("3-0", "s1", "outcome", end) is not None
    assert state.apply("4-0", "s1", "outcome", end) is None
    assert state.apply("5-0", "s1", "signal", encode(make_signal())) is None
    assert state.signals == {}
    assert state.history("AAPL").signals == 1
    assert state.signals_today == 1
    assert state.number == "5-0"


def test_a_revision_replaces_the_signal_of_the_same_bar(state, make_signal):
    state.apply("1-0", "s1-0", "signal", encode(make_signal("s1-0")))
    event = state.apply("2-0", "s1-1", "signal", encode(make_signal("s1-1", revision=1)))
    assert event.supersedes == "s1-0"
    assert list(state.signals) == ["s1-1"]


def test_a_cancel_withdraws_the_signal_it_names(state, make_signal):
    state.apply("1-0", "s1-0", "signal", encode(make_signal("s1-0")))
    event = state.apply("2-0", "s1-1", "cancel", encode(make_signal("s1-1", action="hold", cancels="s1-0")))
    assert (event.kind, event.signal_id, event.withdrawn) == ("withdrawn", "s1-0", "cancelled")
    assert state.signals == {}


def test_a_revised_outcome_takes_the_place_of_the_first(state, make_outcome):
    state.apply("1-0", "s1", "outcome", encode(make_outcome(status="hit_stop", pnl_percent=-5.0)))
    state.apply("2-0", "s1", "outcome", encode(make_outcome(status="hit_target", pnl_percent=10.0, revision=1)))
    assert (state.history("AAPL").signals, state.history("AAPL").hit_target) == (1, 1)
    assert [o.pnl_percent for o in state.all_closed()] == [10.0]


def test_an_end_that_is_taken_back_or_void_leaves_the_history(state, make_outcome):
    state.apply("1-0", "s1", "outcome", encode(make_outcome(status="hit_stop", pnl_percent=-5.0)))
    assert state.history("AAPL").signals == 1
    state.apply("2-0", "s1", "outcome", encode(make_outcome(status="active", revision=1)))
    assert (state.history("AAPL").signals, state.all_closed()) == (0, [])
    state.apply("3-0", "s1", "outcome", encode(make_outcome(status="expired", exit_reason="cancelled", revision=2)))
    assert state.history("AAPL").signals == 0


def test_live_signals_expire_by_the_wall_clock(state, make_signal):
    now = T0 + 50
    state.apply("1-0", "s1", "signal", encode(make_signal(expires_ms=now + 10)))
    assert state.mode == "live"
    assert state.due(now) == []
    assert state.due(now + 10) == [("s1", "")]


def test_replayed_signals_expire_by_their_own_symbols_clock(state, make_signal):
    wall = T0 + 4_000 * DAY
    for number, symbol in enumerate(("AAPL", "MSFT")):
        state.apply(f"{number + 1}-0", symbol, "signal", encode(make_signal(symbol, symbol, emitted_ms=wall)))
    assert state.mode == "replay"
    assert state.due(wall) == []
    state.see_price("MSFT", T0 + 3 * DAY)
    assert state.due(wall) == [("MSFT", "")]


def test_a_signal_ends_earlier_for_a_profile_of_a_shorter_horizon(state, make_signal):
    def profile(expires_ms):
        return ProfileDecision(
            action="buy", confidence=0.8, time_horizon="1d", target_price=110.0, stop_loss=95.0, expires_ms=expires_ms
        )

    profiles = {"moderate": profile(T0 + 30), "aggressive": profile(T0 + 10), "conservative": profile(0)}
    state.apply("1-0", "s1", "signal", encode(make_signal(expires_ms=T0 + 30, risk_profiles=profiles)))
    assert state.due(T0 + 9) == []
    assert state.due(T0 + 10) == [("s1", "aggressive")]
    event = state.apply("2-0", "s1", "expired", b'{"risk_profile": "aggressive"}')
    assert (event.kind, event.withdrawn, event.risk_profile) == ("withdrawn", "expired", "aggressive")
    assert list(state.signals) == ["s1"]
    assert state.due(T0 + 29) == []
    url = str.__add__
    for tier in ("premium", "dynamic"):
        assert protocol.project(event, tier, "aggressive", state, url).reason == "expired"
        assert protocol.project(event, tier, "moderate", state, url) is None
        held = {
            name: protocol.snapshot([state.signals["s1"]], tier, name, state, url, True, 10).signals
            for name in ("moderate", "aggressive", "conservative")
        }
        assert {name: [s.expires_ms for s in signals] for name, signals in held.items()} == {
            "moderate": [T0 + 30], "aggressive": [], "conservative": [T0 + 30],
        }  # fmt: skip
    assert protocol.project(event, "free", "", state, url) is None
    assert state.due(T0 + 30) == [("s1", "")]
    assert state.apply("3-0", "s1", "expired", b"{}").risk_profile == ""
    assert state.apply("4-0", "s1", "expired", b'{"risk_profile": "aggressive"}') is None


def test_the_mode_is_what_the_pipeline_says(state, make_signal):
    state.apply("1-0", "s1", "signal", encode(make_signal(emitted_ms=T0 + 3_600_000)))
    assert state.mode == "delayed"
    state.system["mode"] = {"mode": "simulated"}
    assert state.mode == "simulated"


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b'{"signal_id": 1}', b"\xff"])
@pytest.mark.parametrize("kind", ["signal", "outcome", "cancel"])
def test_what_cannot_be_read_is_an_error_and_changes_nothing(state, kind, data):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        state.apply("1-0", "s1", kind, data)
    assert state.signals == {}


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "a-b", "1-2-3", "¹-0"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match="not a message number"):
        position(text)


entries = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["signal", "hit_target", "active", "expired", "cancel"])),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(entries, st.integers(0, 40))
def test_folding_twice_from_any_point_on_is_folding_once(steps, again_from):
    def outcome(signal_id: str, status: str) -> bytes:
        return encode(Outcome(
            signal_id=signal_id, symbol="X", status=status, entry_price=1, current_price=1, target_price=2,
            stop_loss=0.5, pnl_percent=1, created_ms=T0, updated_ms=T0,
        ))  # fmt: skip

    def signal(signal_id: str) -> bytes:
        return encode(Signal(
            signal_id=signal_id, symbol="X", timeframe="1m", action="buy", confidence=0.9, entry_price=1,
            target_price=2, stop_loss=0.5, time_horizon="1d", created_ms=T0, emitted_ms=T0, expires_ms=T0 + DAY,
            reasoning="",
        ))  # fmt: skip

    def entry(step):
        name, kind = step
        data = signal(name) if kind in ("signal", "cancel") else b"{}" if kind == "expired" else outcome(name, kind)
        return name, "outcome" if kind in ("hit_target", "active") else kind, data

    once, twice = State(), State()
    for n, step in enumerate(steps):
        once.apply(f"{n + 1}-0", *entry(step))
    for n, step in enumerate([*steps, *steps[again_from:]]):
        twice.apply(f"{n + 1}-0", *entry(step))
    ended_anew = set(once.signals) - set(twice.signals)
    # A repeat can only end a signal that a later entry of the repeated part ends; it never brings one back.
    assert set(twice.signals) <= set(once.signals)
    assert all(any(name == s[0] and s[1] != "signal" for s in steps[again_from:]) for name in ended_anew)
    assert [o.signal_id for o in once.all_closed()] == [o.signal_id for o in twice.all_closed()]
