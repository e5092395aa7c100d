"""The WebSocket protocol: commands in, messages out, and what each tier may see (pure). Documented in docs/relay.md.

Every message carries ``number``: the position in the signal stream it stands for. A client that remembers the last
number it received and sends it back as ``after`` gets everything that happened since, once.

A tier never sees a field above its own: each tier's payload is a type of its own, filled field by field.

>>> command(b'{"type": "subscribe", "symbols": ["AAPL"]}')
Subscribe(symbols=['AAPL'], signals=[], all=False)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from models.messages import Action, Contribution, Horizon, News, Signal, Tier
from models.signals import tiers
from relay.performance import HistoricalPerformance
from relay.risk import RiskAnalysis, analyse
from relay.state import Event, State

VERSION = 1
#: A premium user is sent a signal from this confidence on; below it, the summary that free users get.
PREMIUM_CONFIDENCE = min(least for least, tier in tiers.MINIMUM_CONFIDENCE if tier == "premium")

#: Close codes of the WebSocket and what they mean.
CLOSE_CODES: dict[int, str] = {
    4400: "a command was not understood",
    4401: "not signed in, or the sign-in has expired",
    4403: "this user or origin may not connect",
    4408: "no hello within the time allowed",
    4413: "slower than the signals for too long; reconnect and resume",
    4429: "too many messages or connections",
}

Symbol = Annotated[str, msgspec.Meta(max_length=24)]
SignalId = Annotated[str, msgspec.Meta(max_length=128)]
Number = Annotated[str, msgspec.Meta(max_length=48, pattern=r"^[0-9]+-[0-9]+$")]

# Commands, client to relay


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello", forbid_unknown_fields=True):
    """The first message. ``token``: a JWT or API token. ``after``: resume there. No subscription: the watchlist."""

    token: Annotated[str, msgspec.Meta(max_length=8192)] = ""
    after: Number | None = None
    symbols: list[Symbol] = []
    signals: list[SignalId] = []
    all: bool = False


class Auth(msgspec.Struct, frozen=True, tag_field="type", tag="auth", forbid_unknown_fields=True):
    """A fresh token for the same user, before the old one expires."""

    token: Annotated[str, msgspec.Meta(max_length=8192)]


class Subscribe(msgspec.Struct, frozen=True, tag_field="type", tag="subscribe", forbid_unknown_fields=True):
    """Follow symbols, single signals, or all; answered by a snapshot of them."""

    symbols: list[Symbol] = []
    signals: list[SignalId] = []
    all: bool = False


class Unsubscribe(msgspec.Struct, frozen=True, tag_field="type", tag="unsubscribe", forbid_unknown_fields=True):
    """Unfollow symbols, single signals, or all."""

    symbols: list[Symbol] = []
    signals: list[SignalId] = []
    all: bool = False


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """Answered by a pong."""


Command = Hello | Auth | Subscribe | Unsubscribe | Ping

# Payloads, by tier


class SummaryData(msgspec.Struct, frozen=True, kw_only=True):
    """All that a free user gets about a signal: how earlier ones ended."""

    historical_performance: HistoricalPerformance
    signal_count_today: int
    upgrade_prompt: str
    tier_required: Tier


class SignalData(msgspec.Struct, frozen=True, kw_only=True):
    """The static signal of a premium user, in the user's risk profile."""

    signal_id: str
    timeframe: str
    action: Action
    confidence: float
    entry_price: float
    target_price: float
    stop_loss: float
    time_horizon: Horizon
    reasoning: str
    created_ms: int
    revision: int
    risk_profile: str
    image_url: str
    dynamic_upgrade_available: bool = True
    dynamic_upgrade_price: float = tiers.DYNAMIC_UPGRADE_PRICE


class NewsContext(msgspec.Struct, frozen=True, kw_only=True):
    """Sentiment in [-1, 1] and article counts as the models saw them (null: no news feed); recent articles."""

    sentiment_1h: float | None = None
    sentiment_24h: float | None = None
    volume_1h: float | None = None
    volume_24h: float | None = None
    articles: list[News] = msgspec.field(default_factory=list)


class DynamicData(msgspec.Struct, frozen=True, kw_only=True):
    """The live signal of a dynamic user, in the user's risk profile."""

    signal_id: str
    timeframe: str
    action: Action
    confidence: float
    entry_price: float
    target_price: float
    stop_loss: float
    time_horizon: Horizon
    reasoning: str
    created_ms: int
    revision: int
    risk_profile: str
    image_url: str
    news_context: NewsContext
    risk_analysis: RiskAnalysis
    features_snapshot: dict[str, float | None]
    model_votes: dict[str, tuple[Action, float]]
    contributions: list[Contribution]
    skipped_models: dict[str, str]
    missing_inputs: dict[str, str]
    bundle: str
    base_rate: float | None
    live_updates: bool = True


class Updates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Updated figures of a live signal; P&L in percent of the entry price, signed by side, after costs."""

    status: str
    current_price: float
    pnl_percent: float
    exit_price: float | None = None
    exit_reason: str = ""


# Messages, relay to client


class _Numbered(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    number: str


class Welcome(_Numbered, frozen=True, kw_only=True, tag="welcome"):
    """Signed in. ``resumed`` is false when ``after`` is too old: a snapshot follows instead of what was missed."""

    version: int
    user: str
    tier: Tier
    risk_profile: str
    watchlist: list[str]
    mode: str
    resumed: bool
    token_expires_ms: int | None


class SignalSummary(_Numbered, frozen=True, kw_only=True, tag="signal_summary"):
    """For free users (and premium users below the confidence they are sent signals from)."""

    symbol: str
    data: SummaryData
    timestamp_ms: int


class TradingSignal(_Numbered, frozen=True, kw_only=True, tag="trading_signal"):
    """For premium users."""

    symbol: str
    data: SignalData
    expires_ms: int
    timestamp_ms: int
    supersedes: str = ""


class DynamicSignal(_Numbered, frozen=True, kw_only=True, tag="dynamic_signal"):
    """For dynamic users."""

    symbol: str
    data: DynamicData
    expires_ms: int
    timestamp_ms: int
    supersedes: str = ""
    update_frequency: str = "real-time"


class SignalUpdate(_Numbered, frozen=True, kw_only=True, tag="signal_update"):
    """For dynamic users: every minute, and at once when the status changes."""

    signal_id: str
    symbol: str
    updates: Updates
    timestamp_ms: int


Reason = Literal["expired", "cancelled", "closed"]


class SignalWithdrawn(_Numbered, frozen=True, kw_only=True, tag="signal_withdrawn"):
    """The signal is withdrawn: ``reason`` is expired, cancelled or closed."""

    signal_id: str
    symbol: str
    reason: Reason
    timestamp_ms: int


Signals = SignalSummary | TradingSignal | DynamicSignal


class Snapshot(_Numbered, frozen=True, kw_only=True, tag="snapshot"):
    """Everything active that is followed; ``reset``: drop the earlier state. ``total`` may exceed the list."""

    reset: bool
    signals: list[Signals]
    updates: list[SignalUpdate]
    total: int


class Price(_Numbered, frozen=True, kw_only=True, tag="price"):
    """For dynamic users: a symbol's latest price."""

    symbol: str
    price: float
    timestamp_ms: int


class SystemStatus(_Numbered, frozen=True, kw_only=True, tag="system"):
    """The data mode has changed, or the pipeline's state is renewed; ``pipeline_ok`` false: Redis is away."""

    mode: str
    pipeline_ok: bool


class Pong(_Numbered, frozen=True, kw_only=True, tag="pong"):
    """The answer to a ping."""


class ErrorMessage(_Numbered, frozen=True, kw_only=True, tag="error"):
    """A command was refused; the connection stays open unless a close follows."""

    code: int
    reason: str


Message = (
    Welcome | Snapshot | SignalSummary | TradingSignal | DynamicSignal | SignalUpdate | SignalWithdrawn | Price
    | SystemStatus | Pong | ErrorMessage
)  # fmt: skip

_commands = msgspec.json.Decoder(Command)
_encoder = msgspec.json.Encoder()


class CommandError(ValueError):
    """A command that is not valid; the message names the field."""


def command(data: bytes | str) -> Command:
    """The command in ``data``; raises CommandError naming the field."""
    try:
        found: Command = _commands.decode(data)
        return found
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"not a command: {error}; see docs/relay.md") from error


def encode(message: Message) -> bytes:
    """The message as it goes on the wire."""
    return _encoder.encode(message)


def decode(data: bytes | str) -> Message:
    """The message in ``data``, for clients and tests."""
    message: Message = msgspec.json.decode(data, type=Message)
    return message


def sees_signal(tier: Tier, signal: Signal) -> bool:
    """Whether a tier is sent this signal itself rather than the summary."""
    return tier == "dynamic" or (tier == "premium" and signal.confidence >= PREMIUM_CONFIDENCE)


#: Gives a signal's chart URL for a risk profile.
ImageUrl = Callable[[str, str], str]


def _summary(number: str, symbol: str, tier: Tier, state: State, timestamp_ms: int) -> SignalSummary:
    return SignalSummary(
        number=number,
        symbol=symbol,
        timestamp_ms=timestamp_ms,
        data=SummaryData(
            historical_performance=state.history(symbol),
            signal_count_today=state.signals_today,
            upgrade_prompt=tiers.UPGRADE_PROMPT,
            tier_required="dynamic" if tier == "premium" else "premium",
        ),
    )


def _news(signal: Signal, state: State) -> NewsContext:
    features = signal.features_used
    return NewsContext(
        sentiment_1h=features.get("news_sentiment_1h"),
        sentiment_24h=features.get("news_sentiment_24h"),
        volume_1h=features.get("news_volume_1h"),
        volume_24h=features.get("news_volume_24h"),
        articles=[n for n in state.news.get(signal.symbol, []) if n.created_ms <= signal.created_ms][:5],
    )


def _base_rate(signal: Signal, state: State) -> float | None:
    rate = state.base_rates.get(signal.bundle, {}).get(signal.action)
    return float(rate) if isinstance(rate, (int, float)) else None


def signal_message(
    number: str, signal: Signal, tier: Tier, risk_profile: str, state: State, image_url: ImageUrl, supersedes: str = ""
) -> Signals:
    """The signal as this tier and risk profile may see it."""
    if not sees_signal(tier, signal):
        return _summary(number, signal.symbol, tier, state, signal.created_ms)
    seen = signal.risk_profiles.get(risk_profile)
    ends_ms = min(seen.expires_ms, signal.expires_ms) if seen and seen.expires_ms else signal.expires_ms
    common: dict[str, Any] = {
        "signal_id": signal.signal_id,
        "timeframe": signal.timeframe,
        "action": seen.action if seen else signal.action,
        "confidence": seen.confidence if seen else signal.confidence,
        "entry_price": signal.entry_price,
        "target_price": seen.target_price if seen else signal.target_price,
        "stop_loss": seen.stop_loss if seen else signal.stop_loss,
        "time_horizon": seen.time_horizon if seen else signal.time_horizon,
        "reasoning": signal.reasoning,
        "created_ms": signal.created_ms,
        "revision": signal.revision,
        "risk_profile": risk_profile,
        "image_url": image_url(signal.signal_id, risk_profile),
    }
    if tier == "premium":
        return TradingSignal(
            number=number, symbol=signal.symbol, expires_ms=ends_ms, timestamp_ms=signal.created_ms,
            data=SignalData(**common), supersedes=supersedes,
        )  # fmt: skip
    data = DynamicData(
        **common,
        news_context=_news(signal, state),
        risk_analysis=analyse(
            signal,
            common["target_price"],
            common["stop_loss"],
            state.volatility(signal.symbol),
            state.similar(signal.action, signal.time_horizon),
        ),
        features_snapshot=signal.features_used,
        model_votes=signal.model_votes,
        contributions=signal.contributions,
        skipped_models=signal.skipped_models,
        missing_inputs=signal.missing_inputs,
        bundle=signal.bundle,
        base_rate=_base_rate(signal, state),
    )
    return DynamicSignal(
        number=number, symbol=signal.symbol, expires_ms=ends_ms, timestamp_ms=signal.created_ms,
        data=data, supersedes=supersedes,
    )  # fmt: skip


def _update(event: Event) -> SignalUpdate:
    outcome = event.outcome
    assert outcome is not None
    return SignalUpdate(
        number=event.number, signal_id=event.signal_id, symbol=event.symbol, timestamp_ms=outcome.updated_ms,
        updates=Updates(
            status=outcome.status, current_price=outcome.current_price, pnl_percent=outcome.pnl_percent,
            exit_price=outcome.exit_price, exit_reason=outcome.exit_reason,
        ),
    )  # fmt: skip


def project(event: Event, tier: Tier, risk_profile: str, state: State, image_url: ImageUrl) -> Message | None:
    """The one message that this tier gets for an event, or None."""
    signal = event.signal
    if event.risk_profile and event.risk_profile != risk_profile:
        return None
    if event.kind == "signal":
        assert signal is not None
        return signal_message(event.number, signal, tier, risk_profile, state, image_url, event.supersedes)
    if tier == "dynamic" and event.kind == "update":
        return _update(event)
    if signal is not None and event.withdrawn and sees_signal(tier, signal):
        reasons: dict[str, Reason] = {"expired": "expired", "cancelled": "cancelled"}
        return SignalWithdrawn(
            number=event.number, signal_id=event.signal_id, symbol=event.symbol, timestamp_ms=event.timestamp_ms,
            reason=reasons.get(event.withdrawn, "closed"),
        )  # fmt: skip
    if event.kind == "update" and event.withdrawn:
        return _summary(event.number, event.symbol, tier, state, event.timestamp_ms)
    return None


def snapshot(
    signals: list[Signal], tier: Tier, risk_profile: str, state: State, image_url: ImageUrl, reset: bool, limit: int
) -> Snapshot:
    """Everything active among ``signals`` as this tier may see it, newest first; one summary per symbol."""
    messages: list[Signals] = []
    updates: list[SignalUpdate] = []
    summarised: set[str] = set()
    for signal in sorted(signals, key=lambda s: (s.created_ms, s.signal_id), reverse=True):
        if len(messages) >= limit:
            break
        if not sees_signal(tier, signal):
            if signal.symbol in summarised:
                continue
            summarised.add(signal.symbol)
        elif state.is_over(signal.signal_id, risk_profile):
            continue
        messages.append(signal_message(state.number, signal, tier, risk_profile, state, image_url))
        outcome = state.outcomes.get(signal.symbol, {}).get(signal.signal_id)
        if tier == "dynamic" and outcome is not None:
            updates.append(
                _update(Event(number=state.number, kind="update", symbol=signal.symbol, signal_id=signal.signal_id,
                              outcome=outcome))
            )  # fmt: skip
    return Snapshot(number=state.number, reset=reset, signals=messages, updates=updates, total=len(signals))


def schemas() -> dict[str, Any]:
    """JSON Schemas of commands and messages, by direction."""
    return {"commands": msgspec.json.schema(Command), "messages": msgspec.json.schema(Message)}


if __name__ == "__main__":  # prints docs/relay.schema.json
    print(msgspec.json.format(msgspec.json.encode(schemas()), indent=1).decode())
