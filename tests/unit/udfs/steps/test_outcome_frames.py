"""Frames of several topics through the outcomes job's pure part: what is taken, refused, kept and restored."""

import base64
import random

import pytest

from connectors.venues.history import split as announced_split
from models.events import Split
from models.messages import Bar, DeadLetter, Outcome, Signal, decode, encode, topic_of
from models.outcomes.tracker import Tracker
from udfs.frames.groups import group_of
from udfs.steps.outcome_frames import FollowSettings, OutcomeFrames, changed_records, outdated_keys, restore

MINUTE = 60_000
BASE = 1_000_000_020_000
GROUP = group_of("AAPL", 8)


def bar(i, open_=100.0, high=101.0, low=99.0, close=100.0, revision=0):
    start = BASE + i * MINUTE
    return Bar(symbol="AAPL", timeframe="1m", start_ms=start, end_ms=start + MINUTE, open=open_, high=high, low=low,
               close=close, volume=1.0, revision=revision)  # fmt: skip


def signal(name, i, life=30, side=1, entry=100.0):
    return Signal(
        signal_id=f"{name}-0", symbol="AAPL", timeframe="1m", action="buy" if side > 0 else "sell", confidence=0.7,
        entry_price=entry, target_price=entry + side * 4, stop_loss=entry - side * 2, time_horizon="1d",
        created_ms=BASE + i * MINUTE, emitted_ms=0, expires_ms=BASE + (i + life) * MINUTE, reasoning="",
    )  # fmt: skip


def frame(messages):
    """Messages (or (topic, bytes)) as the JVM joins them."""
    parts, places = [], []
    for offset, message in enumerate(messages):
        topic, payload = message if isinstance(message, tuple) else (topic_of(message), encode(message))
        parts.append(payload.decode("latin-1"))
        places.append(f"{topic}:1:{offset}")
    return "\x1e".join(parts), ",".join(places)


def sent(records, topic, kind):
    return [decode(record.payload, kind) for record in records if record.topic == topic]


def take(frames, tracker, *messages):
    return frames.take(tracker, GROUP, *frame(messages))


def test_a_frame_of_all_topics_gives_outcomes_by_symbol_and_event_time():
    frames = OutcomeFrames(FollowSettings(cost_bps=10.0))
    given = take(frames, frames.new_tracker(), signal("s", 0), bar(0), bar(1, high=105.0))
    told = sent(given.records, "signal-outcomes", Outcome)
    assert [(one.status, one.pnl_percent) for one in told] == [("active", pytest.approx(-0.1)), ("hit_target", 3.9)]
    assert [one.status for one in given.newest] == ["hit_target"]  # Redis is written the newest alone
    assert list(given.records)[1][1:3] == ("AAPL", BASE + 2 * MINUTE)


EFFECTIVE = BASE + MINUTE
SPLITS = {
    "typed": encode(Split(symbol="AAPL", timestamp_ms=BASE - MINUTE, ratio=2.0, effective_ms=EFFECTIVE)),
    "recorded with a ratio": b'{"symbol":"AAPL","timestamp_ms":%d,"kind":"split","detail":{"ratio":2.0}}' % EFFECTIVE,
    "recorded with rates": b'{"symbol":"AAPL","timestamp_ms":%d,"kind":"split","detail":{"new_rate":2,"old_rate":1}}'
    % EFFECTIVE,
    "recorded by ingestion": b'{"symbol":"AAPL","timestamp_ms":%d,"kind":"split",'
    b'"detail":{"split_to":2,"split_from":1,"effective_ms":%d}}' % (BASE - MINUTE, EFFECTIVE),
}


@pytest.mark.parametrize("event", SPLITS.values(), ids=SPLITS)
def test_a_split_is_applied_before_and_after_a_restart(event):
    frames = OutcomeFrames(FollowSettings())
    tracker, records = frames.new_tracker(), {}
    for some in ([("market-data-status", event)], [signal("s", 0), bar(0)]):
        take(frames, tracker, *some)
        records |= dict(changed_records(tracker))
    for again in (False, True):
        if again:
            tracker = frames.new_tracker()
            restore(tracker, records)
        given = take(frames, tracker, bar(1, 50.0, 50.5, 49.5, 50.2))
        assert [one.current_price for one in sent(given.records, "signal-outcomes", Outcome)] == [100.4]


def test_a_split_as_ingestion_publishes_it_reaches_outcomes():
    """10 for 1, known a week ahead: the open buy is neither stopped nor gains by it."""
    frames = OutcomeFrames(FollowSettings(cost_bps=0.0))
    tracker = frames.new_tracker()
    event = announced_split("AAPL", "polygon", "2001-09-10", 10, 1, BASE - 7 * 86_400_000)
    before = signal("s", 0, life=100_000, entry=1200.0)
    take(frames, tracker, event, before, bar(0, 1200.0, 1201.0, 1199.0, 1200.0))
    i = (event.effective_ms - BASE) // MINUTE
    given = take(frames, tracker, bar(i, 120.0, 120.2, 119.9, 120.1))
    (outcome,) = sent(given.records, "signal-outcomes", Outcome)
    assert (outcome.status, outcome.current_price) == ("active", pytest.approx(1201.0))
    assert outcome.pnl_percent == pytest.approx(100 * 1 / 1200)


def test_what_cannot_be_used_is_a_dead_letter_with_its_place():
    frames = OutcomeFrames(FollowSettings(retention_ms=30 * MINUTE))
    tracker = frames.new_tracker()
    broken = ("trading-signals", b'{"signal_id": 7}')
    bytes_ = ("market-data-status", b"\xff\xfe")
    given = take(frames, tracker, bar(0), broken, bytes_, ("market-data-bars", b"{}"))
    letters = sent(given.records, "dead-letter", DeadLetter)
    assert [(one.topic, one.partition, one.offset) for one in letters] == [
        ("trading-signals", 1, 1), ("market-data-status", 1, 2),
    ]  # fmt: skip
    assert base64.b64decode(letters[1].payload_base64) == b"\xff\xfe"
    assert (given.bars_refused, given.signals_refused) == (1, 2)  # the bar is the signals job's dead letter
    take(frames, tracker, *(bar(i) for i in range(1, 200)))
    late = sent(take(frames, tracker, signal("late", 0)).records, "dead-letter", DeadLetter)
    assert [one.field for one in late] == ["created_ms"]
    assert late[0].reason.startswith("late: bars of AAPL 1m are kept from ")


def test_a_bar_the_signals_job_refuses_cannot_end_a_signal():
    frames = OutcomeFrames(FollowSettings())
    given = take(frames, frames.new_tracker(), signal("s", 0), bar(0, low=-5.0), bar(1))
    assert [one.status for one in sent(given.records, "signal-outcomes", Outcome)] == ["active"]
    assert given.bars_refused == 1


def test_a_message_that_holds_the_separator_does_not_take_its_neighbours_along():
    frames = OutcomeFrames(FollowSettings())
    poison = ("trading-signals", b'{"a": "\x1e"}')
    given = take(frames, frames.new_tracker(), bar(0, high=105.0), poison, signal("s", 0))
    assert [one.status for one in sent(given.records, "signal-outcomes", Outcome)] == ["hit_target"]
    assert len(sent(given.records, "dead-letter", DeadLetter)) >= 1


@pytest.mark.parametrize("seed", range(8))
def test_frames_cut_anywhere_and_restarts_between_them_change_nothing(seed):
    rng = random.Random(seed)
    price, messages = 100.0, []
    for i in range(300):
        price = round(price + rng.uniform(-1, 1), 2)
        messages.append(bar(i, price, price + rng.random(), price - rng.random(), price))
        if rng.random() < 0.4:
            messages.append(signal(f"s{i}", i + 1, rng.choice([1, 10, 60]), rng.choice([1, -1]), price))
    settings = FollowSettings()
    frames = OutcomeFrames(settings)
    whole = take(frames, frames.new_tracker(), *messages).records
    tracker, records, pieces = frames.new_tracker(), {}, []
    at = 0
    while at < len(messages):
        size = rng.choice([1, 2, 7, 40])
        pieces += take(frames, tracker, *messages[at : at + size]).records
        at += size
        records |= dict(changed_records(tracker))
        if rng.random() < 0.3:  # a restart: all that is left is the state
            tracker = frames.new_tracker()
            restore(tracker, records)
    assert sorted(pieces) == sorted(whole)
    assert len(whole) > 300


def test_state_does_not_grow_with_the_history():
    frames = OutcomeFrames(FollowSettings(retention_ms=240 * MINUTE))
    tracker, keys = frames.new_tracker(), set()
    for i in range(0, 6_000, 50):
        take(frames, tracker, signal(f"s{i}", i, 20), *(bar(j) for j in range(i, i + 50)))
        keys |= {key for key, _ in changed_records(tracker)}
        keys -= set(outdated_keys(tracker, keys))
    assert len(keys) <= 4
    series = tracker.series[("AAPL", "1m")]
    assert len(series.bars) < 300
    assert len(series.tracked) < 12
    assert isinstance(tracker, Tracker)
