"""A bundle change: each bar is scored by exactly one bundle, whatever the order of reading; refusals change nothing."""

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.serving.bundle import load_bundle
from models.serving.manifest import Life
from models.serving.rollout import (
    RolloutMessage,
    RolloutState,
    age_days,
    apply,
    bundle_in_force,
    expired,
    expiry_factor,
    shadow_in_force,
    split,
    verify_message,
)


def promote(bundle, at, number):
    return RolloutMessage(kind="promote", bundle=bundle, effective_ms=at, sequence=number)


def replay(*messages, **how):
    state = RolloutState(initial="first")
    for message in messages:
        state = apply(state, message, **how)
    return state


messages = st.lists(
    st.tuples(st.sampled_from(["promote", "rollback"]), st.sampled_from("abc"), st.integers(0, 50)), max_size=8
)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_the_last_word_about_a_moment_wins(drawn):
    """Against a plain table of moments: each message writes its bundle over its barrier and all after it."""
    table, stack = ["first"] * 60, ["first"]
    state = RolloutState(initial="first")
    for number, (kind, bundle, at) in enumerate(drawn):
        if kind == "promote":
            stack.append(bundle)
        elif len(stack) > 1:
            stack.pop()
        else:
            state = apply(state, RolloutMessage(kind="rollback", effective_ms=at, sequence=number))
            assert "nothing to go back to" in state.refused
            continue
        table[at:] = [stack[-1]] * (60 - at)
        state = apply(state, RolloutMessage(kind=kind, bundle=bundle, effective_ms=at, sequence=number))
        assert state.refused == ""
    ends = np.arange(60)[::-1]
    seen = np.concatenate([rows for _, rows in split(state, ends)])
    assert sorted(seen.tolist()) == list(range(60))  # no bar unscored, none scored twice
    for bundle, rows in split(state, ends):
        assert {table[end] for end in ends[rows]} == {bundle}
    assert [bundle_in_force(state, end) for end in range(60)] == table


def test_reading_the_topic_twice_changes_nothing():
    first, second = promote("b", 100, 1), promote("c", 200, 2)
    once = replay(first, second)
    assert apply(apply(once, first), second) == once


def test_state_survives_json():
    state = replay(promote("b", 100, 1), RolloutMessage(kind="shadow", bundle="s", effective_ms=5, sequence=2))
    assert msgspec.json.decode(msgspec.json.encode(state), type=RolloutState) == state


def test_a_refused_bundle_leaves_the_running_one():
    state = replay(promote("good", 100, 1))
    after = apply(state, promote("bad", 150, 2), verify=lambda message: "its hash differs")
    assert after.refused == "promote bad refused: its hash differs"
    assert bundle_in_force(after, 10_000) == "good"
    assert apply(after, promote("better", 200, 3)).refused == ""


def test_shadow_runs_beside_until_it_is_ended():
    state = replay(
        RolloutMessage(kind="shadow", bundle="s", effective_ms=10, sequence=1),
        RolloutMessage(kind="unshadow", effective_ms=20, sequence=2),
    )
    assert [shadow_in_force(state, end) for end in (9, 10, 19, 20)] == ["", "s", "s", ""]
    assert bundle_in_force(state, 15) == "first"


def test_verification_names_both_sides(folder):
    bundle = load_bundle(folder)
    message = RolloutMessage(kind="promote", bundle=str(folder), bundle_id=bundle.id, effective_ms=0, timeframe="1d")
    assert verify_message(message, bundle.manifest, bundle.id) == ""
    refusal = verify_message(message, bundle.manifest, "quick@00000000")
    assert f"announced as {bundle.id}, but the folder holds quick@00000000" in refusal
    minutes = msgspec.structs.replace(message, timeframe="1m")
    assert "announced for 1m bars" in verify_message(minutes, bundle.manifest, bundle.id)
    bundle.close()


def test_expiry_by_age(trained):
    manifest = msgspec.structs.replace(trained[0], life=Life(max_age_days=10, expired_confidence=0.5))
    end = manifest.training.end_ms
    assert age_days(manifest, end + 86_400_000) == 1
    assert age_days(manifest, end - 1) == 0
    assert not expired(manifest, end + 10 * 86_400_000)
    assert expired(manifest, end + 10 * 86_400_000 + 1)
    assert expiry_factor(manifest, end) == 1.0
    assert expiry_factor(manifest, end + 11 * 86_400_000) == 0.5
    assert expiry_factor(msgspec.structs.replace(manifest, life=Life()), end * 9) == 1.0
