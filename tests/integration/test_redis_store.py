"""The Redis writes against a real server: what is there after writing once, twice, out of order."""

import random
import threading
import time

import msgspec
import pytest
import redis

from cli.local.servers import RedisServer
from connectors.redis.bars import unpack
from connectors.redis.client import connect
from connectors.redis.writer import RedisStore
from models.messages import Bar, Outcome, Signal, decode

pytestmark = pytest.mark.integration

DAY = 86_400_000


def signal(name="a", revision=0, created_ms=DAY, life=DAY, **changes):
    given = {
        "signal_id": f"{name}-{revision}", "symbol": "AAPL", "timeframe": "1d", "action": "buy", "confidence": 0.7,
        "entry_price": 100.0, "target_price": 110.0, "stop_loss": 95.0, "time_horizon": "1d",
        "created_ms": created_ms, "emitted_ms": 1, "expires_ms": created_ms + life, "reasoning": "",
        "revision": revision,
    }  # fmt: skip
    return Signal(**{**given, **changes})


def outcome(of, status="active", updated_ms=None, revision=0, **changes):
    given = {
        "signal_id": of.signal_id, "symbol": of.symbol, "status": status, "entry_price": 100.0, "current_price": 101.0,
        "target_price": 110.0, "stop_loss": 95.0, "pnl_percent": 1.0, "created_ms": of.created_ms,
        "updated_ms": updated_ms or of.created_ms + 1, "revision": revision,
    }  # fmt: skip
    return Outcome(**{**given, **changes})


def contents(client):
    """Everything in the server but times of life and stream ids."""
    held = {}
    for key in sorted(client.keys()):
        kind = client.type(key)
        if kind == b"string":
            held[key] = client.get(key)
        elif kind == b"hash":
            held[key] = client.hgetall(key)
        elif kind == b"zset":
            held[key] = client.zrange(key, 0, -1, withscores=True)
        elif kind == b"stream":
            held[key] = [fields for _, fields in client.xrange(key)]
        elif kind == b"list":
            held[key] = client.lrange(key, 0, -1)
    return held


@pytest.fixture
def store(redis_url):
    made = RedisStore(redis.Redis.from_url(redis_url))
    yield made
    made.close()


def test_a_signal_is_kept_until_its_expiry_counted_in_event_time(store):
    one = signal(created_ms=1_000_000_000_000, life=3 * DAY)  # 2001: the wall clock is far past its expiry
    assert store.write_frame(signals=[one]) == (1, 0)
    client = store.client
    assert decode(client.get("signal:a-0"), Signal) == one
    assert 3 * DAY - 60_000 < client.pttl("signal:a-0") <= 3 * DAY
    assert client.zrange("signals:active", 0, -1, withscores=True) == [(b"a-0", one.expires_ms)]
    assert [f[b"kind"] for _, f in client.xrange("signals:stream")] == [b"signal"]


def test_writing_everything_again_changes_nothing(store):
    first, revised = signal(), signal(revision=1, action="sell")
    other, cancel = signal("b", symbol="MSFT"), signal("b", 1, symbol="MSFT", action="hold", cancels="b-0")
    steps = [
        {"signals": [first, other]},
        {"outcomes": [outcome(first)]},
        {"signals": [revised, cancel]},
        {"outcomes": [outcome(revised, "hit_target", DAY + 5)]},
    ]
    for step in steps:
        store.write_frame(**step)
    before = contents(store.client)
    assert before[b"signals:stream"][-1][b"kind"] == b"outcome"
    assert [f[b"kind"] for f in before[b"signals:stream"]] == [
        b"signal", b"signal", b"outcome", b"signal", b"cancel", b"outcome",
    ]  # fmt: skip
    assert b"signals:active" not in before
    for step in steps:
        assert store.write_frame(**step) == (0, 0)
    assert contents(store.client) == before


def test_a_restart_in_any_place_leaves_the_same(store):
    rng = random.Random(5)
    frames = []
    for i in range(40):
        made = [signal(f"s{i}-{k}", created_ms=(i + 1) * 60_000, symbol=rng.choice("XYZ")) for k in range(3)]
        frames.append({"signals": made, "outcomes": [outcome(one, updated_ms=one.created_ms + 5) for one in made]})
    for frame in frames:
        store.write_frame(**frame)
    whole = contents(store.client)
    store.client.flushall()
    for begin, end in ((0, 17), (11, 30), (3, 8), (22, 40)):
        fresh = RedisStore(store.client)  # a restarted job: no memory of its own
        for frame in frames[begin:end]:
            fresh.write_frame(**frame)
    assert contents(store.client) == whole


def test_an_old_outcome_does_not_replace_a_newer_one(store):
    one = signal()
    store.write_frame(signals=[one], outcomes=[outcome(one, "hit_stop", DAY + 9)])
    assert store.write_frame(outcomes=[outcome(one, "active", DAY + 3)]) == (0, 0)
    # a corrected verdict (a bar came late) may be earlier, and wins by its revision
    corrected = outcome(one, "hit_target", DAY + 3, revision=1)
    assert store.write_frame(outcomes=[corrected]) == (0, 1)
    assert decode(store.client.hget("outcomes:AAPL", "a-0"), Outcome) == corrected


def test_an_outcome_before_its_signal_keeps_it_out_of_the_active_set(store):
    one = signal()
    store.write_frame(outcomes=[outcome(one, "hit_stop", DAY + 9)])
    assert store.write_frame(signals=[one]) == (1, 0)
    assert store.client.zcard("signals:active") == 0


def test_the_active_set_is_cut_by_event_time(store):
    store.write_frame(signals=[signal("a", created_ms=DAY), signal("b", created_ms=DAY, life=10 * DAY)])
    store.write_frame(signals=[signal("c", created_ms=5 * DAY)])
    assert store.client.zrange("signals:active", 0, -1) == [b"c-0", b"b-0"]


def test_finished_outcomes_are_bounded(redis_url):
    store = RedisStore(redis.Redis.from_url(redis_url), outcomes_max=10)
    many = [signal(f"s{i}", created_ms=DAY + i) for i in range(25)]
    store.write_frame(outcomes=[outcome(one, "expired", DAY + 100 + i) for i, one in enumerate(many)])
    assert sorted(store.client.hkeys("outcomes:AAPL")) == sorted(f"s{i}-0".encode() for i in range(15, 25))


def test_features_prices_and_bars_of_a_frame(store):
    bar = Bar(symbol="A", timeframe="1m", start_ms=0, end_ms=60_000, open=1.5, high=2.5, low=1.5, close=2.5, volume=3.5)
    store.write_frame(
        features=[("A", "1m", {"rsi_14": 41.5, "macd": -0.25})],
        prices=[("A", 2.0, 60_000)],
        bars={("A", "1m"): [bar]},
    )
    store.write_frame(features=[("A", "1m", {"rsi_14": 42.0})])
    client: redis.Redis = store.client
    assert client.hgetall("features:A:1m") == {b"rsi_14": b"42.0"}
    assert 3_500 < client.ttl("features:A:1m") <= 3_600
    assert msgspec.json.decode(client.get("price:A")) == {"price": 2.0, "timestamp_ms": 60_000}
    assert client.lrange("bars:A:1m", 0, -1) == [b"[0,1.5,2.5,1.5,2.5,3.5,0]"]
    assert store.write_frame() == (0, 0)


def test_a_write_waits_for_a_server_that_is_away_and_is_written_once(tmp_path):
    with RedisServer(tmp_path, keep=True) as server:
        store = RedisStore(connect(server.url))
        store.write_frame(signals=[signal("before")])
        server.kill()
        written = []
        frame = {"signals": [signal("after")], "prices": [("AAPL", 100.0, DAY)]}
        writing = threading.Thread(target=lambda: written.append(store.write_frame(**frame)))
        writing.start()
        time.sleep(1.5)
        assert not written
        server.start()
        writing.join(10)
        assert written == [(1, 0)]
        streamed = [fields[b"id"] for _, fields in store.client.xrange("signals:stream")]
        assert streamed == [b"before-0", b"after-0"]
        server.kill()
        impatient = RedisStore(connect(server.url), patience_s=0.5)
        with pytest.raises(redis.ConnectionError):
            impatient.write_frame(signals=[signal("lost")])


def test_bars_that_are_written_again_after_a_restart_drive_no_older_ones_out(redis_url):
    client = redis.Redis.from_url(redis_url)
    bars = [
        Bar(symbol="A", timeframe="1m", start_ms=i * 60_000, end_ms=(i + 1) * 60_000, open=1.0, high=2.0, low=1.0,
            close=1.0 + i / 1000, volume=1.0)
        for i in range(500)
    ]  # fmt: skip
    RedisStore(client).write_frame(bars={("A", "1m"): bars[:450]})
    for first in range(50, 450, 50):  # each restart works a little more again
        store = RedisStore(client)
        store.write_frame(bars={("A", "1m"): bars[first : first + 50]})
        store.write_frame(bars={("A", "1m"): bars[first + 50 : 450]})
    corrected = msgspec.structs.replace(bars[449], revision=1, close=2.0)
    RedisStore(client).write_frame(bars={("A", "1m"): [bars[448], bars[449], corrected, *bars[450:]]})
    held = unpack(client.lrange("bars:A:1m", 0, -1))
    assert [bar[0] for bar in held] == [bar.start_ms for bar in bars[100:]]
    assert held[449 - 100][4:] == (2.0, 1.0, 1)
    assert client.llen("bars:A:1m") == 501
