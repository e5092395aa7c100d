"""News and options as known at each bar's end, against slow oracles, in any order of arrival."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.events import Halt, Split
from models.messages import News, OptionSummary
from tests.support.series import DAY, MINUTE, walk
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.offline.batch import by_series, compute
from udfs.steps.side_inputs import EVENTS_MAX, SideInputs, known_ms, news_row, option_row, side_input, split_row

HOUR = 60 * MINUTE
KERNEL = Kernel(FeatureConfig(families=("news", "options")))
T0 = 1_600_000_020_000
ZERO = np.zeros(1, np.int64)


def news(identity, created, updated=None, arrived=None, sentiment=0.5, backfilled=False):
    return News(
        symbol="A", news_id=identity, created_ms=created, updated_ms=updated or created, headline="x",
        sentiment=sentiment, ingestion_timestamp_ms=arrived, backfilled=backfilled,
    )  # fmt: skip


def feed(states, message):
    kind, row = side_input(message)
    getattr(KERNEL, kind)(states, ZERO, np.array([row]))


def bar_at(end, length=MINUTE):
    return np.array([[end - length, end, 1, 1, 1, 1, 1, 0, 1.0]])


def look(states, end, length=MINUTE):
    _, out, quality = KERNEL.compute(states, ZERO, bar_at(end, length))
    named = dict(zip(KERNEL.names, out[0], strict=True))
    return named, dict(zip(KERNEL.names, bytes(quality[0]).decode(), strict=True))


def news_oracle(messages, end, hours):
    latest = {}
    for m in sorted(messages, key=known_ms):
        if known_ms(m) <= end:
            latest[m.news_id] = m
    inside = [m for m in latest.values() if end - m.created_ms < hours * HOUR]
    scored = [
        (0.5 ** ((end - m.created_ms) / (hours * HOUR / 2)), m.sentiment) for m in inside if m.sentiment is not None
    ]
    mean = sum(w * s for w, s in scored) / sum(w for w, _ in scored) if scored else np.nan
    return len(inside), mean


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_news_equals_the_oracle_in_any_order(data):
    article = st.builds(
        lambda i, age, delay, edit, score: (i, age, delay, edit, score),
        st.integers(0, 11), st.integers(0, 30 * 60), st.integers(0, 90), st.integers(0, 300),
        st.none() | st.floats(-1, 1).map(lambda x: round(x, 6)),
    )  # fmt: skip
    first = {}
    messages = []
    for i, at, delay, edit, score in data.draw(st.lists(article, max_size=25)):
        created = first.setdefault(i, T0 + at * MINUTE)
        updated = created if created == T0 + at * MINUTE else created + edit * MINUTE
        arrived = updated + delay * MINUTE + len(messages)
        messages.append(news(str(i), created, updated, arrived, score))
    ends = sorted(data.draw(st.sets(st.integers(1, 40 * 60), min_size=1, max_size=25)))
    lag = data.draw(st.integers(0, 120))
    states = KERNEL.new_states(1)
    waiting = sorted(messages, key=lambda m: m.ingestion_timestamp_ms)
    ever = False
    for end in (T0 + e * MINUTE for e in ends):
        while waiting and waiting[0].ingestion_timestamp_ms <= end + lag * MINUTE:
            feed(states, waiting.pop(0))
            ever = True
        values, quality = look(states, end)
        for hours in (1, 24):
            volume, mean = news_oracle(messages, end, hours)
            if not ever:
                assert quality[f"news_volume_{hours}h"] == "m"
                continue
            assert values[f"news_volume_{hours}h"] == volume
            np.testing.assert_allclose(values[f"news_sentiment_{hours}h"], mean, atol=1e-6)
            assert quality[f"news_sentiment_{hours}h"] == ("z" if np.isnan(mean) else ".")


def test_a_bar_never_sees_an_article_edited_after_it():
    at10 = T0 + 10 * HOUR
    states = KERNEL.new_states(1)
    feed(states, news("a", at10 - HOUR // 2, sentiment=-0.25))
    feed(states, news("a", at10 - HOUR // 2, at10 + 5 * MINUTE, sentiment=0.75))
    assert look(states, at10)[0]["news_sentiment_1h"] == pytest.approx(-0.25, abs=1e-6)
    assert look(states, at10 + 4 * MINUTE)[0]["news_sentiment_1h"] == pytest.approx(-0.25, abs=1e-6)
    values, _ = look(states, at10 + 5 * MINUTE)
    assert values["news_sentiment_1h"] == pytest.approx(0.75, abs=1e-6)
    assert values["news_volume_1h"] == 1


def test_an_article_counts_from_its_arrival_and_leaves_by_its_creation():
    states = KERNEL.new_states(1)
    feed(states, news("a", T0, arrived=T0 + 10 * MINUTE))
    seen = [look(states, T0 + m * MINUTE)[0]["news_volume_1h"] for m in (9, 10, 59, 60, 61)]
    assert seen == [0, 1, 1, 0, 0]
    assert look(states, T0 + 24 * HOUR - MINUTE)[0]["news_volume_24h"] == 1
    assert look(states, T0 + 24 * HOUR)[0]["news_volume_24h"] == 0


def test_news_survives_long_silences_and_floods():
    states = KERNEL.new_states(1)
    feed(states, news("a", T0))
    assert look(states, T0 + MINUTE)[0]["news_volume_24h"] == 1
    assert look(states, T0 + 25 * DAY + 5 * MINUTE)[0]["news_volume_24h"] == 0
    for i in range(100):
        feed(states, news(f"b{i}", T0 + 60 * DAY + i * MINUTE))
    assert look(states, T0 + 60 * DAY + 100 * MINUTE)[0]["news_volume_24h"] == 32


def test_backfilled_news_counts_from_its_own_time():
    assert known_ms(news("a", 5, 7, arrived=10_000)) == 10_000
    assert known_ms(news("a", 5, 7, arrived=10_000, backfilled=True)) == 7
    assert known_ms(news("a", 5, 7)) == 7
    assert news_row(news("a", 5, sentiment=None))[:2] == (5, 5)
    assert np.isnan(news_row(news("a", 5, sentiment=None))[2])


def option(at, call=None, put=None, ratio=None, iv=None, arrived=None):
    return OptionSummary(
        symbol="A", timestamp_ms=int(at), call_volume=call, put_volume=put, put_call_ratio=ratio,
        implied_volatility=iv, ingestion_timestamp_ms=arrived,
    )  # fmt: skip


def test_options_equal_the_oracle_over_two_years():
    rng = np.random.default_rng(4)
    states = KERNEL.new_states(1)
    midnight = T0 - T0 % DAY + 4 * HOUR
    ivs, calls, usual = [], [], np.nan
    for day in range(600):
        iv, call, put = (
            round(float(rng.uniform(0.1, 0.9)), 5),
            float(rng.integers(1, 9999)),
            float(rng.integers(1, 9999)),
        )
        at = midnight + day * DAY + 12 * HOUR
        feed(states, option(at - HOUR, call / 2, put / 2, iv=0.5))
        feed(states, option(at, call, put, iv=iv))
        values, quality = look(states, at + MINUTE)
        year = ivs[-252:]
        if len(ivs) >= 20:
            assert values["iv_rank"] == pytest.approx((iv - min([*year, iv])) / (max([*year, iv]) - min([*year, iv])))
            assert values["iv_percentile"] == np.mean(np.array(year) < iv)
        else:
            assert quality["iv_rank"] == quality["iv_percentile"] == "w"
        if day >= 5:
            assert values["unusual_call_volume"] == pytest.approx(call / usual)
        else:
            assert quality["unusual_call_volume"] == "w"
        assert values["put_call_ratio"] == put / call
        ivs.append(iv)
        calls.append(call)
        usual = call if day == 0 else usual + (call - usual) * 2 / 21


def test_a_summary_waits_for_the_bar_that_may_know_it():
    states = KERNEL.new_states(1)
    look(states, T0)
    feed(states, option(T0 + MINUTE, ratio=0.5, arrived=T0 + 3 * MINUTE))
    feed(states, option(T0 + 4 * MINUTE, ratio=0.75, arrived=T0 + 5 * MINUTE))
    seen = [look(states, T0 + m * MINUTE) for m in (1, 2, 3, 4, 5)]
    assert [q["put_call_ratio"] for _, q in seen] == ["m", "m", ".", ".", "."]
    assert [v["put_call_ratio"] for v, _ in seen[2:]] == [0.5, 0.5, 0.75]
    assert look(states, T0 + 4 * MINUTE + 4 * DAY)[1]["put_call_ratio"] == "."
    assert look(states, T0 + 5 * MINUTE + 4 * DAY)[1]["put_call_ratio"] == "s"
    assert option_row(option(5, call=1.0))[:3] == (5, 5, 1)


def test_missing_parts_of_a_summary_are_named():
    states = KERNEL.new_states(1)
    feed(states, option(T0, call=0.0, put=5.0))
    _, quality = look(states, T0)
    assert quality == dict.fromkeys(KERNEL.names, "m") | {
        "unusual_call_volume": "w", "unusual_put_volume": "w", "put_call_ratio": "z",
    }  # fmt: skip


def test_split_messages():
    known = Split(symbol="A", timestamp_ms=4, ratio=1.5, effective_ms=5)
    assert split_row(known) == (5.0, 1.5)
    assert side_input(known) == ("split", (5.0, 1.5))
    assert side_input(Halt(symbol="A", timestamp_ms=5)) is None


def test_side_inputs_survive_restores_and_revisions():
    messages = [news(str(i), T0 + i * 3 * MINUTE, sentiment=0.01 * i, arrived=T0 + i * 4 * MINUTE) for i in range(20)]
    messages += [option(T0 + i * 7 * MINUTE, call=5 + i, put=9, iv=0.2 + i / 100) for i in range(10)]
    plain, moved = KERNEL.new_states(1), KERNEL.new_states(1)
    bars = walk(120)
    for i, bar in enumerate(bars):
        for m in messages:
            if (m.ingestion_timestamp_ms or m.timestamp_ms) // MINUTE == bar[0] // MINUTE:
                feed(plain, m)
                feed(moved, m)
                feed(moved, m)
        expected = KERNEL.compute(plain, ZERO, bar[None])[1]
        revised = bar.copy()
        revised[7] = 1
        KERNEL.compute(moved, ZERO, bar[None])
        moved = KERNEL.decode_state(KERNEL.encode_state(moved[0]))[None].copy()
        assert KERNEL.compute(moved, ZERO, revised[None])[1].tobytes() == expected.tobytes(), i


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_events_are_dealt_as_the_batch_does_however_frames_are_cut(data):
    """What a bar knows depends on times alone: not on the order of arrival, nor on frames, nor on a restart."""
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    bars = walk(60)
    first, last = bars[0, 0], bars[-1, 1]
    messages = [news(str(i), int(t), arrived=int(t + rng.integers(0, 5 * MINUTE)), sentiment=i / 30)
                for i, t in enumerate(rng.uniform(first - HOUR, last + HOUR, 20))]  # fmt: skip
    messages += [option(int(t), call=float(i + 1), put=9.0, iv=0.3) for i, t in enumerate(rng.uniform(first, last, 8))]
    expected = compute(KERNEL, np.zeros(60, np.int64), bars, by_series(messages, [("A", "1m")]))[1]
    states = KERNEL.new_states(1)
    found, at, side = [], 0, None
    while at < len(bars):
        if side is None or data.draw(st.booleans()):  # a restart: the whole log again, in any order
            side = SideInputs()
            for i in rng.permutation(len(messages)):
                side.add(messages[i])
        size = data.draw(st.integers(1, 25))
        frame = bars[at : at + size]
        last_end = float(bars[at - 1, 1]) if at else None
        stops = {}
        for bar, event in side.due("A", last_end, frame[:, 1]):
            stops.setdefault(bar, []).append(event)
        for i, bar in enumerate(frame):
            for kind, row in stops.get(i, ()):
                getattr(KERNEL, kind)(states, ZERO, np.array([row]))
            found.append(KERNEL.compute(states, ZERO, bar[None])[1][0])
        at += size
    assert np.array(found).tobytes() == expected.tobytes()


def test_repeats_and_other_events_are_no_side_inputs():
    side = SideInputs()
    story = news("a", T0)
    assert not side
    assert side.add(story) == ("news", news_row(story))
    assert side.add(story) is None
    assert side.add(Halt(symbol="A", timestamp_ms=T0)) is None
    assert "A" in side
    assert "B" not in side
    assert side.due("B", None, np.array([T0])) == []
    assert side.due("A", float(T0), np.array([T0 + MINUTE])) == []
    assert side.due("A", None, np.array([T0 - MINUTE, T0])) == [(1, ("news", news_row(story)))]


def test_old_events_are_let_go_once_there_are_many():
    side = SideInputs()
    for i in range(2 * EVENTS_MAX):
        side.add(news(str(i), T0 + i * MINUTE))
    side.forget("A", T0 + (2 * EVENTS_MAX - 1) * MINUTE)
    assert len(side.due("A", None, np.array([1e18]))) == 1
