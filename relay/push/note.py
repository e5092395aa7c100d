"""One notification: the message of the user's tier, and its text for channels that people read (pure)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from models.messages import Signal
from relay import protocol


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. Notes with the same ``collapse`` replace each other: a signal, its revisions and its end."""

    note_id: str
    collapse: str
    title: str
    body: str
    silent: bool
    message: dict[str, Any]

    @property
    def topic(self) -> str:
        """``collapse`` as 32 characters of the URL-safe alphabet."""
        return hashlib.sha256(self.collapse.encode()).hexdigest()[:32]


def collapse_key(signal: Signal | None, signal_id: str, symbol: str) -> str:
    """Revisions of one bar's signal, and its outcome, share this key."""
    return f"{symbol} {signal.timeframe} {signal.created_ms}" if signal is not None else f"{symbol} {signal_id}"


def words(message: protocol.Message) -> tuple[str, str]:
    """Title and body, from the fields of the tier's message alone."""
    match message:
        case protocol.TradingSignal() | protocol.DynamicSignal():
            data = message.data
            levels = f"entry {data.entry_price:,.2f}, target {data.target_price:,.2f}, stop {data.stop_loss:,.2f}"
            return (
                f"{data.action.upper()} {message.symbol} ({data.confidence:.0%})",
                f"{levels}, horizon {data.time_horizon}. {data.reasoning} Not financial advice.",
            )
        case protocol.SignalUpdate():
            what = {"hit_target": "target hit", "hit_stop": "stopped out"}.get(
                message.updates.status, message.updates.status
            )
            return f"{message.symbol}: {what}", f"Result {message.updates.pnl_percent:+.2f} %."
        case protocol.SignalWithdrawn():
            return f"{message.symbol}: signal {message.reason}", "The signal is no longer active."
        case protocol.SignalSummary():
            return f"{message.symbol}: a new signal", message.data.upgrade_prompt
    return "Signals", ""
