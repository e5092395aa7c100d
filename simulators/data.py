"""Real data to replay, as messages: daily prices shipped with ``bokeh_sampledata``, minutes and trades from files."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

from models.messages import Bar, News, Trade
from models.trade.calendar import calendar

#: 2016-04-18 14:00 UTC, inside a session of the New York Stock Exchange.
START_MS = 1_460_988_000_000


@cache
def daily() -> dict[str, list[tuple[float, float, float, float, float]]]:
    """Real daily open, high, low, close, volume by symbol (2000 to 2013)."""
    from bokeh_sampledata import stocks

    return {
        name: [
            (float(o), float(h), float(low), float(c), float(v))
            for o, h, low, c, v in zip(d["open"], d["high"], d["low"], d["close"], d["volume"], strict=True)
        ]
        for name in ("AAPL", "GOOG", "IBM", "MSFT")
        for d in [getattr(stocks, name)]
    }


def trades(symbol: str, real: str = "AAPL", first_id: int = 1, step_ms: int = 50) -> Iterator[Trade]:
    """Real prices (the open, high, low, close of each day in turn) as trades with contiguous ids, for ever."""
    rows = itertools.cycle(daily()[real])
    number = itertools.count(first_id)
    for row in rows:
        for price in row[:4]:
            at = next(number)
            yield Trade(
                symbol=symbol,
                timestamp_ms=START_MS + (at - first_id) * step_ms,
                price=price,
                size=float(1 + at % 400),
                trade_id=str(at),
            )


def trading_days(symbol: str, real: str, since: str) -> Iterator[list[list[Trade]]]:
    """Real daily prices as the trades of each day, at that day's own times; for each day the trades of its quarters.

    Each day trades at the open, then at its extremes (the farther from the close first), then at the close, with a
    quarter of the day's volume each: a daily bar built from them is the real one.
    """
    from bokeh_sampledata import stocks

    table, number, exchange = getattr(stocks, real), itertools.count(1), calendar("XNYS")
    names = ("date", "open", "high", "low", "close", "volume")
    for day, open_, high, low, close, volume in zip(*(table[name] for name in names), strict=True):
        if date.fromisoformat(day) < date.fromisoformat(since):
            continue
        session = exchange.session_on(day)
        extremes = (low, high) if close >= open_ else (high, low)
        third = (session.close_ms - session.open_ms) // 3
        quarter = float(volume // 4)
        sizes = (quarter, quarter, quarter, float(volume) - 3 * quarter)
        times = (session.open_ms, session.open_ms + third, session.open_ms + 2 * third, session.close_ms - 1)
        yield [
            [Trade(symbol=symbol, timestamp_ms=at, price=float(price), size=size, trade_id=str(next(number)))]
            for at, price, size in zip(times, (open_, *extremes, close), sizes, strict=True)
        ]


#: A day's move, in percent, that makes a story.
STORY_PERCENT = 3.0


def story(day: list[list[Trade]], previous_close: float | None) -> News | None:
    """What a wire would report after the close of a day that moved far; None for other days. The numbers are real."""
    last = day[-1][-1]
    if previous_close is None:
        return None
    percent = (last.price / previous_close - 1) * 100
    if abs(percent) < STORY_PERCENT:
        return None
    verb = "gains" if percent > 0 else "loses"
    at = last.timestamp_ms + 60_000
    return News(
        symbol=last.symbol,
        news_id=last.trade_id,
        created_ms=at,
        updated_ms=at,
        headline=f"{last.symbol} {verb} {abs(percent):.1f} % to close at {last.price:.2f}",
        publisher="simulated wire",
    )


def minutes(symbol: str, real: str = "AAPL") -> Iterator[Bar]:
    """Real daily rows as minute bars, one after the other."""
    for at, (open_, high, low, close, volume) in enumerate(daily()[real]):
        start = START_MS + at * 60_000
        yield Bar(
            symbol=symbol,
            timeframe="1m",
            start_ms=start,
            end_ms=start + 60_000,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            trade_count=9,
            vwap=(high + low + close) / 3,
        )


def minute_file(path: Path, symbol: str) -> Iterator[Bar]:
    """Minute bars of a TSV (gzip or not): date (epoch ms of the start), open, high, low, close, volume."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            start = int(row["date"])
            yield Bar(
                symbol=symbol,
                timeframe="1m",
                start_ms=start,
                end_ms=start + 60_000,
                open=float(row["open"]),
                high=float(row["high"]),
                low=float(row["low"]),
                close=float(row["close"]),
                volume=float(row["volume"]),
            )


def trade_file(path: Path, symbol: str, first: int = 0, count: int | None = None) -> Iterator[Trade]:
    """Trades of a CSV ``DateTime,Price,Volume`` (UTC), numbered from 1 in file order."""
    with open(path, newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        for number, (stamp, price, volume) in enumerate(
            itertools.islice(rows, first, None if count is None else first + count), start=first + 1
        ):
            at = datetime.fromisoformat(stamp).replace(tzinfo=UTC)
            yield Trade(
                symbol=symbol,
                timestamp_ms=round(at.timestamp() * 1000),
                price=float(price),
                size=float(volume),
                trade_id=str(number),
            )
