"""A bounded, seeded search for each model's settings, on time-ordered folds; it can be stopped and resumed.

Each trial teaches one model on the walk-forward folds and scores its mean log loss. The last fold is kept out, so that
it tests the chosen settings too. The sampler is seeded again for
each trial from the config's seed and the trial's number, so a resumed search continues as the uninterrupted one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models import backends
from models.training.calibrate import log_loss
from models.training.config import TrainConfig
from models.training.data import Dataset, balanced
from models.training.ensemble_fit import fit_model, predict
from models.training.fit import KINDS
from models.training.folds import walk_forward

Step = Callable[[str], None]

#: Ranges small enough that a model stays quick to score and fits the bundle.
SPACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "xgboost_swing": lambda trial: {
        "rounds": trial.suggest_int("rounds", 20, 60, step=10),
        "max_depth": trial.suggest_int("max_depth", 2, 3),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 5, 100, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 1, 50, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
    },
    "lightgbm_day": lambda trial: {
        "rounds": trial.suggest_int("rounds", 20, 40, step=10),
        "num_leaves": trial.suggest_int("num_leaves", 4, 8),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 30, 200, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 1, 50, log=True),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
    },
    "neural_net": lambda trial: {
        "hidden": trial.suggest_categorical("hidden", ["8", "16", "32,16"]),
        "alpha": trial.suggest_float("alpha", 0.001, 10, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.0005, 0.01, log=True),
        "epochs": trial.suggest_int("epochs", 5, 40, step=5),
    },
    "random_forest": lambda trial: {
        "trees": trial.suggest_int("trees", 30, 60, step=15),
        "max_depth": trial.suggest_int("max_depth", 3, 6),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 20, 200, log=True),
    },
}


def search(config: TrainConfig, data: Dataset, embargo_ms: int, journal: Path | None, step: Step) -> TrainConfig:
    """The config with the best settings of ``config.trials`` trials per model; ``journal`` is where it resumes."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    best: dict[str, dict[str, Any]] = {}
    pairs = walk_forward(data.start_ms, data.exit_ms, config.folds, embargo_ms)
    pairs = pairs[:-1] or pairs
    key = _key(config, data)
    folds = [(data.take(teach), data.take(test)) for teach, test in pairs]
    for name in KINDS:
        storage = _storage(journal) if journal else None
        study = optuna.create_study(study_name=f"{config.name}.{name}.{key}", storage=storage, load_if_exists=True)
        done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        for number in range(len(done), config.trials):
            step(f"search {name} {number + 1}/{config.trials}")
            study.sampler = optuna.samplers.TPESampler(seed=config.seed * 1_000 + number, n_startup_trials=8)
            trial = study.ask()
            settings = config.settings(name) | _plain(SPACES[name](trial))
            study.tell(trial, _loss(name, settings, config, folds))
        if config.trials:
            found = _plain(study.best_trial.params)
            best[name] = {key: round(value, 6) if isinstance(value, float) else value for key, value in found.items()}
    return msgspec.structs.replace(config, parameters={**config.parameters, **best})


def _loss(name: str, settings: dict[str, Any], config: TrainConfig, folds: list[tuple[Dataset, Dataset]]) -> float:
    losses = []
    for teach, test in folds:
        if config.balance_sides:
            teach, test = (part._replace(weights=balanced(part.labels, part.weights)) for part in (teach, test))
        content = fit_model(name, settings, config, teach)
        model = backends.backend(KINDS[name].backend).open_model(content)
        found = predict(name, model, test.inputs)
        known = ~np.isnan(found).any(axis=1)
        losses.append(log_loss(found[known], test.labels[known], test.weights[known]))
    return float(np.mean(losses))


def _key(config: TrainConfig, data: Dataset) -> str:
    """Names the question, so that a journal of other data or settings is not taken for an answer."""
    asked = msgspec.json.encode(msgspec.structs.replace(config, trials=0))
    return hashlib.sha256(asked + data.inputs.tobytes() + data.labels.tobytes()).hexdigest()[:12]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """The layer sizes as numbers: the journal keeps them as text."""
    if isinstance(settings.get("hidden"), str):
        return settings | {"hidden": [int(size) for size in settings["hidden"].split(",")]}
    return settings


def _storage(journal: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(journal)))
