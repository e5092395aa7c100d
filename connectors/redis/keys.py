"""Names, bounds and formats of everything kept in Redis, shared by writers and readers.

The jobs write with :mod:`connectors.redis.writer`, all processes their status with :mod:`connectors.redis.status`. Each
key is listed with its type, writer, content and bound. The relay reads all but ``features:`` (for other programs)
and the two that only the writing scripts read.

- ``features:{symbol}:{timeframe}`` hash, signals job: latest feature row, name -> number; :data:`FEATURES_TTL_S`.
- ``signal:{id}`` string, signals job: JSON of :class:`models.messages.Signal`; expires with the signal.
- ``signal-revision:{stem}`` string, signals job, read by its script: highest revision written of one decision (the id
  without its revision); the signal's life, at least a day.
- ``signals:active`` sorted set, signals and outcomes job, relay: signal ids scored by ``expires_ms`` (event time); cut
  at the newest event time.
- ``signals:stream`` stream, signals and outcomes job, relay: what happened, in order (:data:`StreamKind`);
  :data:`STREAM_MAXLEN` entries.
- ``expired:{id}[:{risk profile}]`` string, relay: marks an expiry as written, so that one relay of several writes it;
  :data:`EXPIRED_TTL_S`.
- ``price:{symbol}`` string, signals job: ``{"price": 187.2, "timestamp_ms": 1700000000000}``, the latest close or
  trade; one per symbol.
- ``outcomes:{symbol}`` hash, outcomes job: signal id -> JSON of its latest :class:`models.messages.Outcome`; those that
  are active and the finished ones of the next key.
- ``outcomes-finished:{symbol}`` sorted set, outcomes job, read by its script: ids of finished outcomes scored by
  ``updated_ms``; ``writer.OUTCOMES_MAX``.
- ``bars:{symbol}:{timeframe}`` list, signals job: recent bars for charts, oldest first (``connectors.redis.bars``);
  :data:`BARS_MAX`, up to twice as many between two cuts.
- ``news:{symbol}`` list, signals job: JSON of recent :class:`models.messages.News`, newest first; :data:`NEWS_MAX`.
- ``system:status`` hash, every process: component -> JSON object for the system page (:data:`SYSTEM_STATUS`); one field
  per component.
- ``push:position`` string, relay: number of the last event that a relay claimed for notifications; one.
- ``push:{number}`` string, relay: claim of one event, so that one relay sends its notes; :data:`PUSH_CLAIM_TTL_S`.
- ``push:dead-letter`` stream, relay: notes that could not be delivered; :data:`PUSH_DEAD_LETTERS_MAX` entries.

>>> signal_key("9f2c"), features_key("AAPL", "1m"), expired_key("9f2c", "moderate")
('signal:9f2c', 'features:AAPL:1m', 'expired:9f2c:moderate')
"""

from __future__ import annotations

from typing import Literal

#: Entry kinds of the signal stream; an entry has the fields ``id``, ``kind`` and ``data``: the JSON of a Signal (kinds
#: ``signal``, and ``cancel``, whose ``cancels`` names the one withdrawn) or of an Outcome (kind ``outcome``). The relay
#: writes ``expired``: ``{}`` withdraws ``id``; with a ``risk_profile`` it ends for that profile only.
StreamKind = Literal["signal", "outcome", "cancel", "expired"]

SIGNALS_ACTIVE = "signals:active"
SIGNALS_STREAM = "signals:stream"
#: Entries kept in the signal stream (``XADD ... MAXLEN ~``): how far back a client can resume.
STREAM_MAXLEN = 10_000
#: Seconds a feature row lives after its last write.
FEATURES_TTL_S = 3_600
#: Bars kept for each symbol and timeframe.
BARS_MAX = 400
#: Articles kept for each symbol.
NEWS_MAX = 20
#: Seconds that the expiry of a signal stays marked as written.
EXPIRED_TTL_S = 7 * 86_400
PUSH_POSITION = "push:position"
PUSH_DEAD_LETTERS = "push:dead-letter"
#: Undelivered notes kept (``XADD ... MAXLEN ~``).
PUSH_DEAD_LETTERS_MAX = 1_000
#: Seconds that an event stays claimed for notifications.
PUSH_CLAIM_TTL_S = 3_600

#: Hash of component -> JSON object: ``mode`` ({"mode": "live"|"delayed"|"replay"|"simulated"}), ``venue:{name}``,
#: ``job``, ``drift`` and ``bundle``, with the fields listed in docs/relay.md ("What processes report"). Each may carry
#: ``updated_ms`` (wall clock); unknown fields are shown as they are.
SYSTEM_STATUS = "system:status"


def features_key(symbol: str, timeframe: str) -> str:
    """Key of the latest feature row."""
    return f"features:{symbol}:{timeframe}"


def signal_key(signal_id: str) -> str:
    """Key of one signal's JSON."""
    return f"signal:{signal_id}"


def price_key(symbol: str) -> str:
    """Key of the latest price."""
    return f"price:{symbol}"


def outcomes_key(symbol: str) -> str:
    """Key of the outcomes of a symbol's signals."""
    return f"outcomes:{symbol}"


def bars_key(symbol: str, timeframe: str) -> str:
    """Key of the recent bars."""
    return f"bars:{symbol}:{timeframe}"


def news_key(symbol: str) -> str:
    """Key of the recent news."""
    return f"news:{symbol}"


def revision_key(stem: str) -> str:
    """Key of the highest revision written of one decision; ``stem`` is a signal id without its revision."""
    return f"signal-revision:{stem}"


def finished_key(symbol: str) -> str:
    """Key of the ids of a symbol's finished outcomes."""
    return f"outcomes-finished:{symbol}"


def expired_key(signal_id: str, risk_profile: str = "") -> str:
    """Key that marks an expiry as written: of the signal, or for one risk profile."""
    return f"expired:{signal_id}:{risk_profile}" if risk_profile else f"expired:{signal_id}"


def push_claim_key(number: str) -> str:
    """Key of the claim on one event (its number in the stream) for notifications."""
    return f"push:{number}"
