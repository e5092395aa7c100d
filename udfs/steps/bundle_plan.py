"""Which bundle scores which bar of a frame: announced changes verified, remembered and applied by event time.

The pure part of the feature operator's broadcast side; the rules are :mod:`models.serving.rollout`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.serving.bundle import MANIFEST, BundleError, bundle_folder
from models.serving.bundle_cache import BundleCache
from models.serving.feature_set import FeatureSet
from models.serving.manifest import decode_manifest
from models.serving.rollout import RolloutMessage, RolloutState, apply, parse_message, split, verify_message
from udfs.frames.codec import Part

_decode = msgspec.json.Decoder(RolloutState).decode


class BundlePlan:
    """Applies announcements for a job that began with ``initial`` and computes ``job``.

    ``history`` is what stood on the rollout topic when the job was started, as (offset, bytes): a replay must know it
    before its first bar. Bundles are verified where they are used, on the worker.
    """

    def __init__(self, initial: str, history: Iterable[tuple[int, bytes]], job: FeatureSet) -> None:
        self._initial, self._history = initial, list(history)
        self._bundles = BundleCache(job)
        self._timeframe = decode_manifest(bundle_folder(initial).joinpath(MANIFEST).read_bytes()).timeframe
        self._stored: str | None = ""
        self._state = RolloutState(initial=initial)

    def after(self, stored: str | None, offset: int, payload: bytes) -> tuple[str, str]:
        """The state after one more announcement, to be stored, and why that was refused ("": it was not)."""
        state, refused = self._applied(self._read(stored), offset, payload)
        return msgspec.json.encode(state).decode(), refused

    def plan(self, stored: str | None, end_ms: NDArray[np.int64]) -> tuple[list[Part], list[Part]]:
        """For a frame's bars: the bundles in force, each bar once, and the bundles in shadow."""
        if stored != self._stored:
            self._stored, self._state = stored, self._read(stored)
            for offset, payload in self._history:
                self._state, _ = self._applied(self._state, offset, payload)
        state = self._state
        if not state.changes and not state.shadows:
            return [Part(state.initial)], []
        shadows = msgspec.structs.replace(state, initial="", changes=state.shadows)
        return self._parts(split(state, end_ms), len(end_ms)), [
            part for part in self._parts(split(shadows, end_ms), len(end_ms)) if part.bundle
        ]

    def describe(self, payload: bytes) -> RolloutMessage | None:
        """The announcement in ``payload``, for people to read; None for one that is none or concerns other bars."""
        try:
            message = parse_message(payload, 0)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return None if message.timeframe and message.timeframe != self._timeframe else message

    def _read(self, stored: str | None) -> RolloutState:
        """The stored state of this job, whatever bundle it began with before."""
        state = _decode(stored) if stored else RolloutState(initial=self._initial)
        return msgspec.structs.replace(state, initial=self._initial)

    def _applied(self, state: RolloutState, offset: int, payload: bytes) -> tuple[RolloutState, str]:
        """The state after an announcement, and why it was refused; one for other bars concerns another job."""
        try:
            message = parse_message(payload, offset)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return state, f"not a bundle change: {error}"
        if message.timeframe and message.timeframe != self._timeframe:
            return state, ""
        changed = apply(state, message, self._verify)
        return changed, changed.refused if changed is not state else ""

    def _verify(self, message: RolloutMessage) -> str:
        try:
            bundle = self._bundles.get(message.bundle)
        except BundleError as error:
            return str(error)
        return verify_message(message, bundle.manifest, bundle.id)

    @staticmethod
    def _parts(found: list[tuple[str, NDArray[np.int64]]], n: int) -> list[Part]:
        if not n:
            return []
        return [Part(bundle, b"" if len(rows) == n else rows.astype(np.int32).tobytes()) for bundle, rows in found]
