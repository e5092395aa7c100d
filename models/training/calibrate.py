"""Fits :class:`~models.serving.manifest.Calibration` by weighted log loss on rows later than the training rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.serving import calibration
from models.serving.manifest import Calibration

Floats = npt.NDArray[np.float64]

#: Fewer rows than this are not worth four parameters: the model's own probabilities stay.
ROWS_MIN = 50


def log_loss(probabilities: Floats, labels: npt.NDArray[np.int8], weights: Floats) -> float:
    """The weighted mean of -ln P(what happened)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(chosen, calibration.FLOOR)), weights=weights))


def fit_calibration(probabilities: Floats, labels: npt.NDArray[np.int8], weights: Floats) -> Calibration:
    """The scale and biases with the least log loss; biases sum to 0, the scale stays within 0.05 and 3.

    A faint pull towards "as it is" keeps small blocks from extremes.
    """
    from scipy.optimize import minimize

    if len(labels) < ROWS_MIN:
        return Calibration()

    def unpacked(point: Floats) -> Calibration:
        bias = point[1:] - point[1:].mean()
        return Calibration(
            scale=float(np.clip(np.exp(point[0]), 0.05, 3.0)), bias=(float(bias[0]), float(bias[1]), float(bias[2]))
        )

    def cost(point: Floats) -> float:
        fitted = calibration.apply(probabilities, unpacked(point))
        return log_loss(fitted, labels, weights) + 1e-3 * float(point @ point)

    found = minimize(cost, np.zeros(4), method="L-BFGS-B", options={"maxiter": 200})
    best = unpacked(found.x)
    a, b, c = best.bias
    return Calibration(scale=round(best.scale, 6), bias=(round(a, 6), round(b, 6), round(c, 6)))
