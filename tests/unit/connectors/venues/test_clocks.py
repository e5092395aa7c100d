"""Staleness against the session calendar, backoff, holes: simulated clocks only."""

import random
from datetime import datetime

from connectors.ingest.gaps import Holes, Outages
from connectors.ingest.staleness import Staleness
from connectors.venues.backoff import Backoff
from models.trade.calendar import calendar


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_silence_is_wrong_only_while_the_market_is_open() -> None:
    friday_close = ms("2016-04-15T16:00:00-04:00")
    clock = Staleness({"trades": 60_000, "bars": 150_000}, calendar("XNYS"), friday_close - 30_000)
    clock.see("trades", friday_close - 1_000)
    assert clock.stale(friday_close - 1) == []
    assert clock.stale(friday_close + 3_600_000) == []  # the evening
    assert clock.stale(ms("2016-04-17T12:00:00-04:00")) == []  # the weekend
    monday_open = ms("2016-04-18T09:30:00-04:00")
    assert clock.stale(monday_open + 60_000) == []  # silent since Friday, but open for a minute only
    assert clock.stale(monday_open + 60_001) == ["trades"]
    assert clock.stale(monday_open + 150_001) == ["trades", "bars"]
    clock.see("trades", monday_open + 150_002)
    assert clock.stale(monday_open + 150_003) == ["bars"]


def test_a_halt_day_and_an_early_close_are_known() -> None:
    clock = Staleness({"trades": 60_000}, calendar("XNYS"), ms("2024-11-29T12:59:59-05:00"))
    assert clock.stale(ms("2024-11-29T13:30:00-05:00")) == []
    assert clock.stale(ms("2024-12-02T09:32:00-05:00")) == ["trades"]


def test_backoff_doubles_with_jitter_until_data() -> None:
    backoff = Backoff(0.5, 30, random.Random(3))
    delays = [backoff.next_s() for _ in range(12)]
    for delay, ceiling in zip(delays, (0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30), strict=True):
        assert ceiling / 2 <= delay <= ceiling
    assert len(set(delays)) == 12  # jitter: no two clients in step
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_holes_against_a_set_of_numbers() -> None:
    rng = random.Random(11)
    for _ in range(50):
        sent = list(range(100, 200))
        lost = set(rng.sample(sent[1:-1], rng.randint(0, 30)))
        arriving = [n for n in sent if n not in lost]
        for _ in range(rng.randint(0, 20)):  # neighbours change places
            at = rng.randrange(1, len(arriving) - 2)
            arriving[at], arriving[at + 1] = arriving[at + 1], arriving[at]
        holes = Holes(patience_ms=10)
        for number in arriving:
            holes.see("S", number, now_ms=0)
        declared = {n for _, (first, last) in holes.due(10) for n in range(first, last + 1)}
        assert declared == lost
        assert holes.due(1_000_000) == []  # each is declared once
        for number in lost:
            holes.see("S", number, now_ms=20)
        assert holes.missing("S") == []


def test_an_outage_spans_from_the_last_event_before_to_the_first_after() -> None:
    outages = Outages(margin_ms=100)
    for at in (1_000, 3_000, 2_900):
        assert outages.see("A", at) is None
    outages.lost()
    outages.lost()
    assert outages.see("A", 2_950) is None  # a late one does not end it
    assert outages.see("A", 8_000) == (2_900, 8_100)
    assert outages.see("A", 8_100) is None


def test_a_symbol_first_heard_after_an_outage_may_have_begun_in_it() -> None:
    outages = Outages(margin_ms=100)
    outages.lost()
    assert outages.see("A", 1_000) is None  # nothing was heard before it: nothing can be missed
    outages.lost()
    assert outages.see("A", 2_000) == (900, 2_100)
    assert outages.see("B", 9_000) == (900, 2_100)  # not later: B was listened to since 2,000
    assert outages.see("B", 9_100) is None
    outages.lost()
    assert outages.see("C", 800) is None  # from before: it does not say what came since
    assert outages.see("C", 12_000) == (900, 12_100)
    assert outages.see("D", 13_000) == (900, 12_100)
