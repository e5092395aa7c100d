"""A bundle's description of itself: ``manifest.json`` as immutable structs, and its rules.

A bundle is a folder with this file and the model files it names. The manifest is written without a wall clock, so
that the same data, settings and seed give the same bytes. Ranges are epoch milliseconds UTC.

>>> manifest = Manifest(name="tiny", timeframe="1d", features=("rsi_14",), feature_set_hash="", models=())
>>> decode_manifest(encode_manifest(manifest)).name
'tiny'
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from models.messages import CLASSES, Horizon

#: The newest manifest format this code reads; a higher one comes from a newer release.
FORMAT = 1


class BundleError(ValueError):
    """A bundle that must not be used; the text names both sides of the mismatch and the remedy."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calibrated P = softmax(``scale`` x ln p + ``bias``), fitted on a block later than the training rows.

    ``scale`` > 0 (1 = as the model gave it); ``bias`` in log-odds, one for each class.
    """

    scale: float = 1.0
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the ensemble.

    ``backend`` is a module of ``models/backends``; ``file`` lies in the bundle; ``weight`` >= 0 is its weight in the
    vote; ``tolerates`` are the features it may be given as NaN (it abstains when any other is missing).
    """

    name: str
    backend: str
    file: str
    weight: float
    tolerates: tuple[str, ...] = ()
    calibration: Calibration = msgspec.field(default_factory=Calibration)
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When one model's probabilities become its vote: buy when P(buy) > ``buy``, sell when 1 - P(sell) < ``sell``."""

    buy: float = 0.7
    sell: float = 0.3


class LabelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which question the models were taught to answer.

    ``horizon`` chooses the barriers and the time limit exactly as a signal of that horizon has them. A buy label means
    that a buy would have hit its target, or expired with at least ``expiry_reward`` of its risk won (both after
    ``cost_bps`` basis points for the round trip); null counts targets alone. Sell mirrors it; all else is hold.
    """

    horizon: Horizon
    expiry_reward: float | None = None
    cost_bps: float = 0.0


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A span of bars by their start, ``[start_ms, end_ms)``, with its rows and symbols."""

    start_ms: int
    end_ms: int
    rows: int
    symbols: tuple[str, ...] = ()


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the training rows looked like, for drift.

    ``file`` contains a sample of scaled rows (little-endian float32, rows x features); a row is scaled as
    ``(x - center) / spread``. ``mean_distance`` is the sample's mean distance between rows, ``threshold`` the
    dissimilarity above which a row is unlike the sample; ``edges`` are each feature's inner quantile edges;
    ``score_edges`` those of the ensemble's P(buy) - P(sell).
    """

    file: str
    center: tuple[float, ...]
    spread: tuple[float, ...]
    mean_distance: float
    threshold: float
    edges: tuple[tuple[float, ...], ...]
    score_edges: tuple[float, ...] = ()


class Life(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a bundle may be used: ``max_age_days`` of event time after its data ends (null: for ever).

    Past that its signals keep ``expired_confidence`` of their confidence; 0 withholds them.
    """

    max_age_days: float | None = None
    expired_confidence: float = 0.5


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``manifest.json``. ``files`` maps a file to its sha256; ``digest`` is the manifest's own.

    ``feature_set_hash`` is the hash of the feature catalogue the rows came from; ``features`` the inputs in order;
    ``families`` the feature families behind them with their hashes (:mod:`models.serving.feature_set`);
    ``library_versions`` what the files were written with; ``metrics`` the walk-forward figures, each alongside its
    baseline.
    """

    name: str
    timeframe: str
    features: tuple[str, ...]
    feature_set_hash: str
    models: tuple[ModelSpec, ...]
    format: int = FORMAT
    style: str = ""
    classes: tuple[str, ...] = CLASSES
    thresholds: Thresholds = msgspec.field(default_factory=Thresholds)
    label: LabelSpec | None = None
    training: Range | None = None
    out_of_sample: Range | None = None
    seed: int = 0
    life: Life = msgspec.field(default_factory=Life)
    reference: Reference | None = None
    library_versions: dict[str, str] = msgspec.field(default_factory=dict)
    metrics: dict[str, Any] = msgspec.field(default_factory=dict)
    files: dict[str, str] = msgspec.field(default_factory=dict)
    families: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    digest: str = ""


def digest(manifest: Manifest) -> str:
    """The sha256 of the manifest with an empty ``digest``: an edit by hand shows."""
    plain = msgspec.structs.replace(_as_read(manifest), digest="")
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's bytes, indented and with its digest; the same manifest always gives the same bytes."""
    sealed = msgspec.structs.replace(_as_read(manifest), digest=digest(manifest))
    return msgspec.json.format(msgspec.json.encode(sealed, order="sorted"), indent=1) + b"\n"


def _as_read(manifest: Manifest) -> Manifest:
    """Through JSON once: a 10 that was given for a float becomes the 10.0 that a reader finds."""
    return msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in ``data``; raises :class:`BundleError` for broken JSON, a wrong field or a newer format.

    >>> decode_manifest(b'{"format": 99}')  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    models.serving.manifest.BundleError: manifest.json has format 99, this release reads 1: ...
    """
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise BundleError(f"manifest.json is not JSON ({error}): it is truncated, copy the bundle again") from None
    version = found.get("format", FORMAT) if isinstance(found, dict) else None
    if not isinstance(version, int):
        raise BundleError("manifest.json is not a manifest: expected an object with a number 'format'")
    if version > FORMAT:
        raise BundleError(
            f"manifest.json has format {version}, this release reads {FORMAT}: install the release it came from"
        )
    try:
        return msgspec.convert(found, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"manifest.json: {error}; write it with `signals train`") from None
