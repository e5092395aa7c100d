"""News, option summaries and splits as rows for the kernel: when each became known, and the bar that first knows it.

Pure glue between the messages and :class:`udfs.kernel.compiler.Kernel`. An event is due when it became known (a split
when it takes effect), and is given to a series just before the first of its bars that ends at or after that moment; the
batch builder and the stream operator follow this one rule, so their values are equal to the bit. What comes late, after
such a bar was already seen, is applied at once.

>>> from models.events import Split
>>> side_input(Split(symbol="AAPL", timestamp_ms=500, ratio=4.0, effective_ms=1000))
('split', (1000.0, 4.0))
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from math import inf, nan
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from models.events import Event, Split
from models.messages import News, OptionSummary

Given = TypeVar("Given")

#: Events of a symbol beyond which those that its series have seen are dropped.
EVENTS_MAX = 1_000

#: The kernel's method and its row.
SideInput = tuple[str, tuple[float, ...]]

#: Rows of ``Kernel.news``: ``known_ms`` is :func:`known_ms`; ``identity`` names the article across its edits.
NEWS_COLUMNS = ("created_ms", "known_ms", "sentiment", "identity")
#: Rows of ``Kernel.options``; NaN where the summary has no value.
OPTION_COLUMNS = ("known_ms", "timestamp_ms", "call_volume", "put_volume", "put_call_ratio", "implied_volatility")
#: Rows of ``Kernel.split``: when bars begin to be at the new prices, and new shares for one old (4.0 for 4:1).
SPLIT_COLUMNS = ("effective_ms", "ratio")


def known_ms(message: News | OptionSummary) -> float:
    """When the message could first be used: the later of its own time and its arrival.

    A message filled in from history arrived long after the market knew it, so its own time counts; so it does where no
    arrival was recorded.
    """
    own = message.updated_ms if isinstance(message, News) else message.timestamp_ms
    if isinstance(message, News):
        own = max(own, message.created_ms)
    if message.backfilled or message.ingestion_timestamp_ms is None:
        return float(own)
    return float(max(own, message.ingestion_timestamp_ms))


def news_row(message: News) -> tuple[float, float, float, float]:
    """A row of :data:`NEWS_COLUMNS`."""
    score = nan if message.sentiment is None else message.sentiment
    return float(message.created_ms), known_ms(message), score, float(zlib.crc32(message.news_id.encode()))


def option_row(message: OptionSummary) -> tuple[float, ...]:
    """A row of :data:`OPTION_COLUMNS`."""
    values = (message.call_volume, message.put_volume, message.put_call_ratio, message.implied_volatility)
    return (known_ms(message), float(message.timestamp_ms), *(nan if v is None else float(v) for v in values))


def split_row(message: Split) -> tuple[float, float]:
    """A row of :data:`SPLIT_COLUMNS`."""
    return float(message.effective_ms), message.ratio


def side_input(message: Any) -> SideInput | None:
    """The kernel method and the row of a message; None for one that is no input of the features."""
    if isinstance(message, News):
        return "news", news_row(message)
    if isinstance(message, OptionSummary):
        return "options", option_row(message)
    if isinstance(message, Split):
        return "split", split_row(message)
    return None


def due_ms(event: SideInput) -> float:
    """The earliest end of a bar that may know the event; of a split, when it takes effect."""
    kind, row = event
    return row[1] if kind == "news" else row[0]


def in_order(event: SideInput) -> tuple[float, str, tuple[float, ...]]:
    """A sorting key that does not depend on the order of arrival (NaN sorts first)."""
    return due_ms(event), event[0], tuple(-inf if value != value else value for value in event[1])


def first_bars(events: Iterable[SideInput], ends_ms: npt.NDArray[np.float64]) -> list[tuple[int, SideInput]]:
    """Each event with the number of the first bar that may know it; one that no bar may know yet is left out.

    >>> first_bars([("news", (0.0, 50.0)), ("news", (0.0, 200.0))], np.array([40.0, 60.0, 80.0]))
    [(1, ('news', (0.0, 50.0)))]
    """
    known = [(ends_ms >= due_ms(event), event) for event in events]
    return [(int(np.argmax(bars)), event) for bars, event in known if bars.any()]


def deal(
    count: int, stops: Mapping[int, list[Given]], run: Callable[[slice], None], give: Callable[[Given], object]
) -> None:
    """Run ``count`` bars in order, and before bar ``i`` give what ``stops[i]`` lists: one way for stream and batch."""
    first = 0
    for stop in [*sorted(stops), count]:
        if stop > first:
            run(slice(first, stop))
            first = stop
        for given in stops.get(stop, ()):
            give(given)


class SideInputs:
    """The events of every symbol, dealt to series as their bars come; for one operator instance or one batch.

    What a series was given lies in its state, and what it is still to be given follows from the end of its last bar
    alone: nothing here needs to be kept over a restart. An event takes some 300 bytes.
    """

    def __init__(self) -> None:
        self._events: dict[str, list[SideInput]] = {}

    def add(self, message: News | OptionSummary | Event) -> SideInput | None:
        """Note one message; None where it is no input or a repeat."""
        event = side_input(message)
        if event is None:
            return None
        events = self._events.setdefault(message.symbol, [])
        key = in_order(event)
        at = bisect_left(events, key, key=in_order)
        if at < len(events) and in_order(events[at]) == key:
            return None
        events.insert(at, event)
        return event

    def due(
        self, symbol: str, last_end_ms: float | None, ends_ms: npt.NDArray[np.float64]
    ) -> list[tuple[int, SideInput]]:
        """The events that a series' next bars first know, as (bar number, event), in order.

        ``last_end_ms`` is the end of its last bar (None before the first), ``ends_ms`` those of the next ones.
        """
        events = self._events.get(symbol)
        if not events or not len(ends_ms):
            return []
        first = 0 if last_end_ms is None else bisect_right(events, last_end_ms, key=due_ms)
        last = bisect_right(events, float(ends_ms.max()), key=due_ms)
        return first_bars(events[first:last], ends_ms)

    def forget(self, symbol: str, before_ms: float) -> None:
        """Drop the events due before that moment, once there are many."""
        events = self._events.get(symbol, [])
        if len(events) > EVENTS_MAX:
            del events[: bisect_left(events, before_ms, key=due_ms)]

    def __bool__(self) -> bool:
        return bool(self._events)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._events
