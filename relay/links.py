"""Signed, expiring URLs of chart images (pure; the clock is passed in)."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import quote


class ChartLinks:
    """Makes and checks ``/charts/{id}.png?profile=..&expires=..&signature=..``.

    The end is rounded up to the hour, so that a signal's message is the same bytes for every client.

    >>> links = ChartLinks("secret", 3600)
    >>> url = links.url("9f2c", "moderate", now=0.0)
    >>> url.startswith("/charts/9f2c.png?profile=moderate&expires=7200&signature=")
    True
    >>> signature = url.rpartition("=")[2]
    >>> [links.valid("9f2c", "moderate", "7200", signature, now=at) for at in (0.0, 7201.0)]
    [True, False]
    """

    def __init__(self, secret: str, seconds: int) -> None:
        self._secret, self._seconds = secret.encode(), seconds

    def _sign(self, signal_id: str, profile: str, expires: str) -> str:
        text = f"{signal_id}\n{profile}\n{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()

    def url(self, signal_id: str, profile: str, now: float | None = None) -> str:
        """The path of the image; it answers for at least the configured time and less than an hour more."""
        now = time.time() if now is None else now
        expires = str((int(now + self._seconds) // 3600 + 1) * 3600)
        signature = self._sign(signal_id, profile, expires)
        return f"/charts/{quote(signal_id, safe='')}.png?profile={profile}&expires={expires}&signature={signature}"

    def valid(self, signal_id: str, profile: str, expires: str, signature: str, now: float | None = None) -> bool:
        """Whether this relay signed it and it has not expired."""
        now = time.time() if now is None else now
        right = hmac.compare_digest(self._sign(signal_id, profile, expires).encode(), signature.encode())
        return right and expires.isascii() and expires.isdigit() and int(expires) > now
