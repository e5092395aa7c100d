"""Facts from the manifest of a shipped bundle, for signals that name the bundle.

>>> facts("daily-swing@00000000"), facts("../evil@1")
({}, {})
"""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec

_ID = re.compile(r"([A-Za-z0-9_-]+)@([0-9a-f]{8})")


@lru_cache(maxsize=256)
def facts(bundle_id: str) -> dict[str, Any]:
    """``name``, ``timeframe``, ``base_rates`` and out-of-sample ``metrics``; empty for a bundle that is not shipped."""
    found = _ID.fullmatch(bundle_id)
    if not found:
        return {}
    with contextlib.suppress(OSError, msgspec.DecodeError):
        text = (files("models") / "bundles" / found[1] / "manifest.json").read_bytes()
        manifest: dict[str, Any] = msgspec.json.decode(text, type=dict)
        if not str(manifest.get("digest", "")).startswith(found[2]):
            return {}
        metrics = manifest.get("metrics") or {}
        return {
            "name": bundle_id,
            "timeframe": manifest.get("timeframe"),
            "base_rates": metrics.get("base_rates") or {},
            "out_of_sample": (metrics.get("out_of_sample") or {}).get("ensemble") or {},
        }
    return {}
