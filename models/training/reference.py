"""What the training rows looked like, written into the bundle so that drift can be measured later."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from models.serving.drift import dissimilarity, scale
from models.serving.manifest import Reference

Floats = npt.NDArray[np.float64]

FILE = "reference.f32"
BINS = 10


def describe(inputs: Floats, scores: Floats, rows: int, seed: int) -> tuple[Reference, bytes]:
    """The reference of complete training rows (float64[n, f]) and of their P(buy) - P(sell); its file's bytes.

    The threshold is the 99th percentile of the dissimilarity that other training rows have to the sample.
    """
    random = np.random.default_rng(seed)
    inputs_known = inputs[np.isfinite(inputs).all(axis=1)]
    order = random.permutation(len(inputs_known))
    chosen, others = np.sort(order[:rows]), np.sort(order[rows : rows * 8])
    center = np.median(inputs_known, axis=0)
    quarter = np.subtract(*np.percentile(inputs_known, [75, 25], axis=0)) / 1.349
    spread = np.where(quarter > 0, quarter, np.maximum(inputs_known.std(axis=0), 1e-9))
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    draft = Reference(
        file=FILE,
        center=tuple(map(float, center)),
        spread=tuple(map(float, spread)),
        mean_distance=1.0,
        threshold=float("1e9"),
        edges=tuple(tuple(map(float, np.quantile(column, inner))) for column in inputs_known.T),
        score_edges=tuple(map(float, np.quantile(scores, inner))),
    )
    sample = scale(inputs_known[chosen], draft).astype(np.float32)
    wide = sample.astype(np.float64)
    apart = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2))
    mean_distance = float(apart[np.triu_indices(len(wide), 1)].mean()) or 1.0
    measured = msgspec.structs.replace(draft, mean_distance=mean_distance)
    seen = dissimilarity(inputs_known[others] if len(others) else inputs_known, wide, measured)
    return msgspec.structs.replace(measured, threshold=float(np.quantile(seen, 0.99))), sample.astype("<f4").tobytes()
