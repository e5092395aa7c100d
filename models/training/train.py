"""Train a bundle: bars and their features before a cut-off date in, a verified folder out.

    python -m models.training.train models/configs/daily-swing.toml --bars bars.parquet --features features.parquet
    --out DIR

Walk-forward first (purged, embargoed): it gives the honest figures and, from its validation rows, the thresholds. Then
the shipped models are taught on everything before the cut-off and calibrated on its last part. Bars after the cut-off
only measure. No wall clock and no thread count enters the files: the same data, config and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from models import backends
from models.messages import TIMEFRAME_MS
from models.serving.bundle import write_bundle
from models.serving.ensemble import combine
from models.serving.manifest import BundleError, Manifest, Range, Thresholds
from models.training import evaluate
from models.training.config import TrainConfig, parse
from models.training.data import Dataset, prepare
from models.training.ensemble_fit import Fitted, fit_ensemble, probabilities
from models.training.folds import teachable, walk_forward
from models.training.reference import FILE as REFERENCE_FILE
from models.training.reference import describe
from models.training.search import search

#: Fewer rows than this cannot carry a walk-forward.
ROWS_MIN = 500

Step = Callable[[str], None]


def train(
    config: TrainConfig,
    bars: pd.DataFrame,
    features: pd.DataFrame,
    feature_set_hash: str,
    step: Step = print,
    journal: Path | None = None,
) -> tuple[Manifest, dict[str, bytes], dict[str, Any]]:
    """The manifest, the bundle's other files by name, and what a report shows beyond the manifest.

    ``bars`` and ``features`` as :mod:`models.training.data` describes; ``step`` is called with what is being done;
    ``journal`` is the file in which a search (``config.trials``) remembers its trials.
    """
    step("labels")
    data = prepare(config, bars, features)
    embargo_ms = config.embargo_bars * TIMEFRAME_MS[config.timeframe]
    before = data.take(teachable(data.exit_ms, config.cutoff_ms(), embargo_ms))
    after = data.take(data.start_ms >= config.cutoff_ms())
    if len(before.labels) < ROWS_MIN:
        raise ValueError(
            f"{len(before.labels)} usable rows before the cut-off {config.cutoff}, at least {ROWS_MIN} are needed "
            f"({data.counts}): give more bars or a later cut-off"
        )
    if config.trials:
        config = search(config, before, embargo_ms, journal, step)
    forward = _walk_forward(config, before, embargo_ms, step)
    thresholds: Thresholds = forward["thresholds"]

    fitted = fit_ensemble(config, before, embargo_ms, _prefixed(step, "final"))
    base_rates = _base_rates(before)
    metrics: dict[str, Any] = {
        "rows": data.counts | {"before_cutoff": len(before.labels), "after_cutoff": len(after.labels)},
        "base_rates": dict(zip(("sell", "hold", "buy"), np.round(base_rates, 6).tolist(), strict=True)),
        "walk_forward": forward["metrics"],
    }
    step("out of sample")
    extra: dict[str, Any] = {"forward": forward, "data": before, "fitted": fitted, "thresholds": thresholds}
    if len(after.labels):
        metrics["out_of_sample"], extra["out_of_sample"] = _measure(fitted, after, thresholds, base_rates)

    files = {part.spec.file: part.data for part in fitted}
    mean = evaluate.mean_probabilities(probabilities(fitted, before.inputs), _weights(fitted))
    reference, files[REFERENCE_FILE] = describe(
        before.inputs, mean[:, 2] - mean[:, 0], config.reference_rows, config.seed
    )
    used = {part.spec.backend for part in fitted}
    manifest = Manifest(
        name=config.name,
        style=config.style,
        timeframe=config.timeframe,
        features=config.inputs,
        feature_set_hash=feature_set_hash,
        families=_families(features, config.inputs),
        models=tuple(part.spec for part in fitted),
        thresholds=thresholds,
        label=config.label,
        training=_range(before),
        out_of_sample=_range(after) if len(after.labels) else None,
        seed=config.seed,
        life=config.life,
        reference=reference,
        library_versions={backends.backend(name).PACKAGE: backends.backend(name).version() for name in sorted(used)},
        metrics=metrics,
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    )
    return manifest, files, extra


def _families(features: pd.DataFrame, inputs: Sequence[str]) -> dict[str, str] | msgspec.UnsetType:
    """The hash of each feature family behind the inputs, where the table of features names its families."""
    every: dict[str, list[Any]] = features.attrs.get("families", {})
    needed = {name: str(known) for name, (known, outputs) in every.items() if set(outputs) & set(inputs)}
    return needed or msgspec.UNSET


def step_count(config: TrainConfig) -> int:
    """How many times :func:`train` calls ``step``, for a progress bar."""
    return 4 * config.trials + 4 * config.folds + 4 + 3


def _walk_forward(config: TrainConfig, data: Dataset, embargo_ms: int, step: Step) -> dict[str, Any]:
    """Out-of-fold probabilities of every fold; thresholds chosen on all folds but the last, which checks them."""
    pairs = walk_forward(data.start_ms, data.exit_ms, config.folds, embargo_ms)
    folds = []
    for number, (teach, test) in enumerate(pairs, 1):
        fitted = fit_ensemble(config, data.take(teach), embargo_ms, _prefixed(step, f"fold {number}"))
        held = data.take(test)
        folds.append((held, probabilities(fitted, held.inputs), _base_rates(data.take(teach))))
    weights = _weights(fitted)
    chosen_on = folds[:-1] or folds
    held, found = _joined([fold[:2] for fold in chosen_on])
    step("thresholds")
    thresholds = evaluate.choose_thresholds(
        found, weights, held, config.min_signal_share, config.balance_sides, config.hold_zone
    )
    rows = []
    for number, (held, found, base_rates) in enumerate(folds, 1):
        measured, _ = _figures(fitted, found, held, thresholds, base_rates)
        role = "test" if number == len(folds) and len(folds) > 1 else "thresholds chosen here"
        rows.append({"fold": number, "role": role, "from_ms": int(held.start_ms.min()), **measured})
    return {"thresholds": thresholds, "folds": folds, "weights": weights, "metrics": rows}


def _prefixed(step: Step, prefix: str) -> Step:
    return lambda name: step(f"{prefix} {name}")


def _joined(folds: list[Any]) -> tuple[Dataset, Any]:
    parts = [held for held, _ in folds]
    return Dataset.joined(parts), np.concatenate([found for _, found in folds])


def _measure(fitted: list[Fitted], data: Dataset, thresholds: Thresholds, base_rates: Any) -> tuple[Any, Any]:
    return _figures(fitted, probabilities(fitted, data.inputs), data, thresholds, base_rates)


def _figures(
    fitted: list[Fitted], found: Any, data: Dataset, thresholds: Thresholds, base_rates: Any
) -> tuple[Any, Any]:
    weights = _weights(fitted)
    decision = combine(found, weights, thresholds)
    mean = evaluate.mean_probabilities(found, weights)
    measured = {
        "ensemble": evaluate.forecast(mean, data, base_rates),
        "models": {
            part.spec.name: evaluate.forecast(found[:, index], data, base_rates) for index, part in enumerate(fitted)
        },
        "signals": evaluate.trading(decision.action, data),
    }
    return measured, {"data": data, "mean": mean, "decision": decision, "measured": measured}


def _base_rates(data: Dataset) -> Any:
    rates = np.bincount(data.labels, weights=data.weights, minlength=3)
    return rates / rates.sum()


def _weights(fitted: list[Fitted]) -> Any:
    return np.array([part.spec.weight for part in fitted])


def _range(data: Dataset) -> Range:
    return Range(
        start_ms=int(data.start_ms.min()),
        end_ms=int(data.exit_ms.max()),
        rows=len(data.labels),
        symbols=tuple(sorted({str(symbol) for symbol in data.symbols})),
    )


def read_table(path: Path) -> tuple[pd.DataFrame, str]:
    """A CSV or Parquet file of bars or features, and the ``feature_set_hash`` its metadata states ("" if none)."""
    if not path.is_file():
        raise ValueError(f"no file {path}")
    if path.suffix != ".parquet":
        return pd.read_csv(path), ""
    frame = pd.read_parquet(path)
    if "feature_set_hash" in frame.attrs:
        return frame, str(frame.attrs["feature_set_hash"])
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_schema(path).metadata or {}
    return frame, metadata.get(b"feature_set_hash", b"").decode()


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.training.train", description=__doc__.split("\n\n")[0])
    parser.add_argument("config", type=Path, help="the bundle's TOML file (see models/configs)")
    parser.add_argument("--bars", type=Path, required=True, help="CSV or Parquet of bars")
    parser.add_argument("--features", type=Path, required=True, help="Parquet of features (`signals features`)")
    parser.add_argument("--cutoff", help="the first day kept from training, instead of the config's")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    given = parser.parse_args(arguments)
    try:
        config = parse(given.config.read_bytes())
        if given.cutoff:
            config = msgspec.structs.replace(config, cutoff=given.cutoff)
            config.cutoff_ms()
        bars, _ = read_table(given.bars)
        features, feature_set_hash = read_table(given.features)
        manifest, files, _ = train(config, bars, features, feature_set_hash)
        write_bundle(given.out, manifest, files)
    except (ValueError, OSError, BundleError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 2
    print(f"{given.out}: {sum(map(len, files.values())):,} bytes, thresholds {manifest.thresholds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
