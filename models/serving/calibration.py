"""Vector-scaling calibration: probabilities that come true as often as they state.

One scale and three biases a model (vector scaling): few enough to fit on a small later block without overfitting, and
plain numpy to serve.

>>> apply(np.array([[0.2, 0.3, 0.5]]), Calibration()).round(3).tolist()
[[0.2, 0.3, 0.5]]
"""

from __future__ import annotations

import numpy as np

from models.backends.base import Matrix
from models.serving.manifest import Calibration

#: Probabilities are kept this far from 0 before their logarithm.
FLOOR = 1e-6


def apply(probabilities: Matrix, calibration: Calibration) -> Matrix:
    """Calibrated probabilities of one model, rows x 3, each row summing to 1; a NaN row stays NaN."""
    return apply_each(probabilities, np.array(calibration.scale), np.array(calibration.bias))


def apply_each(probabilities: Matrix, scales: Matrix, biases: Matrix) -> Matrix:
    """:func:`apply` for m models at once: rows x m x 3; ``scales`` float64[m, 1], ``biases`` float64[m, 3]."""
    logits: Matrix = np.log(np.maximum(probabilities, FLOOR))
    logits *= scales
    logits += biases
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits
