"""Figures of the decision operator, as Flink exports them.

| metric | kind | what |
|---|---|---|
| ``signals`` | counter | signals emitted |
| ``withheld`` | counter by cause | decisions that made no signal |
| ``skipped`` | counter by model | frames in which that model gave nothing |
| ``unlike_training`` | counter | signals whose confidence was lowered because their inputs are out of distribution |
| ``latency_seconds`` | histogram by stage | where the time from a bar to its signal goes, see :data:`STAGES` |
| ``score_seconds`` | histogram | time of the scoring batch that a frame was in |
| ``drift_psi_max_milli`` | gauge | the largest PSI of a feature, in thousandths |

Histograms exist in thread mode only: a worker alongside the JVM sends all its counters with each bundle, 0.8 ms for
130 of them.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Any

from udfs.frames.codec import FeatureFrame, ScoreFrame
from udfs.steps.decide_frames import DecidedFrame

#: Stages of a frame, each observed for its first bar, the one that waited longest: from the bar's end to its ingestion
#: and from there to the feature operator (bars that state when they were ingested: built ones do not), that operator's
#: work, the wait for the models and their work, and the decision with Redis. ``signal``: from the bar's end to the
#: signal, of frames with one.
STAGES = ("arrived", "framed", "features", "scored", "decided", "signal")

#: Upper bounds of the histograms' buckets, seconds.
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)

#: Least time between two tellings of the histograms to Flink.
_TELL_EVERY_S = 0.25


class Histogram:
    """A Prometheus histogram of Flink counters: ``NAME_bucket`` with label ``le``, ``NAME_count``, ``NAME_sum_ms``.

    PyFlink's own distribution exports the last value only. A bucket's counter is touched when the histogram is flushed,
    not with each value: a call into the JVM costs more than the rest of this together.

    >>> class Group(dict):
    ...     def add_group(self, name, value): return self.setdefault((name, value), Group())
    ...     def counter(self, name): return self.setdefault(name, Counter())
    >>> class Counter:
    ...     count = 0
    ...     def inc(self, n=1): self.count += n
    >>> group = Group()
    >>> histogram = Histogram(group, "wait_seconds", bounds_s=(0.1, 1.0))
    >>> for value in (0.05, 0.1, 0.5, 7.0): histogram.observe(value)
    >>> histogram.flush()
    >>> [group["le", bound]["wait_seconds_bucket"].count for bound in ("0.1", "1.0", "+Inf")]
    [2, 3, 4]
    >>> group["wait_seconds_count"].count, group["wait_seconds_sum_ms"].count
    (4, 7650)
    """

    def __init__(self, group: Any, name: str, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        bounds = [*map(str, bounds_s), "+Inf"]
        self._buckets = [group.add_group("le", bound).counter(f"{name}_bucket") for bound in bounds]
        self._count, self._sum_ms = group.counter(f"{name}_count"), group.counter(f"{name}_sum_ms")
        self._new, self._new_ms = [0] * len(bounds), 0.0

    def observe(self, seconds: float) -> None:
        """One value; clocks that disagree may make it negative, it counts as 0."""
        self._new[bisect_left(self._bounds_s, seconds)] += 1
        self._new_ms += max(seconds, 0.0) * 1000

    def flush(self) -> None:
        """Add what is new to Flink's counters."""
        below = 0
        for new, bucket in zip(self._new, self._buckets, strict=True):
            below += new
            if below:
                bucket.inc(below)
        if below:
            self._count.inc(below)
            self._sum_ms.inc(round(self._new_ms))
        self._new, self._new_ms = [0] * len(self._buckets), 0.0


class JobMetrics:
    """Counts over one operator's metric group; ``bars``, ``signals`` and ``dead_letters`` since it was opened.

    ``live`` is false in a replay: how long ago its bars ended means nothing. ``timed``: keep the histograms.
    """

    def __init__(self, group: Any, live: bool = True, timed: bool = True) -> None:
        self._group, self._live, self._timed = group, live, timed
        self.bars = self.signals = self.dead_letters = 0
        self._signals = group.counter("signals")
        self._unlike = group.counter("unlike_training")
        self._unknown_events = group.counter("unknown_events")
        self._causes: dict[str, Any] = {}
        self._models: dict[str, Any] = {}
        self._failed: dict[str, Any] = {}
        if timed:
            self._stages = {stage: Histogram(group.add_group("stage", stage), "latency_seconds") for stage in STAGES}
            self._score = Histogram(group, "score_seconds")
        self._told_s = 0.0
        self._psi_max = 0.0
        group.gauge("drift_psi_max_milli", lambda: int(self._psi_max * 1000))

    def count(self, frame: FeatureFrame, scores: ScoreFrame, decided: DecidedFrame) -> None:
        """One frame that is done with."""
        self.bars += len(frame)
        self.signals += len(decided.signals)
        self.dead_letters += len(frame.dead_letters)
        if decided.unknown_events:
            self._unknown_events.inc(decided.unknown_events)
        if decided.signals:
            self._signals.inc(len(decided.signals))
            self._unlike.inc(sum("unlike_training" in made.quality_flags for made in decided.signals))
        for cause, count in decided.withheld.items():
            if count:
                self._withheld(cause).inc(count)
        for part in scores.parts:
            for model in part.skipped:
                self._skipped(model).inc()
        for figures in scores.drift.values():
            self._psi_max = max((value for name, value in figures.items() if name.startswith("psi.")), default=0.0)
        if self._timed and len(frame):
            self._observe(frame, scores, decided)
        self.flush()

    def _observe(self, frame: FeatureFrame, scores: ScoreFrame, decided: DecidedFrame) -> None:
        now_ms, end_ms = time.time() * 1000, float(frame.bar_matrix()[0, 1])
        self._score.observe(scores.score_us / 1e6)
        spans = [
            ("features", frame.received_ms, frame.featured_ms),
            ("scored", frame.featured_ms, scores.scored_ms),
            ("decided", scores.scored_ms, now_ms),
        ]
        if self._live:
            if frame.arrived_ms:
                spans += [("arrived", end_ms, frame.arrived_ms), ("framed", frame.arrived_ms, frame.received_ms)]
            if decided.signals:
                spans.append(("signal", min(made.created_ms for made in decided.signals), now_ms))
        for stage, from_ms, to_ms in spans:
            self._stages[stage].observe((to_ms - from_ms) / 1000)

    def flush(self, at_once: bool = False) -> None:
        """Flush the histograms to Flink, at most once per interval; the rest is flushed with the next frame."""
        now_s = time.monotonic()
        if self._timed and (at_once or now_s - self._told_s >= _TELL_EVERY_S):
            self._told_s = now_s
            for histogram in (*self._stages.values(), self._score):
                histogram.flush()

    def _withheld(self, cause: str) -> Any:
        if cause not in self._causes:
            self._causes[cause] = self._group.add_group("cause", cause).counter("withheld")
        return self._causes[cause]

    def model_failed(self, model: str, count: int) -> None:
        """A model raised while it explained signals, ``count`` times."""
        if model not in self._failed:
            self._failed[model] = self._group.add_group("model", model).counter("failed")
        self._failed[model].inc(count)

    def _skipped(self, model: str) -> Any:
        if model not in self._models:
            self._models[model] = self._group.add_group("model", model).counter("skipped")
        return self._models[model]
