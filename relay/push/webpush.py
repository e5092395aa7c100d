"""Web push: encrypted for the browser (RFC 8291, aes128gcm), signed by this relay (RFC 8292, VAPID)."""

from __future__ import annotations

import base64
import os
import time
from urllib.parse import urlsplit

import http_ece
import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from relay.push.delivery import Attempt, judge
from relay.push.note import Note
from relay.users import PushTarget

#: Seconds a push service keeps a note for a browser that is away.
TTL_S = 3_600
#: The largest body that every push service takes.
BODY_BYTES_MAX = 3_900


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def new_key() -> str:
    """A VAPID key pair as PEM."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def check_subscription(address: dict[str, object]) -> None:
    """Raises ValueError when the browser's keys are not what RFC 8291 wants."""
    keys = address.get("keys")
    try:
        assert isinstance(keys, dict)
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _decode(str(keys["p256dh"])))
        assert len(_decode(str(keys["auth"]))) == 16
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError("keys: give the subscription's p256dh (a P-256 point) and auth (16 bytes)") from error


def encrypt(body: bytes, p256dh: str, auth: str) -> bytes:
    """The body as one aes128gcm record that only the browser with these keys can read."""
    encrypted: bytes = http_ece.encrypt(
        body, salt=os.urandom(16), private_key=ec.generate_private_key(ec.SECP256R1()), dh=_decode(p256dh),
        auth_secret=_decode(auth), version="aes128gcm",
    )  # fmt: skip
    return encrypted


class Vapid:
    """This relay's identity towards push services."""

    def __init__(self, pem: str, contact: str) -> None:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key, self._contact = key, contact
        #: What the page subscribes with.
        self.public_key = _encode(_point(key.public_key()))

    def authorization(self, endpoint: str) -> str:
        """The Authorization header for one push service, good for half a day."""
        parts = urlsplit(endpoint)
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}", "exp": int(time.time()) + 43_200, "sub": self._contact,
        }  # fmt: skip
        return f"vapid t={jwt.encode(claims, self._key, algorithm='ES256')}, k={self.public_key}"


async def deliver(client: httpx.AsyncClient, vapid: Vapid, target: PushTarget, note: Note) -> Attempt:
    """Hand the note to the browser's push service; ``Topic`` lets a newer one replace one still waiting there."""
    endpoint, keys = str(target.address["endpoint"]), target.address["keys"]
    told = {"title": note.title, "body": note.body, "tag": note.topic, "silent": note.silent}
    while len(body := msgspec.json.encode(told)) > BODY_BYTES_MAX:
        told["body"] = str(told["body"])[: len(str(told["body"])) * 3 // 4]
    headers = {
        "Authorization": vapid.authorization(endpoint),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(TTL_S),
        "Topic": note.topic,
        "Urgency": "low" if note.silent else "high",
    }
    return judge(await client.post(endpoint, content=encrypt(body, keys["p256dh"], keys["auth"]), headers=headers))
