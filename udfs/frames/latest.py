"""The newest values of a frame, as Redis keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from models.messages import Bar
from udfs.frames.codec import FeatureFrame


class LatestValues(TypedDict):
    """What a frame leaves in Redis alongside its signals (arguments of ``RedisStore.write_frame``)."""

    features: list[tuple[str, str, dict[str, float]]]
    prices: list[tuple[str, float, int]]
    bars: dict[tuple[str, str], list[Bar]]


def latest_values(frame: FeatureFrame, names: Sequence[str]) -> LatestValues:
    """The last feature row and price of each series of a frame, and all its bars for the charts.

    Features that are NaN are left out; ``end_ms`` is the row's time.
    """
    table, values = frame.bar_matrix().tolist(), frame.value_matrix()
    bars: dict[tuple[str, str], list[Bar]] = {}
    last: dict[int, int] = {}
    for row, which in enumerate(frame.row_series().tolist()):
        symbol, timeframe, source = frame.series[which]
        start, end, open_, high, low, close, volume, revision = table[row]
        bars.setdefault((symbol, timeframe), []).append(
            Bar(
                symbol=symbol,
                timeframe=timeframe,
                start_ms=int(start),
                end_ms=int(end),
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=None if volume != volume else volume,
                revision=int(revision),
                source=source,
            )
        )
        last[which] = row
    features: list[tuple[str, str, dict[str, float]]] = []
    prices: list[tuple[str, float, int]] = []
    for which, row in last.items():
        symbol, timeframe, _ = frame.series[which]
        known = {name: value for name, value in zip(names, values[row].tolist(), strict=True) if value == value}
        features.append((symbol, timeframe, known | {"end_ms": table[row][1]}))
        prices.append((symbol, table[row][5], int(table[row][1])))
    return LatestValues(features=features, prices=prices, bars=bars)
