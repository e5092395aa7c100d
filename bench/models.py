"""Scoring speed: the ensemble of four, whole batches and single rows, compared with the per-row path it replaces.

    python bench/models.py [--seconds 20] [--bundle daily-swing]

Everything runs on one core (the process is pinned to it). "Ours" is :meth:`models.serving.bundle.Bundle.decide`: mask,
four models, calibration, vote. The per-row path is the product's first design as it was written: a coroutine for each
model, ``DMatrix`` and ``Booster.predict`` of one row, scikit-learn scaler, net and forest of one row, votes in dicts.
The last line is one JSON object: ``x_seed_per_row``, ``us_per_row_256``, ``us_batch_1``: medians of the quietest of
five windows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from models.serving.bundle import Bundle, bundle_path, load_bundle

WEIGHTS = {"xgboost_swing": 0.35, "lightgbm_day": 0.30, "neural_net": 0.20, "random_forest": 0.15}


class SeedPipeline:
    """The first design's ``generate_signal`` up to the ensemble, with models as large as the bundle's."""

    def __init__(self, bundle: Bundle, folder: Path, rows: np.ndarray) -> None:
        import lightgbm
        import xgboost
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.neural_network import MLPClassifier
        from sklearn.preprocessing import StandardScaler

        settings = {spec.name: spec.parameters for spec in bundle.manifest.models}
        labels = np.random.default_rng(0).integers(0, 3, len(rows))
        self.names = bundle.features
        self.scalers = {"neural_net": StandardScaler().fit(rows)}
        net = MLPClassifier(tuple(settings["neural_net"]["hidden"]), max_iter=5, random_state=0)
        forest = RandomForestClassifier(
            settings["random_forest"]["trees"], max_depth=settings["random_forest"]["max_depth"], random_state=0
        )
        self.models: dict[str, Any] = {
            "xgboost_swing": xgboost.Booster({"nthread": 1}, model_file=folder / "xgboost_swing.json"),
            "lightgbm_day": lightgbm.Booster(model_file=folder / "lightgbm_day.txt"),
            "neural_net": net.fit(self.scalers["neural_net"].transform(rows), labels),
            "random_forest": forest.fit(rows, labels),
        }
        self._matrix = xgboost.DMatrix

    async def generate_signal(self, features: dict[str, float]) -> tuple[str, float]:
        """Action and confidence of one row."""
        vector = np.array([features.get(name, 0.0) for name in self.names])
        predictions, confidences = {}, {}
        for name in self.models:
            predictions[name], confidences[name] = await self._predict(name, vector)
        scores = {"buy": 0.0, "sell": 0.0, "hold": 0.0}
        total = 0.0
        for name, action in predictions.items():
            scores[action] += WEIGHTS.get(name, 0.1) * confidences[name]
            total += WEIGHTS.get(name, 0.1)
        best = max(scores, key=scores.__getitem__)
        return best, scores[best] / total

    async def _predict(self, name: str, vector: np.ndarray) -> tuple[str, float]:
        model = self.models[name]
        if name in self.scalers:
            vector = self.scalers[name].transform(vector.reshape(1, -1))[0]
        if name == "xgboost_swing":
            found = model.predict(self._matrix(vector.reshape(1, -1), feature_names=list(self.names), nthread=1))[0]
        elif name == "lightgbm_day":
            found = model.predict(vector.reshape(1, -1), num_threads=1)[0]
        else:
            found = model.predict_proba(vector.reshape(1, -1))[0]
        return ("sell", "hold", "buy")[int(np.argmax(found))], float(np.max(found))


def timed(call: Callable[[], object], seconds: float, windows: int = 5) -> float:
    """Median microseconds per call in the quietest of several time windows, after a warm-up."""
    for _ in range(5):
        call()
    medians = []
    for _ in range(windows):
        spans: list[float] = []
        until = time.perf_counter() + seconds / windows
        while time.perf_counter() < until or len(spans) < 5:
            started = time.perf_counter()
            call()
            spans.append(time.perf_counter() - started)
        medians.append(statistics.median(spans))
    return min(medians) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="time for the whole measurement")
    parser.add_argument("--bundle", default="daily-swing")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    folder = bundle_path(given.bundle)
    bundle = load_bundle(folder)
    reference = bundle.manifest.reference
    assert reference is not None
    assert bundle.reference is not None
    rows = bundle.reference * np.array(reference.spread) + np.array(reference.center)
    rows = np.ascontiguousarray(np.tile(rows, (16, 1)))
    share = given.seconds / 8

    print(f"{platform.platform()}, {_processor()}, one core, load {os.getloadavg()[0]:.1f}")
    sizes = {size: timed(lambda size=size: bundle.decide(rows[:size]), share) for size in (1, 16, 256, 4096)}
    for size, spent in sizes.items():
        print(f"ours, batch {size:>5}: {spent:>10.0f} us per call {spent / size:>8.2f} us per row")
    inputs = rows[:256].astype(np.float32)
    for spec, model in zip(bundle.manifest.models, bundle._models, strict=True):
        spent = timed(lambda model=model: model.predict(inputs), share / 4)
        print(f"  {spec.name:<16} batch 256: {spent / 256:>6.2f} us per row")
    explain = timed(lambda: bundle.explain(rows[:16]), share)
    print(f"explanations, 16 rows: {explain / 16:.0f} us per row (emitted signals only)")

    seed = SeedPipeline(bundle, folder, rows[:256])
    dicts = [dict(zip(bundle.features, row.tolist(), strict=True)) for row in rows[:64]]
    turn = iter(range(10**9))
    loop = asyncio.new_event_loop()
    per_row = timed(lambda: loop.run_until_complete(seed.generate_signal(dicts[next(turn) % 64])), share)
    print(f"the first design, row by row: {per_row:.0f} us per row")
    print(
        json.dumps(
            {
                "x_seed_per_row": round(per_row / (sizes[256] / 256), 1),
                "us_per_row_256": round(sizes[256] / 256, 2),
                "us_batch_1": round(sizes[1], 1),
                "us_seed_per_row": round(per_row, 1),
                "us_explain_per_row": round(explain / 16, 1),
                "bundle": bundle.id,
                "cpu": _processor(),
            }
        )
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
