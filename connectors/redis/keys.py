"""Names, bounds and forms of everything kept in Redis: the one page that writers and readers share.

| key | type | what |
|---|---|---|
| ``features:{symbol}:{timeframe}`` | hash | latest feature row, name -> number, expires after :data:`FEATURES_TTL_S` |
| ``signal:{id}`` | string | JSON of :class:`models.messages.Signal`, expires with the signal |
| ``signals:active`` | sorted set | signal ids scored by ``expires_ms`` (event time) |
| ``signals:stream`` | stream | what happened, in order, capped at :data:`STREAM_MAXLEN` (see :func:`stream_fields`) |
| ``price:{symbol}`` | string | ``{"price": 187.2, "timestamp_ms": 1700000000000}``, the latest close or trade |
| ``outcomes:{symbol}`` | hash | signal id -> JSON of its latest :class:`models.messages.Outcome` |
| ``bars:{symbol}:{timeframe}`` | list | recent bars for charts, oldest first (see ``connectors.redis.bars``) |
| ``news:{symbol}`` | list | JSON of recent :class:`models.messages.News`, newest first, at most :data:`NEWS_MAX` |
| ``system:status`` | hash | component -> JSON object, for the system page (see :data:`SYSTEM_STATUS`) |

>>> signal_key("9f2c"), features_key("AAPL", "1m")
('signal:9f2c', 'features:AAPL:1m')
"""

from __future__ import annotations

from typing import Literal

#: Entry kinds of the signal stream. ``expired`` is written by the relay when a signal's time is over.
StreamKind = Literal["signal", "outcome", "cancel", "expired"]

SIGNALS_ACTIVE = "signals:active"
SIGNALS_STREAM = "signals:stream"
#: Entries kept in the signal stream (``XADD ... MAXLEN ~``): how far back a client can resume.
STREAM_MAXLEN = 10_000
#: Seconds a feature row lives without being renewed.
FEATURES_TTL_S = 3_600
#: Bars kept for each symbol and timeframe.
BARS_MAX = 400
#: Articles kept for each symbol.
NEWS_MAX = 20

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
    """Key of the running history of a symbol's signals."""
    return f"outcomes:{symbol}"


def bars_key(symbol: str, timeframe: str) -> str:
    """Key of the recent bars."""
    return f"bars:{symbol}:{timeframe}"


def news_key(symbol: str) -> str:
    """Key of the recent news."""
    return f"news:{symbol}"


def stream_fields(signal_id: str, kind: StreamKind, data: bytes) -> dict[str, str | bytes]:
    """The fields of one entry of ``signals:stream``.

    ``data`` is the JSON of a Signal (kinds ``signal``; ``cancel``, whose ``cancels`` names the one withdrawn) or of an
    Outcome (kind ``outcome``); an ``expired`` entry carries ``{}`` and withdraws ``id``, or the ``risk_profile``
    for which alone it is over.
    """
    return {"id": signal_id, "kind": kind, "data": data}
