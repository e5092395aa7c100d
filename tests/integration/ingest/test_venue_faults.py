"""Every fault and code, over real sockets on loopback: what is published equals the truth, or a gap that was filled."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from models.events import (
    Connected,
    Disconnected,
    GapDeclared,
    GapFilled,
    GapUnfilled,
    Halt,
    PriceBands,
    QuotationResume,
    Refused,
    Resume,
    Split,
    Stale,
    SymbolsDropped,
    VenueError,
)
from models.messages import News, OptionSummary, Quote, Trade
from simulators.alpaca import AlpacaSimulator
from simulators.base import Simulator
from simulators.binance import BinanceSimulator
from simulators.data import START_MS, minutes, trades
from simulators.harness import Collected, Running, ingesting, settings, until
from simulators.polygon import PolygonSimulator
from udfs.steps.side_inputs import split_row

pytestmark = pytest.mark.integration

VENUES: dict[str, type[Simulator]] = {
    "alpaca": AlpacaSimulator,
    "polygon": PolygonSimulator,
    "binance": BinanceSimulator,
}
Scenario = Callable[[Simulator, Running], Coroutine[Any, Any, None]]


def play(
    venue: str, scenario: Scenario, before: Callable[[Simulator], None] = lambda _: None, **options: Any
) -> Collected:
    """Run a scenario against one simulated venue; what was published."""

    async def go() -> Collected:
        async with VENUES[venue](random.Random(7)) as simulator:
            before(simulator)
            async with ingesting(settings(simulator, venue, **options)) as running:
                await scenario(simulator, running)
                return running.sink

    return asyncio.run(go())


async def subscribed(simulator: Simulator, count: int = 1) -> None:
    await until(lambda: sum("trades" in s.channels for s in simulator.sessions) >= count, what="a subscription")
    await asyncio.sleep(0.05)


async def feed(simulator: Simulator, events: Any, each: int = 5) -> None:
    events = list(events)
    for at in range(0, len(events), each):
        await simulator.feed(events[at : at + each])
        await asyncio.sleep(0.002)


def ids(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


@pytest.mark.parametrize("venue", VENUES)
def test_clean_replay(venue: str) -> None:
    source = trades("AAPL")

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(source, 200))
        await feed(simulator, itertools.islice(minutes("AAPL"), 10))
        await until(lambda: len(running.sink.trade_ids) == 200 and len(running.sink.bars) == 10)

    got = play(venue, scenario)
    assert got.trade_ids == ids(1, 200)
    assert [b.start_ms for b in got.bars] == [START_MS + n * 60_000 for n in range(10)]
    assert [b.close for b in got.bars] == [b.close for b in itertools.islice(minutes("AAPL"), 10)]
    assert got.letters == []
    assert got.events(GapDeclared) == []
    trade = next(m for m in got.messages if isinstance(m, Trade))
    assert (trade.source, trade.symbol, trade.timestamp_ms) == (venue, "AAPL", START_MS)
    assert trade.ingestion_timestamp_ms is not None
    assert trade.ingestion_timestamp_ms > START_MS


@pytest.mark.parametrize("fault", ["drop", "cut", "mute"])
@pytest.mark.parametrize("venue", VENUES)
def test_nothing_is_lost_over_a_broken_connection(venue: str, fault: str) -> None:
    source = trades("AAPL", step_ms=50)

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(source, 100))
        await until(lambda: len(running.sink.trade_ids) == 100)
        if fault == "mute":
            await simulator.fault("mute", 0.6)
            await feed(simulator, itertools.islice(source, 50))
            await until(lambda: running.sink.events(Stale), what="the mute channel is noticed")
        else:
            await simulator.fault(fault)
            await feed(simulator, itertools.islice(source, 50))
        await subscribed(simulator)
        await asyncio.sleep(0.4 if fault == "mute" else 0.05)
        await feed(simulator, itertools.islice(source, 50))
        await until(lambda: running.sink.events(GapFilled) and len(running.sink.trade_ids) == 200)

    options = {"stale_s": {"trades": 0.3}} if fault == "mute" else {"backoff_min_s": 0.3, "backoff_max_s": 0.4}
    got = play(venue, scenario, **options)
    assert sorted(got.trade_ids) == ids(1, 200)
    gap, filled = got.events(GapDeclared)[0], got.events(GapFilled)[0]
    assert gap.symbol == filled.symbol == "AAPL"
    assert gap.numbering == ("ids" if venue == "binance" else "outage")
    marked = {int(m.trade_id) for m in got.messages if isinstance(m, Trade) and m.backfilled}
    assert marked >= set(ids(101, 150))
    assert got.events(Disconnected)


@pytest.mark.parametrize("venue", VENUES)
def test_duplicates_late_and_out_of_order(venue: str) -> None:
    source = trades("AAPL")

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await simulator.fault("duplicates", 60)
        await simulator.fault("late", 15)
        await simulator.fault("out_of_order", 10)
        await feed(simulator, itertools.islice(source, 200))
        await simulator.release()
        await until(lambda: len(running.sink.trade_ids) == 200)
        await asyncio.sleep(0.3)

    got = play(venue, scenario)
    assert sorted(got.trade_ids) == ids(1, 200)
    assert got.trade_ids != ids(1, 200)  # they did come out of order


@pytest.mark.parametrize("venue", VENUES)
def test_garbage_and_wrong_units_go_to_dead_letter_whole(venue: str) -> None:
    source = trades("AAPL")

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(source, 20))
        await simulator.fault("garbage", 8)
        await simulator.fault("wrong_units", 3)
        await feed(simulator, itertools.islice(source, 20))
        await until(lambda: len(running.sink.letters) >= 11 and len(running.sink.trade_ids) == 40)

    got = play(venue, scenario)
    assert got.trade_ids == ids(1, 40)
    assert all(letter.reason and letter.payload for letter in got.letters)
    units = [letter for letter in got.letters if "between 2000 and 2100" in letter.reason]
    assert len(units) == 3
    assert {letter.topic for letter in got.letters} == {f"venue:{venue}"}


@pytest.mark.parametrize("venue", VENUES)
def test_an_oversize_message_ends_the_connection_not_the_feed(venue: str) -> None:
    source = trades("AAPL")

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(source, 20))
        await simulator.fault("oversize", 200_000)
        await until(lambda: running.sink.events(Disconnected))
        await subscribed(simulator)
        await feed(simulator, itertools.islice(source, 20))
        await until(lambda: len(running.sink.trade_ids) == 40)

    got = play(venue, scenario, frame_bytes_max=100_000)
    assert sorted(got.trade_ids) == ids(1, 40)
    assert "1009" in got.events(Disconnected)[0].reason


@pytest.mark.parametrize("venue", ["alpaca", "polygon"])
def test_a_refused_key_is_never_tried_again(venue: str) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(running.task.done)
        await asyncio.sleep(0.3)
        assert simulator.connections == 1
        assert "402" in running.task.result()[0] or "auth_failed" in running.task.result()[0]

    got = play(venue, scenario, before=lambda s: setattr(s, "key", "another"))
    assert len(got.events(Refused)) == 1


@pytest.mark.parametrize("code", [402, 408, 409, 411, 412, 413])
def test_alpaca_fatal_codes_stop_at_the_first_try(code: int) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(running.task.done)
        assert simulator.connections == 1

    got = play("alpaca", scenario, before=lambda s: s.errors_next.append(code))
    assert [s.code for s in got.events(VenueError)] == [str(code)]


@pytest.mark.parametrize("code", [401, 404, 500])
def test_alpaca_passing_codes_reconnect(code: int) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        assert simulator.connections == 2

    assert play("alpaca", scenario, before=lambda s: s.errors_next.append(code)).events(Disconnected)


@pytest.mark.parametrize("code", [400, 403, 407, 410])
def test_alpaca_codes_that_are_only_noted_while_streaming(code: int) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await simulator.fault("error", detail=code)
        await feed(simulator, itertools.islice(trades("AAPL"), 5))
        await until(lambda: len(running.sink.trade_ids) == 5)
        assert simulator.connections == 1

    assert [s.action for s in play("alpaca", scenario).events(VenueError)] == ["LOG"]


def test_alpaca_410_is_fatal_at_the_start() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(running.task.done)

    assert play("alpaca", scenario, before=lambda s: s.errors_next.append(410)).events(Refused)


def test_alpaca_406_waits_on_the_same_socket() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        assert simulator.connections == 1
        assert sum('"auth"' in text for text in simulator.received) == 4

    assert len(play("alpaca", scenario, before=lambda s: setattr(s, "limit_next", 3)).events(VenueError)) == 3


def test_alpaca_406_for_too_long_leaves_the_socket() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(lambda: running.sink.events(Disconnected))
        assert sum('"auth"' in text for text in simulator.received) == 3

    got = play("alpaca", scenario, before=lambda s: setattr(s, "limit_next", 99), wait_tries=2)
    assert "406" in got.events(Disconnected)[0].reason


def test_alpaca_405_shrinks_until_it_fits() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        assert len(simulator.sessions[0].channels["trades"]) == 30
        assert simulator.connections == 1
        await simulator.fault("drop")
        await until(lambda: simulator.connections == 2)
        await subscribed(simulator)
        assert len(simulator.sessions[0].channels["trades"]) == 30  # not asked for all again

    symbols = [f"S{n}" for n in range(40)]
    got = play("alpaca", scenario, before=lambda s: setattr(s, "symbol_limit", 30), symbols=symbols)
    assert [s.symbols for s in got.events(SymbolsDropped)] == [tuple(f"S{n}" for n in range(30, 40))]


def test_polygon_max_connections_cools_down_though_the_login_went_well() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(lambda: len(running.sink.events(Disconnected)) == 2)
        await subscribed(simulator)
        assert simulator.connections == 3

    got = play("polygon", scenario, before=lambda s: setattr(s, "limit_next", 2), cool_down_s=0.3)
    assert all(s.again_in_s >= 0.3 for s in got.events(Disconnected))
    stamps = [s.timestamp_ms for s in got.events(Disconnected)]
    assert stamps[1] - stamps[0] >= 300


def test_polygon_auth_timeout_reconnects() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        assert simulator.connections == 2

    play("polygon", scenario, before=lambda s: s.errors_next.append("auth_timeout"))


@pytest.mark.parametrize("code", [2, 3])
def test_binance_refused_request_is_fatal(code: int) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(running.task.done)

    assert play("binance", scenario, before=lambda s: s.errors_next.append(code)).events(Refused)


@pytest.mark.parametrize(("status", "fatal"), [(401, True), (403, True), (429, False), (418, False), (503, False)])
def test_http_answers_at_the_handshake(status: int, fatal: bool) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await (until(running.task.done) if fatal else subscribed(simulator))

    got = play("alpaca", scenario, before=lambda s: s.errors_next.append((status, {}, {"Retry-After": "0"})))
    assert bool(got.events(Refused)) is fatal
    if status in (418, 429):
        assert got.events(Disconnected)[0].again_in_s >= 0.5  # never stormed: cooled down


@pytest.mark.parametrize("venue", ["alpaca", "polygon"])
def test_a_silent_greeting_is_not_waited_for(venue: str) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        assert simulator.connections == 2

    got = play(venue, scenario, before=lambda s: setattr(s, "slow_next", 1), handshake_timeout_s=0.4)
    assert "no welcome within 0.4 s" in got.events(Disconnected)[0].reason


def test_a_pong_that_never_comes_ends_the_connection() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await simulator.fault("freeze")
        await until(lambda: running.sink.events(Disconnected), what="the missing pong is noticed")
        await subscribed(simulator)

    got = play("binance", scenario, ping_interval_s=0.1, ping_timeout_s=0.2)
    assert "1011" in got.events(Disconnected)[0].reason


def test_the_venues_ping_is_answered_with_its_payload() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        pong = await simulator.sessions[0].socket.ping(b"1672515782136")
        async with asyncio.timeout(1):
            await pong  # resolves only by a pong with the same payload

    play("binance", scenario)


def overlap(fault: str | None) -> Collected:
    source = trades("AAPL")

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        for round_ in range(40):
            await feed(simulator, itertools.islice(source, 10))
            await asyncio.sleep(0.02)
            if round_ == 10 and fault:
                await simulator.fault(fault, 0.5)
        await until(lambda: len(running.sink.trade_ids) == 400)
        assert simulator.connections >= 2
        assert len(simulator.sessions) == 1

    got = play("binance", scenario, **({} if fault else {"lifetime_s": 0.3}))
    assert got.trade_ids == ids(1, 400)  # in order, once each, over two connections
    return got


def test_server_shutdown_hands_over_without_a_gap() -> None:
    got = overlap("shutdown")
    assert got.events(GapDeclared, Disconnected) == []


def test_the_24_hour_cut_is_met_by_an_overlapping_reconnect() -> None:
    got = overlap(None)
    assert got.events(GapDeclared, Disconnected) == []


def test_missing_minutes_are_fetched_and_marked() -> None:
    source = list(itertools.islice(minutes("AAPL"), 20))

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, source[:5])
        for bar in source[5:9]:
            simulator.remember(bar)
        await feed(simulator, source[9:])
        await until(lambda: running.sink.events(GapFilled))

    for venue in VENUES:
        got = play(venue, scenario)
        (gap,) = got.events(GapDeclared)
        assert (gap.first, gap.last) == (source[5].start_ms, source[8].start_ms)
        marked = [b for b in got.bars if b.backfilled]
        assert [(b.start_ms, b.close) for b in marked] == [(b.start_ms, b.close) for b in source[5:9]]
        assert sorted(b.start_ms for b in got.bars) == [b.start_ms for b in source]


def test_a_minute_without_trades_is_said_to_be_empty() -> None:
    source = list(itertools.islice(minutes("AAPL"), 6))

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, [*source[:2], *source[3:]])
        await until(lambda: running.sink.events(GapUnfilled))

    (status,) = play("alpaca", scenario).events(GapUnfilled)
    assert status.reason == "the venue has no bar there: no eligible trade"
    assert status.missing == ((source[2].start_ms, source[2].start_ms),)


@pytest.mark.parametrize("fault", ["http_429", "http_500"])
def test_history_that_stumbles_is_asked_again(fault: str) -> None:
    source = trades("AAPL")

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(source, 10))
        await until(lambda: len(running.sink.trade_ids) == 10)
        await simulator.fault(fault, 2)
        for trade in itertools.islice(source, 5):
            simulator.remember(trade)
        await feed(simulator, itertools.islice(source, 10))
        await until(lambda: len(running.sink.trade_ids) == 25)
        assert len([r for r in simulator.requests if "historicalTrades" in r]) == 3

    assert sorted(play("binance", scenario).trade_ids) == ids(1, 25)


def test_corrections_cancels_and_updated_bars() -> None:
    bar = next(minutes("AAPL"))
    first = next(trades("AAPL"))
    replace = msgspec.structs.replace

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        corrected = replace(first, kind="correction", corrects_id="1", trade_id="900", price=55.5)
        await feed(simulator, [first, corrected, replace(first, kind="cancel")])
        await feed(
            simulator, [bar, replace(bar, volume=bar.volume + 5, revision=1), replace(bar, volume=bar.volume + 5)]
        )
        await until(lambda: len(running.sink.messages) >= 6)
        await asyncio.sleep(0.1)

    got = play("alpaca", scenario, channels=["trades", "bars", "updated_bars"])
    kinds = [(m.kind, m.trade_id, m.corrects_id) for m in got.messages if isinstance(m, Trade)]
    assert kinds == [("new", "1", ""), ("correction", "900", "1"), ("cancel", "1", "")]
    assert [(b.revision, b.volume) for b in got.bars] == [(0, bar.volume), (1, bar.volume + 5)]


def test_a_bar_sent_again_by_polygon_is_a_revision() -> None:
    bar = next(minutes("AAPL"))

    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, [bar, bar, msgspec.structs.replace(bar, close=bar.low)])
        await until(lambda: len(running.sink.bars) == 2)

    assert [b.revision for b in play("polygon", scenario).bars] == [0, 1]


def test_news_on_its_own_connection_is_scored_and_refetched_after_a_drop() -> None:
    def story(number: int, headline: str) -> News:
        at = START_MS + number * 60_000
        return News(
            symbol="AAPL", news_id=str(number), created_ms=at, updated_ms=at, headline=headline, publisher="wire"
        )

    async def scenario(simulator: Simulator, running: Running) -> None:
        sink = running.sink
        await until(lambda: any("news" in s.channels for s in simulator.sessions))
        await feed(simulator, [story(1, "Apple beats estimates with excellent results")])
        await until(lambda: any(isinstance(m, News) for m in sink.messages))
        await simulator.fault("drop")
        await feed(simulator, [story(2, "Apple faces fraud investigation and bankruptcy of a supplier")])
        await until(lambda: any("news" in s.channels for s in simulator.sessions))
        await feed(simulator, [story(3, "Board meets on Tuesday")])
        await until(lambda: sum(isinstance(m, News) for m in sink.messages) == 3)

    got = play("alpaca", scenario, news=["*"])
    news = {m.news_id: m for m in got.messages if isinstance(m, News)}
    assert news["1"].sentiment is not None
    assert news["1"].sentiment > 0.3
    assert news["2"].sentiment is not None
    assert news["2"].sentiment < -0.3
    assert news["2"].backfilled
    assert news["3"].sentiment == 0


def test_one_refused_venue_does_not_end_the_others() -> None:
    async def go() -> None:
        async with AlpacaSimulator(key="other") as refusing, BinanceSimulator() as sound:
            config = settings(refusing, "alpaca")
            both = settings(sound, "binance")
            merged = config.model_copy(update={"venues": ["alpaca", "binance"], "binance": both.venue("binance")})
            async with ingesting(merged) as running:
                await until(lambda: running.sink.events(Refused))
                await subscribed(sound)
                await feed(sound, itertools.islice(trades("AAPL"), 10))
                await until(lambda: len(running.sink.trade_ids) == 10)
                running.stop.set()
                assert len(await running.task) == 1

    asyncio.run(go())


def quotes(first: int, last: int, **more: Any) -> list[Quote]:
    return [
        Quote(symbol="AAPL", timestamp_ms=START_MS + 50 * n, bid_price=100.0 + n, bid_size=200, ask_price=101.0 + n,
              ask_size=100, **more)
        for n in range(first, last)
    ]  # fmt: skip


def heard(running: Running) -> list[Quote]:
    return [m for m in running.sink.messages if isinstance(m, Quote)]


@pytest.mark.parametrize("venue", ["alpaca", "polygon"])
def test_quotes_missed_in_an_outage_are_fetched_and_marked(venue: str) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, quotes(0, 20))
        await until(lambda: len(heard(running)) == 20)
        await simulator.fault("drop")
        await feed(simulator, quotes(20, 30))
        await subscribed(simulator)
        await feed(simulator, quotes(30, 40))
        await until(lambda: len(heard(running)) == 40 and running.sink.events(GapFilled))
        got = sorted(heard(running), key=lambda q: q.timestamp_ms)
        assert [q.bid_price for q in got] == [100.0 + n for n in range(40)]
        assert [q.backfilled for q in got] == [False] * 20 + [True] * 10 + [False] * 10

    got = play(venue, scenario, channels=["trades", "quotes"], backoff_min_s=0.3, backoff_max_s=0.4)
    assert [s.channel for s in got.events(GapDeclared)] == ["quotes"]


def test_binance_has_no_history_of_tickers_and_says_so() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, quotes(0, 5, last_price=100.0))
        await until(lambda: len(heard(running)) == 5)
        await simulator.fault("drop")
        await until(lambda: simulator.connections == 2)
        await subscribed(simulator)
        await feed(simulator, quotes(9, 10, last_price=100.0))
        await until(lambda: running.sink.events(GapUnfilled))

    got = play("binance", scenario, channels=["trades", "ticker"])
    (gap,), (unfilled,) = got.events(GapDeclared), got.events(GapUnfilled)
    assert gap.channel == "ticker"
    assert unfilled.reason == "binance has no history of quotes"


def test_a_symbol_that_first_trades_in_an_outage_is_not_forgotten() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(trades("AAPL"), 10))
        await until(lambda: len(running.sink.trade_ids) == 10)
        await simulator.fault("drop")
        await feed(simulator, itertools.islice(trades("MSFT", first_id=1000), 12, 20))
        await subscribed(simulator)
        await feed(simulator, itertools.islice(trades("AAPL"), 30, 31))
        await feed(simulator, itertools.islice(trades("MSFT", first_id=1000), 40, 41))
        await until(lambda: len(running.sink.events(GapFilled)) == 2)

    got = play("alpaca", scenario, symbols=["AAPL", "MSFT"], backoff_min_s=0.3, backoff_max_s=0.4)
    assert sorted(got.trade_ids) == [*ids(1, 10), 31, *ids(1012, 1019), 1040]


@pytest.mark.parametrize("venue", ["alpaca", "polygon"])
def test_option_chains_and_splits_are_polled_by_the_running_process(venue: str) -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        def found(kind: type) -> list[Any]:
            return [m for m in running.sink.messages if isinstance(m, kind)]

        await until(lambda: len([r for r in simulator.requests if "snapshot" in r]) >= 3, what="polls go on")
        await until(lambda: found(OptionSummary) and running.sink.events(Split))
        summary = found(OptionSummary)[0]
        assert (summary.symbol, summary.source, summary.put_call_ratio) == ("AAPL", venue, 0.5)
        assert summary.timestamp_ms < summary.ingestion_timestamp_ms  # event time and arrival
        (split,) = running.sink.events(Split)  # asked for many times, said once
        assert split_row(split)[1] == 4.0

    def before(simulator: Simulator) -> None:
        day = datetime.now(ZoneInfo("America/New_York")).date() + timedelta(days=3)
        simulator.splits = [("AAPL", str(day), 4, 1)]

    play(venue, scenario, before=before, options=["AAPL"], options_every_s=0.05, splits_every_s=0.05)


def test_polygon_news_is_polled_scored_and_not_repeated() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(lambda: len([r for r in simulator.requests if "/v2/reference/news" in r]) >= 3)

    got = play("polygon", scenario, news=["AAPL"], news_every_s=0.05)
    (news,) = [m for m in got.messages if isinstance(m, News)]
    assert news.sentiment is not None
    assert news.sentiment > 0.3
    assert (news.created_ms, news.ingestion_timestamp_ms is not None) == (1_714_140_000_000, True)


def test_binance_is_not_sent_more_than_five_frames_a_second() -> None:
    symbols = [f"S{n}USDT" for n in range(450)]

    async def scenario(simulator: Simulator, running: Running) -> None:
        began = time.monotonic()
        await until(lambda: len(simulator.received) == 3)
        assert time.monotonic() - began > 0.4

    play("binance", scenario, symbols=symbols, channels=["trades"])


def test_polygon_without_entitlement_stops() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(running.task.done)
        assert simulator.connections == 1

    assert play("polygon", scenario, before=lambda s: s.errors_next.append("not_authorized")).events(Refused)


def test_halts_and_bands_come_through() -> None:
    at = START_MS

    async def scenario(simulator: Simulator, running: Running) -> None:
        await until(lambda: any("statuses" in s.channels for s in simulator.sessions))
        for kind in (Halt, QuotationResume, Resume):
            await simulator.feed([kind(symbol="AAPL", timestamp_ms=at, reason="News Pending")])
        await simulator.feed([PriceBands(symbol="AAPL", timestamp_ms=at, upper=3.24, lower=2.65)])
        await until(lambda: running.sink.events(PriceBands))

    got = play("alpaca", scenario, channels=["trades", "statuses"])
    told = got.events(Halt, QuotationResume, Resume)
    assert [(s.kind, s.symbol, s.timestamp_ms) for s in told] == [
        ("halt", "AAPL", at), ("quotation_resume", "AAPL", at), ("resume", "AAPL", at),
    ]  # fmt: skip
    assert told[0].reason_code == "T12"
    assert (got.events(PriceBands)[0].upper, got.events(PriceBands)[0].lower) == (3.24, 2.65)


def test_corrections_on_command() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(trades("AAPL"), 5))
        await feed(simulator, itertools.islice(minutes("AAPL"), 2))
        await simulator.fault("corrections", 1)
        await until(lambda: any(b.revision for b in running.sink.bars))

    got = play("alpaca", scenario, channels=["trades", "bars", "updated_bars"])
    kinds = [(m.kind, m.corrects_id, m.trade_id) for m in got.messages if isinstance(m, Trade)]
    assert kinds[5:] == [("correction", "5", "10000005"), ("cancel", "", "10000005")]
    assert [b.revision for b in got.bars] == [0, 0, 1]
    got = play("polygon", scenario)
    assert [b.revision for b in got.bars] == [0, 0, 1]


def test_the_test_feed_is_a_feed_like_others() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)
        await feed(simulator, itertools.islice(trades("FAKEPACA"), 5))
        await until(lambda: len(running.sink.trade_ids) == 5)

    assert play("alpaca", scenario, feed="v2/test", symbols=["FAKEPACA"]).trade_ids == ids(1, 5)


def test_a_login_that_succeeds_does_not_reset_the_backoff_data_does() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        for lost in range(1, 6):  # each time after a sound login and subscription
            await until(lambda lost=lost: simulator.connections == lost)
            await subscribed(simulator)
            await simulator.fault("drop")
            await until(lambda lost=lost: len(running.sink.events(Disconnected)) == lost)
        await until(lambda: simulator.connections == 6)
        await subscribed(simulator)
        await feed(simulator, itertools.islice(trades("AAPL"), 5))
        await until(lambda: len(running.sink.trade_ids) == 5)
        await simulator.fault("drop")
        await until(lambda: len(running.sink.events(Disconnected)) == 6)

    got = play("alpaca", scenario, backoff_min_s=0.02, backoff_max_s=10)
    pauses = [s.again_in_s for s in got.events(Disconnected)]
    for number, pause in enumerate(pauses[:5]):
        assert 0.01 * 2**number <= pause <= 0.021 * 2**number
    assert pauses[5] <= 0.021


def test_statuses_carry_source_and_time() -> None:
    async def scenario(simulator: Simulator, running: Running) -> None:
        await subscribed(simulator)

    (connected,) = play("alpaca", scenario).events(Connected)
    assert isinstance(connected, Connected)
    assert (connected.symbol, connected.source) == ("*", "alpaca")
    assert connected.timestamp_ms > 1_700_000_000_000
