"""Status events: what happened to a symbol or a feed, one struct per kind, and the one decoder of all.

``kind`` is the tag on the wire. Every reader decodes through :func:`decode_event`, so that an event means the same to
all of them. A message recorded before events were typed holds ``kind`` and a ``detail`` of loose keys; it is upgraded
by :mod:`models.recorded_events`. A kind that this release does not know becomes an :class:`UnknownEvent`.

>>> split = decode_event(b'{"kind":"split","symbol":"NVDA","timestamp_ms":1,"ratio":10,"effective_ms":9}')
>>> split.ratio, split.effective_ms
(10.0, 9)
>>> decode_event(b'{"kind":"split","symbol":"A","timestamp_ms":5,"detail":{"ratio":4}}').effective_ms
5
>>> decode_event(b'{"kind":"moon","symbol":"A","timestamp_ms":5}').name
'moon'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec

from models.base_message import Message
from models.recorded_events import detail_of, typed_fields

#: New shares per old one.
Ratio = Annotated[float, msgspec.Meta(gt=0, lt=1e6)]
#: What a gap is counted in: the venue's trade ids, minute starts in ms, or an outage from time to time in ms.
Numbering = Literal["ids", "minutes", "outage"]


class Event(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The base of all events. ``symbol`` is ``*`` for a whole feed; ``timestamp_ms`` is when it happened or was learnt.

    ``reason`` is text for people. ``detail`` repeats the typed fields for readers of the release before; nothing of
    this release reads it.
    """

    timestamp_ms: int
    reason: str = ""
    detail: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "detail", detail_of(self.kind, self))

    @property
    def kind(self) -> str:
        """The tag on the wire."""
        return str(self.__struct_config__.tag)


class Split(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="split"):
    """``ratio`` new shares per old one (10 for 10:1) from ``effective_ms`` on; ``timestamp_ms``: when it was known."""

    ratio: Ratio
    effective_ms: int


class TradingState(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The base of halts and resumes: the tape's ``code``, its ``text``, the reason's code and the tape."""

    code: str = ""
    text: str = ""
    reason_code: str = ""
    tape: str = ""


class Halt(TradingState, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="halt"):
    """Trading is halted."""


class Pause(TradingState, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="pause"):
    """Trading is paused for volatility."""


class QuotationResume(
    TradingState, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="quotation_resume"
):
    """Quotes are taken again; trading is still halted."""


class Resume(TradingState, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="resume"):
    """Trading continues."""


class TradingStatus(TradingState, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="status"):
    """Another status of the tape; ``code`` names it."""


class PriceBands(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="luld"):
    """Limit-up limit-down bands."""

    upper: float
    lower: float
    indicators: tuple[str, ...] = ()
    tape: str = ""


class Imbalance(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="imbalance"):
    """An auction's imbalance: shares unpaired and paired, and prices; null where the venue does not give them."""

    price: float | None = None
    imbalance: float | None = None
    paired: float | None = None
    clearing_price: float | None = None
    auction: str = ""
    tape: str = ""


class GapEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The base of what is reported of a gap: numbers ``[first, last]`` of a channel, both ends included."""

    channel: str
    numbering: Numbering
    first: int
    last: int


class GapDeclared(GapEvent, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="gap"):
    """Something is missing."""


class GapFilled(GapEvent, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="gap_filled"):
    """All of it was published from the venue's history; ``published`` messages."""

    published: int = 0


class GapUnfilled(GapEvent, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="gap_unfilled"):
    """What is still ``missing`` (all of it if empty) cannot be had; ``reason`` is the cause."""

    published: int = 0
    missing: tuple[tuple[int, int], ...] = ()


class Connected(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="connected"):
    """A stream is connected and subscribed."""

    channels: dict[str, list[str]]


class Disconnected(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="disconnected"):
    """A stream was lost; the next try follows in ``again_in_s`` seconds."""

    again_in_s: float


class Refused(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="refused"):
    """The venue refuses for good (key, plan or feed)."""


class Stale(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="stale"):
    """A stream is silent though its market is open."""


class VenueError(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="venue_error"):
    """The venue reported an error; ``action`` is what is done about it."""

    code: str
    action: str


class SymbolsDropped(Event, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="symbols_dropped"):
    """The venue's symbol limit was met; these symbols are not subscribed."""

    symbols: tuple[str, ...]


class UnknownEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event of a kind (``name``) that this release does not know.

    ``fields`` is the whole message as it came; :func:`models.messages.encode` writes just that, so that a newer reader
    still understands what one process passes on (for example, a feed's events).
    """

    name: str
    fields: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The tag as it stood on the wire."""
        return self.name


ConnectionChange = Connected | Disconnected | Refused | Stale
KnownEvent = (
    Split
    | Halt
    | Pause
    | QuotationResume
    | Resume
    | TradingStatus
    | PriceBands
    | Imbalance
    | GapDeclared
    | GapFilled
    | GapUnfilled
    | ConnectionChange
    | VenueError
    | SymbolsDropped
)
#: Every kind of event that is written, by its tag.
KINDS: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in get_args(KnownEvent)}


def event_of(fields: Mapping[str, Any], *, strict: bool = True) -> Event:
    """The event in decoded JSON; raises ``msgspec.ValidationError`` naming the field."""
    kind = fields.get("kind")
    if not isinstance(kind, str):
        raise msgspec.ValidationError(f"Expected `str`, got {kind!r} - at `$.kind`")
    known = KINDS.get(kind)
    if known is None:
        common = {name: value for name, value in fields.items() if name in Event.__struct_fields__}
        return msgspec.convert({**common, "name": kind, "fields": dict(fields)}, UnknownEvent, strict=strict)
    return msgspec.convert(typed_fields(kind, fields), known, strict=strict)


def decode_event(data: bytes | str) -> Event:
    """The event in ``data``, typed or recorded before events were; raises ``msgspec.DecodeError`` naming the field."""
    return event_of(msgspec.json.decode(data, type=dict[str, Any]))


class EventDecoder:
    """:func:`decode_event` in the shape of a ``msgspec`` decoder."""

    def decode(self, data: bytes | str) -> Event:
        """The event in ``data``."""
        return decode_event(data)
