"""One WebSocket connection, from the hello to the close."""

from __future__ import annotations

import asyncio
import time

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from relay import protocol
from relay.auth import AuthError, Identity
from relay.hub import Client
from relay.limits import TokenBucket
from relay.protocol import CommandError
from relay.security import host_allowed, origin_allowed
from relay.services import Services
from relay.wire import EXTENSION, AsgiOutlet, Outlet

#: Refused commands a connection may send before it is closed.
MISTAKES_MAX = 5


async def _refuse(websocket: WebSocket, code: int, reason: str = "") -> None:
    await websocket.accept()
    await websocket.close(code, (reason or protocol.CLOSE_CODES[code])[:120])


async def _receive(websocket: WebSocket) -> bytes:
    message = await websocket.receive()
    if message["type"] != "websocket.receive":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    return text.encode() if text is not None else message["bytes"]


async def websocket(websocket: WebSocket) -> None:
    """Serve ``/ws``."""
    services: Services = websocket.app.state.services
    settings = services.settings
    socket: Outlet = websocket.scope.get("extensions", {}).get(EXTENSION) or AsgiOutlet(websocket)
    address = websocket.client.host if websocket.client else ""
    host = websocket.headers.get("host", "")
    if not (
        origin_allowed(websocket.headers.get("origin"), host, settings.origins)
        and host_allowed(host, settings.loopback)
    ):
        await _refuse(websocket, 4403, "this origin may not connect")
        return
    full = len(services.hub.clients) >= settings.clients_max
    if full or not services.connects.take(address, time.monotonic()) or not services.address_slots.enter(address):
        await _refuse(websocket, 4429)
        return
    try:
        await websocket.accept()
        await _serve(websocket, socket, services, address)
    except WebSocketDisconnect:
        pass
    finally:
        services.address_slots.leave(address)


async def _sign_in(websocket: WebSocket, services: Services) -> tuple[protocol.Hello, Identity] | None:
    """The hello and its identity, or None after closing."""
    try:
        async with asyncio.timeout(services.settings.hello_timeout_s):
            first = protocol.command(await _receive(websocket))
    except TimeoutError:
        await websocket.close(4408, protocol.CLOSE_CODES[4408])
        return None
    except CommandError as error:
        await websocket.close(4400, str(error)[:120])
        return None
    if not isinstance(first, protocol.Hello):
        await websocket.close(4401, "the first message must be a hello")
        return None
    scheme, _, bearer = websocket.headers.get("authorization", "").partition(" ")
    token = first.token or (bearer if scheme.lower() == "bearer" else "")
    try:
        return first, await run_in_threadpool(services.auth.identify, token)
    except AuthError as error:
        await websocket.close(4401, str(error)[:120])
        return None


async def _serve(websocket: WebSocket, socket: Outlet, services: Services, address: str) -> None:
    signed = await _sign_in(websocket, services)
    if signed is None:
        return
    hello, identity = signed
    name = identity.user.name
    if not services.user_slots.enter(name):
        await websocket.close(4429, "too many connections of this user")
        return
    client = Client(socket, identity.user, address, identity.expires_ms)
    services.hub.join(client)
    try:
        if await _greet(client, hello, services):
            await _process_commands(websocket, client, services)
    finally:
        services.hub.leave(client)
        services.user_slots.leave(name)


async def _greet(client: Client, hello: protocol.Hello, services: Services) -> bool:
    """Welcome, then what was missed or a snapshot, then live; false: the client cannot take it."""
    hub = services.hub
    named = bool(hello.symbols or hello.signals or hello.all)
    symbols = hello.symbols if named else client.user.watchlist
    everything = hello.all or (not named and not symbols)
    resuming = hello.after is not None and hub.can_resume(hello.after)
    try:
        if len(symbols) + len(hello.signals) > services.settings.subscriptions_max:
            raise CommandError(f"more than {services.settings.subscriptions_max} subscriptions")
        hub.send(client, hub.welcome(client, resumed=resuming))
        if resuming and hello.after is not None:
            client.symbols = {symbol.upper() for symbol in symbols}
            client.signals, client.all = set(hello.signals), everything
            if not await hub.catch_up(client, hello.after):
                client.socket.close_now(4413, protocol.CLOSE_CODES[4413])
                return False
        hub.follow(client, symbols, hello.signals, everything)
    except CommandError as error:
        client.socket.close_now(4400, str(error))
        return False
    if not resuming:
        hub.send_snapshot(client)
    hub.send(client, hub.status())
    return True


async def _process_commands(websocket: WebSocket, client: Client, services: Services) -> None:
    """Process commands until the client leaves or is closed."""
    hub, settings, mistakes = services.hub, services.settings, 0
    allowance = TokenBucket(settings.messages_per_s, settings.messages_burst)
    while True:
        data = await _receive(websocket)
        if not allowance.take("", time.monotonic()):
            client.socket.close_now(4429, protocol.CLOSE_CODES[4429])
            return
        try:
            await _do(protocol.command(data), client, services)
        except (CommandError, AuthError) as error:
            code = 4401 if isinstance(error, AuthError) else 4400
            hub.send(client, protocol.ErrorMessage(number=hub.state.number, code=code, reason=str(error)))
            mistakes += 1
            if mistakes >= MISTAKES_MAX:
                client.socket.close_now(code, "too many commands were refused")
                return


async def _do(command: protocol.Command, client: Client, services: Services) -> None:
    hub = services.hub
    match command:
        case protocol.Ping():
            hub.send(client, protocol.Pong(number=hub.state.number))
        case protocol.Subscribe(symbols=symbols, signals=signals, all=everything):
            hub.follow(client, symbols, signals, everything)
            wanted = {symbol.upper() for symbol in symbols}
            matching = [
                s for s in hub.state.signals.values() if everything or s.symbol in wanted or s.signal_id in signals
            ]
            hub.send(client, hub.snapshot_of(matching, client, reset=False))
        case protocol.Unsubscribe(symbols=symbols, signals=signals, all=everything):
            hub.unfollow(client, symbols, signals, everything)
        case protocol.Auth(token=token):
            identity = await run_in_threadpool(services.auth.identify, token)
            if identity.user.name != client.user.name:
                raise AuthError("the new token is another user's; open a new connection")
            client.expires_ms = identity.expires_ms
            if identity.user != client.user:
                hub.update_user(client, identity.user)
        case protocol.Hello():
            raise CommandError("hello was sent already")
