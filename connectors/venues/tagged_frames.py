"""Shared by adapters whose messages carry their kind in a field, the tag: ``T``, ``ev`` or ``e``.

Frames are decoded by a typed decoder, many at once, which checks the limits of the most frequent kind in C. Only where
that fails, frame by frame, and then message by message, so that one bad message costs no other and its reject says why.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgspec

from connectors.venues.base import Parsed, Reject, Tags, reject

#: Venues' condition codes as the wire has them: several or one, letters or numbers, or none.
Conditions = list[str] | list[int] | str | int | None

#: What decoders and conversions raise: msgspec's errors are ValueErrors.
UNREADABLE = (ValueError, RecursionError)

_raws = msgspec.json.Decoder(list[msgspec.Raw])

#: A decoded message: one of the venue's structs.
Item = Any


class _Numbers(dict[int, str]):
    def __missing__(self, number: int) -> str:
        return str(number)


_NUMBERS = _Numbers({number: str(number) for number in range(128)})


def condition_texts(value: Conditions) -> tuple[str, ...]:
    """The condition codes as text.

    >>> condition_texts(["@", "I"]), condition_texts([12, 1037]), condition_texts(5), condition_texts(None)
    (('@', 'I'), ('12', '1037'), ('5',), ())
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        return (str(value),)
    return tuple([code if type(code) is str else _NUMBERS[code] for code in value])  # type: ignore[index]


class TaggedFrames(ABC):
    """The part of an adapter that parses frames of tagged messages.

    An adapter defines how a frame, or many, are decoded fast, how decoded messages are converted, and how a frame is
    read that the fast decoder rejected.
    """

    #: The tag's field, and the channel of each tag.
    tags: ClassVar[Tags]
    #: The tags that a reject with an unknown one names.
    known_tags: ClassVar[str]

    def parse(self, frame: bytes, now_ms: int | None) -> Parsed:
        """The messages, rejects and connection events in one frame."""
        parsed = Parsed()
        try:
            self._take(self._decode(frame), now_ms, parsed)
        except UNREADABLE:
            return self._parse_slowly(frame, now_ms)
        return parsed

    def parse_many(self, frames: list[bytes], now_ms: int | None) -> Parsed:
        """The same for several frames at once."""
        parsed = Parsed()
        try:
            for items in self._decode_many(frames):
                self._take(items, now_ms, parsed)
            return parsed
        except UNREADABLE:
            pass
        parsed = Parsed()
        for frame in frames:
            parsed.extend(self.parse(frame, now_ms))
        return parsed

    def explain(self, error: Exception, payload: bytes) -> Reject:
        """The reject of a message for this error; it lists the known kinds if the tag is unknown."""
        tag = self.tags.field
        if "Invalid value" in str(error) and f".{tag}`" in str(error):
            return Reject(reason=f"{error}: {tag} must be one of {self.known_tags}", payload=payload, field=tag)
        return reject(error, payload, self.tags)

    @abstractmethod
    def _decode(self, frame: bytes) -> list[Item]:
        """The messages of one frame."""

    @abstractmethod
    def _decode_many(self, frames: list[bytes]) -> list[list[Item]]:
        """The messages of all frames in their order, in lists; raises ValueError unless every frame is in them."""

    @abstractmethod
    def _take(self, items: list[Item], now_ms: int | None, parsed: Parsed) -> None:
        """Convert decoded messages and append them; raises ValueError naming the first that cannot be converted."""

    @abstractmethod
    def _parse_slowly(self, frame: bytes, now_ms: int | None) -> Parsed:
        """Parse a frame that could not be decoded or converted whole."""


class TaggedArrays(TaggedFrames):
    """Frames that are arrays of tagged messages; a recorded message may stand without its array."""

    #: Decodes one message, its limits unchecked; a frame; and an array of frames.
    item_decoder: ClassVar[msgspec.json.Decoder[Item]]
    frame_decoder: ClassVar[msgspec.json.Decoder[Item]]
    frames_decoder: ClassVar[msgspec.json.Decoder[Item]]

    def _decode(self, frame: bytes) -> list[Item]:
        items: list[Item] = self.frame_decoder.decode(frame)
        return items

    def _decode_many(self, frames: list[bytes]) -> list[list[Item]]:
        lists: list[list[Item]] = self.frames_decoder.decode(b"[" + b",".join(frames) + b"]")
        if len(lists) != len(frames):
            raise ValueError(f"{len(frames)} frames hold {len(lists)} arrays")
        return lists

    def _parse_slowly(self, frame: bytes, now_ms: int | None) -> Parsed:
        """Message by message."""
        parsed = Parsed()
        try:
            raws = _raws.decode(b"[%s]" % frame if frame.lstrip().startswith(b"{") else frame)  # recorded one by one
        except UNREADABLE as error:
            parsed.rejects.append(reject(error, frame, self.tags))
            return parsed
        for raw in raws:
            part = Parsed()
            try:
                self._take([self.item_decoder.decode(raw)], now_ms, part)
            except UNREADABLE as error:
                part.rejects.append(self.explain(error, bytes(raw)))
            parsed.extend(part)
        return parsed
