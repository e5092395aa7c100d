"""The operators over a dictionary as state: list in, list out, restored by a fresh instance, and what they log."""

import logging

import msgspec
import numpy as np
import pandas as pd
import pytest
from pyflink.common import Row

from connectors.settings.outcomes_job import OutcomeSettings
from connectors.settings.signals_job import JobSettings
from models.events import Halt, Split
from models.messages import Bar, DeadLetter, FeatureRow, News, Outcome, Signal, decode, encode
from models.serving.rollout import RolloutMessage
from models.signals.emission import PolicyConfig
from tests.support.flink import Flink, SideInputsInMemory
from tests.support.series import MINUTE, walk
from udfs.frames.codec import unpack_features, unpack_scores
from udfs.frames.groups import group_of
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.operators.features import FrameFeatures
from udfs.operators.outcomes import FollowSignals
from udfs.operators.score import Score
from udfs.operators.signals import FrameSignals

SYMBOL = "AAPL"
GROUP = group_of(SYMBOL, 8)
CONFIG = FeatureConfig()
KERNEL = Kernel(CONFIG)
#: From the open of a session: 2020-09-14 09:30 in New York.
OPEN_MS = 1_600_090_200_000
BARS = [
    Bar(symbol=SYMBOL, source="test", timeframe="1m", start_ms=OPEN_MS + i * MINUTE,
        end_ms=OPEN_MS + (i + 1) * MINUTE, open=b[2], high=b[3],
        low=b[4], close=b[5], volume=b[6])
    for i, b in enumerate(walk(260, seed=5).tolist())
]  # fmt: skip


@pytest.fixture(autouse=True)
def lines(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def frame(messages, topic="market-data-bars", first=0):
    """Messages, or bytes, as the JVM joins those of one topic."""
    payloads = [message if isinstance(message, bytes) else encode(message) for message in messages]
    places = ",".join(f"{topic}:0:{first + i}" for i in range(len(payloads)))
    return Row(GROUP, b"\x1e".join(payloads).decode("latin-1"), places)


def frames_of(bars, size):
    return [frame(part, first=i * size) for i, part in enumerate(bars[i : i + size] for i in range(0, len(bars), size))]


def features_operator(flink, bundle="minute-day", side=(), history=()):
    log = type("Log", (SideInputsInMemory,), {"messages": list(side)})
    settings = JobSettings(_cli_parse_args=[], bundle=bundle)
    operator = FrameFeatures(CONFIG, settings, list(history), 1, log)
    operator.open(flink)
    return operator


def featured(operator, flink, rows):
    return [unpack_features(row[1]) for row in flink.process(operator, rows)]


def values_of(frames):
    return np.concatenate([one.value_matrix() for one in frames])


def logged(lines, text):
    return [record for record in lines.records if text in record.getMessage()]


def test_features_equal_one_kernel_run_and_go_on_in_a_fresh_instance(lines):
    expected = KERNEL.compute(
        KERNEL.new_states(1), np.zeros(len(BARS), np.int64),
        np.array([[b.start_ms, b.end_ms, b.open, b.high, b.low, b.close, b.volume, 0, 2.0] for b in BARS]),
    )[1]  # fmt: skip
    first = Flink()
    found = featured(features_operator(first), first, frames_of(BARS[:150], 7))
    again = Flink(first.state)
    lines.clear()
    found += featured(features_operator(again), again, frames_of(BARS[150:], 7))
    assert values_of(found).tobytes() == expected.tobytes()
    (restored,) = logged(lines, "state restored")
    assert (restored.group, restored.count, restored.instance) == (GROUP, 1, 0)
    assert not logged(lines, "state migrated")
    assert logged(lines, "open: 65 features, 8 symbol groups")[0].bundle == "minute-day"
    assert again.counters["bars"].count == 110


def test_a_bad_message_and_a_repeat_are_dead_letters_and_the_next_bar_is_computed():
    flink = Flink()
    (one,) = featured(features_operator(flink), flink, [frame([BARS[0], b"{oops", BARS[0], BARS[1]])])
    letters = [decode(letter, DeadLetter) for letter in one.dead_letters]
    assert [(letter.topic, letter.offset) for letter in letters] == [("market-data-bars", 1), ("market-data-bars", 2)]
    assert "duplicate" in letters[1].reason
    assert len(one) == 2
    assert flink.counters["dead_letters"].count == 2


def test_side_inputs_read_at_the_start_reach_the_bars_that_may_know_them(lines):
    story = News(
        symbol=SYMBOL, news_id="1", created_ms=BARS[9].end_ms, updated_ms=BARS[9].end_ms, headline="x", sentiment=0.5
    )
    split = Split(symbol=SYMBOL, timestamp_ms=BARS[0].end_ms, ratio=2.0, effective_ms=BARS[20].start_ms)
    side = [("market-data-news", 0, story), ("market-data-status", 0, split)]
    flink = Flink()
    found = values_of(featured(features_operator(flink, side=side), flink, frames_of(BARS[:40], 6)))
    sentiment = found[:, KERNEL.column_of("news_sentiment_1h")]
    assert np.isnan(sentiment[:9]).all()
    assert sentiment[9] == 0.5
    assert logged(lines, "side inputs read to their ends")[0].count == 2
    plain = Flink()
    without = values_of(featured(features_operator(plain), plain, frames_of(BARS[:40], 6)))
    column = KERNEL.column_of("momentum_1")
    assert (found[:20, column] == without[:20, column])[1:].all()
    assert found[20, column] == pytest.approx(BARS[20].close / (BARS[19].close / 2) - 1)


def announcement(bundle, effective_ms, offset, kind="promote"):
    message = RolloutMessage(kind=kind, effective_ms=effective_ms, bundle=bundle, sequence=offset)
    return Row(encode(message).decode("latin-1"), 0, offset)


def test_a_bundle_change_is_applied_from_its_bar_on_and_a_refused_one_is_logged(lines):
    flink = Flink()
    operator = features_operator(flink)
    assert list(operator.process_broadcast_element(announcement("daily-swing", BARS[10].end_ms, 0), flink)) == []
    (letter,) = operator.process_broadcast_element(announcement("no-such", 1, 1), flink)
    assert b"no bundle named 'no-such'" in unpack_features(letter[1]).dead_letters[0]
    assert logged(lines, "bundle change applies: promote")[0].bundle == "daily-swing"
    assert "no-such" in logged(lines, "bundle change refused")[0].reason
    (one,) = featured(operator, flink, [frame(BARS[:20])])
    assert [(part.bundle, len(part.bar_numbers(20))) for part in one.parts] == [("minute-day", 10), ("daily-swing", 10)]
    later = Flink(flink.state)
    (one,) = featured(features_operator(later), later, [frame(BARS[20:30], first=20)])
    assert [part.bundle for part in one.parts] == ["daily-swing"]


def scored(frames, bundle="minute-day", worker=None):
    if worker is None:
        worker = Score(bundle, KERNEL.feature_set, "thread")
        worker.open(None)
    packed = [Row(one.group, msgspec.msgpack.encode(one)) for one in frames]
    return packed, list(worker.eval(pd.Series([row[1] for row in packed])))


def test_scores_come_frame_by_frame_and_a_model_that_is_skipped_is_logged_once(lines):
    flink = Flink()
    frames = featured(features_operator(flink), flink, frames_of(BARS, 50))
    worker = Score("minute-day", KERNEL.feature_set, "thread")
    worker.open(None)
    assert logged(lines, "bundle loaded")[0].bundle.startswith("minute-day@")
    _, first = scored(frames, worker=worker)
    _, second = scored(frames, worker=worker)
    ours, again = [unpack_scores(one) for one in first], [unpack_scores(one) for one in second]
    assert len(ours) == len(frames)
    assert [one.parts[0].probabilities for one in ours] == [one.parts[0].probabilities for one in again]
    cold = ours[0].parts[0].skipped  # the first bars lack inputs: every model that cannot do without them abstains
    assert set(cold) == {record.model for record in logged(lines, "model skipped")}
    bundle = worker._bundles.get("minute-day")
    bundle._models[0] = Raising()
    for _ in range(3):
        scored(frames, worker=worker)
    raised = [record for record in logged(lines, "model skipped") if "broken on purpose" in str(record.reason)]
    assert len(raised) == 1


class Raising:
    """A model that cannot answer."""

    features = ()

    def predict(self, inputs):
        raise RuntimeError("broken on purpose")

    def contributions(self, inputs):
        raise RuntimeError("broken on purpose")


def signals_operator(flink, **settings):
    job = JobSettings(_cli_parse_args=[], bundle="minute-day", **settings)
    operator = FrameSignals(KERNEL.feature_set, job, PolicyConfig())
    operator.open(flink)
    return operator


def sent(rows, topic, kind):
    return [decode(payload, kind) for row in rows if row[0] == topic for payload in row[2].values()]


def inputs_of_signals():
    flink = Flink()
    frames = featured(features_operator(flink), flink, frames_of(BARS, 20))
    packed, scores = scored(frames)
    return [Row(row[0], row[1], score) for row, score in zip(packed, scores, strict=True)]


def without_clock(messages):
    return [msgspec.structs.replace(one, emitted_ms=0) if isinstance(one, Signal) else one for one in messages]


def test_signals_and_rows_are_the_same_when_a_fresh_instance_goes_on(lines):
    inputs = inputs_of_signals()
    whole = Flink()
    expected = whole.process(signals_operator(whole), inputs)
    assert len(sent(expected, "features", FeatureRow)) == len(BARS)
    signals = sent(expected, "trading-signals", Signal)
    assert signals
    assert {one.feature_set_hash for one in signals} == {KERNEL.feature_set_hash}
    first = Flink()
    parts = first.process(signals_operator(first), inputs[:6])
    again = Flink(first.state)
    lines.clear()
    parts += again.process(signals_operator(again), inputs[6:])
    assert without_clock(sent(parts, "trading-signals", Signal)) == without_clock(signals)
    assert sent(parts, "features", FeatureRow) == sent(expected, "features", FeatureRow)
    assert logged(lines, "state restored")[0].count == 1
    assert whole.counters["signals"].count == len(signals)


def test_halts_that_travel_in_frames_withhold_and_survive():
    inputs = inputs_of_signals()
    flink = Flink()
    feature = Flink()
    halt = Halt(symbol=SYMBOL, timestamp_ms=BARS[0].start_ms)
    (only,) = featured(features_operator(feature), feature, [frame([halt], "market-data-status")])
    packed, scores = scored([only])
    operator = signals_operator(flink)
    flink.process(operator, [Row(packed[0][0], packed[0][1], scores[0])])
    again = Flink(flink.state)
    rows = again.process(signals_operator(again), inputs)
    assert sent(rows, "trading-signals", Signal) == []
    assert "halted" in {row.withheld for row in sent(rows, "features", FeatureRow)}


def test_a_model_that_fails_to_explain_is_counted_and_logged_once(lines):
    inputs = inputs_of_signals()
    flink = Flink()
    operator = signals_operator(flink)
    bundle = operator._bundles.get("minute-day")
    bundle._models[0] = Raising()
    name = bundle.manifest.models[0].name
    assert sent(flink.process(operator, inputs), "trading-signals", Signal)
    assert flink.counters[f"model={name}.failed"].count > 0
    (record,) = logged(lines, "model failed to explain")
    assert (record.model, record.bundle) == (name, bundle.id)


def opened(i):
    return Signal(
        signal_id="s-0", symbol=SYMBOL, timeframe="1m", action="buy", confidence=0.7, entry_price=BARS[i].close,
        target_price=BARS[i].close * 1.5, stop_loss=BARS[i].close * 0.5, time_horizon="1d", created_ms=BARS[i].end_ms,
        emitted_ms=0, expires_ms=BARS[i].end_ms + 100 * MINUTE, reasoning="",
    )  # fmt: skip


def outcomes_operator(flink):
    operator = FollowSignals(OutcomeSettings(_cli_parse_args=[]))
    operator.open(flink)
    return operator


def test_outcomes_are_the_same_when_a_fresh_instance_goes_on_and_a_timer_ends_the_signal(lines):
    inputs = [frame([opened(3)], "trading-signals"), *frames_of(BARS[4:60], 9)]
    whole = Flink()
    operator = outcomes_operator(whole)
    expected = sent(whole.process(operator, inputs), "signal-outcomes", Outcome)
    assert [one.status for one in expected][-1] == "active"
    assert whole.timers == sorted(whole.timers)
    first = Flink()
    found = first.process(outcomes_operator(first), inputs[:3])
    again = Flink(first.state)
    lines.clear()
    fresh = outcomes_operator(again)
    found += again.process(fresh, inputs[3:])
    assert sent(found, "signal-outcomes", Outcome) == expected
    assert logged(lines, "state restored")
    again.watermark = opened(3).expires_ms + 10 * MINUTE
    (end,) = sent(list(fresh.on_timer(again.watermark, again)), "signal-outcomes", Outcome)
    assert (end.status, end.exit_price) == ("expired", BARS[59].close)


def test_a_signal_that_cannot_be_read_is_a_dead_letter_and_the_next_one_is_followed():
    flink = Flink()
    rows = flink.process(outcomes_operator(flink), [frame([b'{"signal_id": 7}', opened(3)], "trading-signals"),
                                                    frame(BARS[4:6], first=4)])  # fmt: skip
    (letter,) = sent(rows, "dead-letter", DeadLetter)
    assert (letter.topic, letter.offset) == ("trading-signals", 0)
    assert sent(rows, "signal-outcomes", Outcome)
    assert flink.counters["signals_refused"].count == 1
