"""Any ONNX graph from one float matrix to three probabilities: sklearn's forest and neural net, Keras, PyTorch.

The graph has one input (rows x features, float32) and one output of shape rows x 3, the last if it has several
(``zipmap`` off). Its metadata ``features`` (names joined by commas) lets the loader check the order.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

from models.backends.base import Inputs, Matrix

#: The installed distribution whose version the manifest records.
PACKAGE = "onnxruntime"


def version() -> str:
    """The installed version."""
    return str(onnxruntime.__version__)


class OnnxModel:
    """A graph run by onnxruntime on the calling thread."""

    def __init__(self, data: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise ValueError(f"the graph must have one float input, it has {[(i.name, i.type) for i in inputs]}")
        self._input = inputs[0].name
        self._outputs = [self._session.get_outputs()[-1].name]
        stated = self._session.get_modelmeta().custom_metadata_map.get("features", "")
        self.features: tuple[str, ...] = tuple(stated.split(",")) if stated else ()

    def predict(self, inputs: Inputs) -> Matrix:
        """P(sell), P(hold), P(buy): rows x 3."""
        return np.asarray(self._session.run(self._outputs, {self._input: inputs})[0], dtype=np.float64)

    def contributions(self, inputs: Inputs) -> None:
        """A graph gives no reasons."""
        return None


def open_model(data: bytes) -> OnnxModel:
    """The model in a bundle file's bytes; raises ``ValueError`` if they are none."""
    try:
        return OnnxModel(data)
    except ValueError:
        raise
    except Exception as error:  # onnxruntime's own errors share no public base class
        raise ValueError(str(error).splitlines()[0]) from None
