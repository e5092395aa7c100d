"""Helpers that the HTTP handlers share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from relay.auth import AuthError, Identity
from relay.services import Services


def services_of(request: Any) -> Services:
    """The services of the app that a request or socket belongs to."""
    found: Services = request.app.state.services
    return found


def reply(value: Any, status: int = 200) -> Response:
    """A JSON response that no cache keeps."""
    return Response(
        msgspec.json.encode(value), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


Handler = Callable[[Request, Identity], Awaitable[Response]]


def signed_in(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Admits only requests with a valid bearer token, at the allowed rate."""

    async def checked(request: Request) -> Response:
        services = services_of(request)
        address = request.client.host if request.client else ""
        if not services.requests.take(f"address {address}", time.monotonic()):
            return reply({"error": "too many requests; wait a second"}, 429)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            identity = await run_in_threadpool(services.auth.identify, token if scheme.lower() == "bearer" else "")
        except AuthError as error:
            return reply({"error": str(error)}, 401)
        if not services.requests.take(f"user {identity.user.name}", time.monotonic()):
            return reply({"error": "too many requests; wait a second"}, 429)
        return await handler(request, identity)

    return checked


async def read_json(request: Request, kind: Any) -> Any:
    """The body as ``kind``; raises ``msgspec.DecodeError`` or ValueError (too large)."""
    limit = services_of(request).settings.message_bytes_max
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ValueError(f"the body is larger than {limit} bytes")
    return msgspec.json.decode(body, type=kind)
