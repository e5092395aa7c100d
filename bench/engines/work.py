"""What every engine does with a bar: the job's own kernel, models and decisions, called the same way.

An engine decodes bars, keeps a :class:`FeatureStates` and a :class:`DecisionStates` a key in state of its own that
survives a failure, and calls :meth:`Work.features`, :meth:`Work.scores` and :meth:`Work.decide` with as many bars at
once as it batches. One ``FeatureRow`` per bar is written, and a signal where the policy emits one.

Only this project's job does these: refusing invalid bars to the dead-letter topic, side inputs, halts, hot swap of
bundles, and the drift figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.settings.signals_job import DEFAULT_BUNDLE
from models.bar_columns import BAR_COLUMNS, CALENDARS
from models.messages import Bar
from models.serving.bundle import columns_of
from models.serving.bundle_cache import BundleCache
from models.serving.drift import DriftMonitor
from models.signals.emission import load_policy
from models.signals.outputs import OUTPUT_TOPICS
from models.signals.protections import Halts
from models.trade.calendar import calendar_name
from udfs.frames.codec import FeatureFrame, Part, PartScores, ScoreFrame
from udfs.frames.output_batch import Record
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.steps.decide_frames import Decider, DecideSettings

#: Between two snapshots of every engine's state.
SNAPSHOT_S = 10

Series = tuple[str, str]
_fields = attrgetter(*BAR_COLUMNS[:8])
_bar = msgspec.json.Decoder(Bar).decode
_bars = msgspec.json.Decoder(list[Bar]).decode


def decode_bar(payload: bytes) -> Bar:
    """One bar."""
    return _bar(payload)


def decode_bars(payloads: Iterable[bytes]) -> list[Bar]:
    """Many bars in one call."""
    return _bars(b"[" + b",".join(payloads) + b"]")


class States:
    """Rows of float64 by series: the state of one key. It may hold one symbol or many."""

    def __init__(self, fresh: Callable[[int], NDArray[np.float64]]) -> None:
        self._fresh = fresh
        self.rows: dict[Series, int] = {}
        self.matrix = fresh(1)

    def row(self, series: Series) -> int:
        """The row of a series, a fresh one if it has none."""
        row = self.rows.get(series)
        if row is None:
            row = self.rows[series] = len(self.rows)
            if row == len(self.matrix):
                self.matrix = np.concatenate([self.matrix, self._fresh(len(self.matrix))])
        return row

    def dump(self) -> bytes:
        """The rows as bytes, for the engine to keep."""
        return msgspec.msgpack.encode((list(self.rows), self.matrix[: len(self.rows)].tobytes()))

    def load(self, data: bytes) -> Self:
        """The inverse of :meth:`dump`."""
        names, matrix = msgspec.msgpack.decode(data, type=tuple[list[Series], bytes])
        self.rows = {name: row for row, name in enumerate(names)}
        self.matrix = np.frombuffer(matrix, np.float64).reshape(len(names), -1).copy()
        return self


class DecisionStates(States):
    """What was last emitted for each series of a key, its account, and the hash of each symbol's last signal."""

    def __init__(self, fresh: Callable[[int], NDArray[np.float64]], account: NDArray[np.float64]) -> None:
        super().__init__(fresh)
        self.account = account
        self.heads: dict[str, str] = {}

    def dump(self) -> bytes:
        """The state as bytes, for the engine to keep."""
        return msgspec.msgpack.encode((super().dump(), self.account.tobytes(), self.heads))

    def load(self, data: bytes) -> Self:
        """The inverse of :meth:`dump`."""
        rows, account, self.heads = msgspec.msgpack.decode(data, type=tuple[bytes, bytes, dict[str, str]])
        self.account = np.frombuffer(account, np.float64).copy()
        return super().load(rows)


class Work:
    """Kernel, models and decisions of one process; ``prefix`` goes before the names of the output topics."""

    def __init__(self, prefix: str, policy: Path) -> None:
        settings = DecideSettings(topics={name: prefix + name for name in OUTPUT_TOPICS})
        self.rows_topic, self.signals_topic = settings.topics["features"], settings.topics["trading-signals"]
        self.kernel = Kernel(FeatureConfig())
        names = self.kernel.names
        cache = BundleCache(self.kernel.feature_set)
        self._bundle = bundle = cache.get(DEFAULT_BUNDLE)
        self._columns = columns_of(bundle.features, names)
        self._part = Part(DEFAULT_BUNDLE)
        reference = bundle.manifest.reference
        assert reference is not None, "the shipped bundle has a reference sample"
        assert bundle.reference is not None, "the shipped bundle has a reference sample"
        self._drift = DriftMonitor(bundle.features, reference, bundle.reference)
        self._decider = Decider(cache.get, self.kernel.feature_set, settings, load_policy(policy))
        self._calendars: dict[str, float] = {}
        self._warm_up()

    def _warm_up(self) -> None:
        """Compile and load before the first bar: start-up is not compared."""
        bar = Bar(
            symbol="A", timeframe="1m", start_ms=0, end_ms=60_000, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0
        )
        frame = self.features(self.feature_states(), [bar])
        self.decide(self.decision_states(), frame, self.scores([frame])[0])
        self._bundle.score(np.ones((2, len(self._columns))))

    def feature_states(self) -> States:
        """A new key's."""
        return States(self.kernel.new_states)

    def decision_states(self) -> DecisionStates:
        """A new key's."""
        return DecisionStates(self._decider.new_states, self._decider.new_account())

    def features(self, states: States, bars: list[Bar]) -> FeatureFrame:
        """The features of bars of one key, in order; updates their states."""
        n, width = len(bars), len(self.kernel.names)
        series: dict[Series, int] = {}
        index = np.array([series.setdefault((bar.symbol, bar.timeframe), len(series)) for bar in bars], np.int32)
        rows = np.array([states.row(one) for one in series], np.int64)
        columns = np.empty((n, len(BAR_COLUMNS)))
        columns[:, :8] = [_fields(bar) for bar in bars]
        columns[:, 8] = np.array([self._calendar(symbol) for symbol, _ in series])[index]
        out, quality = np.empty((n, width)), np.empty((n, width), np.uint8)
        self.kernel.run(states.matrix, rows[index], columns, out, quality)
        names = [(*one, "") for one in series]
        matrix = columns[:, :8].tobytes()
        return FeatureFrame(
            0, width, names, index.tobytes(), matrix, out.tobytes(), quality.tobytes(), [self._part], [], []
        )  # fmt: skip

    def scores(self, frames: list[FeatureFrame]) -> list[ScoreFrame]:
        """The models' results for all bars of the frames, each model called once."""
        matrix = np.concatenate([frame.value_matrix()[:, self._columns] for frame in frames])
        scores, unlike = self._bundle.score(matrix), self._drift.rows(matrix).dissimilarity
        results, first = [], 0
        for frame in frames:
            rows = slice(first, first := first + len(frame))
            probabilities, distances = scores.probabilities[rows].tobytes(), unlike[rows].tobytes()
            part = PartScores(
                self._part, self._bundle.id, scores.models, probabilities, dict(scores.skipped), distances
            )  # fmt: skip
            results.append(ScoreFrame([part], []))
        return results

    def decide(self, states: DecisionStates, frame: FeatureFrame, scores: ScoreFrame) -> list[Record]:
        """The outgoing messages of one frame of a key; updates the key's state."""
        rows = np.array([states.row(one[:2]) for one in frame.series], np.int64)
        decided = self._decider.decide(frame, scores, states.matrix, rows, states.account, states.heads, Halts())
        return list(decided.records)

    def _calendar(self, symbol: str) -> float:
        code = self._calendars.get(symbol)
        if code is None:
            code = self._calendars[symbol] = float(CALENDARS[calendar_name(symbol, "")])
        return code


class Arguments(argparse.Namespace):
    """The arguments from ``bench/peers.py`` to an engine."""

    kafka: str
    bars_topic: str
    bars: int
    out_prefix: str
    policy: Path
    folder: Path
    groups: int


def arguments(description: str) -> Arguments:
    """The command line of an engine's script."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--bars-topic", required=True)
    parser.add_argument("--bars", type=int, required=True, help="number of bars on the topic")
    parser.add_argument("--out-prefix", required=True)
    parser.add_argument("--policy", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the engine may keep its state")
    parser.add_argument("--groups", type=int, default=0, help="key by symbol group instead of by symbol")
    return parser.parse_args(namespace=Arguments())
