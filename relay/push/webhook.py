"""Signed webhooks: the tier's message as JSON, with a signature the receiver can check.

``Signals-Signature: t=<unix seconds>,v1=<hex>`` where the hex is HMAC-SHA256 of ``<t>.<body>`` under the secret that
was shown when the webhook was added. ``Signals-Delivery`` is the same on every retry, so a receiver can drop repeats.
"""

from __future__ import annotations

import hashlib
import hmac
import time

import httpx
import msgspec

from relay.push.delivery import Attempt, judge
from relay.push.note import Note
from relay.users import PushTarget


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The signature header.

    >>> sign("s", 0, b"{}")[:16]
    't=0,v1=e79b1f685'
    """
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


async def deliver(client: httpx.AsyncClient, target: PushTarget, note: Note) -> Attempt:
    """Post the note's message."""
    body = msgspec.json.encode(note.message)
    headers = {
        "Content-Type": "application/json",
        "Signals-Delivery": note.note_id,
        "Signals-Signature": sign(str(target.address["secret"]), int(time.time()), body),
    }
    return judge(await client.post(str(target.address["url"]), content=body, headers=headers))
