"""Is today like the data the models learnt from? Per row, per feature and of the score.

- **Dissimilarity** of a row: its distance to the nearest of the bundle's reference rows, over their mean distance
  apart (the dissimilarity index of Meyer and Pebesma, 2021). It depends on that row alone, so it may lower a signal's
  confidence without making results depend on how frames are cut. Above ``reference.threshold`` the row
  is out of distribution.
- **PSI** (population stability index) of each feature and of the score, over recent rows that fade with a half-life:
  below 0.1 stable, above 0.25 changed. A metric only.

>>> reference = Reference(file="", center=(0.0,), spread=(1.0,), mean_distance=2.0, threshold=1.0, edges=((-1.0, 1.0),))
>>> dissimilarity(np.array([[0.5], [9.0], [np.nan]]), np.array([[0.0], [1.0]]), reference).tolist()
[0.25, 3.5, nan]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.serving.manifest import Reference

Floats = npt.NDArray[np.float64]

#: Scaled inputs are clipped to this many spreads, so that one wild value is out of distribution but finite.
CLIP = 8.0

#: The largest product that OpenBLAS leaves to the calling thread; larger ones would fight with the job's other threads.
BLAS_OPERATIONS = 262_144

#: What an out-of-distribution row's confidence is multiplied by.
DISSIMILAR_CONFIDENCE = 0.8

#: PSI above which a feature counts as changed.
PSI_CHANGED = 0.25


def scale(matrix: Floats, reference: Reference) -> Floats:
    """Rows as the reference sample has them: (x - center) / spread, clipped."""
    scaled: Floats = np.clip((matrix - np.array(reference.center)) / np.array(reference.spread), -CLIP, CLIP)
    return scaled


def dissimilarity(matrix: Floats, sample: Floats, reference: Reference) -> Floats:
    """Each row's distance to the nearest reference row, in mean distances; NaN for a row with a missing input.

    ``matrix`` float64[n, f] as scored; ``sample`` float64[r, f] already scaled (``Bundle.reference``).
    """
    rows = scale(matrix, reference)
    lengths = (sample * sample).sum(axis=1)
    nearest = np.empty(len(rows))
    step = max(1, BLAS_OPERATIONS // sample.size)
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        squares = (part * part).sum(axis=1)[:, None] + lengths - 2.0 * (part @ sample.T)
        nearest[first : first + step] = squares.min(axis=1, initial=np.inf)
    return np.asarray(np.sqrt(np.maximum(nearest, 0.0)) / reference.mean_distance)


def dissimilar(values: Floats, reference: Reference) -> npt.NDArray[np.bool_]:
    """True where a row's dissimilarity is above the bundle's threshold; a row with a missing input is not."""
    with np.errstate(invalid="ignore"):
        return np.asarray(values > reference.threshold)


def lower(confidence: Floats, is_dissimilar: npt.NDArray[np.bool_]) -> Floats:
    """Confidence after the quality flag: times :data:`DISSIMILAR_CONFIDENCE` where the row is out of distribution."""
    return np.where(is_dissimilar, confidence * DISSIMILAR_CONFIDENCE, confidence)


def shares(columns: Floats, edges: Floats) -> Floats:
    """How many rows fall in each bin: float64[f, b + 1] for rows float64[n, f] and inner edges float64[f, b].

    NaN rows of a feature count nowhere.

    >>> shares(np.array([[0.1], [0.5], [0.7]]), np.array([[0.3, 0.6]])).tolist()
    [[1.0, 1.0, 1.0]]
    """
    features, bins = edges.shape[0], edges.shape[1] + 1
    place = np.arange(features) * bins + (columns[:, :, None] > edges).sum(axis=2)
    counts = np.bincount(place[~np.isnan(columns)], minlength=features * bins)
    return counts.reshape(features, bins).astype(np.float64)


def psi(expected: Floats, found: Floats) -> Floats:
    """Population stability index of each feature; ``expected`` and ``found`` are counts or shares, f x bins.

    >>> psi(np.array([[1.0, 1.0]]), np.array([[10.0, 10.0], [19.0, 1.0]])).round(2).tolist()
    [0.0, 1.32]
    """
    floor = 1e-3
    p = np.maximum(expected / expected.sum(axis=1, keepdims=True), floor)
    with np.errstate(invalid="ignore"):
        q = np.maximum(found / found.sum(axis=1, keepdims=True), floor)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=1))


class RowDrift(NamedTuple):
    """Per row: ``dissimilarity`` float64[n] (NaN with a missing input) and ``dissimilar`` bool[n]."""

    dissimilarity: Floats
    dissimilar: npt.NDArray[np.bool_]


class DriftMonitor:
    """Watches the rows that a bundle scores; for one bundle and one caller.

    :meth:`rows` is a pure function of each row. :meth:`observe` remembers counts that halve every ``half_life_rows``;
    :meth:`metrics` reads them.
    """

    def __init__(
        self, features: Sequence[str], reference: Reference, sample: Floats, half_life_rows: int = 5_000
    ) -> None:
        self._names = (*features, "score") if reference.score_edges else tuple(features)
        self._reference = reference
        self._sample = sample
        self._half_life_rows = half_life_rows
        edges = [*reference.edges, reference.score_edges] if reference.score_edges else list(reference.edges)
        self._edges = np.array(edges)
        self._counts = np.zeros((len(self._names), self._edges.shape[1] + 1))
        self._rows = 0
        self._dissimilar = 0

    def rows(self, matrix: Floats) -> RowDrift:
        """Each row's dissimilarity and whether it is out of distribution; ``matrix`` float64[n, features] as scored."""
        values = dissimilarity(matrix, self._sample, self._reference)
        return RowDrift(values, dissimilar(values, self._reference))

    def observe(self, matrix: Floats, score: Floats, found: RowDrift | None = None) -> RowDrift:
        """:meth:`rows`, remembered; ``score`` float64[n] is the ensemble's P(buy) - P(sell), NaN where none."""
        found = self.rows(matrix) if found is None else found
        scored = len(self._names) > matrix.shape[1]
        columns = np.column_stack([matrix, score]) if scored else matrix
        self._counts *= 0.5 ** (len(matrix) / self._half_life_rows)
        self._counts += shares(columns, self._edges)
        self._rows += len(matrix)
        self._dissimilar += int(found.dissimilar.sum())
        return found

    def metrics(self) -> dict[str, float]:
        """``psi.<feature>`` (``score`` too), rows seen, and the share that was out of distribution.

        PSI is left out while fewer than 20 rows a bin are remembered: it would measure chance.
        """
        found: dict[str, float] = {"rows": float(self._rows)}
        if self._rows:
            found["strange_share"] = self._dissimilar / self._rows
        expected = np.ones_like(self._counts)
        enough = self._counts.sum(axis=1) >= 20 * self._counts.shape[1]
        for name, value, known in zip(self._names, psi(expected, self._counts), enough, strict=True):
            if known:
                found[f"psi.{name}"] = float(value)
        return found
