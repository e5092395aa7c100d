"""After a restart: what came meanwhile is a gap, what was published is not doubled. Sink in memory."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from connectors.ingest.gaps import Gap
from connectors.ingest.stream_ingest import StreamIngest
from connectors.settings.ingest import load
from models.events import Connected, Disconnected, Event, GapFilled, GapUnfilled
from models.messages import Message, Quote
from models.trade.calendar import calendar
from simulators.data import START_MS, minutes, trades
from simulators.harness import Collected

NOW = 1_700_000_000_000


def ingest(venue: str, sink: Collected, **options: Any) -> StreamIngest:
    section = {"symbols": ["AAPL", "MSFT"], "channels": ["trades", "bars", "quotes"], "reorder_ms": 0, "margin_ms": 0}
    if venue != "binance":
        section["key"] = "k"
    settings = load(None, venues=[venue], **{venue: section | options}).venue(venue)
    return StreamIngest(settings.streams()[0], settings, sink, calendar("24/7"), NOW)


def some(venue: str, count: int) -> list[Message]:
    return [msgspec.structs.replace(m, source=venue) for m in itertools.islice(trades("AAPL"), count)]


def restarted(venue: str, first: Collected) -> tuple[StreamIngest, Collected, list[Gap]]:
    """A new ingest that was given what the first published."""
    sink = Collected()
    again = ingest(venue, sink)
    for message in first.messages:
        again.remember(message, NOW)
    return again, sink, again.resume(NOW)


@pytest.mark.parametrize("venue", ["binance", "alpaca"])
def test_trades_missed_while_down_are_a_gap_and_known_ones_are_not_doubled(venue: str) -> None:
    sink = Collected()
    events = some(venue, 30)
    ingest(venue, sink).accept(events[:10], NOW)
    again, sink, unclosed = restarted(venue, sink)
    assert unclosed == []
    again.accept(events[8:10], NOW)  # sent again by the venue
    assert sink.messages == []
    again.accept(events[20:25], NOW)
    (gap,) = again.gaps(NOW)
    if venue == "binance":
        assert gap == Gap(symbol="AAPL", channel="trades", numbering="ids", first=11, last=20)
    else:
        assert (gap.numbering, gap.first, gap.last) == ("outage", events[9].timestamp_ms, events[20].timestamp_ms)
    published = again.fill(gap, [msgspec.structs.replace(m, backfilled=True) for m in events[9:21]], NOW)
    again.close(gap, published, NOW)
    assert sorted(sink.trade_ids) == list(range(11, 26))
    assert [s.kind for s in sink.messages if isinstance(s, Event)] == ["gap", "gap_filled"]


def test_a_gap_that_was_declared_but_not_filled_is_taken_up_once() -> None:
    sink = Collected()
    events = some("binance", 30)
    first = ingest("binance", sink)
    first.accept(events[:10] + events[15:20], NOW)
    (gap,) = first.gaps(NOW)
    first.fill(gap, events[10:12], NOW)  # killed in the middle of filling
    again, sink, unclosed = restarted("binance", sink)
    assert unclosed == [gap]
    again.accept(events[20:22], NOW)
    assert again.gaps(NOW + 10_000) == []  # not declared a second time
    again.close(gap, again.fill(gap, events[10:15], NOW), NOW)
    assert sink.trade_ids == [21, 22, 13, 14, 15]
    assert [(s.kind, s.published) for s in sink.events(GapFilled)] == [("gap_filled", 3)]


def test_what_history_did_not_have_is_not_asked_for_at_each_restart() -> None:
    sink = Collected()
    bars = [msgspec.structs.replace(b, source="alpaca") for b in itertools.islice(minutes("AAPL"), 10)]
    first = ingest("alpaca", sink)
    first.accept(bars[:3] + bars[5:8], NOW)
    (gap,) = first.gaps(NOW)
    first.close(gap, first.fill(gap, [bars[3]], NOW), NOW)
    assert sink.events(GapUnfilled)[0].missing == ((bars[4].start_ms, bars[4].start_ms),)
    published = [msgspec.json.decode(msgspec.json.encode(m), type=type(m)) for m in sink.messages]  # as read from JSON
    sink.messages = published
    again, sink, unclosed = restarted("alpaca", sink)
    assert unclosed == []
    again.accept([bars[9]], NOW)
    assert [(g.first, g.last) for g in again.gaps(NOW)] == [(bars[8].start_ms, bars[8].start_ms)]


def test_quotes_are_missed_too() -> None:
    sink = Collected()
    quotes: list[Message] = [
        Quote(symbol="AAPL", source="binance", timestamp_ms=START_MS + n, bid_price=1.0 + n, last_price=1.0)
        for n in range(9)
    ]
    ingest("binance", sink).accept(quotes[:3], NOW)
    again, sink, _ = restarted("binance", sink)
    again.accept(quotes[6:], NOW)
    (gap,) = again.gaps(NOW)
    assert (gap.channel, gap.numbering, gap.first, gap.last) == ("ticker", "outage", START_MS + 2, START_MS + 6)


def test_a_bar_published_before_is_revised_not_repeated() -> None:
    sink = Collected()
    bar = msgspec.structs.replace(next(minutes("AAPL")), source="polygon")
    ingest("polygon", sink).accept([bar], NOW)
    again, sink, _ = restarted("polygon", sink)
    again.accept([bar, msgspec.structs.replace(bar, volume=1.0)], NOW)
    assert [(b.revision, b.volume) for b in sink.bars] == [(1, 1.0)]


def test_how_many_events_are_remembered_is_a_setting() -> None:
    events = some("polygon", 40)
    for remember, repeats in ((1000, 0), (4, 40)):
        sink = Collected()
        one = ingest("polygon", sink, remember=remember)
        for event in events + events:
            one.accept([event], NOW)
        assert len(sink.trade_ids) == 40 + repeats


def test_a_first_start_misses_nothing() -> None:
    again, _, unclosed = restarted("alpaca", Collected())
    again.accept(some("alpaca", 5), NOW)
    assert (unclosed, again.gaps(NOW + 60_000)) == ([], [])


def test_a_long_gap_is_asked_for_in_parts() -> None:
    ids = Gap(symbol="A", channel="trades", numbering="ids", first=1, last=25_000)
    assert [(p.first, p.last) for p in ids.parts()] == [(1, 10_000), (10_001, 20_000), (20_001, 25_000)]
    week = Gap(symbol="A", channel="quotes", numbering="outage", first=0, last=7 * 86_400_000)
    parts = list(week.parts())
    assert len(parts) == 7 * 24 + 1
    assert all(one.last + 1 == other.first for one, other in itertools.pairwise(parts))
    news = Gap(symbol="*", channel="news", numbering="outage", first=0, last=7 * 86_400_000)
    assert list(news.parts()) == [news]


def test_the_report_is_what_the_system_page_shows() -> None:
    sink = Collected()
    one = ingest("binance", sink)
    assert one.report()["state"] == "starting"
    live = [msgspec.structs.replace(m, timestamp_ms=NOW - 120) for m in some("binance", 3)]
    one.accept([*live, live[0]], NOW)
    one.publish_event(Connected, NOW, channels={})
    assert one.report() == {
        "state": "connected", "lag_ms": 120, "last_message_ms": NOW, "reconnects": 0, "messages": 3, "duplicates": 1,
        "gaps": 0, "backfilled": 0, "rejected": 0,
    }  # fmt: skip
    one.publish_event(Disconnected, NOW, "closed by the venue: 1001", again_in_s=1.0)
    assert one.report()["reason"] == "closed by the venue: 1001"
