"""A connection from hello to close over an ASGI channel in memory."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocket

from models.messages import encode
from relay.services import Services
from relay.settings import RelaySettings
from relay.users import open_store
from relay.ws import MISTAKES_MAX, websocket

Make = Callable[..., Any]


class Peer:
    """The other end of one connection."""

    def __init__(self, services: Services, **headers: str) -> None:
        self._commands: asyncio.Queue[Any] = asyncio.Queue()
        self._received: asyncio.Queue[Any] = asyncio.Queue()
        scope = {
            "type": "websocket", "path": "/ws", "client": ("127.0.0.1", 5), "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in ({"host": "127.0.0.1"} | headers).items()],
            "app": SimpleNamespace(state=SimpleNamespace(services=services)),
        }  # fmt: skip
        self._commands.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(websocket(WebSocket(scope, self._commands.get, self._received.put)))

    def send(self, **command: Any) -> None:
        self._commands.put_nowait({"type": "websocket.receive", "text": json.dumps(command)})

    def leave(self) -> None:
        self._commands.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def read(self) -> Any:
        """The next message, or the close code."""
        while (event := await self._received.get())["type"] == "websocket.accept":
            pass
        return event["code"] if event["type"] == "websocket.close" else json.loads(event["text"])

    async def read_types(self, count: int) -> list[str]:
        return [(await self.read())["type"] for _ in range(count)]


@contextlib.asynccontextmanager
async def relay(**settings: Any) -> AsyncIterator[tuple[Services, str]]:
    """The services of a relay with one user, and that one's token."""
    store = open_store("sqlite://:memory:")
    store.add("ann", tier="dynamic")
    services = Services(RelaySettings(**settings), store)
    try:
        yield services, store.issue_token("ann")
    finally:
        await services.push.stop()
        store.close()


def test_hello_is_answered_with_welcome_snapshot_and_status_and_events_follow(make_signal: Make) -> None:
    async def run() -> None:
        async with relay() as (services, token):
            hub = services.hub
            hub.state.apply("1-0", "s1", "signal", encode(make_signal()))
            peer = Peer(services)
            peer.send(type="hello", token=token)
            welcome, snapshot, status = [await peer.read() for _ in range(3)]
            assert (welcome["type"], welcome["user"], welcome["resumed"]) == ("welcome", "ann", False)
            assert (snapshot["type"], [one["data"]["signal_id"] for one in snapshot["signals"]]) == ("snapshot", ["s1"])
            assert status["type"] == "system"
            event = hub.state.apply("2-0", "s2", "signal", encode(make_signal("s2", created_ms=5)))
            assert event is not None
            hub.publish(event)
            assert (await peer.read())["number"] == "2-0"
            peer.send(type="ping")
            assert (await peer.read())["type"] == "pong"
            peer.leave()
            await peer.task
            assert hub.clients == set()
            again = Peer(services)
            again.send(type="hello", token=token, after="1-0")
            assert (await again.read())["resumed"] is True
            assert (await again.read())["number"] == "2-0"
            again.leave()
            await again.task

    asyncio.run(run())


def test_subscriptions_choose_what_follows(make_signal: Make) -> None:
    async def run() -> None:
        async with relay() as (services, token):
            hub = services.hub
            peer = Peer(services)
            peer.send(type="hello", token=token, symbols=["MSFT"])
            assert await peer.read_types(3) == ["welcome", "snapshot", "system"]
            hub.state.apply("1-0", "s1", "signal", encode(make_signal()))
            peer.send(type="subscribe", symbols=["aapl"])
            snapshot = await peer.read()
            assert (snapshot["reset"], len(snapshot["signals"])) == (False, 1)
            peer.send(type="unsubscribe", symbols=["AAPL"])
            peer.send(type="ping")
            assert (await peer.read())["type"] == "pong"
            (client,) = hub.clients
            assert client.symbols == {"MSFT"}
            peer.leave()
            await peer.task

    asyncio.run(run())


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "hello", "token": "sp_wrong"}, 4401),
        ({"type": "ping"}, 4401),
        ({"type": "dance"}, 4400),
        ({"type": "hello", "after": "yesterday"}, 4400),
    ],
)
def test_a_first_message_that_is_no_valid_hello_closes(first: dict[str, Any], code: int) -> None:
    async def run() -> None:
        async with relay() as (services, _):
            peer = Peer(services)
            peer.send(**first)
            assert await peer.read() == code
            await peer.task
            assert services.hub.clients == set()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "settings", "code"),
    [
        ({"origin": "https://evil.example"}, {}, 4403),
        ({"host": "relay.example"}, {}, 4403),
        ({}, {"clients_max": 0}, 4429),
        ({}, {"connects_burst": 0}, 4429),
        ({}, {"clients_per_address_max": 0}, 4429),
        ({}, {"hello_timeout_s": 0.0}, 4408),
    ],
)
def test_a_connection_that_is_not_allowed_is_closed_with_its_code(
    headers: dict[str, str], settings: dict[str, Any], code: int
) -> None:
    async def run() -> None:
        async with relay(**settings) as (services, _):
            peer = Peer(services, **headers)
            assert await peer.read() == code
            await peer.task

    asyncio.run(run())


def test_a_users_connections_are_bounded() -> None:
    async def run() -> None:
        async with relay(clients_per_user_max=1) as (services, token):
            first, second = Peer(services), Peer(services)
            first.send(type="hello", token=token)
            assert await first.read_types(3) == ["welcome", "snapshot", "system"]
            second.send(type="hello", token=token)
            assert await second.read() == 4429
            first.leave()
            await first.task
            third = Peer(services)
            third.send(type="hello", token=token)
            assert await third.read_types(1) == ["welcome"]
            third.leave()
            await third.task

    asyncio.run(run())


def test_more_messages_than_the_allowance_close_the_connection() -> None:
    async def run() -> None:
        async with relay(messages_burst=2, messages_per_s=0.0) as (services, token):
            peer = Peer(services)
            peer.send(type="hello", token=token)
            await peer.read_types(3)
            for _ in range(3):
                peer.send(type="ping")
            assert await peer.read_types(2) == ["pong", "pong"]
            assert await peer.read() == 4429

    asyncio.run(run())


def test_refused_commands_are_answered_until_there_were_too_many() -> None:
    async def run() -> None:
        async with relay() as (services, token):
            peer = Peer(services)
            peer.send(type="hello", token=token)
            await peer.read_types(3)
            for _ in range(MISTAKES_MAX):
                peer.send(type="dance")
            assert [(await peer.read())["code"] for _ in range(MISTAKES_MAX)] == [4400] * MISTAKES_MAX
            assert await peer.read() == 4400

    asyncio.run(run())


def test_a_new_token_must_be_of_the_same_user() -> None:
    async def run() -> None:
        async with relay() as (services, token):
            services.store.add("bob")
            peer = Peer(services)
            peer.send(type="hello", token=token)
            await peer.read_types(3)
            peer.send(type="auth", token=services.store.issue_token("bob"))
            refused = await peer.read()
            assert (refused["code"], "another user" in refused["reason"]) == (4401, True)
            services.store.set_tier("ann", "free")
            peer.send(type="auth", token=token)
            assert ((await peer.read())["tier"], (await peer.read())["type"]) == ("free", "snapshot")
            peer.leave()
            await peer.task

    asyncio.run(run())
