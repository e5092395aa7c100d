"""jobs/outcomes.py on a real broker and mini cluster: a replay of real bars, and a live run with event-time timers."""

import os
import subprocess
import sys
import time

import pytest
import redis

from cli.local.servers import PythonProcess
from connectors.kafka.partitioner import kafka_producer
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.events import Split
from models.messages import Bar, Outcome, Signal, decode, encode
from models.outcomes.tracker import Tracker
from tests.support import real_outcomes as real

pytestmark = pytest.mark.integration


MINUTE = 60_000


def publish(broker, topic, messages):
    from confluent_kafka import Producer

    producer = Producer(kafka_producer(broker.bootstrap) | {"enable.idempotence": True})
    for message in messages:
        at = getattr(message, "end_ms", None) or getattr(message, "created_ms", None) or message.timestamp_ms
        producer.produce(topic, encode(message), message.symbol, timestamp=at)
        producer.poll(0)
    assert producer.flush(30) == 0


def outcomes_of(broker, topic):
    return [decode(value, Outcome) for _, _, value in read_to_end(broker.bootstrap, topic)]


def identity(one):
    return one.signal_id, one.revision, one.updated_ms, one.status


def test_a_replay_equals_the_pure_tracker_in_kafka_and_redis(kafka, redis_url, tmp_path):
    table, _ = real.real_bars()
    table = table[table["symbol"].isin(["AAPL", "MSFT"])]
    splits, signals = real.splits_of(table), real.make_signals(table)
    fields = ["symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume"]
    bars = [Bar(**dict(zip(fields, row, strict=True))) for row in table[fields].itertuples(index=False)]
    tracker = Tracker(cost_bps=10.0)
    expected = tracker.take(signals, bars, splits)
    expected += tracker.expire(tracker.newest_ms)

    topics = {kind: f"tracked-{kind}" for kind in ("bars", "signals", "status")}
    kafka.create_topic(*topics.values(), "tracked-signal-outcomes", "tracked-dead-letter", partitions=3)
    publish(kafka, topics["bars"], bars)
    publish(kafka, topics["signals"], [*signals, *signals[:50]])  # some delivered twice
    publish(
        kafka,
        topics["status"],
        [Split(symbol=symbol, timestamp_ms=at, ratio=r, effective_ms=at) for symbol, at, r in splits],
    )
    subprocess.run(
        [
            sys.executable, "-m", "jobs.outcomes", "--kafka", kafka.bootstrap, "--redis", redis_url, "--replay",
            "--cost-bps", "10", "--bars-topic", topics["bars"], "--signals-topic", topics["signals"],
            "--status-topic", topics["status"], "--out-prefix", "tracked-", "--frame-offsets", "500",
            "--checkpoints", str(tmp_path),
        ],
        cwd=ROOT, check=True, timeout=180, env=os.environ | {"FLINK_LOG_DIR": str(tmp_path)},
    )  # fmt: skip

    got = outcomes_of(kafka, "tracked-signal-outcomes")
    # bars and signals come frame by frame in an order of their own: updates may differ where a split came late, the
    # last word on each signal may not
    last = {one.signal_id: one for one in sorted(got, key=lambda one: (one.revision, one.updated_ms))}
    wanted = {one.signal_id: one for one in expected}
    assert {name: (one.status, one.exit_price, one.pnl_percent, one.updated_ms) for name, one in last.items()} == {
        name: (one.status, one.exit_price, one.pnl_percent, one.updated_ms) for name, one in wanted.items()
    }
    assert len(last) > 2_000
    client = redis.Redis.from_url(redis_url)
    held = {
        key: decode(value, Outcome) for s in ("AAPL", "MSFT") for key, value in client.hgetall(f"outcomes:{s}").items()
    }
    assert {one.signal_id: one.status for one in held.values()} == {name: one.status for name, one in last.items()}
    assert list(read_to_end(kafka.bootstrap, "tracked-dead-letter")) == []


def bar(symbol, start, price=100.0, **changes):
    given = {"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": 1.0}
    return Bar(symbol=symbol, timeframe="1m", start_ms=start, end_ms=start + MINUTE, **{**given, **changes})


def signal(symbol, created, life):
    return Signal(
        signal_id=f"{symbol}-{created}-0", symbol=symbol, timeframe="1m", action="buy", confidence=0.7,
        entry_price=100.0, target_price=110.0, stop_loss=95.0, time_horizon="1d", created_ms=created, emitted_ms=0,
        expires_ms=created + life, reasoning="",
    )  # fmt: skip


def wait_for(broker, topic, condition, timeout_s):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        got = outcomes_of(broker, topic)
        if condition(got):
            return got
        time.sleep(0.5)
    raise AssertionError(f"not within {timeout_s} s: {outcomes_of(broker, topic)}")


def test_a_live_run_ends_a_signal_without_bars_by_event_time(kafka, redis_url, tmp_path):
    names = ["live-bars", "live-signals", "live-status"]
    kafka.create_topic(*names, "live-signal-outcomes", "live-dead-letter", partitions=2)
    base = int(time.time() * 1000) // MINUTE * MINUTE - 60 * MINUTE
    halted, hit = signal("HALT", base + MINUTE, 5 * MINUTE), signal("HIT", base + MINUTE, 30 * MINUTE)
    arguments = [
        "-m", "jobs.outcomes", "--kafka", kafka.bootstrap, "--redis", redis_url, "--bars-topic", names[0],
        "--signals-topic", names[1], "--status-topic", names[2], "--out-prefix", "live-", "--lateness-ms", "1000",
        "--checkpoints", str(tmp_path / "checkpoints"),
    ]  # fmt: skip
    with PythonProcess("outcomes", arguments, tmp_path / "job"):
        publish(kafka, names[1], [halted, hit])
        publish(kafka, names[0], [bar("HALT", base), bar("HALT", base + MINUTE, 101.0), bar("HIT", base + MINUTE)])
        wait_for(kafka, "live-signal-outcomes", lambda got: len({one.symbol for one in got}) == 2, 90)
        # HALT trades no more; others go on, past its expiry and a bar
        others = [bar(symbol, base + i * MINUTE) for i in range(2, 12) for symbol in ("HIT", "A", "B", "C", "D")]
        publish(kafka, names[0], others)
        got = wait_for(kafka, "live-signal-outcomes", lambda got: any(one.status == "expired" for one in got), 60)
        ended = next(one for one in got if one.status == "expired")
        assert (ended.signal_id, ended.exit_price, ended.updated_ms) == (halted.signal_id, 101.0, halted.expires_ms)
        # one update a minute of event time for the signal that goes on
        updates = [one.updated_ms for one in got if one.symbol == "HIT"]
        assert updates == [base + i * MINUTE for i in range(2, 13)]
        # Redis follows: the newest word is kept, and each went through the stream that the relay reads
        client = redis.Redis.from_url(redis_url)
        assert (
            decode(client.hget("outcomes:HIT", hit.signal_id), Outcome)
            == [one for one in got if one.symbol == "HIT"][-1]
        )
        streamed = [decode(entry[b"data"], Outcome) for _, entry in client.xrange("signals:stream")]
        assert {one.updated_ms for one in streamed if one.symbol == "HIT"} <= set(updates)
        assert max(one.updated_ms for one in streamed) == updates[-1]
        publish(kafka, names[0], [bar("HIT", base + 12 * MINUTE, high=111.0)])
        got = wait_for(
            kafka, "live-signal-outcomes", lambda got: got and any(o.status == "hit_target" for o in got), 30
        )
    assert decode(client.hget("outcomes:HIT", hit.signal_id), Outcome).status == "hit_target"
