"""The relay's HTTP and WebSocket service. Run it with ``signals relay`` or ``python -m relay``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from connectors import redis_keys
from connectors.redis_bars import unpack
from connectors.users import UserError, UserStore, open_store
from models.messages import TIMEFRAME_MS, Signal, decode
from relay.auth import Authenticator, AuthError, Identity
from relay.follow import Follower
from relay.hub import Hub
from relay.limits import Places, TokenBucket
from relay.links import ChartLinks
from relay.performance import report
from relay.security import SecurityHeaders
from relay.settings import RelaySettings
from relay.state import State
from relay.ws import websocket

log = logging.getLogger("relay")
STATIC = Path(__file__).parent / "static"
DEMO_NAME = "demo"


class Services:
    """What every handler needs, made once at start."""

    def __init__(self, settings: RelaySettings, store: UserStore) -> None:
        self.settings, self.store = settings, store
        self.auth = Authenticator(settings, store)
        self.links = ChartLinks(store.secret("chart-urls"), settings.chart_url_s)
        self.hub = Hub(State(), settings, self.links.url)
        self.follower = Follower(settings.redis_url, self.hub)
        self.requests = TokenBucket(settings.requests_per_s, settings.requests_burst)
        self.connects = TokenBucket(settings.connects_per_s, settings.connects_burst)
        self.address_places = Places(settings.clients_per_address_max)
        self.user_places = Places(settings.clients_per_user_max)
        self.started_at = time.time()

    async def renew_users(self) -> None:
        """Close what has expired (every second) and apply changed tiers and profiles (every five)."""
        rounds = 0
        while True:
            await asyncio.sleep(1.0)
            now_ms = time.time() * 1_000
            for client in list(self.hub.clients):
                if client.expires_ms is not None and client.expires_ms <= now_ms:
                    client.socket.close_now(4401, "the sign-in has expired")
            rounds += 1
            if rounds % 5 or not self.hub.clients:
                continue
            with contextlib.suppress(Exception):
                users = {user.name: user for user in await run_in_threadpool(self.store.all)}
                for client in list(self.hub.clients):
                    user = users.get(client.user.name)
                    if user is None or not user.active:
                        client.socket.close_now(4403, "this user is shut out")
                    elif user != client.user:
                        self.hub.update_user(client, user)


def services(request: Any) -> Services:
    """The services of the app that a request or socket belongs to."""
    return request.app.state.services  # type: ignore[no-any-return]


def reply(value: Any, status: int = 200) -> Response:
    """A JSON response that no cache keeps."""
    return Response(
        msgspec.json.encode(value), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


Handler = Callable[[Request, Identity], Awaitable[Response]]


def signed_in(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Only for requests with a valid bearer token, at the allowed rate."""

    async def checked(request: Request) -> Response:
        held = services(request)
        address = request.client.host if request.client else ""
        if not held.requests.take(f"address {address}", time.monotonic()):
            return reply({"error": "too many requests; wait a second"}, 429)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            identity = await run_in_threadpool(held.auth.identify, token if scheme.lower() == "bearer" else "")
        except AuthError as error:
            return reply({"error": str(error)}, 401)
        if not held.requests.take(f"user {identity.user.name}", time.monotonic()):
            return reply({"error": "too many requests; wait a second"}, 429)
        return await handler(request, identity)

    return checked


async def read_json(request: Request, kind: Any) -> Any:
    """The body as ``kind``; raises ``msgspec.DecodeError`` or ValueError (too large)."""
    limit = services(request).settings.message_bytes_max
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ValueError(f"the body is larger than {limit} bytes")
    return msgspec.json.decode(body, type=kind)


async def page(request: Request) -> Response:
    """The dashboard."""
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def service_worker(request: Request) -> Response:
    """The service worker, at the root so that it may serve the whole page."""
    return FileResponse(STATIC / "sw.js", media_type="text/javascript", headers={"Cache-Control": "no-cache"})


async def health(request: Request) -> Response:
    """Whether the relay runs and Redis answers."""
    hub = services(request).hub
    return reply({"ok": hub.pipeline_ok, "mode": hub.state.mode}, 200 if hub.pipeline_ok else 503)


async def start_page(request: Request) -> Response:
    """What the page needs before sign-in: whether a demo user is offered."""
    return reply({"demo": bool(services(request).settings.demo_user)})


async def demo_token(request: Request) -> Response:
    """A short-lived token of the demo user; only on loopback, only if switched on, only to our own page."""
    held = services(request)
    local = request.client is not None and request.client.host in ("127.0.0.1", "::1")
    if not (held.settings.demo_user and held.settings.loopback and local):
        return reply({"error": "there is no demo user here"}, 404)
    if not held.requests.take("demo", time.monotonic()):
        return reply({"error": "too many requests; wait a second"}, 429)
    token, expires_ms = held.auth.issue(DEMO_NAME, held.settings.demo_token_s)
    return reply({"token": token, "expires_ms": expires_ms})


async def me(request: Request, identity: Identity) -> Response:
    """The signed-in user."""
    return reply(identity.user)


class _Changes(msgspec.Struct, forbid_unknown_fields=True):
    watchlist: list[str] | None = None
    risk_profile: str | None = None


async def change_me(request: Request, identity: Identity) -> Response:
    """Change one's own watchlist or risk profile; never the tier."""
    store, name = services(request).store, identity.user.name
    try:
        changes = await read_json(request, _Changes)
        if changes.watchlist is not None:
            await run_in_threadpool(store.set_watchlist, name, changes.watchlist)
        if changes.risk_profile is not None:
            await run_in_threadpool(store.set_risk_profile, name, changes.risk_profile)
    except (msgspec.DecodeError, UserError, ValueError) as error:
        return reply({"error": str(error)}, 400)
    user = await run_in_threadpool(store.get, name)
    hub = services(request).hub
    for client in list(hub.clients):
        if user is not None and client.user.name == name:
            hub.update_user(client, user)
    return reply(user)


async def bars(request: Request, identity: Identity) -> Response:
    """Recent bars of a symbol, oldest first: ``[[start_ms, open, high, low, close, volume], ...]``."""
    symbol, timeframe = request.query_params.get("symbol", ""), request.query_params.get("timeframe", "")
    if not 0 < len(symbol) <= 24 or timeframe not in TIMEFRAME_MS:
        return reply({"error": f"give a symbol and a timeframe of {', '.join(TIMEFRAME_MS)}"}, 400)
    key = redis_keys.bars_key(symbol, timeframe)
    try:
        held: Any = services(request).follower.redis.lrange(key, -2 * redis_keys.BARS_MAX, -1)
        found = unpack(await held)
    except (RedisError, OSError):
        return reply({"error": "the pipeline cannot be reached; try again"}, 503)
    except msgspec.DecodeError as error:
        return reply({"error": f"the bars of {symbol} cannot be read: {error}"}, 502)
    return reply({"symbol": symbol, "timeframe": timeframe, "bars": [bar[:6] for bar in found]})


async def performance(request: Request, identity: Identity) -> Response:
    """How past signals ended."""
    state = services(request).hub.state
    symbol = request.query_params.get("symbol")
    outcomes = [o for o in state.all_closed() if symbol is None or o.symbol == symbol]
    return reply(await run_in_threadpool(report, list(outcomes)))


async def system(request: Request, identity: Identity) -> Response:
    """What the pipeline says about itself, and the relay's own counters."""
    held = services(request)
    hub = held.hub
    own = {
        "clients": len(hub.clients),
        "delivered": hub.delivered,
        "dropped_slow": hub.dropped_slow,
        "conflated": hub.conflated,
        "skipped_entries": held.follower.skipped,
        "active_signals": len(hub.state.signals),
        "uptime_s": round(time.time() - held.started_at),
        "redis": hub.pipeline_ok,
        "position": hub.state.number,
    }
    return reply({"mode": hub.state.mode, "pipeline": hub.state.system, "relay": own, "now_ms": int(time.time() * 1e3)})


async def find_signal(held: Services, signal_id: str) -> Signal | None:
    """An active signal, or one whose record Redis still keeps."""
    signal = held.hub.state.signals.get(signal_id)
    if signal is None:
        with contextlib.suppress(RedisError, OSError, msgspec.DecodeError):
            value: Any = await held.follower.redis.get(redis_keys.signal_key(signal_id))
            signal = None if value is None else decode(value, Signal)
    return signal


def create_app(settings: RelaySettings) -> Starlette:
    """The relay as an ASGI app; it must be served with ``relay.wire.Socket`` as its WebSocket protocol.

    Raises UserError at once when the user store cannot be opened; start-up raises RedisError when Redis is away.
    """
    store = open_store("sqlite://:memory:" if settings.demo_user else settings.users_dsn)
    if settings.demo_user:
        store.add(DEMO_NAME, tier=settings.demo_user)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        held = app.state.services = Services(settings, store)
        await held.follower.start()
        renewing = asyncio.create_task(held.renew_users(), name="renew users")
        try:
            yield
        finally:
            renewing.cancel()
            await held.follower.stop()
            store.close()

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/sw.js", service_worker),
            Route("/healthz", health),
            Route("/api/start", start_page),
            Route("/api/demo-token", demo_token, methods=["POST"]),
            Route("/api/me", signed_in(me)),
            Route("/api/me", signed_in(change_me), methods=["PUT"]),
            Route("/api/bars", signed_in(bars)),
            Route("/api/performance", signed_in(performance)),
            Route("/api/system", signed_in(system)),
            WebSocketRoute("/ws", websocket),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        lifespan=lifespan,
    )
    app.add_middleware(SecurityHeaders)
    return app
