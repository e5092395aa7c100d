"""Teaching the four models: each function takes rows and settings and gives the bytes of a bundle file.

Everything runs on one thread with a fixed seed, so that the same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


class Rows(NamedTuple):
    """Training rows: inputs float64[n, f] (NaN where masked), labels int8[n] in 0..2, weights float64[n]."""

    inputs: Floats
    labels: Labels
    weights: Floats


class Kind(NamedTuple):
    """One model of the ensemble: its backend, file, whether it may see missing inputs, and how to teach it."""

    backend: str
    file: str
    tolerant: bool
    fit: Callable[[Rows, dict[str, Any], tuple[str, ...], int], bytes]


def fit_xgboost(rows: Rows, settings: dict[str, Any], features: tuple[str, ...], seed: int) -> bytes:
    """Boosted trees, JSON."""
    import xgboost

    table = xgboost.DMatrix(
        rows.inputs.astype(np.float32), rows.labels, weight=rows.weights, feature_names=list(features), nthread=1
    )
    parameters = {key: value for key, value in settings.items() if key != "rounds"}
    parameters |= {"objective": "multi:softprob", "num_class": 3, "nthread": 1, "seed": seed, "tree_method": "hist"}
    booster = xgboost.train(parameters, table, settings["rounds"])
    return bytes(booster.save_raw("json"))


def fit_lightgbm(rows: Rows, settings: dict[str, Any], features: tuple[str, ...], seed: int) -> bytes:
    """Boosted trees, text."""
    import lightgbm

    parameters = {key: value for key, value in settings.items() if key != "rounds"}
    parameters |= {
        "objective": "multiclass",
        "num_class": 3,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "bagging_freq": 1,
        "verbose": -1,
    }
    table = lightgbm.Dataset(
        rows.inputs.astype(np.float32), rows.labels, weight=rows.weights, feature_name=list(features), params=parameters
    )
    text: str = lightgbm.train(parameters, table, settings["rounds"]).model_to_string()
    return text.encode()


def fit_neural_net(rows: Rows, settings: dict[str, Any], features: tuple[str, ...], seed: int) -> bytes:
    """A scaler and a small perceptron, ONNX."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    net = MLPClassifier(
        hidden_layer_sizes=tuple(settings["hidden"]),
        alpha=settings["alpha"],
        learning_rate_init=settings["learning_rate"],
        max_iter=settings["epochs"],
        n_iter_no_change=settings["epochs"],
        random_state=seed,
    )
    pipeline = make_pipeline(StandardScaler(), net)
    return _fitted_onnx(pipeline, net, rows, features, "mlpclassifier__sample_weight")


def fit_random_forest(rows: Rows, settings: dict[str, Any], features: tuple[str, ...], seed: int) -> bytes:
    """Bagged trees, ONNX."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        settings["trees"],
        max_depth=settings["max_depth"],
        min_samples_leaf=settings["min_samples_leaf"],
        max_features="sqrt",
        random_state=seed,
        n_jobs=1,
    )
    return _fitted_onnx(forest, forest, rows, features, "sample_weight")


#: The ensemble, by model name.
KINDS = {
    "xgboost_swing": Kind("xgboost", "xgboost_swing.json", True, fit_xgboost),
    "lightgbm_day": Kind("lightgbm", "lightgbm_day.txt", True, fit_lightgbm),
    "neural_net": Kind("onnx", "neural_net.onnx", False, fit_neural_net),
    "random_forest": Kind("onnx", "random_forest.onnx", False, fit_random_forest),
}


def with_masks(rows: Rows, columns: tuple[int, ...], share: float, seed: int) -> Rows:
    """The rows and a copy of a ``share`` of them in which one random column of ``columns`` is missing."""
    count = int(len(rows.labels) * share)
    if not count or not columns:
        return rows
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(len(rows.labels), count, replace=False))
    masked = rows.inputs[chosen].copy()
    masked[np.arange(count), random.choice(columns, count)] = np.nan
    return Rows(
        np.concatenate([rows.inputs, masked]),
        np.concatenate([rows.labels, rows.labels[chosen]]),
        np.concatenate([rows.weights, rows.weights[chosen]]),
    )


def with_every_class(rows: Rows) -> Rows:
    """The rows, and for a class that none has one middling row of almost no weight: every model keeps three outputs."""
    absent = sorted({0, 1, 2} - set(np.unique(rows.labels).tolist()))
    if not absent:
        return rows
    middle = np.tile(np.nanmedian(rows.inputs, axis=0), (len(absent), 1))
    return Rows(
        np.concatenate([rows.inputs, middle]),
        np.concatenate([rows.labels, np.array(absent, dtype=rows.labels.dtype)]),
        np.concatenate([rows.weights, np.full(len(absent), 1e-3)]),
    )


def _fitted_onnx(pipeline: Any, estimator: Any, rows: Rows, features: tuple[str, ...], weight_name: str) -> bytes:
    import warnings

    import onnx
    from skl2onnx import to_onnx
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    inputs = rows.inputs.astype(np.float32)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(inputs, rows.labels, **{weight_name: rows.weights})
    graph = to_onnx(pipeline, inputs[:1], options={id(estimator): {"zipmap": False}}, target_opset=17, name="model")
    onnx.helper.set_model_props(graph, {"features": ",".join(features)})
    return bytes(graph.SerializeToString(deterministic=True))
