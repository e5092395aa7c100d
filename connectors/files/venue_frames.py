"""Recorded frames: one per line, with or without the local time of arrival in nanoseconds before it."""

from __future__ import annotations


def split_line(line: bytes) -> tuple[bytes, int | None]:
    """The frame in a recorded line and its arrival in epoch milliseconds (None if the line carries none).

    >>> split_line(b'1672515782136000000 {"e":"trade"}')
    (b'{"e":"trade"}', 1672515782136)
    >>> split_line(b'{"e":"trade"}')
    (b'{"e":"trade"}', None)
    >>> split_line(b'1672515782136000000\\t[]\\r\\n')
    (b'[]', 1672515782136)
    """
    line = line.removeprefix(b"\xef\xbb\xbf").strip()  # a byte order mark, as some editors write
    digits = 0
    while digits < min(len(line), 20) and line[digits : digits + 1].isdigit():
        digits += 1
    rest = line[digits:].lstrip(b" \t,")
    if digits == 19 and rest:
        return rest, int(line[:19]) // 1_000_000
    return line, None
