"""The result of a delivery attempt, and where deliveries may go."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Literal
from urllib.parse import urlsplit

import httpx
import msgspec

Result = Literal["delivered", "retry", "refused", "gone"]
#: Seconds one attempt may take.
TIMEOUT_S = 10.0


class Attempt(msgspec.Struct, frozen=True):
    """``retry``: try again (after ``wait_s`` if the receiver named it); ``gone``: remove the target.

    ``reason`` never contains an address or a token.
    """

    result: Result
    reason: str = ""
    wait_s: float | None = None
    receipt: str = ""


def judge(response: httpx.Response) -> Attempt:
    """What an HTTP answer means for the delivery."""
    status = response.status_code
    if 200 <= status < 300:
        return Attempt("delivered")
    reason = f"the receiver answered {status}"
    if status in (404, 410):
        return Attempt("gone", reason)
    if status in (408, 425, 429) or status >= 500:
        try:
            wait = float(response.headers.get("retry-after", ""))
        except ValueError:
            wait = None
        return Attempt("retry", reason, min(wait, 3_600.0) if wait is not None and wait >= 0 else None)
    return Attempt("refused", reason)


class AddressError(ValueError):
    """A URL that must not be called; the message says what is allowed."""


def check_url(url: str, private_allowed: bool) -> None:
    """Only https to a named host (or, where private addresses are allowed, http too); raises AddressError."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise AddressError("url: leave user and password out of it; the signature is the proof")
    if not parts.hostname or parts.scheme not in (("https", "http") if private_allowed else ("https",)):
        raise AddressError("url: give an https:// address")


async def check_address(url: str, private_allowed: bool) -> None:
    """Refuse hosts that resolve to this machine or a private network; raises AddressError."""
    check_url(url, private_allowed)
    if private_allowed:
        return
    parts = urlsplit(url)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError("url: its host has no address") from error
    if any(not ipaddress.ip_address(info[4][0]).is_global for info in found):
        raise AddressError("url: its host is on a private network; deliveries go to public addresses only")
