"""REST history against simulated venues, and Kafka feeds' mappings: expected values written out by hand."""

import asyncio
import itertools
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from connectors.ingest.feeds import KINDS, KafkaFeed, MappingError
from connectors.venues.alpaca.history import AlpacaHistory
from connectors.venues.binance.history import BinanceHistory
from connectors.venues.http import Http, RefusedError, UnavailableError
from connectors.venues.polygon.history import PolygonHistory
from models.messages import TOPICS, Quote, Trade, topic_of
from simulators.alpaca import AlpacaSimulator
from simulators.binance import BinanceSimulator
from simulators.data import START_MS, minutes, trades
from simulators.polygon import PolygonSimulator
from udfs.steps.side_inputs import split_row


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_trades_by_time_over_many_pages() -> None:
    async def go() -> None:
        source = list(itertools.islice(trades("AAPL"), 1200))
        async with AlpacaSimulator() as one, PolygonSimulator() as two:
            for simulator in (one, two):
                await simulator.feed(source)
            for history in (AlpacaHistory(one.rest, "k", "s"), PolygonHistory(two.rest, "k")):
                got = await history.trades("AAPL", START_MS + 50, START_MS + 50 * 1150)
                assert [m.trade_id for m in got] == [str(n) for n in range(2, 1152)]
                assert [m.price for m in got] == [m.price for m in source[1:1151]]
                assert [m.timestamp_ms for m in got] == [m.timestamp_ms for m in source[1:1151]]
                assert all(m.backfilled for m in got)
                await history.close()

    run(go())


def test_trades_by_id_over_many_pages() -> None:
    async def go() -> None:
        async with BinanceSimulator() as simulator:
            await simulator.feed(itertools.islice(trades("BTCUSDT"), 3000))
            history = BinanceHistory(simulator.rest)
            got = await history.trades_by_id("BTCUSDT", 500, 2600)
            assert [int(m.trade_id) for m in got] == list(range(500, 2601))
            assert len(simulator.requests) == 3
            await history.close()

    run(go())


def test_quotes_where_the_venue_has_them() -> None:
    async def go() -> None:
        source = [
            Quote(symbol="AAPL", timestamp_ms=START_MS + n, bid_price=10.0 + n, bid_size=300, ask_price=11.0 + n,
                  ask_size=200)
            for n in range(700)
        ]  # fmt: skip
        async with AlpacaSimulator() as one, PolygonSimulator() as two:
            for simulator in (one, two):
                await simulator.feed(source)
            for history in (AlpacaHistory(one.rest, "k", "s"), PolygonHistory(two.rest, "k")):
                got = await history.quotes("AAPL", START_MS + 1, START_MS + 650)
                want = [(q.timestamp_ms, q.bid_price, q.bid_size, q.ask_price, q.ask_size) for q in source[1:651]]
                assert [(q.timestamp_ms, q.bid_price, q.bid_size, q.ask_price, q.ask_size) for q in got] == want
                assert all(q.backfilled for q in got)
                await history.close()
        history = BinanceHistory("http://127.0.0.1:1", "binance_us")
        with pytest.raises(NotImplementedError, match="binance_us has no history of quotes"):
            await history.quotes("BTCUSDT", 0, 1)
        await history.close()

    run(go())


def test_splits_of_both_venues() -> None:
    now = 1_717_700_000_000  # 2024-06-06 in New York

    async def go() -> None:
        async with AlpacaSimulator() as one, PolygonSimulator() as two:
            for simulator in (one, two):
                simulator.splits = [
                    ("NVDA", "2024-06-10", 10, 1), ("OLD", "2024-06-05", 2, 1), ("TINY", "2024-06-06", 1, 8),
                    ("ELSE", "2024-06-10", 3, 1),
                ]  # fmt: skip
            for history in (AlpacaHistory(one.rest, "k", "s"), PolygonHistory(two.rest, "k")):
                got = await history.splits(["NVDA", "OLD", "TINY"], now)
                assert [(s.symbol, s.kind, s.timestamp_ms) for s in got] == [
                    ("NVDA", "split", now), ("TINY", "split", now),
                ]  # fmt: skip
                midnight = 1_717_992_000_000  # 2024-06-10 00:00 in New York
                assert split_row(got[0]) == (midnight, 10.0)
                assert split_row(got[1]) == (midnight - 4 * 86_400_000, 0.125)
                assert {s.symbol for s in await history.splits(["*"], now)} == {"NVDA", "TINY", "ELSE"}
                await history.close()

    run(go())


def test_bars_of_every_venue() -> None:
    async def go() -> None:
        source = list(itertools.islice(minutes("AAPL"), 5))
        for kind, make in (
            (AlpacaSimulator, lambda base: AlpacaHistory(base, "k", "s")),
            (PolygonSimulator, lambda base: PolygonHistory(base, "k")),
            (BinanceSimulator, BinanceHistory),
        ):
            async with kind() as simulator:
                await simulator.feed(source)
                history = make(simulator.rest)
                got = await history.bars("AAPL", "1m", source[1].start_ms, source[3].start_ms)
                want = [(b.start_ms, b.end_ms, b.open, b.high, b.low, b.close, b.volume) for b in source[1:4]]
                assert [(b.start_ms, b.end_ms, b.open, b.high, b.low, b.close, b.volume) for b in got] == want
                await history.close()

    run(go())


def test_option_chains_are_reduced() -> None:
    async def go() -> None:
        async with AlpacaSimulator() as one, PolygonSimulator() as two:
            alpaca, polygon = AlpacaHistory(one.rest, "k", "s"), PolygonHistory(two.rest, "k")
            got = await alpaca.options("AAPL", 1_714_150_000_000)
            assert (got.call_volume, got.put_volume, got.put_call_ratio) == (200, 100, 0.5)
            assert got.implied_volatility == pytest.approx(0.34)  # near the money: 0.337 and 0.343
            assert (got.call_open_interest, got.contracts, got.timestamp_ms) == (None, 3, 1_714_140_000_000)
            got = await polygon.options("AAPL", 1_714_150_000_000)
            assert (got.call_volume, got.put_volume, got.put_call_ratio) == (120, 60, 0.5)
            assert (got.call_open_interest, got.put_open_interest) == (1000, 400)
            assert got.implied_volatility == pytest.approx(0.33)
            assert (got.timestamp_ms, got.updated_ms) == (1_714_139_940_123, 1_714_140_000_123)
            assert got.ingestion_timestamp_ms == 1_714_150_000_000
            for history in (alpaca, polygon):
                await history.close()

    run(go())


def test_news_of_polygon() -> None:
    async def go() -> None:
        async with PolygonSimulator() as simulator:
            history = PolygonHistory(simulator.rest, "k")
            got = await history.news(["AAPL"], 0, 1_800_000_000_000)
            assert [(m.symbol, m.news_id, m.publisher, m.created_ms) for m in got] == [
                ("AAPL", "a1", "Wire", 1_714_140_000_000)
            ]
            await history.close()

    run(go())


def test_rate_limits_refusals_and_outages() -> None:
    async def go() -> None:
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        async with BinanceSimulator() as simulator:
            http = Http(simulator.rest, sleep=sleep, tries=3)
            query = {"symbol": "A", "fromId": 1, "limit": 1}
            simulator.http_faults = [429, 500]
            assert await http.get("/api/v3/historicalTrades", query) == []
            assert len(simulator.requests) == 3
            simulator.http_faults = [500, 500, 500]
            with pytest.raises(UnavailableError, match="no answer in 3 tries: HTTP 500"):
                await http.get("/api/v3/historicalTrades", query)
            with pytest.raises(RefusedError, match="HTTP 404"):
                await http.get("/nothing", query)
            assert len(simulator.requests) == 7  # a refusal is not asked again
            simulator.http_faults = [418]
            simulator.ban_s = "120"
            assert await http.get("/api/v3/historicalTrades", query) == []
            assert max(waits) > 100  # the ban stops every request for as long as it says
            await http.close()

    run(go())


MAPPING = """
topic = "ticks"
source = "desk"
message = "trade"
[fields]
symbol = "instrument.code"
price = "px"
size = "qty"
trade_id = "id"
timestamp_ms = { path = "ts", unit = "UNIT" }
[constants]
exchange = "X"
"""


@pytest.mark.parametrize(
    ("unit", "value"),
    [("s", "1460988000.25"), ("ms", "1460988000250"), ("us", "1460988000250999"), ("ns", "1460988000250999999"),
     ("rfc3339", '"2016-04-18T14:00:00.250999Z"')],
)  # fmt: skip
def test_a_kafka_feed_maps_fields_and_units(tmp_path: Path, unit: str, value: str) -> None:
    file = tmp_path / "feed.toml"
    file.write_text(MAPPING.replace("UNIT", unit))
    record = f'{{"instrument":{{"code":"aapl"}},"px":10.5,"qty":"3","id":77,"ts":{value}}}'.encode()
    (got,) = KafkaFeed(file).parse(record, 5).messages
    assert got == Trade(
        symbol="AAPL", source="desk", ingestion_timestamp_ms=5, timestamp_ms=1_460_988_000_250, price=10.5, size=3,
        trade_id="77", exchange="X",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("record", "field"),
    [(b'{"instrument":{"code":"A"},"px":-1,"qty":1,"ts":1460988000250}', "price"),
     (b'{"instrument":{"code":"A"},"qty":1,"ts":1460988000250}', "price"),
     (b'{"instrument":{"code":"A"},"px":1,"qty":1,"ts":1460988000}', "timestamp_ms"),
     (b"nonsense", "")],
)  # fmt: skip
def test_a_record_that_does_not_fit_is_rejected_whole(tmp_path: Path, record: bytes, field: str) -> None:
    file = tmp_path / "feed.toml"
    file.write_text(MAPPING.replace("UNIT", "ms"))
    (refused,) = KafkaFeed(file).parse(record, 5).rejects
    assert (refused.payload, refused.field) == (record, field)


OTHERS = {
    "quote": ('bid_price = "b"\nask_price = "a"\ntimestamp_ms = "t"', '"b":10,"a":10.5,"t":1460988000250', "b"),
    "bar": (
        'timeframe = "f"\nstart_ms = "t"\nend_ms = "e"\nopen = "o"\nhigh = "h"\nlow = "l"\nclose = "c"\nvolume = "v"',
        '"f":"1m","t":1460988000000,"e":1460988060000,"o":1,"h":2,"l":1,"c":2,"v":5', "l",
    ),
    "news": (
        'news_id = "i"\ncreated_ms = "t"\nupdated_ms = "t"\nheadline = "h"',
        '"i":7,"t":1460988000250,"h":"Profit rises"', "t",
    ),
    "status": ('kind = "k"\ntimestamp_ms = "t"', '"k":"halt","t":1460988000250', "t"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_a_feed_may_hold_other_messages_than_trades(tmp_path: Path, kind: str) -> None:
    fields, body, spoilt = OTHERS[kind]
    file = tmp_path / "feed.toml"
    file.write_text(f'topic = "x"\nsource = "desk"\nmessage = "{kind}"\n[fields]\nsymbol = "s"\n{fields}\n')
    record = f'{{"s":"a",{body}}}'
    (got,) = KafkaFeed(file).parse(record.encode(), 5).messages
    assert (topic_of(got), got.symbol, got.source) == (TOPICS[KINDS[kind]], "A", "desk")
    bad = re.sub(rf'"{spoilt}":\d+', f'"{spoilt}":-3', record)
    assert bad != record
    (refused,) = KafkaFeed(file).parse(bad.encode(), 5).rejects
    assert refused.field


@pytest.mark.parametrize(
    ("change", "complaint"),
    [(('message = "trade"', 'message = "tick"'), "message = 'tick': must be one of trade"),
     (('price = "px"', 'cost = "px"'), "fields.cost: trade has no such field"),
     (('price = "px"\n', ""), "fields.price is missing: a trade needs it"),
     (('"UNIT"', '"h"'), "unit = 'h': must be one of s, ms")],
)  # fmt: skip
def test_a_wrong_mapping_names_the_trouble(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    file = tmp_path / "feed.toml"
    file.write_text(MAPPING.replace(*change).replace("UNIT", "ms"))
    with pytest.raises(MappingError, match=complaint):
        KafkaFeed(file)
