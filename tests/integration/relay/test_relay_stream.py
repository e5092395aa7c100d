"""The relay end to end: real Redis, real process, real WebSockets."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import msgspec
import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from connectors.redis import keys as redis_keys
from relay.follow import Follower
from relay.hub import Hub
from relay.settings import RelaySettings
from relay.state import State

pytestmark = pytest.mark.integration


def test_each_tier_gets_its_message_for_the_same_signal(relay, make_signal):
    tokens = {tier: relay.token(tier, tier) for tier in ("free", "premium", "dynamic")}
    with (
        relay.client(tokens["free"]) as free,
        relay.client(tokens["premium"]) as premium,
        relay.client(tokens["dynamic"]) as dynamic,
    ):
        for client in (free, premium, dynamic):
            client.until("system")
        relay.publish(make_signal("s1"))
        assert free.until("signal_summary")["data"]["signal_count_today"] == 1
        assert premium.until("trading_signal")["data"]["signal_id"] == "s1"
        assert dynamic.until("dynamic_signal")["data"]["model_votes"]["xgboost_swing"] == ["buy", 0.8]


def test_a_client_that_was_away_gets_everything_once(relay, make_signal):
    token = relay.token("ann")
    with relay.client(token) as client:
        client.until("system")
        relay.publish(make_signal("s1"))
        last = client.until("dynamic_signal")["number"]
    for n in range(2, 200):
        relay.publish(make_signal(f"s{n}"))
    with relay.client(token, after=last) as client:
        assert client.until("welcome")["resumed"] is True
        relay.publish(make_signal("s200"))
        ids = [client.until("dynamic_signal")["data"]["signal_id"] for _ in range(199)]
        assert ids == [f"s{n}" for n in range(2, 201)]
        assert [m for m in client.drain() if m["type"] in ("dynamic_signal", "snapshot")] == []


def test_numbers_survive_a_restart_of_the_relay(relay, make_signal):
    token = relay.token("ann")
    with relay.client(token) as client:
        client.until("system")
        relay.publish(make_signal("s1"))
        last = client.until("dynamic_signal")["number"]
    relay.stop()
    relay.publish(make_signal("s2"))
    relay.settings["PORT"] = relay.port
    relay.start()
    with relay.client(token, after=last) as client:
        assert client.until("dynamic_signal")["data"]["signal_id"] == "s2"


def test_a_number_of_another_stream_gets_a_snapshot(relay, make_signal):
    relay.publish(make_signal("s1"))
    with relay.client(relay.token("ann"), after="99999999999999-0") as client:
        assert client.until("welcome")["resumed"] is False
        snapshot = client.until("snapshot")
        assert snapshot["reset"] is True
        assert [s["data"]["signal_id"] for s in snapshot["signals"]] == ["s1"]


def test_a_number_older_than_the_log_gets_a_snapshot(start_relay, make_signal):
    relay = start_relay(LOG_EVENTS_MAX="5")
    token = relay.token("ann")
    with relay.client(token) as client:
        numbers = [client.until("snapshot")["number"]]
        for n in range(8):
            relay.publish(make_signal(f"s{n}"))
            numbers.append(client.until("dynamic_signal")["number"])
    for after, resumed in ((numbers[2], False), (numbers[3], True), (numbers[8], True)):
        with relay.client(token, after=after) as client:
            assert client.until("welcome")["resumed"] is resumed
            messages = [m["type"] for m in client.drain() if m["type"] != "system"]
            assert messages == (["dynamic_signal"] * (8 - numbers.index(after)) if resumed else ["snapshot"])
    relay.redis.xtrim("signals:stream", maxlen=2, approximate=False)
    relay.settings["LOG_EVENTS_MAX"] = "4096"
    relay.restart()
    for after, resumed in ((numbers[5], False), (numbers[7], True)):
        with relay.client(token, after=after) as client:
            assert client.until("welcome")["resumed"] is resumed


def test_only_what_is_subscribed_comes(relay, make_signal):
    with relay.client(relay.token("ann"), symbols=["msft"]) as client:
        client.until("system")
        relay.publish(make_signal("a", "AAPL"))
        relay.publish(make_signal("m", "MSFT"))
        assert client.until("dynamic_signal")["symbol"] == "MSFT"
        client.send(type="subscribe", symbols=["AAPL"])
        snapshot = client.until("snapshot")
        assert [s["data"]["signal_id"] for s in snapshot["signals"]] == ["a"]
        client.send(type="unsubscribe", symbols=["AAPL", "MSFT"])
        client.send(type="subscribe", signals=["x"])
        client.until("snapshot")
        relay.publish(make_signal("m2", "MSFT"))
        relay.publish(make_signal("x", "IBM"))
        assert [m["symbol"] for m in client.drain() if m["type"] == "dynamic_signal"] == ["IBM"]


def test_following_everything_ends_when_asked(relay, make_signal):
    with relay.client(relay.token("ann"), all=True) as client:
        client.until("system")
        client.send(type="unsubscribe", all=True)
        client.send(type="ping")
        client.until("pong")
        relay.publish(make_signal("a", "AAPL"))
        assert [m for m in client.drain() if m["type"] == "dynamic_signal"] == []
        client.send(type="subscribe", all=True)
        assert [s["data"]["signal_id"] for s in client.until("snapshot")["signals"]] == ["a"]
        relay.publish(make_signal("m", "MSFT"))
        assert client.until("dynamic_signal")["symbol"] == "MSFT"


def test_updates_and_the_end_of_a_signal(relay, make_signal, make_outcome):
    signal = make_signal("s1")
    relay.publish(signal)
    tokens = {tier: relay.token(tier, tier) for tier in ("free", "premium", "dynamic")}
    with (
        relay.client(tokens["free"]) as free,
        relay.client(tokens["premium"]) as premium,
        relay.client(tokens["dynamic"]) as dynamic,
    ):
        for client in (free, premium, dynamic):
            client.until("system")
        relay.publish_outcome(make_outcome(signal, "active", 1.5))
        assert dynamic.until("signal_update")["updates"]["pnl_percent"] == 1.5
        relay.publish_outcome(make_outcome(signal, "hit_target", 10.0, exit_price=110.0))
        assert dynamic.until("signal_update")["updates"]["status"] == "hit_target"
        withdrawn = premium.until("signal_withdrawn")
        assert (withdrawn["signal_id"], withdrawn["reason"]) == ("s1", "closed")
        history = free.until("signal_summary")["data"]["historical_performance"]
        assert (history["signals"], history["hit_rate"]) == (1, 1.0)
        assert {m["type"] for m in premium.received} <= {"welcome", "snapshot", "system", "signal_withdrawn"}


def test_an_expired_signal_is_withdrawn_with_a_number(relay, make_signal):
    token = relay.token("ann", "premium")
    now_ms = int(time.time() * 1_000)
    with relay.client(token) as client:
        client.until("system")
        relay.publish(make_signal("s1", expires_ms=now_ms + 1_500))
        last = client.until("trading_signal")["number"]
        withdrawn = client.until("signal_withdrawn")
        assert withdrawn["reason"] == "expired"
        assert tuple(map(int, withdrawn["number"].split("-"))) > tuple(map(int, last.split("-")))
    with relay.client(token, after=last) as client:
        assert client.until("signal_withdrawn")["number"] == withdrawn["number"]
    assert relay.redis.zcard("signals:active") == 0


def test_each_risk_profile_sees_a_signal_until_its_own_end(relay, make_signal):
    now_ms = int(time.time() * 1_000)
    signal = make_signal("s1", expires_ms=now_ms + 60_000)
    early = msgspec.structs.replace(signal.risk_profiles["moderate"], time_horizon="1d", expires_ms=now_ms + 2_000)
    signal = msgspec.structs.replace(signal, risk_profiles=signal.risk_profiles | {"aggressive": early})
    tokens = {name: relay.token(name) for name in ("moderate", "aggressive")}
    for name in tokens:
        relay.store.set_risk_profile(name, name)
    with relay.client(tokens["moderate"]) as moderate, relay.client(tokens["aggressive"]) as aggressive:
        moderate.until("system")
        aggressive.until("system")
        relay.publish(signal)
        assert moderate.until("dynamic_signal")["expires_ms"] == now_ms + 60_000
        seen = aggressive.until("dynamic_signal")
        assert (seen["expires_ms"], seen["data"]["time_horizon"]) == (now_ms + 2_000, "1d")
        assert aggressive.until("signal_withdrawn")["reason"] == "expired"
        assert "signal_withdrawn" not in {m["type"] for m in moderate.drain()}
    relay.restart()
    for name, held in (("moderate", 1), ("aggressive", 0)):
        with relay.client(tokens[name]) as client:
            assert len(client.until("snapshot")["signals"]) == held
    with relay.client(tokens["aggressive"], after=seen["number"]) as client:
        assert client.until("signal_withdrawn")["signal_id"] == "s1"
    relay.redis.delete("signals:stream")  # the expiry is not written again, and still known
    relay.restart()
    time.sleep(1.5)
    with relay.client(tokens["aggressive"]) as client:
        assert client.until("snapshot")["signals"] == []
    assert relay.redis.xlen("signals:stream") == 0
    assert relay.redis.zcard("signals:active") == 1


def test_a_replay_of_old_days_expires_by_its_own_clock(relay, make_signal):
    day = 86_400_000
    with relay.client(relay.token("ann")) as client:
        client.until("system")
        relay.publish(make_signal("old", created_ms=10_000 * day, expires_ms=10_003 * day))
        client.until("dynamic_signal")
        time.sleep(1.5)
        assert not [m for m in client.drain() if m["type"] == "signal_withdrawn"]
        relay.publish(make_signal("later", created_ms=10_004 * day, expires_ms=10_007 * day))
        assert client.until("signal_withdrawn")["signal_id"] == "old"
    with relay.client(relay.token("ann")) as client:
        assert client.until("welcome")["mode"] == "replay"


def test_a_changed_tier_and_a_shut_out_user_take_effect_on_open_connections(relay, make_signal):
    relay.publish(make_signal("s1"))
    with relay.client(relay.token("ann", "free")) as client:
        assert client.until("snapshot")["signals"][0]["type"] == "signal_summary"
        relay.store.set_tier("ann", "premium")
        assert client.until("snapshot", timeout=10)["signals"][0]["type"] == "trading_signal"
        relay.store.set_active("ann", False)
        with pytest.raises(ConnectionClosed) as closed:
            client.until("nothing", timeout=10)
        assert closed.value.rcvd.code == 4403


def test_the_page_and_its_files_are_served(relay):
    with urllib.request.urlopen(relay.url + "/") as answer:
        assert b"Not financial advice" in answer.read()
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    for path in ("/static/js/main.js", "/static/vendor/lightweight-charts.mjs", "/static/app.css", "/sw.js"):
        with urllib.request.urlopen(relay.url + path) as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith(("text/javascript", "text/css"))


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/api/me", "/api/start", "/static/js/main.js", "/nothing", "/charts/x.png"]
)
def test_every_answer_carries_the_security_headers(relay, path):
    try:
        with urllib.request.urlopen(relay.url + path) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as refused:
        headers = refused.headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert (headers["referrer-policy"], headers["cross-origin-opener-policy"]) == ("no-referrer", "same-origin")
    assert headers["server"] is None


def test_two_relays_say_the_same_and_write_an_expiry_once(relay, relay_class, make_signal, tmp_path_factory):
    other = relay_class(relay.redis_url, tmp_path_factory.mktemp("other"), USERS_DSN=relay.dsn).start()
    try:
        token = relay.token("ann")
        now_ms = int(time.time() * 1_000)
        with relay.client(token) as one, other.client(token) as two:
            one.until("system")
            two.until("system")
            relay.publish(make_signal("s1", expires_ms=now_ms + 1_000))
            for kind in ("dynamic_signal", "signal_withdrawn"):
                assert one.until(kind) == two.until(kind)
        time.sleep(1.5)
        kinds = [fields[b"kind"] for _, fields in relay.redis.xrange("signals:stream")]
        assert kinds == [b"signal", b"expired"]
    finally:
        other.stop()


def test_updates_of_one_signal_are_conflated_for_a_slow_client(start_relay, make_signal, make_outcome):
    relay = start_relay(QUEUE_MESSAGES_MAX="20", STALLED_S_MAX="60")
    token, signal = relay.token("ann"), make_signal("s1")
    slow = socket.create_connection(("127.0.0.1", int(relay.port)))
    hello = json.dumps({"type": "hello", "token": token, "all": True}).encode()
    slow.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert slow.recv(4_096).startswith(b"HTTP/1.1 101")
    slow.sendall(b"\x81" + bytes((0x80 | len(hello),)) + b"\0\0\0\0" + hello)
    with slow, relay.client(token) as quick:
        quick.until("system")
        relay.publish(signal)
        count = 700
        for n in range(count):  # nobody reads from `slow`: its socket fills, then its queue holds one update only
            relay.publish_outcome(make_outcome(signal, "active", float(n), exit_reason="x" * 2_000))
        quick.until("signal_update", timeout=20, timestamp_ms=signal.created_ms + 60_000)
        while quick.received[-1]["updates"]["pnl_percent"] < count - 1:
            quick.until("signal_update")
        slow.settimeout(10)
        read = b""
        while f'"pnl_percent":{count - 1}.0'.encode() not in read[-10_000:]:
            data = slow.recv(1 << 20)
            assert data, f"the slow client was closed after {len(read)} bytes: {read[-200:]}\n{relay.log_text()}"
            read += data
        assert 10 < read.count(b'"signal_update"') < count - 100


def test_it_listens_on_this_machine_only_unless_told(start_relay):
    relay = start_relay()
    assert relay.url.startswith("http://127.0.0.1:")
    assert "everyone who reaches this machine" not in relay.log_text()
    bound = {c.laddr.ip for c in psutil.Process(relay.process.pid).net_connections() if c.status == "LISTEN"}
    assert bound == {"127.0.0.1"}


def test_a_bind_beyond_this_machine_warns(start_relay):
    assert "everyone who reaches this machine" in start_relay(HOST="0.0.0.0").log_text()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("REDIS_URL", "redis://:PASSWORD@127.0.0.1:1/0", "127.0.0.1:1"),
        ("USERS_DSN", "mysql://x", "mysql"),
        ("JWT_SECRET", "short", "32 bytes"),
        ("DEMO_USER", "gold", "gold"),
    ],
)
def test_what_is_wrong_at_start_is_said(redis_url, tmp_path, name, value, words):
    settings = {"REDIS_URL": redis_url, "USERS_DSN": f"sqlite://{tmp_path}/u.db", name: value}
    ended = subprocess.run(
        [sys.executable, "-m", "relay"], capture_output=True, text=True, timeout=60,
        env=os.environ | {f"SIGNALS_RELAY_{key}": text for key, text in settings.items()},
    )  # fmt: skip
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "PASSWORD" not in ended.stderr


def test_clients_get_new_snapshots_where_the_stream_was_cut_before_the_relay_read_it(relay, make_signal):
    token = relay.token("ann")
    with relay.client(token) as client:
        client.until("system")
        relay.publish(make_signal("s1"))
        seen = client.until("dynamic_signal")["number"]
        os.kill(relay.process.pid, signal.SIGSTOP)
        for number in range(2, 8):
            relay.publish(make_signal(f"s{number}"))
        relay.redis.xtrim(redis_keys.SIGNALS_STREAM, maxlen=2, approximate=False)
        os.kill(relay.process.pid, signal.SIGCONT)
        snapshot = client.until("snapshot")
        assert snapshot["reset"]
        assert {one["data"]["signal_id"] for one in snapshot["signals"]} == {f"s{number}" for number in range(1, 8)}
    assert "clients get new snapshots" in relay.log_text()
    with relay.client(token, after=seen) as client:  # what is gone cannot be caught up with
        assert not client.until("welcome")["resumed"]


def test_a_signal_reaches_its_clients_though_its_bars_cannot_be_read(relay, make_signal):
    with relay.client(relay.token("ann")) as client:
        client.until("system")
        made = make_signal("s1")
        relay.redis.set(redis_keys.bars_key(made.symbol, made.timeframe), "no list: the read that follows fails")
        relay.publish(made)
        assert client.until("dynamic_signal")["data"]["signal_id"] == "s1"


def test_a_signal_that_comes_while_the_relay_starts_is_told_to_who_resumes(relay, make_signal):
    class Slow(Follower):
        """A signal comes between the end of the stream and the taking in of what is held beside it."""

        async def _adopt(self, *beside):
            relay.publish(make_signal("s2"))
            await super()._adopt(*beside)

    async def kinds():
        settings = RelaySettings(redis_url=relay.redis_url)
        follower = Slow(relay.redis_url, Hub(State(), settings, lambda signal_id, profile: ""))
        await follower.start()
        async with asyncio.timeout(10):
            while len(follower.hub.recent()) < 2:
                await asyncio.sleep(0.02)
        await follower.stop()
        return [(event.kind, event.signal_id) for event in follower.hub.recent()]

    relay.publish(make_signal("s1"))
    assert asyncio.run(kinds()) == [("signal", "s1"), ("signal", "s2")]
