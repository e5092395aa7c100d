"""XGBoost boosters saved as JSON (``save_model("x.json")``), objective ``multi:softprob`` with three classes."""

from __future__ import annotations

import numpy as np
import xgboost

from models.backends import Inputs, Matrix

#: The installed distribution whose version the manifest records.
PACKAGE = "xgboost"


def version() -> str:
    """The installed version."""
    return str(xgboost.__version__)


class XgboostModel:
    """Trees that read NaN as missing and follow their learnt default branch."""

    def __init__(self, data: bytes) -> None:
        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(bytearray(data))
        self._booster.set_param({"nthread": 1})
        self.features: tuple[str, ...] = tuple(self._booster.feature_names or ())
        # In-place prediction compares names only on data frames; without them it skips the check.
        self._booster.feature_names = None
        self._booster.feature_types = None

    def predict(self, inputs: Inputs) -> Matrix:
        """P(sell), P(hold), P(buy): rows x 3."""
        found = self._booster.inplace_predict(inputs, validate_features=False)
        return np.asarray(found, dtype=np.float64)

    def contributions(self, inputs: Inputs) -> Matrix:
        """Tree SHAP values, the buy margin's less the sell margin's: rows x features."""
        found = self._booster.predict(
            xgboost.DMatrix(inputs, nthread=1), pred_contribs=True, validate_features=False, strict_shape=True
        )
        return np.asarray(found[:, 2, :-1] - found[:, 0, :-1], dtype=np.float64)


def open_model(data: bytes) -> XgboostModel:
    """The model in a bundle file's bytes; raises ``ValueError`` if they are none."""
    try:
        return XgboostModel(data)
    except xgboost.core.XGBoostError as error:
        raise ValueError(str(error).splitlines()[0]) from None
