"""Turning a model's probabilities into ones that come true as often as they say.

One scale and three biases a model (vector scaling): few enough to fit on a small later block without overfitting, and
plain numpy to serve.

>>> apply(np.array([[0.2, 0.3, 0.5]]), Calibration()).round(3).tolist()
[[0.2, 0.3, 0.5]]
"""

from __future__ import annotations

import numpy as np

from models.backends import Matrix
from models.manifest import Calibration

#: Probabilities are kept this far from 0 before their logarithm.
FLOOR = 1e-6


def apply(probabilities: Matrix, calibration: Calibration) -> Matrix:
    """Calibrated probabilities, rows x 3, each row summing to 1; a NaN row stays NaN."""
    logits = np.log(np.maximum(probabilities, FLOOR))
    logits *= calibration.scale
    logits += calibration.bias
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
