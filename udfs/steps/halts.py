"""What reaches the signals job among the frames of bars, by symbol group: halts, the kill switch, news, and the rest.

A venue's halt is a Status of kind ``halt`` or ``pause``, its end one of kind ``resume``. The kill switch is a
:class:`models.signals.protections.RiskControl` on its own topic; ``signals kill`` writes it once for each symbol group,
with a key that leads there. Both withhold signals of bars that end after their event time, so a replay withholds the
same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from models.messages import News, Status, decode
from models.signals.protections import Halts, RiskControl
from udfs.frames.codec import Reject, group_of
from udfs.steps.side_inputs import side_input

_HALTED = {"halt": True, "pause": True, "resume": False}


class Heard(NamedTuple):
    """A frame's other messages: the ``news`` among them, and what could not be read as (topic, reject)."""

    news: list[News]
    refused: list[tuple[str, Reject]]


def apply_controls(halts: Halts, controls: Iterable[tuple[str, bytes]], kinds: Mapping[str, type[Any]]) -> Heard:
    """Note each (place, message) that is a halt or a control in ``halts``; ``kinds`` maps a topic to its messages."""
    heard = Heard([], [])
    for origin, payload in controls:
        topic, _, place = origin.partition(":")
        try:
            message = decode(payload, kinds[topic])
            side_input(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            heard.refused.append((topic, Reject(place, payload, "", str(error))))
            continue
        if isinstance(message, RiskControl):
            halts.apply(message)
        elif isinstance(message, Status) and message.kind in _HALTED:
            halts.note(message.symbol, _HALTED[message.kind], message.timestamp_ms)
        elif isinstance(message, News):
            heard.news.append(message)
    return heard


def key_of_group(group: int, groups: int) -> str:
    """A Kafka key that leads to a symbol group.

    >>> [group_of(key_of_group(group, 8), 8) for group in range(8)] == list(range(8))
    True
    """
    return next(key for key in (f"*{number}" for number in range(1_000_000)) if group_of(key, groups) == group)
