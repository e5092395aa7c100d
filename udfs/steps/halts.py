"""What reaches the signals job among the frames of bars, by symbol group: halts, the kill switch, news, and the rest.

A venue's :class:`~models.events.Halt` or :class:`~models.events.Pause` lasts until its
:class:`~models.events.Resume`. The kill switch is a
:class:`models.signals.protections.KillSwitch` on its own topic; ``signals kill`` writes it once for each symbol group,
with a key that leads there. Both withhold signals of bars that end after their event time, so a replay withholds the
same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from models.events import Halt, Pause, Resume, UnknownEvent
from models.messages import News, decode
from models.signals.protections import Halts, KillSwitch
from udfs.frames.groups import group_of
from udfs.frames.reader import Reject


class Received(NamedTuple):
    """A frame's other messages: the ``news``, what was ``refused`` as (topic, reject), and event kinds unknown here."""

    news: list[News]
    refused: list[tuple[str, Reject]]
    unknown_kinds: list[str]


def apply_side_messages(
    halts: Halts, messages: Iterable[tuple[str, bytes]], kinds: Mapping[str, type[Any]]
) -> Received:
    """Note halts and kill-switch messages, as (place, message), in ``halts``; ``kinds``: each topic's messages."""
    found = Received([], [], [])
    for origin, payload in messages:
        topic, _, place = origin.partition(":")
        try:
            message = decode(payload, kinds[topic])
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            found.refused.append((topic, Reject(place, payload, "", str(error))))
            continue
        if isinstance(message, KillSwitch):
            halts.apply(message)
        elif isinstance(message, Halt | Pause | Resume):
            halts.note(message.symbol, not isinstance(message, Resume), message.timestamp_ms)
        elif isinstance(message, UnknownEvent):
            found.unknown_kinds.append(message.kind)
        elif isinstance(message, News):
            found.news.append(message)
    return found


def key_of_group(group: int, groups: int) -> str:
    """A Kafka key that leads to a symbol group.

    >>> [group_of(key_of_group(group, 8), 8) for group in range(8)] == list(range(8))
    True
    """
    return next(key for key in (f"*{number}" for number in range(1_000_000)) if group_of(key, groups) == group)
