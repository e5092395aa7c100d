"""Symbol groups, and which messages of a frame are bars.

A symbol group is to symbols what Flink's key group is to keys: a frame carries the messages of one group.
"""

from __future__ import annotations

#: Joins the messages of a frame, as ``connectors.kafka.tables.frames_query`` does in SQL. JSON text cannot contain it.
SEPARATOR = "\x1e"


def group_of(symbol: str, groups: int) -> int:
    """The symbol group, as SQL's ``ABS(MOD(HASH_CODE(symbol), groups))`` gives it (Java's String.hashCode).

    >>> [group_of(symbol, 8) for symbol in ("AAPL", "MSFT", "")]
    [4, 4, 0]
    """
    value = 0
    for byte in symbol.encode("latin-1", "replace"):
        value = (31 * value + byte) & 0xFFFFFFFF
    signed = value - (1 << 32) if value & 0x80000000 else value
    return abs(signed) % groups


def separate_bars(messages: str, places: str, bars_topic: str) -> tuple[str, str, list[tuple[str, bytes]]]:
    """A frame of several topics as bars, their ``partition:offset`` places, and the rest as (place, message).

    >>> separate_bars('{"a":1}\x1e{"b":2}', "bars:0:7,status:1:8", "bars")
    ('{"a":1}', '0:7', [('status:1:8', b'{"b":2}')])
    """
    prefix = f"{bars_topic}:"
    if places.startswith(prefix) and places.count(f",{prefix}") == places.count(","):  # bars alone, as nearly always
        return messages, places.removeprefix(prefix).replace(f",{prefix}", ","), []
    parts, whole = messages.split(SEPARATOR), places.split(",")
    if len(parts) != len(whole):  # a message contains the separator itself: its pieces are nobody's
        return messages, ",".join(place.partition(":")[2] for place in whole), []
    pairs = list(zip(parts, whole, strict=True))
    bars = [(part, place.removeprefix(prefix)) for part, place in pairs if place.startswith(prefix)]
    others = [(place, part.encode("latin-1")) for part, place in pairs if not place.startswith(prefix)]
    return SEPARATOR.join(bar[0] for bar in bars), ",".join(bar[1] for bar in bars), others
