"""What the follower reads, applied without Redis: events, prices, status, context, and a stream that was cut."""

from collections.abc import Callable
from typing import Any

import pytest

from models.messages import News, encode
from relay.follow import Mirror, was_cut
from relay.state import Event
from tests.support.relay import joined, make_hub

Make = Callable[..., Any]


def entry(kind: str, message: Any, signal_id: str = "s1") -> dict[bytes, bytes]:
    data = message if isinstance(message, bytes) else encode(message)
    return {b"id": signal_id.encode(), b"kind": kind.encode(), b"data": data}


def test_an_entry_reaches_clients_and_listeners(make_signal: Make) -> None:
    mirror = Mirror(make_hub())
    _, pipe = joined(mirror.hub, "premium")
    events: list[Event] = []
    mirror.listeners.append(events.append)
    event = mirror.fold("1-0", entry("signal", make_signal()))
    assert event is not None
    mirror.publish(event)
    assert [message["number"] for message in pipe.messages()] == ["1-0"]
    assert events == [event]
    assert mirror.fold("2-0", entry("signal", make_signal())) is None
    assert mirror.hub.state.number == "2-0"


@pytest.mark.parametrize(
    "fields",
    [{}, {b"id": b"s1"}, entry("signal", b"{"), entry("outcome", b'{"signal_id": 7}'), {b"id": b"\xff", b"kind": b"x"}],
)
def test_an_entry_that_cannot_be_read_is_counted_and_skipped(fields: dict[bytes, bytes]) -> None:
    mirror = Mirror(make_hub())
    assert mirror.fold("1-0", fields) is None
    assert mirror.skipped == 1


def test_prices_are_published_when_they_change_and_move_the_clock(make_signal: Make) -> None:
    mirror = Mirror(make_hub())
    _, pipe = joined(mirror.hub)
    for value in (b'{"price": 1.5, "timestamp_ms": 7}', b'{"price": 1.5, "timestamp_ms": 7}', b"{", b'{"price": null}'):
        mirror.take_price("AAPL", value)
    assert [(message["price"], message["timestamp_ms"]) for message in pipe.messages()] == [(1.5, 7)]
    assert mirror.hub.state.clock_ms["AAPL"] == 7


def test_the_status_changes_the_mode_and_explains_what_clients_hold_anew(make_signal: Make) -> None:
    mirror = Mirror(make_hub())
    mirror.fold("1-0", entry("signal", make_signal()))
    _, pipe = joined(mirror.hub)
    mirror.take_system({b"mode": b'{"mode": "live"}', b"broken": b"{"})
    assert (mirror.hub.state.mode, pipe.messages()) == ("live", [])
    mirror.take_system({b"bundle": b'{"name": "bundle-secret", "base_rates": {"buy": 0.25}}'})
    assert [message["type"] for message in pipe.messages()] == ["snapshot"]
    assert mirror.hub.state.base_rates == {"bundle-secret": {"buy": 0.25}}


def test_news_and_bars_that_cannot_be_read_leave_the_older_ones(make_signal: Make) -> None:
    mirror = Mirror(make_hub())
    article = News(symbol="AAPL", news_id="n1", created_ms=5, updated_ms=5, headline="h")
    mirror.take_context("AAPL", [], [encode(article)])
    mirror.take_context("AAPL", [b"\xc1"], [b"{"])
    assert mirror.hub.state.news["AAPL"] == [article]


def test_clients_are_told_once_that_redis_went_away_and_came_back() -> None:
    mirror = Mirror(make_hub())
    _, pipe = joined(mirror.hub)
    for ok in (True, False, False, True):
        mirror.report(ok)
    assert [message["pipeline_ok"] for message in pipe.messages()] == [False, True]
    mirror.report(True, changed=True)
    assert len(pipe.messages()) == 1


def test_a_stream_was_cut_if_the_oldest_entry_kept_is_newer_than_what_was_read() -> None:
    assert not was_cut("5-0", "", added=9, length=0)
    assert not was_cut("0-0", "1-0", added=4, length=4)
    assert was_cut("9-0", "10-0", added=5, length=4)
