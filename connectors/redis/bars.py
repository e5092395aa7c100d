"""Recent bars in Redis, for charts: one capped list per symbol and timeframe, cheap to append for a whole frame.

Each element is a JSON array ``[start_ms, open, high, low, close, volume, revision]``. Appending costs one command per
symbol and frame; the list is trimmed only when it has grown by half beyond its bound. Writing the same bars again is
harmless: the reader keeps the highest revision of each ``start_ms``, the later of equals.

>>> unpack([pack_fields(60_000, 1.0, 2.0, 0.5, 1.5, 10.0, 0), pack_fields(0, 1.0, 1.0, 1.0, 1.0, 5.0, 0)])[0][0]
0
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from connectors.redis.keys import BARS_MAX, bars_key
from models.messages import Bar

#: ``(start_ms, open, high, low, close, volume, revision)``
BarTuple = tuple[int, float, float, float, float, float | None, int]

_decoder = msgspec.json.Decoder(BarTuple)
_encoder = msgspec.json.Encoder()


def pack_fields(
    start_ms: int, open_: float, high: float, low: float, close: float, volume: float | None, revision: int
) -> bytes:
    """One bar as a list element."""
    return _encoder.encode((start_ms, open_, high, low, close, volume, revision))


def place_of(element: bytes) -> tuple[int, int]:
    """Start and revision of a list's element.

    >>> place_of(pack_fields(60_000, 1.0, 2.0, 0.5, 1.5, 10.0, 3))
    (60000, 3)
    """
    bar = _decoder.decode(element)
    return bar[0], bar[6]


def push_bars(pipeline: Any, symbol: str, timeframe: str, bars: Iterable[Bar]) -> None:
    """Append one frame's bars of one symbol to ``pipeline`` (redis-py); call :func:`trim_bars` with the reply."""
    packed = [pack_fields(b.start_ms, b.open, b.high, b.low, b.close, b.volume, b.revision) for b in bars]
    if packed:
        pipeline.rpush(bars_key(symbol, timeframe), *packed)


def trim_bars(client: Any, symbol: str, timeframe: str, length: int, keep: int = BARS_MAX) -> bool:
    """Cut the list back to ``keep`` when ``length`` (the reply to the push) is half beyond it; true if it was cut."""
    if length <= keep + keep // 2:
        return False
    client.ltrim(bars_key(symbol, timeframe), -keep, -1)
    return True


def unpack(elements: Iterable[bytes], keep: int = BARS_MAX) -> list[BarTuple]:
    """The bars in time order, each start once, at most the last ``keep``."""
    latest: dict[int, BarTuple] = {}
    for element in elements:
        bar = _decoder.decode(element)
        known = latest.get(bar[0])
        if known is None or bar[6] >= known[6]:
            latest[bar[0]] = bar
    return [latest[start] for start in sorted(latest)][-keep:]
