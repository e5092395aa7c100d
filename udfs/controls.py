"""Halts and the kill switch as they reach the signals job: among the frames of bars, by symbol group.

A venue's halt is a Status of kind ``halt`` or ``pause``, its end one of kind ``resume``. The kill switch is a
:class:`models.risk.RiskControl` on its own topic; ``signals kill`` writes it once for each symbol group, with a key
that leads there. Both withhold signals of bars that end after their event time, so a replay withholds the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from models.messages import Status
from models.risk import Halts, RiskControl
from udfs.frames import Reject, group_of

_HALTED = {"halt": True, "pause": True, "resume": False}

_status = msgspec.json.Decoder(Status)
_control = msgspec.json.Decoder(RiskControl)


def apply_controls(halts: Halts, controls: Iterable[tuple[str, bytes]], control_topic: str) -> list[tuple[str, Reject]]:
    """Note each (place, message) in ``halts``; the ones that are neither, as (topic, reject)."""
    refused = []
    for origin, payload in controls:
        topic, _, place = origin.partition(":")
        try:
            if topic == control_topic:
                halts.apply(_control.decode(payload))
            else:
                status = _status.decode(payload)
                if status.kind in _HALTED:
                    halts.note(status.symbol, _HALTED[status.kind], status.timestamp_ms)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            refused.append((topic, Reject(place, payload, "", str(error))))
    return refused


def key_of_group(group: int, groups: int) -> str:
    """A Kafka key that leads to a symbol group.

    >>> [group_of(key_of_group(group, 8), 8) for group in range(8)] == list(range(8))
    True
    """
    return next(key for key in (f"*{number}" for number in range(1_000_000)) if group_of(key, groups) == group)
