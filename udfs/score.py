"""The vectorised UDF that scores feature frames: one call a model for all bars of a batch of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyflink.table import DataTypes, FunctionContext
from pyflink.table.udf import ScalarFunction, UserDefinedScalarFunctionWrapper, udf

from udfs.frames import ScoreFrame, pack, unpack_features

if TYPE_CHECKING:
    from models.bundle import Bundle


class Score(ScalarFunction):
    """Series of packed FeatureFrames in, series of packed ScoreFrames out. Holds no state of the stream.

    ``bundle`` is a shipped name or a folder that the worker can read; ``names`` is the catalogue's feature order, from
    which the bundle's inputs are picked by name.
    """

    def __init__(self, bundle: str, names: Sequence[str], feature_set_hash: str) -> None:
        self._bundle_name, self._names, self._hash = bundle, tuple(names), feature_set_hash

    def open(self, function_context: FunctionContext) -> None:
        """Load the models, verify them, and run them once so that the first frame does not pay for it."""
        from models.bundle import bundle_folder, load_bundle

        self._bundle: Bundle = load_bundle(bundle_folder(self._bundle_name))
        self._bundle.check_features(self._names, self._hash)
        self._columns = np.array([self._names.index(name) for name in self._bundle.features])
        self._bundle.score(np.zeros((2, len(self._columns))))

    def eval(self, frames: pd.Series) -> pd.Series:
        """Score a batch of frames together and deal the results out again."""
        unpacked = [unpack_features(text) for text in frames]
        matrix = np.concatenate([frame.value_matrix()[:, self._columns] for frame in unpacked])
        scores = self._bundle.score(matrix)  # zero rows give zero rows: a frame may hold dead letters alone
        results, first = [], 0
        for frame in unpacked:
            part = scores.probabilities[first : first + len(frame)]
            first += len(frame)
            skipped = dict(scores.skipped)
            results.append(pack(ScoreFrame(self._bundle.id, scores.models, part.tobytes(), skipped)))
        return pd.Series(results)


def score_function(bundle: str, names: Sequence[str], feature_set_hash: str) -> UserDefinedScalarFunctionWrapper:
    """:class:`Score` as Flink calls it."""
    return udf(
        Score(bundle, names, feature_set_hash),
        result_type=DataTypes.STRING(),
        func_type="pandas",
    )
