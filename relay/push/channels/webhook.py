"""Signed webhooks: the tier's message as JSON, with a signature the receiver can check.

``Signals-Signature: t=<unix seconds>,v1=<hex>`` where the hex is HMAC-SHA256 of ``<t>.<body>`` under the secret that
was shown when the webhook was added. ``Signals-Delivery`` is the same on every retry, so a receiver can drop repeats.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Any

import msgspec

from relay.push.channels.base import Channel as BaseChannel
from relay.push.channels.base import Description, Field, Fields
from relay.push.delivery import Attempt, check_address, judge
from relay.push.note import Note


class Target(msgspec.Struct, frozen=True, tag_field="channel", tag="webhook", forbid_unknown_fields=True):
    """A URL to post to."""

    url: str


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The signature header.

    >>> sign("s", 0, b"{}")[:16]
    't=0,v1=e79b1f685'
    """
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


class Channel(BaseChannel):
    """Posts to a user's own server."""

    Target = Target

    def describe(self) -> Description:
        """A form for the URL."""
        field = Field("url", "Webhook", "url", "https://example.com/signals")
        return Description(channel="webhook", title="Webhook", button="Add webhook", fields=[field])

    async def accept(self, target: Any) -> tuple[Fields, Fields]:
        """Store the URL with a new secret, which the user is shown this once."""
        await check_address(target.url, self.context.private_addresses)
        secret = secrets.token_urlsafe(32)
        return {"url": target.url, "secret": secret}, {"secret": secret}

    def shown(self, address: Fields) -> str | int:
        """The URL, without the secret."""
        return str(address["url"])

    async def deliver(self, address: Fields, note: Note, receipt: str) -> Attempt:
        """Post the note's message."""
        url = str(address["url"])
        await check_address(url, self.context.private_addresses)
        body = msgspec.json.encode(note.message)
        headers = {
            "Content-Type": "application/json",
            "Signals-Delivery": note.note_id,
            "Signals-Signature": sign(str(address["secret"]), int(time.time()), body),
        }
        return judge(await self.context.client.post(url, content=body, headers=headers))
