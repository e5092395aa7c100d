"""The attack suite: each attack is made for real, and none may succeed."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
import zlib

import jwt
import psutil
import pytest
import redis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from relay.users import open_store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def relay(redis_server, tmp_path_factory, relay_class):
    """One relay for all attacks: it must live through every one of them."""
    redis.Redis.from_url(redis_server.url).flushall()
    generous = {"CONNECTS_PER_S": "500", "CONNECTS_BURST": "500", "REQUESTS_PER_S": "500", "REQUESTS_BURST": "500"}
    held = relay_class(redis_server.url, tmp_path_factory.mktemp("relay"), **generous).start()
    yield held
    held.stop()


def closed_with(client, timeout=5.0):
    """The code the relay closes with."""
    with pytest.raises(ConnectionClosed) as closed:
        client.until("never", timeout=timeout)
    return closed.value.rcvd.code if closed.value.rcvd else None


def alive(relay):
    with relay.client(relay.token("witness")) as client:
        return client.until("welcome")["user"] == "witness"


def ask(relay, path, token="", method="GET", body=None, **headers):
    """Status and body of a request."""
    request = urllib.request.Request(relay.url + path, method=method, data=body)
    for name, value in ({"Authorization": f"Bearer {token}"} if token else {}).items():
        request.add_header(name, value)
    for name, value in headers.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def none_algorithm(name):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"sub": name, "exp": int(time.time()) + 600, "iss": "signals", "aud": "signals-relay"}
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


# Signing in


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 1}, {"exp": None}, {"aud": "another-service"}, {"aud": None}, {"iss": "evil"},
        {"iss": None}, {"sub": None}, {"sub": "nobody"}, {"sub": "' OR 1=1 --"}, {"nbf": int(time.time()) + 600},
    ],
    ids=str,
)  # fmt: skip
def test_a_jwt_that_is_not_in_order(relay, claims):
    relay.token("ann")
    with relay.client(relay.jwt("ann", **claims)) as client:
        assert closed_with(client) == 4401
    assert ask(relay, "/api/me", relay.jwt("ann", **claims))[0] == 401
    assert ask(relay, "/api/me", relay.jwt("ann"))[0] == 200


def test_a_jwt_without_or_with_a_foreign_signature(relay):
    relay.token("ann")
    good = relay.jwt("ann")
    body = jwt.decode(good, options={"verify_signature": False})
    foreign = jwt.encode(body, "another-secret-of-more-than-32-bytes!", algorithm="HS256")
    other = jwt.encode(body, "test-secret-of-at-least-thirty-two-bytes", algorithm="HS512")
    for token in (
        none_algorithm("ann"),
        foreign,
        other,
        good[:-4] + "AAAA",
        good.rsplit(".", 1)[0] + ".",
        "",
        "sp_guess",
    ):
        with relay.client(token) as client:
            assert closed_with(client) == 4401


def test_a_public_key_does_not_verify_an_hmac_made_with_it(start_relay):
    key = rsa.generate_private_key(65_537, 2_048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    relay = start_relay(JWT_PUBLIC_KEY=public.decode())
    relay.token("ann")
    claims = {"sub": "ann", "exp": int(time.time()) + 600, "iss": "signals", "aud": "signals-relay"}

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    forged = (text + b"." + part(hmac.new(public, text, hashlib.sha256).digest())).decode()
    with relay.client(forged) as client:
        assert closed_with(client) == 4401
    with relay.client(jwt.encode(claims, key, algorithm="RS256")) as client:
        assert client.until("welcome")["user"] == "ann"


def test_an_open_connection_ends_with_its_token(relay):
    relay.token("ann")
    with relay.client(relay.jwt("ann", exp=int(time.time()) + 2)) as client:
        client.until("system")
        assert closed_with(client) == 4401
    with relay.client(relay.jwt("ann", exp=int(time.time()) + 2)) as client:
        client.until("system")
        client.send(type="auth", token=relay.jwt("ann"))
        time.sleep(3)
        client.send(type="ping")
        assert client.until("pong")


def test_a_token_in_the_url_signs_nobody_in(relay):
    token = relay.token("ann")
    with connect(f"ws://127.0.0.1:{relay.port}/ws?token={token}", compression=None) as client:
        client.send('{"type": "hello"}')
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(5)
        assert closed.value.rcvd.code == 4401
    assert ask(relay, f"/api/me?token={token}")[0] == 401


# Tiers and other people's data


def test_the_tier_is_never_the_clients_choice(relay, make_signal):
    relay.publish(make_signal("s1"))
    token = relay.token("fay", "free")
    with relay.client(token, tier="dynamic") as client:
        assert closed_with(client) == 4400
    with relay.client(relay.jwt("fay", tier="dynamic", scope="dynamic"), all=True) as client:
        assert client.until("welcome")["tier"] == "free"
        assert {s["type"] for s in client.until("snapshot")["signals"]} == {"signal_summary"}
        client.send(type="subscribe", signals=["s1"], symbols=["AAPL"])
        assert {s["type"] for s in client.until("snapshot")["signals"]} == {"signal_summary"}
    assert ask(relay, "/api/me", token, "PUT", b'{"tier": "dynamic"}')[0] == 400
    assert json.loads(ask(relay, "/api/me", token)[1])["tier"] == "free"


def test_a_free_user_resuming_gets_no_more_than_live(relay, make_signal):
    with relay.client(relay.token("paid")) as client:
        start = client.until("snapshot")["number"]
    relay.publish(make_signal("resumed-1"))
    with relay.client(relay.token("bea", "free"), after=start, all=True) as client:
        client.drain(0.6)
        assert {m["type"] for m in client.received} == {"welcome", "signal_summary", "system"}
        assert "resumed-1" not in json.dumps(client.received)


def test_a_chart_needs_its_own_signature(relay, make_signal):
    relay.publish(make_signal("s1"))
    relay.publish(make_signal("s2"))
    with relay.client(relay.token("pam", "premium")) as client:
        urls = {s["data"]["signal_id"]: s["data"]["image_url"] for s in client.until("snapshot")["signals"]}
    assert ask(relay, urls["s1"])[0] == 200
    later = urls["s1"].replace("expires=", "expires=9")
    for changed in (
        urls["s1"].replace("/s1.", "/s2."), urls["s1"].replace("moderate", "aggressive"), later, "/charts/s1.png",
        urls["s1"][:-1] + ("0" if urls["s1"][-1] != "0" else "1"), urls["s1"].split("&signature")[0],
        urls["s1"].replace("/charts/s1.png", "/charts/..%2f..%2fetc%2fpasswd.png"),
    ):  # fmt: skip
        assert ask(relay, changed)[0] in (403, 404), changed


def test_another_users_targets_and_letters_are_out_of_reach(start_relay):
    relay = start_relay(PUSH_PRIVATE_ADDRESSES="true")
    ann, bob = relay.token("ann"), relay.token("bob")
    body = b'{"channel": "webhook", "url": "http://127.0.0.1:1/hook"}'
    made = json.loads(ask(relay, "/api/push/targets", ann, "POST", body)[1])
    assert ask(relay, f"/api/push/targets/{made['target_id']}", bob, "DELETE")[0] == 404
    relay.redis.xadd("push:dead-letter", {"user": "ann", "title": "private"})
    theirs = json.loads(ask(relay, "/api/push", bob)[1])
    assert (theirs["targets"], theirs["undelivered"]) == ([], [])
    own = ask(relay, "/api/push", ann)[1]
    assert len(json.loads(own)["targets"]) == 1
    assert made["secret"].encode() not in own
    with relay.client(ann) as client:
        client.until("system")
        client.send(type="auth", token=bob)
        assert client.until("error")["code"] == 4401


@pytest.mark.parametrize(
    "url",
    ["http://example.com/x", "https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x", "https://169.254.169.254/x",
     "https://10.0.0.1/", "https://user:pw@example.com/", "file:///etc/passwd", "https://2130706433/"],
)  # fmt: skip
def test_webhooks_do_not_reach_into_the_network(relay, url):
    token = relay.token("ann")
    body = json.dumps({"channel": "webhook", "url": url}).encode()
    status, told = ask(relay, "/api/push/targets", token, "POST", body)
    assert (status, b"url" in told) == (400, True)


# Origins and names


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", "file://"])
def test_a_foreign_page_cannot_connect(relay, origin):
    with connect(f"ws://127.0.0.1:{relay.port}/ws", origin=origin) as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(5)
    assert closed.value.rcvd.code == 4403


def test_a_name_that_was_pointed_here_gets_nothing(start_relay):
    relay = start_relay(DEMO_USER="dynamic")
    assert ask(relay, "/api/demo-token", method="POST")[0] == 200
    assert ask(relay, "/api/demo-token", method="POST", Host="evil.example")[0] == 421
    assert ask(relay, "/api/demo-token", method="POST", Origin="https://evil.example")[0] == 404
    assert ask(relay, "/", Host="evil.example:80")[0] == 421


def test_only_static_files_are_served(relay):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fsettings.py", "/static//etc/passwd"):
        assert ask(relay, path)[0] == 404


# Too much


def test_an_oversize_message(relay):
    with relay.client(relay.token("ann")) as client:
        client.until("system")
        client.socket.send("x" * 20_000)
        assert closed_with(client) == 1009
    with relay.client(relay.token("ann")) as client:
        client.until("system")
        with contextlib.suppress(ConnectionClosed):
            client.socket.send("x" * 4_000 for _ in range(10))
        assert closed_with(client) == 1009
    token = relay.token("ann")
    assert ask(relay, "/api/me", token, "PUT", b'{"watchlist": ["' + b"A" * 20_000 + b'"]}')[0] == 400
    assert alive(relay)


def test_a_flood_of_messages(relay):
    with relay.client(relay.token("ann")) as client:
        client.until("system")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(500):
                client.send(type="ping")
        assert closed_with(client) == 4429
    assert len([m for m in client.received if m["type"] == "pong"]) <= 60


def test_a_flood_of_nonsense(relay):
    with relay.client(relay.token("ann")) as client:
        client.until("system")
        for text in ("{", '{"type":"x"}', "[]", "null", '"a"'):
            client.socket.send(text)
        assert closed_with(client) == 4400


def test_a_flood_of_connections(start_relay):
    relay = start_relay(CLIENTS_PER_USER_MAX="3", CLIENTS_PER_ADDRESS_MAX="6", CONNECTS_PER_S="1", CONNECTS_BURST="14")
    ann, bob = relay.token("ann"), relay.token("bob")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(relay.client(ann)).until("system")
        assert closed_with(stack.enter_context(relay.client(ann))) == 4429
        time.sleep(0.2)
        for _ in range(3):
            stack.enter_context(relay.client(bob)).until("system")
        assert closed_with(stack.enter_context(relay.client(relay.token("eve")))) == 4429
    codes = []
    for _ in range(10):
        with relay.client(ann) as client:
            try:
                client.until("system", timeout=2)
                codes.append(0)
            except ConnectionClosed as closed:
                codes.append(closed.rcvd.code)
    assert codes.count(4429) >= 3


def test_a_connection_that_says_nothing(start_relay):
    relay = start_relay(HELLO_TIMEOUT_S="0.5")
    with connect(f"ws://127.0.0.1:{relay.port}/ws") as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(5)
    assert closed.value.rcvd.code == 4408


def test_a_flood_of_guesses_over_http(start_relay):
    relay = start_relay(REQUESTS_PER_S="1", REQUESTS_BURST="10")
    codes = [ask(relay, "/api/me", f"sp_guess{n}")[0] for n in range(30)]
    assert codes.count(429) >= 18
    assert set(codes) == {401, 429}


def test_a_user_is_limited_over_all_addresses(start_relay):
    relay = start_relay(REQUESTS_PER_S="1", REQUESTS_BURST="10")
    ann, bob = relay.token("ann"), relay.token("bob")

    def ask_from(address, token):
        connection = http.client.HTTPConnection("127.0.0.1", int(relay.port), source_address=(address, 0))
        try:
            connection.request("GET", "/api/me", headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        finally:
            connection.close()

    codes = [ask_from(f"127.0.0.{2 + n % 4}", ann) for n in range(24)]  # six from each: below the limit of an address
    assert codes[:10] == [200] * 10
    assert codes.count(429) >= 10
    assert ask_from("127.0.0.2", bob) == 200


def test_more_subscriptions_than_allowed(start_relay):
    relay = start_relay(SUBSCRIPTIONS_MAX="10")
    with relay.client(relay.token("ann"), symbols=["A"]) as client:
        client.until("system")
        client.send(type="subscribe", symbols=[f"S{n}" for n in range(11)])
        assert client.until("error")["code"] == 4400


def raw_socket(relay, extensions=b""):
    """A WebSocket by hand, before the hello."""
    client = socket.create_connection(("127.0.0.1", int(relay.port)))
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n" + extensions + b"\r\n"
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4_096)
    return client, head


def masked(first, payload):
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((first,)) + length + b"\0\0\0\0" + payload


def test_a_deflate_bomb_is_not_inflated(relay):
    resident = psutil.Process(relay.process.pid).memory_info().rss
    client, head = raw_socket(relay, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    with client:
        assert b"permessage-deflate" not in head.lower()
        squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = squeezer.compress(b"\0" * 50_000_000) + squeezer.flush(zlib.Z_SYNC_FLUSH)
        client.sendall(masked(0xC1, bomb[:60_000]))
        answer = client.recv(4_096)
        assert answer[:1] == b"\x88"
        assert int.from_bytes(answer[2:4], "big") in (1002, 1009)
    assert psutil.Process(relay.process.pid).memory_info().rss - resident < 20_000_000
    assert alive(relay)


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x81\x05hello", 1002), (masked(0x83, b""), 1002), (masked(0x89, b"x" * 126), 1002),
     (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009), (masked(0x80, b"x"), 1002),
     (masked(0x81, b"\xff\xfe"), 1007), (masked(0x83, b"") + os.urandom(400_000), 1002)],
    ids=["unmasked", "reserved", "long ping", "endless", "continuation", "not UTF-8", "followed by noise"],
)  # fmt: skip
def test_broken_frames(relay, frame, code):
    client, _ = raw_socket(relay)
    with client:
        client.settimeout(6)
        client.sendall(frame)
        answer = b""
        while data := client.recv(4_096):  # ends, and not by a reset
            answer += data
        assert answer[:1] == b"\x88"
        assert int.from_bytes(answer[2:4], "big") == code
    assert alive(relay)


def test_noise_instead_of_frames(relay):
    client, _ = raw_socket(relay)
    with client:
        client.settimeout(12)  # longer than the time allowed for a hello
        client.sendall(os.urandom(400))
        while client.recv(4_096):  # ends: the relay closes
            pass
    assert alive(relay)


def test_broken_requests(relay):
    for request in (b"GET /ws HTTP/1.1\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n", b"\x16\x03\x01" + os.urandom(200),
                    b"GET / HTTP/9.9\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", int(relay.port))) as client:
            client.settimeout(5)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
                client.sendall(request)
                while client.recv(4_096):
                    pass
    assert alive(relay)


def test_a_slow_reader_is_closed_and_costs_the_others_nothing(start_relay, make_signal):
    relay = start_relay(QUEUE_MESSAGES_MAX="50", STALLED_S_MAX="60")
    token = relay.token("ann")
    slow, _ = raw_socket(relay)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    slow.sendall(masked(0x81, json.dumps({"type": "hello", "token": token, "all": True}).encode()))
    time.sleep(0.5)
    with slow, relay.client(token) as quick:
        quick.until("system")
        worst = 0.0
        for n in range(160):
            sent = time.monotonic()
            relay.publish(make_signal(f"s{n}", reasoning="x" * 12_000))
            assert quick.until("dynamic_signal")["data"]["signal_id"] == f"s{n}"
            worst = max(worst, time.monotonic() - sent)
        dropped = json.loads(ask(relay, "/api/system", token)[1])["relay"]["dropped_slow"]
        assert dropped == 1
        assert worst < 2.0  # seconds, on a machine that may be busy with other tests
        slow.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while slow.recv(1 << 20):  # a TimeoutError here would mean: still open
                pass


def test_no_token_is_ever_logged(relay):
    token, signed = relay.token("ann"), relay.jwt("ann")
    for secret in (token, signed):
        with relay.client(secret) as client:
            client.until("system")
        ask(relay, "/api/me", secret)
        ask(relay, f"/api/me?token={secret}")
        ask(relay, f"/ws?token={secret}")
    with relay.client("sp_wrong-token-value") as client:
        assert closed_with(client) == 4401
    text = relay.log_text()
    for secret in (token, signed, "sp_wrong-token-value", "test-secret-of-at-least"):
        assert secret not in text


def test_user_names_and_symbols_are_only_ever_values(tmp_path):
    store = open_store(f"sqlite://{tmp_path}/u.db")
    store.add("ann")
    store.issue_token("ann")
    for hostile in ("x' OR '1'='1", "ann'; DROP TABLE users; --"):
        assert store.by_token(hostile) is None
        assert store.get(hostile) is None
        with pytest.raises(ValueError, match="name"):
            store.add(hostile)
    assert [user.name for user in store.all()] == ["ann"]
