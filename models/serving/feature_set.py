"""What features a job computes, and which of them a bundle needs.

A family's identity is a hash over its name, its version (raised with any change of a formula), its parameters and its
outputs. A bundle names the families that it needs with these hashes; it fits every job that computes those, whatever
else the job computes.

>>> job = FeatureSet(names=("rsi_14", "obv"), hash="5e7", families={"rsi": "a1", "volume": "b2"})
>>> why_unfit(("rsi_14",), {"rsi": "a1"}, "other", job)
''
>>> why_unfit(("rsi_14",), {"rsi": "a0"}, "other", job)  # doctest: +ELLIPSIS
"was trained on feature family 'rsi' a0, the job computes a1: ..."
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from models.serving.known_feature_sets import KNOWN, OUTPUTS

REMEDY = "run the job with the bundle's feature settings, or train it again"


class FeatureSet(msgspec.Struct, frozen=True, kw_only=True):
    """What a job computes: ``names`` in column order, the ``hash`` of the whole, and the hash of each family."""

    names: tuple[str, ...]
    hash: str
    families: dict[str, str] = {}


def family_hash(name: str, version: int, parameters: Mapping[str, Any], outputs: Sequence[str]) -> str:
    """16 hex digits that stand for one family as it is computed."""
    text = json.dumps([name, version, dict(parameters), list(outputs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def families_hash(families: Mapping[str, str]) -> str:
    """16 hex digits that stand for the families of a bundle."""
    return hashlib.sha256(json.dumps(dict(families), sort_keys=True).encode()).hexdigest()[:16]


def families_needed(features: Sequence[str], feature_set_hash: str) -> dict[str, str]:
    """The families behind a bundle's inputs where its manifest names none, by the feature set it was trained on.

    Empty for a set that is not known: then the whole set must be equal.
    """
    wanted = set(features)
    known = KNOWN.get(feature_set_hash, {})
    return {name: identity for name, identity in known.items() if wanted.intersection(OUTPUTS[name])}


def why_unfit(features: Sequence[str], needed: Mapping[str, str], feature_set_hash: str, job: FeatureSet) -> str:
    """Why a job must not use a bundle with these inputs; empty if it may.

    ``needed`` has the hash of each family that the bundle needs; if it is empty, the whole set must be equal.
    """
    absent = [name for name in features if name not in job.names]
    if absent:
        return (
            f"needs features the job does not compute: {', '.join(absent)} (the job has {', '.join(job.names)}): "
            "switch their families on, or train a bundle on the job's features"
        )
    for name, wanted in sorted(needed.items()):
        if job.families.get(name) != wanted:
            computed = job.families.get(name, "none of that name")
            return f"was trained on feature family {name!r} {wanted}, the job computes {computed}: {REMEDY}"
    if not needed and feature_set_hash != job.hash:
        return f"was trained on feature set {feature_set_hash!r}, the job computes {job.hash!r}: {REMEDY}"
    return ""
