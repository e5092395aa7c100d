"""Web push: encrypted for the browser (RFC 8291, aes128gcm), signed by this relay (RFC 8292, VAPID)."""

from __future__ import annotations

import base64
import os
import time
from typing import Any
from urllib.parse import urlsplit

import http_ece
import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic_settings import SettingsConfigDict

from relay.push.channels.base import Channel as BaseChannel
from relay.push.channels.base import ChannelSettings, Context, Description, Fields
from relay.push.delivery import Attempt, check_address, judge
from relay.push.note import Note

#: Seconds a push service keeps a note for a browser that is away.
TTL_S = 3_600
#: The largest body that every push service takes.
BODY_BYTES_MAX = 3_900


class Keys(msgspec.Struct, frozen=True):
    """A browser's public key and secret."""

    p256dh: str
    auth: str


class Target(msgspec.Struct, frozen=True, tag_field="channel", tag="webpush"):
    """What ``PushSubscription.toJSON()`` gives."""

    endpoint: str
    keys: Keys


class Settings(ChannelSettings):
    """``SIGNALS_RELAY_PUSH_CONTACT``: where a push service reaches who runs the relay."""

    model_config = SettingsConfigDict(env_prefix="SIGNALS_RELAY_PUSH_")

    contact: str = "mailto:admin@localhost"


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


def check_keys(keys: Keys) -> None:
    """Raises ValueError when the browser's keys are not what RFC 8291 requires."""
    remedy = "keys: give the subscription's p256dh (a P-256 point) and auth (16 bytes)"
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _decode(keys.p256dh))
        size = len(_decode(keys.auth))
    except ValueError as error:
        raise ValueError(remedy) from error
    if size != 16:
        raise ValueError(remedy)


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


class Channel(BaseChannel):
    """Notes of the user's browsers."""

    Target = Target
    Settings = Settings

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.vapid = Vapid(context.secret("vapid", new_key()), Settings().contact)

    def describe(self) -> Description:
        """No form: the browser subscribes with the relay's public key."""
        return Description(
            channel="webpush", title="Browser", button="Notify this browser", server_key=self.vapid.public_key
        )

    def facts(self) -> Fields:
        """``webpush_key``: what a browser subscribes with."""
        return {"webpush_key": self.vapid.public_key}

    async def accept(self, target: Any) -> tuple[Fields, Fields]:
        """Check the browser's keys and where its push service is."""
        check_keys(target.keys)
        await check_address(target.endpoint, self.context.private_addresses)
        return await super().accept(target)

    def shown(self, address: Fields) -> str | int:
        """The endpoint, without the keys."""
        return str(address["endpoint"])

    async def deliver(self, address: Fields, note: Note, receipt: str) -> Attempt:
        """Send the note to the browser's push service; ``Topic`` lets a newer one replace one still waiting there."""
        endpoint, keys = str(address["endpoint"]), address["keys"]
        await check_address(endpoint, self.context.private_addresses)
        shown = {"title": note.title, "body": note.body, "tag": note.topic, "silent": note.silent}
        while len(body := msgspec.json.encode(shown)) > BODY_BYTES_MAX:
            shown["body"] = str(shown["body"])[: len(str(shown["body"])) * 3 // 4]
        headers = {
            "Authorization": self.vapid.authorization(endpoint),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(TTL_S),
            "Topic": note.topic,
            "Urgency": "low" if note.silent else "high",
        }
        content = encrypt(body, keys["p256dh"], keys["auth"])
        return judge(await self.context.client.post(endpoint, content=content, headers=headers))
