"""Interface of a venue adapter: pure functions between the venue's frames and ours. No socket, no clock, no state.

An adapter converts every unit and time once, here: prices and sizes to float64 in units of the instrument, times to
epoch milliseconds, symbols to upper case. What it cannot convert becomes a :class:`Reject` with the field and the
reason, and goes whole to the dead-letter topic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from connectors.secrets import secret
from connectors.venues.history import History
from models.bar_rules import PRICE_MAX, SIZE_MAX
from models.messages import Message
from models.trade.calendar import US_STOCKS

#: Times outside 2000..2100 are a wrong unit (seconds, micro- or nanoseconds), never data.
TIME_MS_MIN, TIME_MS_MAX = 946_684_800_000, 4_102_444_800_000
#: The limits for fast decoders, which check them in C; what they reject is decoded again to find the reason.
Price = Annotated[float, msgspec.Meta(gt=0, lt=PRICE_MAX)]
Size = Annotated[float, msgspec.Meta(ge=0, lt=SIZE_MAX)]
TimeMs = Annotated[int, msgspec.Meta(ge=TIME_MS_MIN, lt=TIME_MS_MAX)]


class Reject(msgspec.Struct, frozen=True):
    """A message that could not be converted: reason, field, bytes, and its channel if the bytes show it."""

    reason: str
    payload: bytes
    field: str = ""
    channel: str = ""


class ConnectionEvent(msgspec.Struct, frozen=True):
    """What a venue reports about the connection itself.

    ``kind``: ``welcome``, ``authenticated``, ``subscribed`` (``channels`` is what is now subscribed, if the venue
    says it), ``error`` (``code`` as the venue writes it), ``shutdown`` (this connection will be cut) or ``info``.
    """

    kind: str
    code: str = ""
    text: str = ""
    channels: dict[str, list[str]] = msgspec.field(default_factory=dict)


class Parsed(msgspec.Struct):
    """Result of frames, in their order."""

    messages: list[Message] = msgspec.field(default_factory=list)
    rejects: list[Reject] = msgspec.field(default_factory=list)
    connection_events: list[ConnectionEvent] = msgspec.field(default_factory=list)

    def extend(self, other: Parsed) -> None:
        """Append the result of another frame."""
        self.messages += other.messages
        self.rejects += other.rejects
        self.connection_events += other.connection_events


class Action(Enum):
    """What a client does about a venue's error code."""

    FATAL = "stop: a retry cannot help until the key, plan or feed is changed"
    WAIT = "wait, then try again on the same socket"
    SHRINK = "drop the newest symbols and subscribe again"
    COOL_DOWN = "pause, then reconnect"
    RECONNECT = "reconnect with backoff"
    LOG = "log it and continue"


class Venue(Protocol):
    """One venue's protocol, as pure functions and facts."""

    #: Name on every message.
    source: str
    #: Whether the venue sends the first message, and whether a login answer is awaited.
    greets: bool
    authenticates: bool
    #: Whether trade ids of one symbol are contiguous, so that a gap can be detected.
    contiguous_ids: bool
    #: Whether two connections may overlap during a planned reconnect.
    overlaps: bool

    def url(self) -> str:
        """Where to connect."""

    def login(self) -> str | None:
        """The frame that authenticates, or None where none is needed."""

    def subscribe(self, channels: dict[str, list[str]]) -> list[str]:
        """Frames that subscribe to these symbols by channel (``trades``, ``quotes``, ``bars``, ...)."""

    def parse(self, frame: bytes, now_ms: int | None) -> Parsed:
        """The messages, rejects and connection events of a frame that arrived at ``now_ms`` (None: not recorded)."""

    def parse_many(self, frames: list[bytes], now_ms: int | None) -> Parsed:
        """The same for several frames at once: one decoder call for all."""

    def action(self, error: ConnectionEvent, streaming: bool = False) -> Action:
        """The policy for an error, during the handshake or once ``streaming``."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One connection: its adapter, and the symbols of each channel."""

    name: str
    adapter: Venue
    channels: dict[str, list[str]]

    @property
    def counted(self) -> list[str]:
        """Its channels by the names that messages are counted under."""
        return list(dict.fromkeys(COUNTS_FOR.get(name, name) for name in self.channels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Properties of a venue, declared in its ``venue.py`` as ``Settings.capabilities``.

    ``calendar``: the calendar of its symbols (``exchange_calendars``' name, or ``24/7``). ``asset_class``: what they
    are. ``sale_conditions``: the tape's code of each of its condition codes; None where it sends the tape's codes
    themselves, empty where its trades carry none. ``minute_bars``: it sends minute bars, which are then published
    instead of built ones unless the settings choose otherwise. ``ordered_ids``: trade ids rise with time within a
    symbol, so that they order trades of the same millisecond. ``splits``: its history announces splits of shares.
    ``news``: ``stream`` where a socket brings it, ``poll`` where its history is asked, empty where it has none.
    """

    calendar: str = US_STOCKS
    asset_class: Literal["equity", "crypto", "fx", "future", "index"] = "equity"
    sale_conditions: Mapping[str, str] | None = None
    minute_bars: bool = True
    ordered_ids: bool = False
    splits: bool = False
    news: Literal["", "stream", "poll"] = ""


class VenueSettings(BaseModel):
    """What every venue has; a venue adds its host, keys, symbols and channels. Times in seconds.

    ``stale_s`` is the longest normal silence by channel while the market is open.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True)
    #: Properties of the venue.
    capabilities: ClassVar[Capabilities] = Capabilities()

    symbols: list[str] = Field(default_factory=list)
    channels: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list, description="underlyings whose option chains are polled")
    options_every_s: float = Field(300, gt=0)
    splits_every_s: float = Field(21_600, ge=0, description="seconds between two requests for splits; 0: never")
    news_every_s: float = Field(60, gt=0)
    calendar: str = Field("", description="exchange calendar for silence; empty: the venue's own")
    connect_timeout_s: float = Field(10, gt=0)
    handshake_timeout_s: float = Field(3, gt=0)
    ping_interval_s: float = Field(10, gt=0)
    ping_timeout_s: float = Field(5, gt=0)
    backoff_min_s: float = Field(0.15, gt=0)
    backoff_max_s: float = Field(30, gt=0)
    cool_down_s: float = Field(60, ge=0)
    wait_s: float = Field(0.5, gt=0, description="pause before a try on the same socket, times the try, at most 10 x")
    wait_tries: int = Field(15, ge=1)
    lifetime_s: float = Field(0, ge=0, description="replace the connection after this long; 0: never")
    overlap_s: float = Field(10, ge=0, description="longest time two connections overlap while one replaces the other")
    stale_s: dict[str, float] = Field(default_factory=dict)
    reorder_ms: int = Field(2_000, ge=0, description="wait for late ids before a gap is declared")
    margin_ms: int = Field(5_000, ge=0, description="how far around an outage history is requested")
    remember: int = Field(200_000, gt=0, description="events of a kind remembered to drop repeats (at least so many)")
    frame_bytes_max: int = Field(16 * 2**20, gt=0)
    queue_frames_max: int = Field(100_000, gt=0)
    publish_forming: bool = Field(False, description="publish bars that are not final too")
    backfill: bool = True

    @model_validator(mode="after")
    def _own_calendar(self) -> Self:
        self.calendar = self.calendar or self.capabilities.calendar
        return self

    def missing(self) -> list[str]:
        """Settings still missing, each with its remedy; empty when ready."""
        return []

    def streams(self) -> list[Stream]:
        """The connections to keep open."""
        raise NotImplementedError

    def history(self) -> History:
        """The venue's REST history."""
        raise NotImplementedError


def secret_from(*names: str) -> Callable[[], SecretStr | None]:
    """A default that reads a key from the first of these variables that is set, or of their files."""

    def read() -> SecretStr | None:
        return next((SecretStr(value) for name in names if (value := secret(name))), None)

    return read


def reveal(secret: SecretStr | None) -> str:
    """The text of a secret, empty if it is not set."""
    return secret.get_secret_value() if secret else ""


def fail(field: str, value: Any, want: str) -> ValueError:
    """The error of an invalid value, as ``field = value: must be ...``."""
    return ValueError(f"{field} = {value!r}: must be {want}")


def field_of(reason: str) -> str:
    """The field a reason names: msgspec's ``$[0].p`` or missing field, or ours before `` = ``.

    >>> field_of("Expected `float`, got `str` - at `$[0].p`"), field_of("t = 5: must be ...")
    ('p', 't')
    """
    if "missing required field `" in reason:
        return reason.partition("missing required field `")[2].partition("`")[0]
    if "`$" in reason:
        path = reason.rpartition("`$")[2].rstrip("`")
        return path.rpartition(".")[2] if "." in path else ""
    return reason.partition(" = ")[0] if " = " in reason else ""


def reject(error: Exception, payload: bytes, tags: Tags | None = None) -> Reject:
    """The reject of this payload for this error; ``tags`` give its channel."""
    reason = str(error) or type(error).__name__
    return Reject(reason=reason, payload=payload, field=field_of(reason), channel=tags.channel(payload) if tags else "")


class Tags:
    """Which channel a message belongs to, read from its type's field even where the rest is broken.

    >>> Tags("T", {"t": "trades", "q": "quotes"}).channel(b'[{"T": "q", "S":')
    'quotes'
    """

    def __init__(self, field: str, channels: dict[str, str]) -> None:
        self.field = field
        self._pattern = re.compile(rb'"%s"\s*:\s*"(\w+)"' % field.encode())
        self._channels = {name.encode(): channel for name, channel in channels.items()}

    def channel(self, payload: bytes) -> str:
        """The channel, or empty if the type is missing or unknown."""
        found = self._pattern.search(payload)
        return self._channels.get(found[1], "") if found else ""


#: Channels whose messages count for another.
COUNTS_FOR = {
    "updated_bars": "bars",
    "daily_bars": "bars",
    "second_bars": "bars",
    "agg_trades": "trades",
    "lulds": "statuses",
    "imbalances": "statuses",
}


def time_ms(field: str, value: int) -> int:
    """Check that a time is epoch milliseconds between 2000 and 2100."""
    if not TIME_MS_MIN <= value < TIME_MS_MAX:
        raise fail(field, value, "epoch milliseconds between 2000 and 2100 (is it another unit?)")
    return value


def check_price(field: str, price: float) -> None:
    """Raise ValueError unless this can be a price."""
    if not 0 < price < PRICE_MAX:
        raise fail(field, price, f"above 0 and below {PRICE_MAX:g}")


def check_size(field: str, size: float) -> None:
    """Raise ValueError unless this can be a size."""
    if not 0 <= size < SIZE_MAX:
        raise fail(field, size, f"from 0 to {SIZE_MAX:g}")


def check_sides(prices: str, bid: float, ask: float, sizes: str, bid_size: float, ask_size: float) -> None:
    """Raise ValueError unless these can be both sides of a quote (0: empty); ``prices``, ``sizes`` name the fields."""
    if not (0 <= bid < PRICE_MAX and 0 <= ask < PRICE_MAX):
        raise fail(prices, (bid, ask), f"from 0 to {PRICE_MAX:g}")
    if not (0 <= bid_size < SIZE_MAX and 0 <= ask_size < SIZE_MAX):
        raise fail(sizes, (bid_size, ask_size), f"from 0 to {SIZE_MAX:g}")


def check_bar(open_: float, high: float, low: float, close: float, volume: float) -> None:
    """Raise ValueError unless the five numbers are prices and a volume, low not above high.

    Open and close outside low and high pass: vendors' own samples contain such bars; consumers of bars decide.
    """
    if not 0 < low <= high < PRICE_MAX:
        raise fail("low, high", (low, high), f"positive, low <= high, below {PRICE_MAX:g}")
    check_price("open", open_)
    check_price("close", close)
    check_size("volume", volume)


_SECONDS: dict[str, int] = {}


def _second_ms(text: str) -> int:
    if len(text) != 19 or text[10] not in "Tt":
        raise ValueError(text)
    value = time_ms("t", int(datetime.fromisoformat(text + "+00:00").timestamp()) * 1000)
    if len(_SECONDS) > 32_768:
        _SECONDS.clear()
    _SECONDS[text] = value
    return value


def rfc3339_ms(text: str) -> int:
    """Epoch milliseconds of an RFC 3339 time, cut (never rounded up) to the millisecond.

    Nanoseconds are cut because rounding would move a trade into the next bar.

    >>> rfc3339_ms("2024-07-24T07:56:53.999999999Z") - rfc3339_ms("2024-07-24T07:56:53Z")
    999
    >>> rfc3339_ms("2024-07-24T09:56:53+02:00") - rfc3339_ms("2024-07-24T07:56:53Z")
    0
    """
    try:
        base = _SECONDS.get(text[:19]) or _second_ms(text[:19])
        if text[-1] == "Z":
            if text[19] == ".":
                digits = text[20:-1]
                if digits.isdigit():
                    return base + int((digits + "00")[:3])
            elif len(text) == 20:
                return base
        stamp = datetime.fromisoformat(text)
        if stamp.tzinfo is not None:
            return time_ms("t", int(stamp.timestamp() * 1000))
    except (ValueError, IndexError, OverflowError):
        pass
    raise fail("t", text, "an RFC 3339 time with its zone between 2000 and 2100, as 2024-07-24T07:56:53.6Z")
