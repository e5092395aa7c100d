"""Security headers on every HTTP response, and the origin rule of WebSockets (pure ASGI)."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Scripts, styles and connections come only from the relay itself; nothing inline, no frames.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: list[tuple[bytes, bytes]] = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
]


class SecurityHeaders:
    """Adds :data:`HEADERS` to every HTTP response, and answers only to its own host names."""

    def __init__(self, app: ASGIApp, loopback: bool) -> None:
        self._app, self._loopback = app, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if not host_allowed(host, self._loopback):
            await PlainTextResponse("this relay answers on loopback only", 421)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def origin_allowed(origin: str | None, host: str, allowed: list[str]) -> bool:
    """Whether a WebSocket may open: no Origin (not a browser), the relay's own, or one that is named.

    >>> origin_allowed("http://127.0.0.1:8000", "127.0.0.1:8000", [])
    True
    >>> origin_allowed("https://evil.example", "127.0.0.1:8000", []), origin_allowed("null", "127.0.0.1:8000", [])
    (False, False)
    """
    if origin is None:
        return True
    if origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() != ""


def host_allowed(host: str, loopback: bool) -> bool:
    """On a loopback bind only loopback host names are accepted: another site's name that resolves to it is refused.

    >>> host_allowed("127.0.0.1:8000", True), host_allowed("evil.example:8000", True), host_allowed("a.example", False)
    (True, False, True)
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return not loopback or name in ("127.0.0.1", "::1", "localhost")
