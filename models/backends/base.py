"""What a model backend hands out: a model that scores matrices. Every other module of this folder is a backend."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
#: What the models read: float32, C-contiguous, rows x features.
Inputs = npt.NDArray[np.float32]


class Model(Protocol):
    """A model ready to score, single-threaded, whose rows do not depend on each other."""

    #: Input names in order, as written in the model file itself; empty if the file names none.
    features: tuple[str, ...]

    def predict(self, inputs: Inputs) -> Matrix:
        """P(sell), P(hold), P(buy) per row, before calibration: rows x 3."""
        ...

    def contributions(self, inputs: Inputs) -> Matrix | None:
        """Each feature's part in ln P(buy) - ln P(sell), rows x features; None if this kind cannot explain itself."""
        ...
