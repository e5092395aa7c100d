"""The vectorised UDF that scores feature frames: one call per model for all bars of a batch of frames."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyflink.table import FunctionContext
from pyflink.table.udf import ScalarFunction, UserDefinedScalarFunctionWrapper, udf

from connectors.gc_tuning import freeze_startup_objects
from models.serving.feature_set import FeatureSet
from udfs.frames.codec import FeatureFrame, Part, PartScores, ScoreFrame, pack, unpack_features
from udfs.operators.jvm_encoding import jvm_encoding
from udfs.operators.log import OperatorLog

if TYPE_CHECKING:
    from models.serving.bundle import Bundle
    from models.serving.drift import DriftMonitor

#: Least time between two sets of drift figures; they are for people, and decide nothing.
DRIFT_EVERY_S = 5.0
#: Rows of a batch that the drift figures look at, spread over it.
DRIFT_ROWS_MAX = 256


class Score(ScalarFunction):  # type: ignore[misc]
    """Series of packed FeatureFrames in, series of packed ScoreFrames out. Keeps no state of the stream.

    ``bundle`` is the job's own, a shipped name or a folder that the worker can read; frames name the bundles that score
    them. ``job`` is what the job computes; from its names a bundle's inputs are picked by name.
    """

    def __init__(self, bundle: str, job: FeatureSet, execution_mode: str) -> None:
        self._bundle_name, self._job, self._names = bundle, job, job.names
        self._mode = execution_mode

    def open(self, function_context: FunctionContext) -> None:
        """Load the models, verify them, and run them once so that the first frame does not pay for it."""
        from models.serving.bundle_cache import BundleCache

        self._encoding = jvm_encoding(self._mode)
        self._log = OperatorLog("score", 0)
        self._bundles = BundleCache(self._job, self._log_loaded)
        self._monitors: dict[str, DriftMonitor] = {}
        self._told_s = time.monotonic()
        bundle = self._bundles.get(self._bundle_name)
        for rows in 2, 1:  # one row takes a way of its own
            bundle.score(np.zeros((rows, len(bundle.features))))
        freeze_startup_objects()
        self._log.info("open", bundle=bundle.id, feature_set=self._job.hash)

    def _log_loaded(self, bundle: Bundle, seconds: float) -> None:
        models = ", ".join(spec.name for spec in bundle.manifest.models)
        self._log.info(f"bundle loaded: {models}", bundle=bundle.id, seconds=round(seconds, 3))

    def eval(self, frames: pd.Series) -> pd.Series:
        """Score a batch of frames together and split the results by frame."""
        began_s = time.perf_counter()
        unpacked = [unpack_features(self._encoding.unwrap(frame)) for frame in frames]
        results = [ScoreFrame([], []) for _ in unpacked]
        for reference in dict.fromkeys(part.bundle for frame in unpacked for part in (*frame.parts, *frame.shadows)):
            self._score(reference, unpacked, results)
        spent_us, now_ms = int((time.perf_counter() - began_s) * 1e6), time.time() * 1000
        drift = self._drift()
        for result in results:
            result.score_us, result.scored_ms = spent_us, now_ms
        if results:
            results[-1].drift = drift
        return pd.Series([self._encoding.wrap(pack(result)) for result in results], dtype=object)

    def _score(self, reference: str, frames: list[FeatureFrame], results: list[ScoreFrame]) -> None:
        """Everything that one bundle is to score in the batch, in one call."""
        from models.serving.bundle import BundleError, columns_of

        wanted = [
            (frame, part, found)
            for frame, result in zip(frames, results, strict=True)
            for parts, found in ((frame.parts, result.parts), (frame.shadows, result.shadows))
            for part in parts
            if part.bundle == reference
        ]
        try:
            bundle = self._bundles.get(reference)
        except BundleError as error:  # it was whole when it was announced: the bars go on without a decision
            if self._log.once("unusable", reference):
                self._log.warning("bundle cannot be used, its bars have no decision", bundle=reference, reason=error)
            for _, part, found in wanted:
                found.append(PartScores(part, reference, (), b"", {reference: str(error)}))
            return
        columns = columns_of(bundle.features, self._names)
        matrix = np.concatenate([_inputs(frame, part, columns) for frame, part, _ in wanted])
        scores = bundle.score(matrix)  # zero rows give zero rows: a frame may have dead letters alone
        for model, reason in scores.skipped.items():
            if self._log.once(bundle.id, model, reason.partition(":")[0]):
                self._log.warning("model skipped", bundle=bundle.id, model=model, reason=reason)
        unlike = self._watch(bundle, matrix, scores.probabilities)
        first = 0
        for frame, part, found in wanted:
            rows = slice(first, first + len(part.bar_numbers(len(frame))))
            first = rows.stop
            distances = b"" if unlike is None else unlike[rows].tobytes()
            probabilities = scores.probabilities[rows].tobytes()
            found.append(PartScores(part, bundle.id, scores.models, probabilities, dict(scores.skipped), distances))

    def _watch(
        self, bundle: Bundle, matrix: NDArray[np.float64], probabilities: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Each row's dissimilarity to the bundle's training data; some of the rows are remembered for the figures."""
        from models.serving.drift import DriftMonitor, RowDrift

        reference = bundle.manifest.reference
        if reference is None or bundle.reference is None:
            return None
        if bundle.id not in self._monitors:
            self._monitors[bundle.id] = DriftMonitor(bundle.features, reference, bundle.reference)
        monitor = self._monitors[bundle.id]
        found = monitor.rows(matrix)
        if len(matrix):
            chosen = slice(None, None, -(-len(matrix) // DRIFT_ROWS_MAX))
            weights = np.where(np.isnan(probabilities[chosen, :, 0]), 0.0, bundle.weights)
            total = weights.sum(axis=1)
            lean = np.nan_to_num(probabilities[chosen, :, 2] - probabilities[chosen, :, 0])
            with np.errstate(invalid="ignore", divide="ignore"):
                score = (weights * lean).sum(axis=1) / total
            monitor.observe(matrix[chosen], score, RowDrift(found.dissimilarity[chosen], found.dissimilar[chosen]))
        return found.dissimilarity

    def _drift(self) -> dict[str, dict[str, float]]:
        if time.monotonic() - self._told_s < DRIFT_EVERY_S:
            return {}
        self._told_s = time.monotonic()
        return {bundle: monitor.metrics() for bundle, monitor in self._monitors.items()}


def _inputs(frame: FeatureFrame, part: Part, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """A part's rows of a bundle's inputs, float64[n, len(columns)]."""
    values = frame.value_matrix()
    if not len(frame):
        return np.empty((0, len(columns)))
    return values[:, columns] if not part.rows else values[part.bar_numbers(len(frame))][:, columns]


def score_function(bundle: str, job: FeatureSet, execution_mode: str) -> UserDefinedScalarFunctionWrapper:
    """:class:`Score` as Flink calls it."""
    return udf(
        Score(bundle, job, execution_mode),
        result_type=jvm_encoding(execution_mode).frame_data_type,
        func_type="pandas",
    )
