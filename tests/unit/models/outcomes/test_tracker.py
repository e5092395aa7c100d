"""The tracker against the hand-worked paths, against itself in any order, and against rules written anew."""

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import Bar, Outcome, Signal
from models.outcomes.tracker import Series, Tracker
from models.trade.exits import STATUS_NAMES
from tests.support import price_paths as paths

MINUTE = 60_000


def bar(start, prices, revision=0, symbol="A", step=MINUTE, timeframe="1m"):
    open_, high, low, close = (float(price) for price in prices)
    return Bar(
        symbol=symbol, timeframe=timeframe, start_ms=start, end_ms=start + step, open=open_, high=high, low=low,
        close=close, volume=1.0, revision=revision,
    )  # fmt: skip


def signal(name, created, expires, side=1, entry=100.0, risk=3.0, revision=0, **changes):
    given_ = {
        "signal_id": f"{name}-{revision}", "symbol": "A", "timeframe": "1m", "action": "buy" if side > 0 else "sell",
        "confidence": 0.7, "entry_price": entry, "target_price": entry + side * 2 * risk,
        "stop_loss": entry - side * risk, "time_horizon": "1d", "created_ms": created, "emitted_ms": 0,
        "expires_ms": expires, "reasoning": "", "revision": revision, "model_votes": {"m": ("buy", 0.7)},
    }  # fmt: skip
    return Signal(**{**given_, **changes})


def finals(outcomes):
    """The last verdict told of each signal, without the count of corrections."""
    last = {}
    for one in outcomes:
        held = last.get(one.signal_id)
        if held is None or (one.revision, one.updated_ms) >= (held.revision, held.updated_ms):
            last[one.signal_id] = one
    return {name: msgspec.structs.replace(one, revision=0) for name, one in last.items() if one.status != "active"}


@pytest.mark.parametrize(("side", "target", "stop", "path", "verdict"), paths.CASES)
def test_the_hand_worked_paths(side, target, stop, path, verdict):
    starts, ends, *prices = paths.columns(path)
    table = [
        bar(int(start), row, step=int(end - start))
        for start, end, row in zip(starts, ends, zip(*prices, strict=True), strict=True)
    ]
    one = signal("s", 0, 50, side, target_price=target, stop_loss=stop)
    told = Tracker().take(signals=[one], bars=table)
    if not told:
        assert verdict[0] == 0
        return
    assert (told[-1].status, told[-1].current_price) == (STATUS_NAMES[verdict[0]], verdict[2])
    assert told[-1].pnl_percent == pytest.approx(side * (verdict[2] - 100.0), abs=1e-12)


def test_an_update_each_minute_of_event_time_and_one_at_the_end():
    tracker = Tracker(update_every_ms=MINUTE)
    flat = (100, 101, 99, 100.5)
    seconds = [bar(i * 1000, flat, step=1000, timeframe="1s") for i in range(130)]
    last = bar(130_000, (100, 120, 99, 119), step=1000, timeframe="1s")
    told = tracker.take(signals=[signal("s", 0, 10**9, timeframe="1s")], bars=[*seconds, last])
    assert [(one.status, one.updated_ms) for one in told] == [
        ("active", 1_000), ("active", 60_000), ("active", 120_000), ("hit_target", 131_000),
    ]  # fmt: skip
    assert told[0].pnl_percent == pytest.approx(0.5)
    assert (told[-1].exit_price, told[-1].exit_reason, told[-1].votes) == (106.0, "target", {"m": "buy"})


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        ((100, 107, 99, 106), "target"),
        ((108, 109, 107, 108), "target_gap"),
        ((100, 101, 96, 98), "stop"),
        ((90, 91, 89, 90), "stop_gap"),
    ],
)
def test_the_exit_reason_tells_a_gap_from_a_touch(prices, reason):
    assert Tracker().take([signal("s", 0, 10**9)], [bar(0, prices)])[-1].exit_reason == reason


def test_costs_are_charged_once():
    told = Tracker(cost_bps=20).take([signal("s", 0, 10**9)], [bar(0, (100, 107, 99, 106))])
    assert told[-1].pnl_percent == pytest.approx(5.8)


def test_a_hold_is_not_followed_and_a_forming_bar_not_believed():
    tracker = Tracker()
    hold = signal("h", 0, 10**9, action="hold")
    forming = msgspec.structs.replace(bar(0, (100, 150, 50, 100)), final=False)
    assert tracker.take([hold, signal("s", 0, 10**9)], [forming]) == []
    assert tracker.take(bars=[bar(0, (100, 101, 99, 100))])[0].status == "active"


def test_expiry_without_a_bar_comes_by_the_clock_a_bar_later_at_the_last_close():
    tracker = Tracker()
    tracker.take([signal("s", 0, 5 * MINUTE)], [bar(0, (100, 101, 99, 100.25))])
    assert tracker.next_expiry_ms == 6 * MINUTE
    assert tracker.expire(6 * MINUTE - 1) == []
    told = tracker.expire(6 * MINUTE)
    assert [(one.status, one.exit_price, one.updated_ms) for one in told] == [("expired", 100.25, 5 * MINUTE)]
    assert tracker.next_expiry_ms == float("inf")
    # a bar that comes after all corrects the verdict, by a revision
    corrected = tracker.take(bars=[bar(MINUTE, (100, 101, 90, 99))])
    assert [(one.status, one.exit_price, one.revision) for one in corrected] == [("hit_stop", 97.0, 1)]
    # and the same once more says nothing
    assert tracker.take(bars=[bar(MINUTE, (100, 101, 90, 99))]) == []


def test_a_revised_bar_can_take_a_verdict_back():
    tracker = Tracker()
    told = tracker.take([signal("s", 0, 5 * MINUTE)], [bar(0, (100, 107, 99, 100))])
    assert told[-1].status == "hit_target"
    told = tracker.take(bars=[bar(0, (100, 102, 99, 100), revision=1)])
    assert [(one.status, one.revision) for one in told] == [("active", 1)]
    told = tracker.take(bars=[bar(MINUTE, (100, 101, 96, 97))])
    assert [(one.status, one.revision) for one in told] == [("hit_stop", 1)]
    assert tracker.take(bars=[bar(0, (100, 150, 99, 100), revision=1)]) == []  # a repeat of a revision


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (signal("s", 0, 10**9, side=-1, revision=1), "revised"),
        (signal("s", 0, 0, revision=1, action="hold", cancels="s-0"), "cancelled"),
    ],
)
def test_a_revision_or_cancellation_voids_the_first(second, reason, late):
    tracker = Tracker()
    first, path = signal("s", 0, 10**9), [bar(0, (100, 101, 99, 100)), bar(MINUTE, (100, 110, 99, 109))]
    told = tracker.take([first], path) if late else tracker.take([first, second], path)
    if late:
        assert told[-1].status == "hit_target"
        told += tracker.take([second])
    void = finals(told)["s-0"]
    assert (void.status, void.exit_reason, void.pnl_percent) == ("expired", reason, 0.0)
    if reason == "revised":
        assert finals(told)["s-1"].status == "hit_stop"
    assert tracker.take([first]) == []  # delivered again


def test_a_split_converts_the_bars_after_it():
    split = [("A", 2 * MINUTE, 2.0)]
    before, after = bar(MINUTE, (100, 101, 99, 100)), bar(2 * MINUTE, (50, 51, 49.5, 50.5))
    hit = bar(3 * MINUTE, (51, 53, 50.5, 52.5))
    for order in ("first", "last"):
        tracker = Tracker()
        told = tracker.take(splits=split if order == "first" else [])
        told += tracker.take([signal("s", MINUTE, 10**9)], [before, after, hit])
        if order == "last":
            assert finals(told)["s-0"].status == "hit_stop"  # a fall by half, as long as the split is unknown
            told += tracker.take(splits=split)
        assert (finals(told)["s-0"].status, finals(told)["s-0"].exit_price) == ("hit_target", 106.0)
        # made after the split: its own units are the new ones
        assert tracker.take([signal("t", 3 * MINUTE, 10**9, entry=51.0, risk=0.9)])[-1].status == "hit_target"


def test_what_comes_too_late_is_refused_by_name():
    tracker = Tracker(retention_ms=100 * MINUTE)
    tracker.take(bars=[bar(i * MINUTE, (100, 101, 99, 100)) for i in range(500)])
    kept = len(tracker.series[("A", "1m")].bars)
    assert 100 <= kept <= 140
    assert tracker.take([signal("s", 0, 10**9)], [bar(MINUTE, (1, 1, 1, 1))]) == []
    assert len(tracker.refused) == 2
    assert all(one.reason.startswith("late: bars of A 1m are kept from ") for one in tracker.refused)


def test_a_backlog_of_bars_ahead_of_its_signals_is_kept_until_event_time_is_there():
    tracker = Tracker(retention_ms=100 * MINUTE)
    for i in range(0, 1_000, 50):  # the signals' topic has not been read yet: event time stands still
        tracker.take(bars=[bar(j * MINUTE, (100, 101, 99, 100)) for j in range(i, i + 50)], clock_ms=0.0)
    told = tracker.take([signal("s", 10 * MINUTE, 20 * MINUTE)], clock_ms=0.0)
    assert (told[-1].status, tracker.refused) == ("expired", [])
    tracker.take(bars=[bar(1_000 * MINUTE, (100, 101, 99, 100))], clock_ms=600.0 * MINUTE)
    assert tracker.series[("A", "1m")].kept_from_ms == 500 * MINUTE
    tracker.take([signal("t", 400 * MINUTE, 410 * MINUTE)], clock_ms=600.0 * MINUTE)
    assert [one.reason for one in tracker.refused] == [f"late: bars of A 1m are kept from {500 * MINUTE} on"]


def history(seed, n_bars=120, n_signals=40):
    """Bars with holes, some revised, and overlapping signals of both sides."""
    rng = random.Random(seed)
    price, table = 100.0, []
    for i in range(n_bars):
        open_ = round(price * (1 + rng.uniform(-0.01, 0.01)), 2)
        price = round(open_ * (1 + rng.uniform(-0.02, 0.02)), 2)
        high, low = round(max(open_, price) + rng.random(), 2), round(min(open_, price) - rng.random(), 2)
        if rng.random() < 0.9:
            table.append(bar(i * MINUTE, (open_, high, low, price)))
            if rng.random() < 0.1:
                close = round(rng.uniform(low, high), 2)
                table.append(bar(i * MINUTE, (open_, high, low, close), revision=1))
    signals = []
    for i in range(n_signals):
        at = rng.randrange(n_bars) * MINUTE
        life = rng.choice([1, 5, 30, 60]) * MINUTE + rng.choice([0, 0, 30_000])
        signals.append(
            signal(f"s{i}", at, at + life, rng.choice([1, -1]), round(rng.uniform(95, 105), 2), rng.choice([0.5, 2, 8]))
        )
    return table, signals


def by_the_rules(table, one):
    """The verdict on one signal, written anew from the published rules."""
    newest = {}
    for each in table:
        if each.start_ms not in newest or each.revision > newest[each.start_ms].revision:
            newest[each.start_ms] = each
    buy = one.action == "buy"
    price = one.entry_price
    for start in sorted(newest):
        each = newest[start]
        if start < one.created_ms:
            continue
        if start >= one.expires_ms:
            return "expired", price, one.expires_ms
        worse = each.open <= one.stop_loss if buy else each.open >= one.stop_loss
        better = each.open >= one.target_price if buy else each.open <= one.target_price
        if worse or better:
            return ("hit_stop" if worse else "hit_target"), each.open, each.end_ms
        if (each.low <= one.stop_loss) if buy else (each.high >= one.stop_loss):
            return "hit_stop", one.stop_loss, each.end_ms
        if (each.high >= one.target_price) if buy else (each.low <= one.target_price):
            return "hit_target", one.target_price, each.end_ms
        price = each.close
        if each.end_ms >= one.expires_ms:
            return "expired", price, each.end_ms
    return None


@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_any_order_of_arrival_gives_the_verdicts_of_the_rules(seed, rng):
    table, signals = history(seed)
    expected = {one.signal_id: by_the_rules(table, one) for one in signals}
    messages = [*table, *signals]
    rng.shuffle(messages)
    tracker, told = Tracker(cost_bps=3.0), []
    while messages:
        size = rng.choice([1, 1, 2, 5, 20])
        some, messages = messages[:size], messages[size:]
        told += tracker.take(
            [one for one in some if isinstance(one, Signal)], [one for one in some if isinstance(one, Bar)]
        )
    got = finals(told)
    for one in signals:
        verdict, final = expected[one.signal_id], got.get(one.signal_id)
        state = tracker.series[("A", "1m")]
        if verdict is None:
            k = [tracked.signal_id for tracked in state.tracked].index(one.signal_id)
            assert state.signals[k, 7] == 0, one
            continue
        assert final is not None, (one, verdict)
        assert (final.status, final.exit_price, final.updated_ms) == verdict
        side = 1 if one.action == "buy" else -1
        assert final.pnl_percent == pytest.approx(side * (verdict[1] / one.entry_price - 1) * 100 - 0.03, abs=1e-9)


@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_the_whole_stream_of_outcomes_is_the_same_in_order_or_with_signals_late(seed, rng):
    """Without late bars even the minute updates do not depend on when the signals arrive."""
    table, signals = history(seed)
    table = [each for each in table if not each.revision]
    together = Tracker().take(signals, table)
    tracker, told = Tracker(), []
    waiting = sorted(signals, key=lambda one: one.created_ms + rng.choice([0, 0, 10, 100]) * MINUTE)
    for each in table:
        ready = [one for one in waiting if one.created_ms <= each.start_ms and rng.random() < 0.3]
        waiting = [one for one in waiting if one not in ready]
        told += tracker.take(ready, [each])
    told += tracker.take(waiting)
    key = lambda one: (one.updated_ms, one.signal_id)  # noqa: E731
    assert sorted(told, key=key) == sorted(together, key=key)


@given(st.integers(0, 10**6), st.integers(1, 100))
@settings(deadline=None, max_examples=20)
def test_state_saved_and_loaded_anywhere_continues_the_same(seed, at):
    table, signals = history(seed)
    whole, half = Tracker(), Tracker()
    told_whole = whole.take(signals[:20], table[:at])
    half.take(signals[:20], table[:at])
    bucket_ms = 16 * MINUTE
    saved, buckets = {}, {}
    for key, series in half.series.items():
        saved[key] = series.dump_signals()
        buckets[key] = dict(series.take_changed_bars(bucket_ms))
    loaded = Tracker()
    for key in saved:
        loaded.series[key] = Series(*key)
        loaded.series[key].load_signals(saved[key])
        loaded.series[key].load_bars(buckets[key].values())
    rest = (signals[20:], table[at:])
    assert loaded.take(*rest) == whole.take(*rest)
    assert isinstance(told_whole, list)
    for key, series in loaded.series.items():
        np.testing.assert_array_equal(series.bars, whole.series[key].bars)


def test_thousands_of_open_signals_on_one_symbol():
    n = 5_000
    tracker = Tracker()
    tracker.take([signal(f"s{i}", 0, 10**12, entry=100.0 + i * 1e-3, risk=10.0) for i in range(n)])
    told = tracker.take(bars=[bar(0, (100, 101, 99, 100))])
    assert len(told) == n
    told = tracker.take(bars=[bar(MINUTE, (100, 1000, 99, 900))])
    assert {one.status for one in told} == {"hit_target"}
    assert len(told) == n
    assert isinstance(told[0], Outcome)
