"""News, option summaries and splits as rows for the kernel: when each became known, and its numbers.

Pure glue between the messages and :class:`udfs.kernel.Kernel`. A stream operator keyed like the bars collects the
messages of a frame and calls :func:`give` before it runs the frame's bars, with the rows of each symbol's timeframes;
then it writes the touched states back as it does after bars. A bar takes what was known at its end; what it may not
know yet waits in the state (32 articles, 2 option summaries), so the streams need to be merged by time only roughly. A
symbol without any bar has no row: what came before its first bar is not remembered.

>>> from models.messages import Status
>>> side_input(Status(symbol="AAPL", timestamp_ms=1000, kind="split", detail={"ratio": 4}))
('split', (1000.0, 4.0))
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.messages import News, OptionSummary, Status
from udfs.gate import LATE

if TYPE_CHECKING:
    from udfs.kernel import Kernel

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


def split_row(message: Status) -> tuple[float, float]:
    """A row of :data:`SPLIT_COLUMNS` from a status of kind ``split``.

    ``detail`` has ``ratio`` (new shares for one old) or ``split_to`` and ``split_from``, and may have ``effective_ms``;
    else the status's own time is when it takes effect.
    """
    detail = message.detail
    if "ratio" in detail:
        ratio = float(detail["ratio"])
    elif detail.get("split_to") and detail.get("split_from"):
        ratio = float(detail["split_to"]) / float(detail["split_from"])
    else:
        raise ValueError(f"split of {message.symbol}: detail {detail!r} needs 'ratio', or 'split_to' and 'split_from'")
    if not 0 < ratio < 1e6:
        raise ValueError(f"split of {message.symbol}: ratio {ratio} is not a positive number of shares for one")
    return float(detail.get("effective_ms", message.timestamp_ms)), ratio


def side_input(message: Any) -> tuple[str, tuple[float, ...]] | None:
    """The kernel method and the row of a message; None for one that is no input of the features."""
    if isinstance(message, News):
        return "news", news_row(message)
    if isinstance(message, OptionSummary):
        return "options", option_row(message)
    if isinstance(message, Status) and message.kind == "split":
        return "split", split_row(message)
    return None


def give(
    kernel: Kernel, states: npt.NDArray[np.float64], rows_of: Mapping[str, Sequence[int]], messages: Iterable[Any]
) -> tuple[set[int], list[tuple[Any, str]]]:
    """Give messages, in their order, to the states of their symbols.

    ``rows_of`` maps a symbol to the rows of ``states`` that hold its timeframes. Returns the rows that were touched,
    and the messages that could not be used with the reason (a split without a ratio, or one that came after bars at the
    new prices).
    """
    found: dict[str, tuple[list[int], list[tuple[float, ...]], list[Any]]] = {}
    refused: list[tuple[Any, str]] = []
    for message in messages:
        try:
            event = side_input(message)
        except ValueError as error:
            refused.append((message, str(error)))
            continue
        if event is None:
            continue
        rows, events, origins = found.setdefault(event[0], ([], [], []))
        for row in rows_of.get(message.symbol, ()):
            rows.append(row)
            events.append(event[1])
            origins.append(message)
    touched: set[int] = set()
    for kind, (rows, events, origins) in found.items():
        if not rows:
            continue
        verdicts = getattr(kernel, kind)(states, np.array(rows, np.int64), np.array(events, float))
        touched.update(rows)
        if verdicts is not None:
            reason = "the split takes effect before a bar that was seen already: features are masked until they refill"
            refused += [(origins[i], reason) for i in np.flatnonzero(verdicts == LATE).tolist()]
    return touched, refused
