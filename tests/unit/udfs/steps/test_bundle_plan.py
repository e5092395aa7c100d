"""Which bundle scores which bar of a frame, and what the scorer and the decider make of it."""

import shutil

import msgspec
import numpy as np
import pandas as pd
import pytest

from models.messages import FeatureRow, Signal, decode, encode
from models.serving.bundle import bundle_path, load_bundle
from models.serving.bundle_cache import BundleCache
from models.serving.manifest import encode_manifest
from models.serving.rollout import RolloutMessage, ShadowScore
from models.signals.protections import Halts
from tests.support.series import walk
from udfs.frames.codec import FeatureFrame, Part, PartScores, ScoreFrame, pack, unpack_scores
from udfs.kernel.compiler import BAR_COLUMNS, FeatureConfig, Kernel
from udfs.operators.score import Score
from udfs.steps.bundle_plan import BundlePlan
from udfs.steps.decide_frames import Decider, DecideSettings, judge

KERNEL = Kernel(FeatureConfig())
JOB = KERNEL.feature_set
OPEN_MS = 1_699_972_200_000  # 2023-11-14 09:30 in New York
ENDS = np.array([100, 200, 300, 400])


def announcement(kind, effective_ms, bundle="", **fields):
    return encode(RolloutMessage(kind=kind, effective_ms=effective_ms, bundle=bundle, **fields))


def bundle_plan(history=()):
    return BundlePlan("daily-swing", history, JOB)


def planned(found):
    return [(part.bundle, part.bar_numbers(len(ENDS)).tolist()) for part in found]


def test_without_changes_the_jobs_own_bundle_scores_every_bar():
    parts, shadows = bundle_plan().plan(None, ENDS)
    assert parts == [Part("daily-swing")]
    assert shadows == []


def test_each_bar_is_scored_once_by_the_bundle_of_its_end():
    one = bundle_plan()
    state, refused = one.after(None, 0, announcement("promote", 200, "minute-day"))
    state, _ = one.after(state, 1, announcement("rollback", 400))
    state, _ = one.after(state, 2, announcement("shadow", 300, "minute-day"))
    assert refused == ""
    parts, shadows = one.plan(state, ENDS)
    assert sorted(planned(parts)) == [("daily-swing", [0, 3]), ("minute-day", [1, 2])]
    assert planned(shadows) == [("minute-day", [2, 3])]


def test_history_known_at_the_start_and_the_stream_come_to_the_same():
    messages = [announcement("promote", 200, "minute-day"), announcement("shadow", 100, "daily-swing")]
    known = bundle_plan(list(enumerate(messages)))
    streamed, state = bundle_plan(), None
    for offset, message in enumerate(messages):
        state, _ = streamed.after(state, offset, message)
    assert known.plan(None, ENDS) == streamed.plan(state, ENDS) == known.plan(state, ENDS)
    again, _ = known.after(state, 1, messages[1])
    assert again == state


def test_what_cannot_be_used_is_refused_with_its_reason_and_changes_nothing(tmp_path):
    torn = tmp_path / "torn"
    shutil.copytree(bundle_path("minute-day"), torn)
    model = next(path for path in torn.iterdir() if path.suffix == ".onnx")
    model.write_bytes(model.read_bytes()[:-100])
    other = tmp_path / "other"
    shutil.copytree(bundle_path("minute-day"), other)
    manifest = load_bundle(other).manifest
    (other / "manifest.json").write_bytes(encode_manifest(msgspec.structs.replace(manifest, feature_set_hash="0" * 16)))
    one = bundle_plan()
    state = None
    for offset, (payload, reason) in enumerate(
        [
            (b"\xff{", "not a bundle change"),
            (announcement("promote", 200, str(torn)), "truncated"),
            (announcement("promote", 200, str(other)), "feature set"),
            (announcement("promote", 200, "no-such"), "no bundle"),
            (announcement("promote", 200, "minute-day", bundle_id="minute-day@00000000"), "copy the bundle"),
            (announcement("rollback", 200), "nothing was promoted"),
        ]
    ):
        state, refused = one.after(state, offset, payload)
        assert reason in refused
    assert one.plan(state, ENDS)[0] == [Part("daily-swing")]


def test_a_change_for_other_bars_concerns_another_job():
    one = bundle_plan()
    state, refused = one.after(None, 0, announcement("promote", 200, "minute-day", timeframe="1m"))
    assert refused == ""
    assert one.plan(state, ENDS)[0] == [Part("daily-swing")]


def frame_of(parts, shadows, n=220):
    bars = walk(n)
    bars[:, :2] += OPEN_MS - bars[0, 0]
    _, values, quality = KERNEL.compute(KERNEL.new_states(1), np.zeros(n, np.int64), bars)
    return FeatureFrame(
        0, len(JOB.names), [("A", "1m", "")], np.zeros(n, np.int32).tobytes(),
        bars[:, : len(BAR_COLUMNS[:8])].tobytes(),
        values.tobytes(), quality.tobytes(), parts, shadows, [],
    )  # fmt: skip


def rows(*numbers):
    return np.array(numbers, np.int32).tobytes()


def scored(frame, worker=None):
    if worker is None:
        worker = Score("daily-swing", JOB, "thread")
        worker.open(None)
    return unpack_scores(worker.eval(pd.Series([pack(frame)]))[0])


def decided(frame, scores):
    decider = Decider(BundleCache(JOB).get, JOB, DecideSettings())
    return decider.decide(
        frame, scores, decider.new_states(1), np.zeros(1, np.int64), decider.new_account(), {"A": ""}, Halts()
    )  # fmt: skip


def records(found, topic, kind):
    return [decode(record.payload, kind) for record in found.records if record.topic == topic]


def test_a_frame_across_a_barrier_is_scored_in_two_parts_as_each_bundle_scores_alone():
    half = 110
    early, late = rows(*range(half)), rows(*range(half, 220))
    frame = frame_of([Part("daily-swing", early), Part("minute-day", late)], [Part("minute-day", early)])
    found = decided(frame, scored(frame))
    alone = {
        name: decided(whole := frame_of([Part(name)], []), scored(whole)) for name in ("daily-swing", "minute-day")
    }
    answers = {name: records(one, "features", FeatureRow) for name, one in alone.items()}
    expected = answers["daily-swing"][:half] + answers["minute-day"][half:]
    got = records(found, "features", FeatureRow)
    assert [(r.bundle, r.action, r.confidence) for r in got] == [(r.bundle, r.action, r.confidence) for r in expected]
    shadows = records(found, "shadow-scores", ShadowScore)
    assert [(s.bundle, s.action, s.confidence) for s in shadows] == [
        (r.bundle, r.action or "none", r.confidence) for r in answers["minute-day"][:half]
    ]
    assert {s.in_force for s in shadows} == {answers["daily-swing"][0].bundle}
    for made in records(found, "trading-signals", Signal):
        assert made.bundle == got[[r.end_ms for r in got].index(made.created_ms)].bundle


def test_a_bundle_that_has_gone_since_leaves_bars_without_a_decision_and_says_why():
    frame = frame_of([Part("gone")], [])
    scores = scored(frame)
    assert scores.parts[0].models == ()
    assert "no bundle" in scores.parts[0].skipped["gone"]
    found = records(decided(frame, scores), "features", FeatureRow)
    assert len(found) == len(frame)
    assert {row.action for row in found} == {None}
    assert {row.withheld for row in found} == {"no_models"}


def test_every_silent_model_of_a_signal_is_named():
    frame = frame_of([Part("daily-swing")], [])
    scores = scored(frame)
    probabilities = scores.parts[0].probability_array().copy()
    probabilities[:, 0] = np.nan
    scores.parts[0].probabilities = probabilities.tobytes()
    signals = records(decided(frame, scores), "trading-signals", Signal)
    assert signals
    assert all(made.skipped_models == {scores.parts[0].models[0]: "returned NaN"} for made in signals)


@pytest.mark.parametrize(("age_ms", "factor"), [(0, 1.0), (5_000 * 86_400_000, 0.5)])
def test_confidence_falls_for_strange_rows_and_for_a_bundle_past_its_age(age_ms, factor):
    bundle = load_bundle(bundle_path("daily-swing"))
    end_ms = bundle.manifest.training.end_ms + age_ms
    probabilities = np.tile([0.05, 0.05, 0.9], (2, len(bundle.manifest.models), 1))
    unlike = np.array([0.0, bundle.manifest.reference.threshold * 2])
    names = tuple(spec.name for spec in bundle.manifest.models)
    part = PartScores(Part("daily-swing"), bundle.id, names, probabilities.tobytes(), {}, unlike.tobytes())
    verdict = judge(bundle, part, np.array([end_ms, end_ms], float))
    np.testing.assert_allclose(verdict.decision.confidence, [0.9 * factor, 0.9 * factor * 0.8])
    assert verdict.dissimilar.tolist() == [False, True]
    assert verdict.expired.tolist() == [factor < 1] * 2


def test_drift_figures_come_now_and_then_and_change_no_score():
    worker = Score("daily-swing", JOB, "thread")
    worker.open(None)
    frame = frame_of([Part("daily-swing")], [], n=700)
    first = scored(frame, worker)
    assert first.drift == {}
    worker._told_s = -1e9
    second = scored(frame, worker)
    assert [part.probabilities for part in second.parts] == [part.probabilities for part in first.parts]
    (figures,) = second.drift.values()
    assert figures["rows"] > 0
    assert "strange_share" in figures


def test_an_empty_frame_passes_through():
    frame = FeatureFrame.without_bars(0, len(JOB.names), [b"{}"])
    scores = scored(frame)
    assert scores == ScoreFrame([], [], score_us=scores.score_us, scored_ms=scores.scored_ms)
    assert len(decided(frame, scores).records) == 1


@pytest.mark.parametrize("bundle", ["daily-swing", "minute-day"])
def test_the_warm_up_walks_the_whole_way_of_a_signal(bundle):
    decider = Decider(BundleCache(JOB).get, JOB, DecideSettings())
    (signal,) = decider.warm_up(bundle).signals
    assert signal.action == "buy"
    assert signal.features_used
