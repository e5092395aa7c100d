"""Figures of the decision operator: Flink counters, distributions and a gauge.

| metric | kind | what |
|---|---|---|
| ``signals`` | counter | signals emitted |
| ``withheld_CAUSE`` | counter | decisions that made no signal, by cause |
| ``skipped_model_NAME`` | counter | frames in which that model gave nothing |
| ``unlike_training`` | counter | signals whose confidence was lowered because their inputs are strange |
| ``score_us`` | distribution | time of a scoring batch |
| ``bar_to_signal_ms`` | distribution | from a bar's end to its signal |
| ``drift_psi_max_milli`` | gauge | the largest PSI of a feature, in thousandths |
"""

from __future__ import annotations

import time
from typing import Any

from udfs.decisions import DecidedFrame
from udfs.frames import FeatureFrame, ScoreFrame


class JobMetrics:
    """Counts over one operator's metric group; ``bars``, ``signals`` and ``dead_letters`` since it was opened."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self.bars = self.signals = self.dead_letters = 0
        self._signals = group.counter("signals")
        self._unlike = group.counter("unlike_training")
        self._counters: dict[str, Any] = {}
        self._score_us = group.distribution("score_us")
        self._bar_to_signal_ms = group.distribution("bar_to_signal_ms")
        self._psi_max = 0.0
        group.gauge("drift_psi_max_milli", lambda: int(self._psi_max * 1000))

    def count(self, frame: FeatureFrame, scores: ScoreFrame, decided: DecidedFrame) -> None:
        """One frame."""
        self.bars += len(frame)
        self.signals += len(decided.signals)
        self.dead_letters += len(frame.dead_letters)
        self._signals.inc(len(decided.signals))
        self._score_us.update(scores.score_us)
        for cause, count in decided.withheld.items():
            if count:
                self.counter(f"withheld_{cause}").inc(count)
        for part in scores.parts:
            for model in part.skipped:
                self.counter(f"skipped_model_{model}").inc()
        if decided.signals:
            now_ms = time.time() * 1000
            self._bar_to_signal_ms.update(int(now_ms - max(made.created_ms for made in decided.signals)))
            self._unlike.inc(sum("unlike_training" in made.quality_flags for made in decided.signals))
        for figures in scores.drift.values():
            self._psi_max = max((value for name, value in figures.items() if name.startswith("psi.")), default=0.0)

    def counter(self, name: str) -> Any:
        """The counter of that name, made on first use."""
        if name not in self._counters:
            self._counters[name] = self._group.counter(name)
        return self._counters[name]
