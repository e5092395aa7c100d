"""Which bundle scores a bar: promote, shadow and rollback as messages, and the rule that applies them.

A change carries an event-time barrier: bars that end at or after ``effective_ms`` are scored by the new bundle, those
that end before it by the old one. The rule looks at a bar's end alone, so every bar is scored by exactly one bundle,
however the stream is cut or replayed. The state is small and immutable; it lives in broadcast state as JSON.

>>> state = RolloutState(initial="a")
>>> state = apply(state, RolloutMessage(kind="promote", bundle="b", effective_ms=1_000, sequence=1))
>>> bundle_in_force(state, 999), bundle_in_force(state, 1_000)
('a', 'b')
>>> state = apply(state, RolloutMessage(kind="rollback", effective_ms=2_000, sequence=2))
>>> [bundle_in_force(state, end) for end in (999, 1_000, 2_000)]
['a', 'b', 'a']
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from models.messages import Action, decode
from models.serving.manifest import Life, Manifest

#: The topic of :class:`RolloutMessage`: one partition, kept for ever, read from its beginning.
ROLLOUT_TOPIC = "model-control"
#: The topic of :class:`ShadowScore`.
SHADOW_TOPIC = "shadow-scores"

#: Changes remembered; a bar older than the oldest is scored by the bundle before it.
HISTORY_MAX = 64

Kind = Literal["promote", "shadow", "unshadow", "rollback"]


class RolloutMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of bundle, for the bars that end at or after ``effective_ms``.

    ``bundle`` is a shipped bundle's name or a folder that every worker can read; ``bundle_id`` (name@digest) and
    ``feature_set_hash`` are what the sender verified there; a worker checks the families that the bundle needs.

    ``sequence`` grows with each message of a topic (its Kafka offset); a message at or below the last one applied
    changes nothing, so reading the topic twice is harmless. ``timeframe`` limits the change to jobs on such bars ("":
    any).
    """

    kind: Kind
    effective_ms: int
    sequence: int = 0
    bundle: str = ""
    bundle_id: str = ""
    feature_set_hash: str = ""
    timeframe: str = ""
    issued_ms: int = 0
    reason: str = ""


def parse_message(value: bytes, offset: int) -> RolloutMessage:
    """A stored message with its Kafka offset as ``sequence``; raises ``msgspec.MsgspecError`` for anything else.

    >>> parse_message(b'{"kind": "promote", "effective_ms": 5, "bundle": "b"}', 7).sequence
    7
    """
    return msgspec.structs.replace(decode(value, RolloutMessage), sequence=offset)


class Change(msgspec.Struct, frozen=True):
    """From ``effective_ms`` on, ``bundle`` is in force ("": none, for shadows)."""

    effective_ms: int
    bundle: str


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """What has been announced: the bundle the job began with, the changes since, and the last refusal.

    ``promoted`` is the stack that a rollback pops; ``changes`` and ``shadows`` are in order of ``effective_ms``.
    """

    initial: str
    changes: tuple[Change, ...] = ()
    promoted: tuple[str, ...] = ()
    shadows: tuple[Change, ...] = ()
    sequence: int = -1
    refused: str = ""


class ShadowScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decision of a bundle in shadow on a bar; never a signal."""

    symbol: str
    timeframe: str
    end_ms: int
    bundle: str
    action: str
    confidence: float | None
    in_force: str = ""
    model_votes: dict[str, tuple[Action, float]] = msgspec.field(default_factory=dict)
    skipped_models: dict[str, str] = msgspec.field(default_factory=dict)


def apply(
    state: RolloutState, message: RolloutMessage, verify: Callable[[RolloutMessage], str] | None = None
) -> RolloutState:
    """The state after ``message``; ``verify`` returns why its bundle must not be used ("" if it may).

    A refused message leaves everything as it was, but for ``refused`` and ``sequence``. A change replaces whatever was
    planned for its barrier or later: the last word wins.
    """
    if message.sequence <= state.sequence:
        return state
    state = msgspec.structs.replace(state, sequence=message.sequence, refused="")
    if message.kind == "rollback":
        if not state.promoted:
            return _refuse(
                state, message, f"nothing was promoted since {state.initial}: there is nothing to go back to"
            )
        before = (state.initial, *state.promoted)[-2]
        return msgspec.structs.replace(
            state, changes=_with(state.changes, message.effective_ms, before), promoted=state.promoted[:-1]
        )
    if message.kind == "unshadow":
        return msgspec.structs.replace(state, shadows=_with(state.shadows, message.effective_ms, ""))
    if not message.bundle:
        return _refuse(state, message, "it names no bundle")
    refusal = verify(message) if verify else ""
    if refusal:
        return _refuse(state, message, refusal)
    if message.kind == "shadow":
        return msgspec.structs.replace(state, shadows=_with(state.shadows, message.effective_ms, message.bundle))
    return msgspec.structs.replace(
        state,
        changes=_with(state.changes, message.effective_ms, message.bundle),
        promoted=(*state.promoted, message.bundle)[-HISTORY_MAX:],
    )


def bundle_in_force(state: RolloutState, end_ms: int) -> str:
    """The bundle that scores a bar ending at ``end_ms``."""
    return _at(state.changes, end_ms, state.initial)


def shadow_in_force(state: RolloutState, end_ms: int) -> str:
    """The bundle that scores such a bar without emitting; "" for none."""
    return _at(state.shadows, end_ms, "")


def split(state: RolloutState, end_ms: npt.NDArray[np.int64]) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """A frame's bars by the bundle that scores them: (bundle, row numbers), every row once, in order.

    One entry unless the frame straddles a barrier.

    >>> state = RolloutState(initial="a", changes=(Change(10, "b"),))
    >>> [(bundle, rows.tolist()) for bundle, rows in split(state, np.array([9, 10, 5]))]
    [('a', [0, 2]), ('b', [1])]
    """
    # The last change at or before a bar applies: changes are in order, equal barriers replaced.
    place = np.searchsorted(np.array([change.effective_ms for change in state.changes]), end_ms, side="right")
    named = (state.initial, *(change.bundle for change in state.changes))
    rows: dict[str, list[npt.NDArray[np.int64]]] = {}
    for index in np.unique(place):
        rows.setdefault(named[index], []).append(np.flatnonzero(place == index))
    return [(bundle, np.sort(np.concatenate(parts))) for bundle, parts in rows.items()]


def verify_message(message: RolloutMessage, manifest: Manifest, bundle_id: str) -> str:
    """Why a job must not use the bundle it found under ``message.bundle``; "" if it may."""
    if message.bundle_id and message.bundle_id != bundle_id:
        return f"announced as {message.bundle_id}, but the folder holds {bundle_id}: copy the bundle to every worker"
    if message.timeframe and message.timeframe != manifest.timeframe:
        return f"announced for {message.timeframe} bars, but it was trained on {manifest.timeframe} bars"
    return ""


def age_days(manifest: Manifest, end_ms: int) -> float:
    """Days of event time from the end of the training data to a bar's end; 0 if the bundle does not state it."""
    return max(0.0, (end_ms - manifest.training.end_ms) / 86_400_000) if manifest.training else 0.0


def expired(manifest: Manifest, end_ms: int) -> bool:
    """True once the bundle is older than its ``life.max_age_days`` at that bar."""
    limit = manifest.life.max_age_days
    return limit is not None and age_days(manifest, end_ms) > limit


def expiry_factor(manifest: Manifest, end_ms: int) -> float:
    """What the confidence of a signal on that bar is multiplied by: 1 while fresh; 0 means that none may be made."""
    life: Life = manifest.life
    return life.expired_confidence if expired(manifest, end_ms) else 1.0


def _at(changes: tuple[Change, ...], end_ms: int, otherwise: str) -> str:
    for change in reversed(changes):
        if change.effective_ms <= end_ms:
            return change.bundle
    return otherwise


def _with(changes: tuple[Change, ...], effective_ms: int, bundle: str) -> tuple[Change, ...]:
    kept = [change for change in changes if change.effective_ms < effective_ms]
    return (*kept, Change(effective_ms, bundle))[-HISTORY_MAX:]


def _refuse(state: RolloutState, message: RolloutMessage, reason: str) -> RolloutState:
    return msgspec.structs.replace(state, refused=f"{message.kind} {message.bundle}".strip() + f" refused: {reason}")
