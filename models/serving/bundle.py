"""A trained ensemble, loaded from its folder and checked, ready to score batches.

:func:`load_bundle` refuses whatever does not fit (a changed or missing file, another feature order, another library
major version, a newer manifest) with a :class:`~models.serving.manifest.BundleError` that names both sides and the
remedy. Only file bytes, JSON and the libraries' own model formats are read: no pickle, no code from the bundle.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.resources
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models import backends
from models.backends.base import Matrix, Model
from models.messages import CLASSES
from models.serving import calibration, ensemble
from models.serving.feature_set import FeatureSet, families_hash, families_needed, why_unfit
from models.serving.manifest import BundleError, Manifest, ModelSpec, decode_manifest, digest, encode_manifest
from models.serving.signing import check_signature
from models.serving.timeouts import Runner

__all__ = [
    "Bundle",
    "BundleError",
    "Scores",
    "bundle_folder",
    "bundle_names",
    "bundle_path",
    "load_bundle",
    "write_bundle",
]

#: How long one model may take for a batch of up to 4,096 rows (longer batches get as much per 4,096 rows).
MODEL_TIMEOUT_S = 5.0
MANIFEST = "manifest.json"


class Scores:
    """The models' scores of n rows.

    ``models``: the m names in order. ``probabilities``: float64[n, m, 3] in ``CLASSES`` order, calibrated; NaN where
    that model abstained or was skipped. ``skipped``: model -> why it gave nothing for the batch (raised, timed out,
    NaN). ``missing``: bool[n, f], True where an input was NaN; ``features`` names its columns.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        features: tuple[str, ...],
        probabilities: Matrix,
        missing: npt.NDArray[np.bool_],
        skipped: dict[str, str],
    ) -> None:
        self.models = tuple(spec.name for spec in specs)
        self.features = features
        self.probabilities = probabilities
        self.missing = missing
        self.skipped = skipped
        self._specs = specs

    def reasons(self, row: int) -> dict[str, str]:
        """Why each skipped model of that row was skipped: for the whole batch, or for an input it does not tolerate."""
        return silences(self._specs, self.features, self.missing[row], self.probabilities[row], self.skipped)


@cache
def columns_of(features: tuple[str, ...], names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Where a bundle's inputs stand in a job's feature row, int64[len(features)]; shared, not to be written to.

    >>> columns_of(("b", "a"), ("a", "x", "b")).tolist()
    [2, 0]
    """
    return np.array([names.index(name) for name in features], np.int64)


def silences(
    specs: Sequence[ModelSpec],
    features: Sequence[str],
    missing: npt.NDArray[np.bool_],
    probabilities: Matrix,
    skipped: Mapping[str, str],
) -> dict[str, str]:
    """Why each skipped model of one row was skipped.

    ``missing`` bool[f]: the inputs that were not finite; ``probabilities`` float64[m, 3]; ``skipped``: the models that
    gave nothing for the whole batch.
    """
    found = dict(skipped)
    absent = [name for name, gone in zip(features, missing, strict=True) if gone]
    for spec, answer in zip(specs, probabilities, strict=True):
        if spec.name in found:
            continue
        lacking = [name for name in absent if name not in spec.tolerates]
        if lacking:
            found[spec.name] = f"abstained: {', '.join(lacking)} missing"
        elif np.isnan(answer).any():
            found[spec.name] = "returned NaN"
    return found


def needed_by(manifest: Manifest) -> dict[str, str]:
    """The feature families that a bundle needs, by name, with their hashes; empty if they are not known."""
    return manifest.families or families_needed(manifest.features, manifest.feature_set_hash)


class Bundle:
    """A verified bundle. ``id`` (name@digest) is what signals name; for one calling thread at a time.

    ``failures`` counts, by model, the batches in which it was skipped.
    """

    def __init__(self, manifest: Manifest, models: Sequence[Model], reference: Matrix | None = None) -> None:
        self.manifest = manifest
        self.name = manifest.name
        self.id = f"{manifest.name}@{manifest.digest[:8]}"
        self.features = manifest.features
        #: What its signals name: the hash of its families; that of the whole set where the manifest names none.
        self.feature_set_hash = families_hash(manifest.families) if manifest.families else manifest.feature_set_hash
        self.weights = np.array([spec.weight for spec in manifest.models])
        self.thresholds = manifest.thresholds
        self.reference = reference
        self.failures: Counter[str] = Counter()
        self.timeout_s = MODEL_TIMEOUT_S
        self._models = list(models)
        self._scales = np.array([[spec.calibration.scale] for spec in manifest.models])
        self._biases = np.array([spec.calibration.bias for spec in manifest.models])
        self._fragile = np.array(
            [[name not in spec.tolerates for name in manifest.features] for spec in manifest.models], dtype=bool
        ).reshape(len(manifest.models), len(manifest.features))
        self._runner = Runner()

    def check_features(self, job: FeatureSet) -> None:
        """Raises :class:`BundleError` if the job lacks one of the inputs or computes them differently."""
        if reason := why_unfit(self.features, needed_by(self.manifest), self.manifest.feature_set_hash, job):
            raise BundleError(f"bundle {self.id} {reason}")

    def score(self, matrix: Matrix) -> Scores:
        """Every model's calibrated probabilities of each row of ``matrix`` (float64[n, features], NaN: missing)."""
        inputs = self._inputs(matrix)
        missing = ~np.isfinite(inputs)
        probabilities = np.full((len(inputs), len(self._models), 3), np.nan)
        calls = []
        rows_of: dict[str, npt.NDArray[np.bool_] | None] = {}
        clean = not missing.any()
        for index, (spec, model) in enumerate(zip(self.manifest.models, self._models, strict=True)):
            rows: npt.NDArray[np.bool_] | None = None
            chosen = inputs
            if not clean:
                rows = ~(missing & self._fragile[index]).any(axis=1)
                chosen = inputs if rows.all() else np.ascontiguousarray(inputs[rows])
            rows_of[spec.name] = rows
            if len(chosen):
                calls.append((spec.name, lambda model=model, chosen=chosen: model.predict(chosen)))
        found, skipped = self._runner.run(calls, self.timeout_s * max(1.0, len(inputs) / 4096))
        for index, spec in enumerate(self.manifest.models):
            if spec.name not in found:
                continue
            rows = rows_of[spec.name]
            expected = (len(inputs) if rows is None else int(rows.sum()), 3)
            result = found[spec.name]
            if result.shape != expected:
                skipped[spec.name] = f"returned shape {result.shape} instead of {expected}"
                continue
            if rows is None:
                probabilities[:, index] = result
            else:
                probabilities[rows, index] = result
        # One check for all models: a row that should have been scored but contains NaN or infinity did not come out.
        sound = np.isfinite(probabilities)
        if len(found) < len(self._models) or not sound.all():
            self._note_nan(probabilities, sound.all(axis=2), found, rows_of, skipped)
        if skipped:
            self.failures.update(skipped.keys())
        calibrated = calibration.apply_each(probabilities, self._scales, self._biases)
        return Scores(self.manifest.models, self.features, calibrated, missing, skipped)

    def _note_nan(
        self,
        probabilities: Matrix,
        sound: npt.NDArray[np.bool_],
        found: dict[str, Matrix],
        rows_of: dict[str, npt.NDArray[np.bool_] | None],
        skipped: dict[str, str],
    ) -> None:
        """Silences models on rows where they answered NaN, and names those that did so on every row they were given."""
        probabilities[~sound] = np.nan
        for index, spec in enumerate(self.manifest.models):
            if spec.name not in found or spec.name in skipped:
                continue
            rows = rows_of[spec.name]
            answered = sound[:, index] if rows is None else sound[rows, index]
            if not answered.any():
                skipped[spec.name] = "returned NaN"
            elif not answered.all():
                self.failures[spec.name] += 1

    def decide(self, matrix: Matrix) -> tuple[Scores, ensemble.Decision]:
        """The scores of a batch and the ensemble's decision on each row."""
        scores = self.score(matrix)
        return scores, ensemble.combine(scores.probabilities, self.weights, self.thresholds)

    def explain(self, matrix: Matrix) -> Matrix:
        """Each input's part in the log-odds of buy against sell, float64[n, features]: tree SHAP, averaged by weight.

        Positive supports buy. Only models that can explain themselves count; zeros if none can.
        """
        inputs = self._inputs(matrix)
        total = np.zeros(inputs.shape)
        weight = 0.0
        for spec, model in zip(self.manifest.models, self._models, strict=True):
            try:
                found = model.contributions(inputs)
            except Exception:  # an explanation must not cost the signal
                self.failures[spec.name] += 1
                continue
            if found is not None and found.shape == total.shape and spec.weight > 0:
                total += spec.weight * spec.calibration.scale * found
                weight += spec.weight
        return total / weight if weight else total

    def close(self) -> None:
        """Ends the bundle's worker thread."""
        self._runner.close()

    def _inputs(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise ValueError(
                f"bundle {self.id} scores matrices of shape (rows, {len(self.features)}), got {matrix.shape}"
            )
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(matrix, dtype=np.float32)


def load_bundle(path: str | os.PathLike[str] | Traversable, now_ms: int | None = None) -> Bundle:
    """The bundle in that folder, verified; raises :class:`BundleError` saying what differs and what to do.

    ``now_ms`` (default: the clock) refuses a bundle whose training data ends after it. Where a key is configured
    (:mod:`models.serving.signing`) an unsigned bundle is refused.
    """
    folder: Traversable = Path(path) if isinstance(path, str | os.PathLike) else path
    if not folder.is_dir():
        raise BundleError(f"no bundle at {folder}: give the folder that holds {MANIFEST}")
    if not folder.joinpath(MANIFEST).is_file():
        found = ", ".join(sorted(child.name for child in folder.iterdir())) or "nothing"
        raise BundleError(f"{folder} holds {found} but no {MANIFEST}: write a bundle with `signals train`")
    check_signature(folder)
    manifest = decode_manifest(folder.joinpath(MANIFEST).read_bytes())
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    _check_manifest(manifest, now_ms)
    data = {name: _read(folder, name, want) for name, want in manifest.files.items()}
    models = [_open(manifest, spec, data) for spec in manifest.models]
    if (found_digest := digest(manifest)) != manifest.digest:
        raise BundleError(
            f"{MANIFEST} of {manifest.name} was edited: its digest is {found_digest[:12]}, it says "
            f"{manifest.digest[:12]}: copy the bundle again or train it with the setting you want"
        )
    return Bundle(manifest, models, _reference(manifest, data))


def write_bundle(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Writes the bundle into ``folder`` (made if absent), the manifest last so that a half-written one is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))


def bundle_names() -> tuple[str, ...]:
    """The bundles that come with the package."""
    root = importlib.resources.files("models") / "bundles"
    return tuple(sorted(child.name for child in _folders(root)))


def bundle_path(name: str) -> Path:
    """The folder of a bundle that comes with the package, also when the package is a zip on the path.

    Raises :class:`BundleError` naming those that exist.
    """
    if name not in bundle_names():
        raise BundleError(f"no bundle named {name!r} in this release (there are {', '.join(bundle_names()) or 'none'})")
    folder = importlib.resources.files("models") / "bundles" / name
    return folder if isinstance(folder, Path) else _extracted(name)


def bundle_folder(bundle: str) -> Path:
    """The folder of a bundle given as a path, or as the name of one that comes with the package."""
    folder = Path(bundle)
    return folder if folder.is_dir() else bundle_path(bundle)


@cache
def _extracted(name: str) -> Path:
    target = Path(tempfile.mkdtemp(prefix=f"bundle-{name}-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    for child in (importlib.resources.files("models") / "bundles" / name).iterdir():
        (target / child.name).write_bytes(child.read_bytes())
    return target


def _folders(root: Traversable) -> Iterator[Traversable]:
    if root.is_dir():
        yield from (child for child in root.iterdir() if child.is_dir() and child.joinpath(MANIFEST).is_file())


def _check_manifest(manifest: Manifest, now_ms: int) -> None:
    name = manifest.name
    if manifest.classes != CLASSES:
        raise BundleError(
            f"bundle {name} orders its classes {list(manifest.classes)}, this release {list(CLASSES)}: train it again"
        )
    if not manifest.models:
        raise BundleError(f"bundle {name} names no models: train it again")
    if not manifest.features or len(set(manifest.features)) != len(manifest.features):
        raise BundleError(f"bundle {name} lists its features as {list(manifest.features)}: each must appear once")
    for spec in manifest.models:
        if spec.file not in manifest.files:
            raise BundleError(f"bundle {name}: model {spec.name} is in {spec.file}, which 'files' does not list")
        if not spec.weight >= 0:
            raise BundleError(f"bundle {name}: model {spec.name} has weight {spec.weight}: it must be 0 or more")
        unknown = sorted(set(spec.tolerates) - set(manifest.features))
        if unknown:
            raise BundleError(f"bundle {name}: model {spec.name} tolerates {unknown}, which are no inputs of it")
        if not spec.calibration.scale > 0:
            raise BundleError(f"bundle {name}: model {spec.name} has calibration scale {spec.calibration.scale} <= 0")
    if not sum(spec.weight for spec in manifest.models) > 0:
        raise BundleError(f"bundle {name}: all weights are 0: give one model a weight")
    if manifest.training and manifest.training.end_ms > now_ms:
        raise BundleError(
            f"bundle {name} is from the future: its training data ends at {manifest.training.end_ms} ms, the clock "
            f"says {now_ms} ms: check the clock, or the data it was trained on"
        )


def _read(folder: Traversable, name: str, want: str) -> bytes:
    if name != os.path.basename(name) or name in ("", ".", "..", MANIFEST):
        raise BundleError(f"{MANIFEST} lists the file {name!r}: files must lie in the bundle's own folder")
    file = folder.joinpath(name)
    if not file.is_file():
        raise BundleError(f"{folder} lacks {name}, which {MANIFEST} lists: copy the bundle again")
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != want:
        raise BundleError(
            f"{file} ({len(data)} bytes) has sha256 {found[:12]}, {MANIFEST} says {want[:12]}: it was changed or is "
            "truncated, copy the bundle again"
        )
    return data


def _open(manifest: Manifest, spec: ModelSpec, data: dict[str, bytes]) -> Model:
    where = f"bundle {manifest.name}, model {spec.name} ({spec.file})"
    try:
        module = backends.backend(spec.backend)
    except LookupError as error:
        raise BundleError(f"{where}: {error.args[0]}") from None
    trained = manifest.library_versions.get(module.PACKAGE)
    installed = module.version()
    if trained is None or not _compatible(trained, installed):
        raise BundleError(
            f"{where}: written for {module.PACKAGE} {trained or 'of unknown version'}, installed is {installed} "
            f"(needs the same major version, not older): pip install '{module.PACKAGE}=={trained}', or train again"
        )
    try:
        model: Model = module.open_model(data[spec.file])
    except ValueError as error:
        raise BundleError(f"{where}: not a {spec.backend} model: {error}") from None
    if model.features and model.features != manifest.features:
        wrong = next(
            (i for i, (a, b) in enumerate(zip(model.features, manifest.features, strict=False)) if a != b),
            min(len(model.features), len(manifest.features)),
        )
        raise BundleError(
            f"{where}: its inputs are {list(model.features)}, {MANIFEST} lists {list(manifest.features)}; they differ "
            f"from position {wrong}: train the bundle again"
        )
    try:
        shape = model.predict(np.zeros((2, len(manifest.features)), dtype=np.float32)).shape
    except Exception as error:
        raise BundleError(f"{where}: cannot score {len(manifest.features)} inputs: {error}") from None
    if shape != (2, len(CLASSES)):
        raise BundleError(f"{where}: gives shape {shape} for 2 rows, expected (2, {len(CLASSES)}): {list(CLASSES)}")
    return model


def _compatible(trained: str, installed: str) -> bool:
    """Same major version and not older than what wrote the file.

    >>> _compatible("3.2.0", "3.2.1"), _compatible("3.2.0", "3.1.9"), _compatible("3.2.0", "4.0.0")
    (True, False, False)
    """

    def parts(version: str) -> tuple[int, int]:
        numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2]]
        return numbers[0], numbers[1] if len(numbers) > 1 else 0

    return parts(installed) >= parts(trained) and parts(installed)[0] == parts(trained)[0]


def _reference(manifest: Manifest, data: dict[str, bytes]) -> Matrix | None:
    """The reference sample, rows x features: plain little-endian float32."""
    if manifest.reference is None:
        return None
    name, width = manifest.reference.file, len(manifest.features)
    if name not in data:
        raise BundleError(f"bundle {manifest.name}: the reference sample {name} is not listed in 'files'")
    if not data[name] or len(data[name]) % (4 * width):
        raise BundleError(
            f"bundle {manifest.name}: {name} has {len(data[name])} bytes, not a whole number of rows of {width} float32"
        )
    return np.frombuffer(data[name], dtype="<f4").reshape(-1, width).astype(np.float64)
