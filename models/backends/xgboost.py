"""XGBoost boosters saved as JSON (``save_model("x.json")``), objective ``multi:softprob`` with three classes."""

from __future__ import annotations

import ctypes
import json

import numpy as np
import xgboost

from models.backends.base import Inputs, Matrix

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
        self._proxy, self._dimensions = ctypes.c_void_p(), ctypes.c_uint64()
        self._shape, self._found = ctypes.POINTER(ctypes.c_uint64)(), ctypes.POINTER(ctypes.c_float)()
        if self._library.XGProxyDMatrixCreate(ctypes.byref(self._proxy)):
            raise ValueError(self._library.XGBGetLastError().decode())
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

    def __del__(self) -> None:
        if getattr(self, "_proxy", None):
            self._library.XGDMatrixFree(self._proxy)

    def predict(self, inputs: Inputs) -> Matrix:
        """P(sell), P(hold), P(buy): rows x 3.

        Through the C interface (``XGBoosterPredictFromDense``) and one proxy matrix for all calls: the Python wrapper,
        which makes both again, costs 200 us more per call.
        """
        rows, columns = inputs.shape
        if not rows:
            return np.empty((0, 3))
        failed = self._library.XGBoosterPredictFromDense(
            self._booster.handle,
            b'{"data": [%d, true], "shape": [%d, %d], "typestr": "<f4", "version": 3}'
            % (inputs.ctypes.data, rows, columns),
            self._request,
            self._proxy,
            ctypes.byref(self._shape),
            ctypes.byref(self._dimensions),
            ctypes.byref(self._found),
        )
        if failed:
            raise xgboost.core.XGBoostError(self._library.XGBGetLastError().decode())
        if self._dimensions.value != 2 or self._shape[0] != rows:
            raise ValueError(f"expected {rows} rows of class probabilities, got {self._shape[0]}")
        classes = self._shape[1]
        data = ctypes.string_at(self._found, 4 * rows * classes)
        return np.frombuffer(data, dtype=np.float32).reshape(rows, classes).astype(np.float64)

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
