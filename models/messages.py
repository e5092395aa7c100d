"""The wire contract: every message that crosses a topic, as an immutable ``msgspec.Struct``.

JSON on the wire. Times are epoch milliseconds UTC in names ending ``_ms``; prices and sizes are float64; symbols are
upper case as the venue writes them. A new field always has a default, so that a message recorded by an older version
decodes for ever (``tests/fixtures/messages`` has one of each).

>>> bar = Bar(symbol="AAPL", timeframe="1d", start_ms=0, end_ms=86_400_000, open=1, high=2, low=1, close=2, volume=10)
>>> decode(encode(bar), Bar) == bar
True
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from models.base_message import Message as Message  # re-exported: the base of the messages below
from models.events import Event, EventDecoder, UnknownEvent

Action = Literal["buy", "sell", "hold"]
Horizon = Literal["1d", "3d", "1w", "2w"]
Tier = Literal["free", "premium", "dynamic"]
OutcomeStatus = Literal["active", "hit_target", "hit_stop", "expired"]

#: Length of each timeframe, in milliseconds.
TIMEFRAME_MS: dict[str, int] = {
    "1s": 1_000,
    "1m": 60_000,
    "5m": 300_000,
    "1h": 3_600_000,
    "1d": 86_400_000,
}

#: The class order of every model's probabilities, everywhere.
CLASSES: tuple[Action, ...] = ("sell", "hold", "buy")

#: One character a feature in ``FeatureRow.quality``: why a value is missing (or ``.`` where it is sound).
QUALITY: dict[str, str] = {
    ".": "sound",
    "w": "warming up: fewer bars than the feature needs",
    "g": "rests on a gap in the bars",
    "z": "undefined here: a zero denominator (constant price, zero volume)",
    "m": "an input was never received (no volume, no options, no news)",
    "s": "its input is stale",
}


class Bar(Message, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One bar over ``[start_ms, end_ms)``; ``start_ms`` is the left edge.

    ``timeframe`` is one of :data:`TIMEFRAME_MS`; ``volume`` is null where the source has none; ``revision`` 0 is the
    first, a higher one replaces it; ``final`` is false while the bar is still forming.
    """

    timeframe: str
    start_ms: int
    end_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    trade_count: int | None = None
    vwap: float | None = None
    revision: int = 0
    final: bool = True


class Trade(Message, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One trade print; ``trade_id`` is the venue's own, ``conditions`` its sale conditions."""

    timestamp_ms: int
    price: float
    size: float
    trade_id: str = ""
    exchange: str = ""
    conditions: tuple[str, ...] = ()
    tape: str = ""
    #: "new", "correction" (replaces ``corrects_id``) or "cancel" (removes ``trade_id``).
    kind: Literal["new", "correction", "cancel"] = "new"
    corrects_id: str = ""


class Quote(Message, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Best bid and offer, or a venue's ticker reduced to it; sizes in units of the instrument (not round lots)."""

    timestamp_ms: int
    bid_price: float | None = None
    bid_size: float | None = None
    ask_price: float | None = None
    ask_size: float | None = None
    last_price: float | None = None
    volume_24h: float | None = None
    bid_exchange: str = ""
    ask_exchange: str = ""
    conditions: tuple[str, ...] = ()


class News(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One article for one symbol, scored at ingestion; ``sentiment`` in [-1, 1]."""

    news_id: str
    created_ms: int
    updated_ms: int
    headline: str
    sentiment: float | None = None
    summary: str = ""
    author: str = ""
    url: str = ""
    publisher: str = ""


class OptionSummary(Message, frozen=True, kw_only=True, omit_defaults=True):
    """An option chain reduced to what the features need; volumes in contracts, IV annualised (0.3 = 30 %).

    ``timestamp_ms`` is the newest event in the chain, ``updated_ms`` when the vendor last updated it, where known.
    """

    timestamp_ms: int
    updated_ms: int | None = None
    call_volume: float | None = None
    put_volume: float | None = None
    call_open_interest: float | None = None
    put_open_interest: float | None = None
    put_call_ratio: float | None = None
    implied_volatility: float | None = None
    contracts: int = 0


class FeatureRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All features of one bar and what the models made of them: one for every bar that was processed.

    ``values`` follow the catalogue order whose hash is ``feature_set_hash``; null where ``quality`` (one character a
    value, see :data:`QUALITY`) gives the reason.
    """

    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int
    feature_set_hash: str
    values: list[float | None]
    quality: str
    revision: int = 0
    action: Action | None = None
    confidence: float | None = None
    bundle: str = ""
    withheld: str = ""


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's part in a decision: ``contribution`` is signed towards the signal's action, in log-odds."""

    feature: str
    value: float | None
    contribution: float


class ProfileDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The signal as one risk profile sees it; ``expires_ms`` is that of its own horizon (0: unknown)."""

    action: Action
    confidence: float
    time_horizon: Horizon
    target_price: float
    stop_loss: float
    expires_ms: int = 0


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One trading signal.

    ``signal_id`` is a hash of symbol, timeframe, bar end and bundle, then ``-`` and the revision of the bar: the
    same input gives the same id.
    ``created_ms`` is event time (the bar's end); ``emitted_ms`` is wall-clock and alone excluded from replay equality.
    ``confidence`` in [0, 1]; ``model_votes`` maps a model to ``[action, probability]``; ``skipped_models`` to a reason.
    ``risk_profiles`` has conservative, moderate and aggressive. ``trigger`` is what made it news: a change of
    ``action``, a step of ``confidence``, the ``expiry`` of the one before, a ``revision`` of its bar or a ``cancel``.
    ``previous`` is the hash of the symbol's record before this one (see ``models/signals/hash_chain.py``).
    ``quality_flags`` lists what lowered the confidence: ``unlike_training`` (the inputs are far from the bundle's
    training data), ``bundle_expired`` (the bundle is past its age).
    """

    signal_id: str
    symbol: str
    timeframe: str
    action: Action
    confidence: float
    entry_price: float
    target_price: float
    stop_loss: float
    time_horizon: Horizon
    created_ms: int
    emitted_ms: int
    expires_ms: int
    reasoning: str
    contributions: list[Contribution] = msgspec.field(default_factory=list)
    model_votes: dict[str, tuple[Action, float]] = msgspec.field(default_factory=dict)
    skipped_models: dict[str, str] = msgspec.field(default_factory=dict)
    features_used: dict[str, float | None] = msgspec.field(default_factory=dict)
    feature_set_hash: str = ""
    bundle: str = ""
    risk_profiles: dict[str, ProfileDecision] = msgspec.field(default_factory=dict)
    missing_inputs: dict[str, str] = msgspec.field(default_factory=dict)
    tier: Tier = "free"
    revision: int = 0
    cancels: str = ""
    trigger: str = ""
    previous: str = ""
    quality_flags: list[str] = msgspec.field(default_factory=list)


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a signal stands; ``pnl_percent`` is signed by side and after costs, in percent of the entry price.

    Prices are in the signal's own units: after a split they are converted back. ``updated_ms`` is event time, of a
    finished signal its exit. ``exit_reason`` is ``target``, ``target_gap``, ``stop``, ``stop_gap``, ``expiry``,
    ``revised`` or ``cancelled`` (the last two never were a position: P&L 0). ``revision`` counts corrections of a
    verdict that was already given (a bar came late or was revised). ``votes`` maps a model to its action.
    """

    signal_id: str
    symbol: str
    status: OutcomeStatus
    entry_price: float
    current_price: float
    target_price: float
    stop_loss: float
    pnl_percent: float
    created_ms: int
    updated_ms: int
    action: Action = "buy"
    time_horizon: Horizon = "1d"
    confidence: float = 0.0
    bundle: str = ""
    exit_price: float | None = None
    exit_reason: str = ""
    revision: int = 0
    timeframe: str = ""
    votes: dict[str, Action] = msgspec.field(default_factory=dict)


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that could not be processed, whole, with its position and the reason.

    ``payload_base64`` is the original bytes; ``payload`` repeats them as text where they are UTF-8.
    """

    reason: str
    topic: str
    partition: int
    offset: int
    payload_base64: str
    payload: str | None = None
    field: str = ""


T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any] | EventDecoder] = {Event: EventDecoder()}


def encode(message: Any) -> bytes:
    """The message as JSON bytes; NaN becomes null. An event of an unknown kind is written as it was read."""
    return _encoder.encode(message.fields if type(message) is UnknownEvent else message)


def decode(data: bytes | str, kind: type[T]) -> T:
    """The message in ``data``; raises ``msgspec.ValidationError`` naming the field, or ``msgspec.DecodeError``."""
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    decoder: Any = _decoders[kind]
    message: T = decoder.decode(data)
    return message


#: Topic of each market-data message; the key is always the symbol.
TOPICS: dict[type, str] = {
    Trade: "market-data-trades",
    Quote: "market-data-quotes",
    Bar: "market-data-bars",
    News: "market-data-news",
    OptionSummary: "market-data-options",
    Event: "market-data-status",
    Signal: "trading-signals",
    FeatureRow: "features",
    Outcome: "signal-outcomes",
    DeadLetter: "dead-letter",
}


def topic_of(message: Any) -> str:
    """The topic of a message; every kind of event goes to one."""
    return TOPICS[Event if isinstance(message, Event) else type(message)]
