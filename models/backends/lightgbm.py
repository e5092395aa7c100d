"""LightGBM boosters saved as text (``Booster.save_model("x.txt")``), objective ``multiclass`` with three classes."""

from __future__ import annotations

import lightgbm
import numpy as np

from models.backends.base import Inputs, Matrix

#: The installed distribution whose version the manifest records.
PACKAGE = "lightgbm"


def version() -> str:
    """The installed version."""
    return str(lightgbm.__version__)


class LightgbmModel:
    """Trees that read NaN as missing and follow their learnt default branch."""

    def __init__(self, data: bytes) -> None:
        # LightGBM aborts the process on some broken texts instead of raising; refuse those that do not look whole.
        if not data.startswith(b"tree\n") or b"\nend of trees" not in data:
            raise ValueError("not a whole LightGBM text model ('tree' .. 'end of trees')")
        self._booster = lightgbm.Booster(model_str=data.decode())
        self.features: tuple[str, ...] = tuple(self._booster.feature_name())

    def predict(self, inputs: Inputs) -> Matrix:
        """P(sell), P(hold), P(buy): rows x 3."""
        return np.asarray(self._booster.predict(inputs, num_threads=1, predict_disable_shape_check=True))

    def contributions(self, inputs: Inputs) -> Matrix:
        """Tree SHAP values, the buy margin's less the sell margin's: rows x features."""
        found = np.asarray(self._booster.predict(inputs, num_threads=1, pred_contrib=True))
        found = found.reshape(len(inputs), 3, -1)
        return np.asarray(found[:, 2, :-1] - found[:, 0, :-1])


def open_model(data: bytes) -> LightgbmModel:
    """The model in a bundle file's bytes; raises ``ValueError`` if they are none."""
    try:
        return LightgbmModel(data)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(str(error)) from None
