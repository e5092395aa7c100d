"""A fifth model, a Keras network as ONNX, joins the ensemble: only the manifest changes."""

import hashlib

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.serving.bundle import BundleError, load_bundle, write_bundle
from models.serving.ensemble import weight_of
from models.serving.manifest import ModelSpec


def keras_graph(features, weights, rows="rows"):
    """``Dense(8, relu)`` and ``Dense(3, softmax)`` as tf2onnx writes a Sequential: MatMul, Add, Relu, ..., Softmax."""
    (w1, b1), (w2, b2) = weights
    nodes = [
        helper.make_node("MatMul", ["dense_input", "w1"], ["m1"], "sequential/dense/MatMul"),
        helper.make_node("Add", ["m1", "b1"], ["a1"], "sequential/dense/BiasAdd"),
        helper.make_node("Relu", ["a1"], ["r1"], "sequential/dense/Relu"),
        helper.make_node("MatMul", ["r1", "w2"], ["m2"], "sequential/dense_1/MatMul"),
        helper.make_node("Add", ["m2", "b2"], ["a2"], "sequential/dense_1/BiasAdd"),
        helper.make_node("Softmax", ["a2"], ["dense_1"], "sequential/dense_1/Softmax", axis=-1),
    ]
    named = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    graph = helper.make_graph(
        nodes,
        "tf2onnx",
        [helper.make_tensor_value_info("dense_input", TensorProto.FLOAT, [rows, len(features)])],
        [helper.make_tensor_value_info("dense_1", TensorProto.FLOAT, [rows, 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in named.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], producer_name="tf2onnx", ir_version=8)
    onnx.checker.check_model(model)
    helper.set_model_props(model, {"features": ",".join(features)})
    return model.SerializeToString()


def with_keras(trained, folder, features=None, **spec):
    manifest, files, _ = trained
    random = np.random.default_rng(0)
    shapes = ((len(manifest.features), 8), (8, 3))
    weights = [(random.normal(size=shape), random.normal(size=shape[1])) for shape in shapes]
    data = keras_graph(features or manifest.features, weights)
    added = ModelSpec(name="keras_dense", backend="onnx", file="keras.onnx", weight=weight_of("keras"), **spec)
    changed = msgspec.structs.replace(
        manifest,
        models=(*manifest.models, added),
        files=manifest.files | {"keras.onnx": hashlib.sha256(data).hexdigest()},
    )
    write_bundle(folder, changed, files | {"keras.onnx": data})
    return folder, weights


def test_it_votes_with_the_default_weight_and_its_own_numbers(trained, tmp_path):
    folder, ((w1, b1), (w2, b2)) = with_keras(trained, tmp_path / "five")
    bundle = load_bundle(folder)
    rows = trained[2]["data"].inputs
    rows = rows[np.isfinite(rows).all(axis=1)][:32]
    scores, decision = bundle.decide(rows)
    assert scores.models[-1] == "keras_dense"
    assert bundle.weights[-1] == 0.10
    logits = np.maximum(rows @ w1 + b1, 0) @ w2 + b2
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(scores.probabilities[:, -1], expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
    assert decision.votes.shape == (32, 5)
    bundle.close()


def test_its_input_order_is_checked_too(trained, tmp_path):
    features = trained[0].features
    folder, _ = with_keras(trained, tmp_path / "five", features=tuple(reversed(features)))
    with pytest.raises(BundleError, match=r"keras_dense .* its inputs are .* differ from position 0"):
        load_bundle(folder)
