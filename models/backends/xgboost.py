"""XGBoost boosters saved as JSON (``save_model("x.json")``), objective ``multi:softprob`` with three classes."""

from __future__ import annotations

import ctypes
import json

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
        self._library = xgboost.core._LIB
        self._request = json.dumps(
            {
                "type": 0,
                "training": False,
                "iteration_begin": 0,
                "iteration_end": 0,
                "missing": float("nan"),
                "strict_shape": True,
            }
        ).encode()
        self.features: tuple[str, ...] = tuple(self._booster.feature_names or ())
        # The loader has checked the names against the manifest; XGBoost need not at every call.
        self._booster.feature_names = None
        self._booster.feature_types = None

    def predict(self, inputs: Inputs) -> Matrix:
        """P(sell), P(hold), P(buy): rows x 3.

        Through the C interface (``XGBoosterPredictFromDense``): the Python wrapper around it costs 130 us a call more.
        """
        rows, columns = inputs.shape
        if not rows:
            return np.empty((0, 3))
        shape, dimensions = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        found = ctypes.POINTER(ctypes.c_float)()
        array = b'{"data": [%d, true], "shape": [%d, %d], "typestr": "<f4", "version": 3}'
        failed = self._library.XGBoosterPredictFromDense(
            self._booster.handle,
            array % (inputs.ctypes.data, rows, columns),
            self._request,
            None,
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(found),
        )
        if failed:
            raise xgboost.core.XGBoostError(self._library.XGBGetLastError().decode())
        if dimensions.value != 2 or shape[0] != rows:
            raise ValueError(f"expected {rows} rows of class probabilities, got {shape[: dimensions.value]}")
        values = ctypes.cast(found, ctypes.POINTER(ctypes.c_float * (rows * shape[1]))).contents
        return np.frombuffer(values, dtype=np.float32).reshape(rows, shape[1]).astype(np.float64)

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
