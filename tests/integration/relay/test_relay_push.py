"""Notifications against local receivers that also fail, delay and reject."""

import base64
import hashlib
import hmac
import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

pytestmark = pytest.mark.integration


class Receiver(ThreadingHTTPServer):
    """Remembers requests and answers what it is told to, one answer a request, then 200."""

    def __init__(self):
        self.requests, self.answers, self.arrived = [], [], threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.arrived:
                    status, told, delay_s, headers = (receiver.answers or [(200, {"ok": True}, 0, {})]).pop(0)
                    receiver.requests.append((time.monotonic(), self.path, dict(self.headers), body))
                    receiver.arrived.notify_all()
                time.sleep(delay_s)
                answer = json.dumps(told).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, status, told=None, delay_s=0.0, **headers):
        self.answers.append((status, told or {}, delay_s, headers))

    def wait(self, count, timeout=10.0):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, timeout), (
                f"{len(self.requests)} requests came, {count} were expected"
            )
            return self.requests[count - 1]


@pytest.fixture
def receiver():
    held = Receiver()
    yield held
    held.shutdown()
    held.server_close()


@pytest.fixture
def relay(start_relay, receiver):
    return start_relay(
        PUSH_PRIVATE_ADDRESSES="true", PUSH_BACKOFF_S="0.1", PUSH_ATTEMPTS_MAX="3", TELEGRAM_HOST=receiver.url,
        TELEGRAM_TOKEN="123:BOT-SECRET",
    )  # fmt: skip


def api(relay, token, path, method="GET", body=None):
    request = urllib.request.Request(
        relay.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}"},
    )  # fmt: skip
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def webhook(relay, receiver, name="ann", tier="dynamic"):
    token = relay.token(name, tier)
    made = api(relay, token, "/api/push/targets", "POST", {"channel": "webhook", "url": receiver.url + "/hook"})
    return token, made["secret"]


def undelivered(relay, token, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not (letters := api(relay, token, "/api/push")["undelivered"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return letters


# Webhooks


def test_a_webhook_is_signed_and_carries_the_tiers_message(relay, receiver, make_signal):
    _, secret = webhook(relay, receiver, tier="premium")
    relay.publish(make_signal("s1"))
    _, path, headers, body = receiver.wait(1)
    assert path == "/hook"
    fields = dict(part.split("=") for part in headers["Signals-Signature"].split(","))
    expected = hmac.new(secret.encode(), fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert fields["v1"] == expected
    assert abs(time.time() - int(fields["t"])) < 30
    message = json.loads(body)
    assert (message["type"], message["data"]["signal_id"]) == ("trading_signal", "s1")
    assert "model_votes" not in message["data"]


def test_a_failing_webhook_is_tried_again_with_the_same_delivery_id(relay, receiver, make_signal):
    webhook(relay, receiver)
    receiver.answer(500)
    receiver.answer(503, **{"Retry-After": "1"})
    relay.publish(make_signal("s1"))
    first, second, third = receiver.wait(1), receiver.wait(2), receiver.wait(3)
    assert len({request[2]["Signals-Delivery"] for request in (first, second, third)}) == 1
    assert third[0] - second[0] >= 0.95
    time.sleep(0.5)
    assert len(receiver.requests) == 3


def test_after_the_last_attempt_it_is_a_dead_letter(relay, receiver, make_signal):
    token, _ = webhook(relay, receiver)
    for _ in range(3):
        receiver.answer(500)
    relay.publish(make_signal("s1"))
    letter = undelivered(relay, token)[0]
    assert (letter["attempts"], letter["reason"]) == ("3", "the receiver answered 500")
    assert json.loads(letter["message"])["data"]["signal_id"] == "s1"
    relay.publish(make_signal("s2"))
    assert json.loads(receiver.wait(4)[3])["data"]["signal_id"] == "s2"


def test_a_refusal_is_not_tried_again(relay, receiver, make_signal):
    token, _ = webhook(relay, receiver)
    receiver.answer(400)
    relay.publish(make_signal("s1"))
    assert undelivered(relay, token)[0]["attempts"] == "1"
    assert len(receiver.requests) == 1


def test_a_webhook_that_is_gone_is_forgotten(relay, receiver, make_signal):
    token, _ = webhook(relay, receiver)
    receiver.answer(410)
    relay.publish(make_signal("s1"))
    undelivered(relay, token)
    assert api(relay, token, "/api/push")["targets"] == []


def test_a_slow_receiver_does_not_hold_up_another(relay, receiver, make_signal):
    webhook(relay, receiver)
    quick = Receiver()
    api(relay, relay.token("bob"), "/api/push/targets", "POST", {"channel": "webhook", "url": quick.url})
    receiver.answer(200, delay_s=6)
    relay.publish(make_signal("s1"))
    start = time.monotonic()
    quick.wait(1, timeout=5)
    assert time.monotonic() - start < 5
    quick.shutdown()
    quick.server_close()


def test_a_superseded_signal_that_still_waits_is_not_sent(relay, receiver, make_signal):
    webhook(relay, receiver)
    receiver.answer(200, delay_s=1.0)
    first = make_signal("warm", "MSFT")
    relay.publish(first)
    receiver.wait(1)
    old = make_signal("s1-0")
    relay.publish(old)
    relay.publish(make_signal("s1-1", revision=1, created_ms=old.created_ms))
    assert json.loads(receiver.wait(2)[3])["data"]["signal_id"] == "s1-1"
    time.sleep(0.5)
    assert len(receiver.requests) == 2


def test_preferences_and_the_watchlist_decide(relay, receiver, make_signal, make_outcome):
    token, _ = webhook(relay, receiver)
    relay.store.set_watchlist("ann", ["AAPL"])
    api(relay, token, "/api/push/preferences", "PUT", {"new_signal": "off", "stop_hit": "on", "target_hit": "off"})
    for name, symbol in (("m", "MSFT"), ("a", "AAPL"), ("b", "AAPL")):
        signal = make_signal(name, symbol)
        relay.publish(signal)
        relay.publish_outcome(make_outcome(signal, "hit_target" if name == "a" else "hit_stop", 1.0))
    assert json.loads(receiver.wait(1)[3])["signal_id"] == "b"
    time.sleep(0.5)
    assert len(receiver.requests) == 1


def test_bad_preferences_say_what_is_wrong(relay):
    token = relay.token("ann")
    for body, word in (
        ({"new_signal": "loud"}, "new_signal"),
        ({"quiet_hours": {"start": "25:00", "end": "07:00"}}, "start"),
        ({"quiet_hours": {"start": "22:00", "end": "07:00", "timezone": "Moon/Base"}}, "Moon/Base"),
        ({"tier": "dynamic"}, "tier"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            api(relay, token, "/api/push/preferences", "PUT", body)
        assert refused.value.code == 400
        assert word in refused.value.read().decode()


# Telegram


def test_telegram_sends_silently_in_quiet_hours_and_edits_on_a_revision(relay, receiver, make_signal):
    token = relay.token("ann")
    api(relay, token, "/api/push/targets", "POST", {"channel": "telegram", "chat_id": 42})
    quiet = {"quiet_hours": {"start": "00:00", "end": "23:59"}}
    api(relay, token, "/api/push/preferences", "PUT", quiet)
    receiver.answer(200, {"ok": True, "result": {"message_id": 7}})
    old = make_signal("s1-0")
    relay.publish(old)
    _, path, _, body = receiver.wait(1)
    sent = json.loads(body)
    assert path == "/bot123:BOT-SECRET/sendMessage"
    assert (sent["chat_id"], sent["disable_notification"]) == (42, time.strftime("%H:%M", time.gmtime()) != "23:59")
    assert "BUY AAPL" in sent["text"]
    time.sleep(0.3)
    relay.publish(make_signal("s1-1", revision=1, created_ms=old.created_ms))
    _, path, _, body = receiver.wait(2)
    assert path.endswith("/editMessageText")
    assert json.loads(body)["message_id"] == 7
    assert "BOT-SECRET" not in relay.log_text()


def test_telegram_waits_as_long_as_it_is_told_and_forgets_who_blocked_it(relay, receiver, make_signal):
    token = relay.token("ann")
    api(relay, token, "/api/push/targets", "POST", {"channel": "telegram", "chat_id": 42})
    receiver.answer(429, {"ok": False, "parameters": {"retry_after": 1}})
    relay.publish(make_signal("s1"))
    assert receiver.wait(2)[0] - receiver.wait(1)[0] >= 0.95
    receiver.answer(403, {"ok": False, "description": "bot was blocked by the user"})
    relay.publish(make_signal("s2", "MSFT"))
    undelivered(relay, token)
    assert api(relay, token, "/api/push")["targets"] == []
    assert "BOT-SECRET" not in relay.log_text() + json.dumps(api(relay, token, "/api/push"))


# Web push


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decrypt(body, key, auth):
    """RFC 8188 and 8291, written out: what a browser does."""
    salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
    sender, record = body[21 : 21 + length], body[21 + length :]
    assert len(record) <= size
    own = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))

    def hkdf(salt, secret, info, size):
        return HKDF(hashes.SHA256(), size, salt, info).derive(secret)

    secret = hkdf(auth, shared, b"WebPush: info\0" + own + sender, 32)
    plain = AESGCM(hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)).decrypt(
        hkdf(salt, secret, b"Content-Encoding: nonce\0", 12), record, None
    )
    text, _, padding = plain.rpartition(b"\2")
    assert padding.strip(b"\0") == b""
    return json.loads(text)


@pytest.fixture
def subscribed(relay, receiver):
    """A user whose browser has subscribed: token, private key, auth secret."""
    key, auth = ec.generate_private_key(ec.SECP256R1()), b"0123456789abcdef"
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    token = relay.token("ann")
    body = {
        "channel": "webpush", "endpoint": receiver.url + "/push/1", "expirationTime": None,
        "keys": {"p256dh": encode(point), "auth": encode(auth)},
    }  # fmt: skip
    api(relay, token, "/api/push/targets", "POST", body)
    return token, key, auth


def test_web_push_is_encrypted_for_the_browser_and_signed_by_the_relay(relay, receiver, subscribed, make_signal):
    token, key, auth = subscribed
    relay.publish(make_signal("s1"))
    _, path, headers, body = receiver.wait(1)
    assert path == "/push/1"
    told = decrypt(body, key, auth)
    assert told["title"] == "BUY AAPL (72%)"
    assert told["silent"] is False
    assert b"AAPL" not in body
    scheme, _, fields = headers["Authorization"].partition(" ")
    parts = dict(part.strip().split("=", 1) for part in fields.split(","))
    public = decode(parts["k"])
    assert (scheme, parts["k"]) == ("vapid", api(relay, token, "/api/push")["webpush_key"])
    verifying = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    claims = jwt.decode(parts["t"], verifying, algorithms=["ES256"], audience=receiver.url)
    assert claims["exp"] - time.time() < 86_400
    assert claims["sub"].startswith("mailto:")
    assert (headers["Content-Encoding"], headers["Urgency"]) == ("aes128gcm", "high")
    assert len(headers["Topic"]) <= 32


def test_a_kind_that_is_silent_is_told_silently(relay, receiver, subscribed, make_signal, make_outcome):
    token, key, auth = subscribed
    api(relay, token, "/api/push/preferences", "PUT", {"new_signal": "silent", "target_hit": "on"})
    signal = make_signal("s1")
    relay.publish(signal)
    _, _, headers, body = receiver.wait(1)
    assert (decrypt(body, key, auth)["silent"], headers["Urgency"]) == (True, "low")
    relay.publish_outcome(make_outcome(signal, "hit_target", 10.0))
    _, _, headers, body = receiver.wait(2)
    assert (decrypt(body, key, auth)["silent"], headers["Urgency"]) == (False, "high")


def test_web_push_revisions_share_a_topic_and_an_expired_subscription_is_forgotten(
    relay, receiver, subscribed, make_signal
):
    token, _, _ = subscribed
    old = make_signal("s1-0")
    relay.publish(old)
    first = receiver.wait(1)
    receiver.answer(410)
    relay.publish(make_signal("s1-1", revision=1, created_ms=old.created_ms))
    assert receiver.wait(2)[2]["Topic"] == first[2]["Topic"]
    undelivered(relay, token)
    assert api(relay, token, "/api/push")["targets"] == []


def test_what_happened_while_the_relay_was_away_is_sent_once(relay, receiver, make_signal):
    webhook(relay, receiver)
    relay.publish(make_signal("s1"))
    receiver.wait(1)
    relay.stop()
    relay.publish(make_signal("s2", "MSFT"))
    relay.settings["PORT"] = "0"
    relay.start()
    assert json.loads(receiver.wait(2)[3])["data"]["signal_id"] == "s2"
    time.sleep(0.5)
    assert len(receiver.requests) == 2


# All channels alike


@pytest.fixture(params=["webhook", "telegram", "webpush"])
def told(request, relay, receiver):
    """A user with one target of each kind of channel, told through it: the user's token."""
    if request.param == "webhook":
        return webhook(relay, receiver)[0]
    if request.param == "webpush":
        return request.getfixturevalue("subscribed")[0]
    token = relay.token("ann")
    api(relay, token, "/api/push/targets", "POST", {"channel": "telegram", "chat_id": 42})
    return token


def test_a_receiver_that_fails_and_delays_is_told_in_the_end(relay, receiver, told, make_signal):
    receiver.answer(500)
    receiver.answer(503, delay_s=0.5)
    relay.publish(make_signal("s1"))
    receiver.wait(3)
    deadline = time.monotonic() + 5
    while (counts := api(relay, told, "/api/system")["relay"]["push"])["delivered"] < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (counts["delivered"], counts["retried"], counts["dead"]) == (1, 2, 0)


def test_a_receiver_that_rejects_is_not_asked_again(relay, receiver, told, make_signal):
    receiver.answer(401)
    relay.publish(make_signal("s1"))
    letter = undelivered(relay, told)[0]
    assert (letter["attempts"], letter["reason"]) == ("1", "the receiver answered 401")
    assert len(receiver.requests) == 1


def test_a_receiver_that_is_down_makes_a_dead_letter(relay, receiver, told, make_signal):
    receiver.shutdown()
    receiver.server_close()
    relay.publish(make_signal("s1"))
    letter = undelivered(relay, told)[0]
    assert (letter["attempts"], letter["reason"]) == ("3", "no answer: ConnectError")
    assert "BOT-SECRET" not in relay.log_text()
