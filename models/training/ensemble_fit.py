"""The ensemble as a whole: teach each model on the earlier rows, calibrate it on the later, give it its weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models import backends
from models.backends.base import Model
from models.serving import calibration
from models.serving.ensemble import weight_of
from models.serving.manifest import ModelSpec
from models.training.calibrate import fit_calibration
from models.training.config import TrainConfig
from models.training.data import Dataset, balanced
from models.training.fit import KINDS, Rows, with_every_class, with_masks
from models.training.folds import split_later

Floats = npt.NDArray[np.float64]
Step = Callable[[str], None]


class Fitted(NamedTuple):
    """One trained model: its entry in the manifest, its file and the model opened from that file."""

    spec: ModelSpec
    data: bytes
    model: Model


def usable(inputs: Floats, tolerant: bool) -> npt.NDArray[np.bool_]:
    """Rows a model may see: all, or only the complete ones."""
    return np.ones(len(inputs), dtype=bool) if tolerant else np.isfinite(inputs).all(axis=1)


def fit_model(name: str, settings: dict[str, Any], config: TrainConfig, data: Dataset) -> bytes:
    """The file of one model taught on ``data``."""
    kind = KINDS[name]
    known = usable(data.inputs, kind.tolerant)
    rows = Rows(data.inputs[known], data.labels[known], data.weights[known])
    if kind.tolerant:
        columns = tuple(config.inputs.index(column) for column in config.optional if column in config.inputs)
        rows = with_masks(rows, columns, config.mask_share, config.seed)
    return kind.fit(with_every_class(rows), settings, config.inputs, config.seed)


def predict(name: str, model: Model, inputs: Floats) -> Floats:
    """The model's own probabilities, NaN for rows it may not see: n x 3."""
    known = usable(inputs, KINDS[name].tolerant)
    found = np.full((len(inputs), 3), np.nan)
    if known.any():
        found[known] = model.predict(np.ascontiguousarray(inputs[known], dtype=np.float32))
    return found


def fit_ensemble(config: TrainConfig, data: Dataset, embargo_ms: int, step: Step) -> list[Fitted]:
    """All models of the ensemble, taught on the earlier and calibrated on the later rows of ``data``."""
    earlier, later = split_later(data.start_ms, data.exit_ms, config.later_share, embargo_ms)
    teach, check = data.take(earlier), data.take(later)
    if config.balance_sides:
        teach, check = (part._replace(weights=balanced(part.labels, part.weights)) for part in (teach, check))
    fitted = []
    for name, kind in KINDS.items():
        step(name)
        settings = config.settings(name)
        content = fit_model(name, settings, config, teach)
        model: Model = backends.backend(kind.backend).open_model(content)
        found = predict(name, model, check.inputs)
        known = ~np.isnan(found).any(axis=1)
        spec = ModelSpec(
            name=name,
            backend=kind.backend,
            file=kind.file,
            weight=config.weights.get(name, weight_of(name)),
            tolerates=tuple(column for column in config.inputs if column in config.optional) if kind.tolerant else (),
            calibration=fit_calibration(found[known], check.labels[known], check.weights[known]),
            parameters=settings,
        )
        fitted.append(Fitted(spec, content, model))
    return fitted


def probabilities(fitted: list[Fitted], inputs: Floats) -> Floats:
    """Calibrated probabilities as a bundle of these models would give them: n x m x 3."""
    return np.stack(
        [calibration.apply(predict(part.spec.name, part.model, inputs), part.spec.calibration) for part in fitted],
        axis=1,
    )
