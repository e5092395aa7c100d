"""The relay's HTTP and WebSocket service. Run it with ``signals relay`` or ``python -m relay``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
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

from connectors.redis import keys as redis_keys
from connectors.redis.bars import unpack
from models.messages import TIMEFRAME_MS, Signal, decode
from relay import push_api as push
from relay.auth import Identity
from relay.bundles import facts
from relay.charts import Busy
from relay.http import read_json, reply, services_of, signed_in
from relay.performance import report
from relay.security import SecurityHeaders, origin_allowed
from relay.services import Services
from relay.settings import RelaySettings
from relay.users import UserError, open_store
from relay.ws import websocket

log = logging.getLogger("relay")
STATIC = Path(__file__).parent / "static"
DEMO_NAME = "demo"


async def page(request: Request) -> Response:
    """The dashboard."""
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def service_worker(request: Request) -> Response:
    """The service worker, at the root so that it may serve the whole page."""
    return FileResponse(STATIC / "sw.js", media_type="text/javascript", headers={"Cache-Control": "no-cache"})


async def health(request: Request) -> Response:
    """Whether the relay runs and Redis answers."""
    hub = services_of(request).hub
    return reply({"ok": hub.pipeline_ok, "mode": hub.state.mode}, 200 if hub.pipeline_ok else 503)


async def start_page(request: Request) -> Response:
    """What the page needs before sign-in: whether there is a demo user."""
    return reply({"demo": bool(services_of(request).settings.demo_user)})


async def demo_token(request: Request) -> Response:
    """A short-lived token of the demo user; only on loopback, only if enabled, only for our own page."""
    services = services_of(request)
    local = request.client is not None and request.client.host in ("127.0.0.1", "::1")
    ours = origin_allowed(request.headers.get("origin"), request.headers.get("host", ""), services.settings.origins)
    if not (services.settings.demo_user and services.settings.loopback and local and ours):
        return reply({"error": "there is no demo user here"}, 404)
    if not services.requests.take("demo", time.monotonic()):
        return reply({"error": "too many requests; wait a second"}, 429)
    token, expires_ms = services.auth.issue(DEMO_NAME, services.settings.demo_token_s)
    return reply({"token": token, "expires_ms": expires_ms})


async def me(request: Request, identity: Identity) -> Response:
    """The signed-in user."""
    return reply(identity.user)


class _Changes(msgspec.Struct, forbid_unknown_fields=True):
    watchlist: list[str] | None = None
    risk_profile: str | None = None


async def change_me(request: Request, identity: Identity) -> Response:
    """Change the user's own watchlist or risk profile; never the tier."""
    store, name = services_of(request).store, identity.user.name
    try:
        changes = await read_json(request, _Changes)
        if changes.watchlist is not None:
            await run_in_threadpool(store.set_watchlist, name, changes.watchlist)
        if changes.risk_profile is not None:
            await run_in_threadpool(store.set_risk_profile, name, changes.risk_profile)
    except (msgspec.DecodeError, UserError, ValueError) as error:
        return reply({"error": str(error)}, 400)
    user = await run_in_threadpool(store.get, name)
    hub = services_of(request).hub
    for client in list(hub.clients):
        if user is not None and client.user.name == name:
            hub.update_user(client, user)
    return reply(user)


async def bars(request: Request, identity: Identity) -> Response:
    """Recent bars of a symbol, oldest first: ``[[start_ms, open, high, low, close, volume], ...]``."""
    symbol, timeframe = request.query_params.get("symbol", ""), request.query_params.get("timeframe", "")
    if not 0 < len(symbol) <= 24 or timeframe not in (*TIMEFRAME_MS, "auto"):
        return reply({"error": f"give a symbol and a timeframe of {', '.join(TIMEFRAME_MS)}, or auto"}, 400)
    found = []
    try:
        for name in TIMEFRAME_MS if timeframe == "auto" else (timeframe,):
            timeframe = name
            key = redis_keys.bars_key(symbol, timeframe)
            rows: Any = services_of(request).follower.redis.lrange(key, -2 * redis_keys.BARS_MAX, -1)
            if found := unpack(await rows):
                break
    except (RedisError, OSError):
        return reply({"error": "the pipeline cannot be reached; try again"}, 503)
    except msgspec.DecodeError as error:
        return reply({"error": f"the bars of {symbol} cannot be read: {error}"}, 502)
    return reply({"symbol": symbol, "timeframe": timeframe, "bars": [bar[:6] for bar in found]})


async def performance(request: Request, identity: Identity) -> Response:
    """Outcomes of past signals."""
    state = services_of(request).hub.state
    symbol = request.query_params.get("symbol")
    outcomes = [o for o in state.all_closed() if symbol is None or o.symbol == symbol]
    return reply(await run_in_threadpool(report, list(outcomes)))


async def system(request: Request, identity: Identity) -> Response:
    """What the pipeline reports, and the relay's own counters."""
    services = services_of(request)
    hub = services.hub
    own = {
        "clients": len(hub.clients),
        "delivered": hub.delivered,
        "dropped_slow": hub.dropped_slow,
        "conflated": hub.conflated,
        "skipped_entries": services.follower.mirror.skipped,
        "push": services.push.counts,
        "charts_drawn": services.images.drawn,
        "event_time_ms": max(hub.state.clock_ms.values(), default=None),
        "signal_lag_ms": hub.state.last_lag_ms if hub.state.mode in ("live", "delayed") else None,
        "active_signals": len(hub.state.signals),
        "uptime_s": round(time.time() - services.started_at),
        "redis": hub.pipeline_ok,
        "position": hub.state.number,
    }
    pipeline = dict(hub.state.system)
    if "bundle" not in pipeline:
        job = pipeline.get("job")
        name = str(job.get("bundle") or "") if isinstance(job, dict) else ""
        if name := name or hub.state.last_bundle:
            pipeline["bundle"] = facts(name) or {"name": name}
    now_ms = int(time.time() * 1e3)
    return reply({
        "mode": hub.state.mode, "pipeline": pipeline, "watch": services.watch.report(), "relay": own, "now_ms": now_ms,
    })  # fmt: skip


async def find_signal(services: Services, signal_id: str) -> Signal | None:
    """An active signal, or one that Redis still keeps."""
    signal = services.hub.state.signals.get(signal_id)
    if signal is None:
        with contextlib.suppress(RedisError, OSError, msgspec.DecodeError):
            value: Any = await services.follower.redis.get(redis_keys.signal_key(signal_id))
            signal = None if value is None else decode(value, Signal)
    return signal


async def chart(request: Request) -> Response:
    """A signal's chart image; the signed URL is the permission."""
    services = services_of(request)
    address = request.client.host if request.client else ""
    if not services.requests.take(f"chart {address}", time.monotonic()):
        return reply({"error": "too many requests; wait a second"}, 429)
    signal_id, query = request.path_params["signal_id"], request.query_params
    profile = query.get("profile", "")
    if not services.links.valid(signal_id, profile, query.get("expires", ""), query.get("signature", "")):
        return reply({"error": "this chart link has expired or was changed; open the signal again"}, 403)
    signal = await find_signal(services, signal_id)
    if signal is None:
        return reply({"error": "this signal is no longer kept"}, 404)
    found = []
    with contextlib.suppress(RedisError, OSError, msgspec.DecodeError):
        key = redis_keys.bars_key(signal.symbol, signal.timeframe)
        rows: Any = services.follower.redis.lrange(key, -2 * redis_keys.BARS_MAX, -1)
        found = unpack(await rows)
    try:
        png = await services.images.image(signal, profile, found)
    except Busy:
        return Response(status_code=503, headers={"Retry-After": "3"})
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def create_app(settings: RelaySettings | None = None) -> Starlette:
    """The relay as an ASGI app; without settings, those of the environment. Fastest with ``relay.wire.Socket``.

    Raises UserError at once when the user store cannot be opened; start-up raises RedisError when Redis is away.
    """
    settings = settings or RelaySettings()
    # A demo leaves no files, unless it is configured where to keep its users.
    persistent = not settings.demo_user or "users_dsn" in settings.model_fields_set
    store = open_store(settings.users_dsn if persistent else "sqlite://:memory:")
    if settings.demo_user:
        if store.get(DEMO_NAME) is None:
            store.add(DEMO_NAME)
        store.set_tier(DEMO_NAME, settings.demo_user)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        services = app.state.services = Services(settings, store)
        await services.follower.start()
        await services.push.start(services.hub.recent())
        services.watch.start()
        renewing = asyncio.create_task(services.renew_users(), name="renew users")
        metrics = None
        if settings.metrics_port >= 0:
            where, metrics = services.metrics.serve(settings.metrics_host, settings.metrics_port)
            log.info("metrics: %s", where)
        try:
            yield
        finally:
            if metrics is not None:
                metrics.shutdown()
            if services.traces is not None:
                await run_in_threadpool(services.traces.close)
            renewing.cancel()
            await services.watch.stop()
            await services.push.stop()
            await services.follower.stop()
            services.images.close()
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
            Route("/api/push", signed_in(push.overview)),
            Route("/api/push/targets", signed_in(push.add), methods=["POST"]),
            Route("/api/push/targets/{target_id}", signed_in(push.remove), methods=["DELETE"]),
            Route("/api/push/preferences", signed_in(push.prefer), methods=["PUT"]),
            Route("/api/push/test", signed_in(push.test), methods=["POST"]),
            Route("/charts/{signal_id}.png", chart),
            WebSocketRoute("/ws", websocket),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        lifespan=lifespan,
    )
    app.add_middleware(SecurityHeaders, loopback=settings.loopback)
    return app
