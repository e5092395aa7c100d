"""Push deliveries without servers: a journal in memory, a clock that tests move, a receiver in the same process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from relay.hub import Hub
from relay.push.dispatcher import Dispatcher
from relay.settings import RelaySettings
from relay.state import State
from relay.users import UserStore, open_store


class MemoryJournal:
    """What ``RedisJournal`` keeps in Redis, in this process."""

    def __init__(self) -> None:
        self.position: str | None = None
        self.claimed: set[str] = set()
        self.letters: list[dict[str, str | bytes]] = []

    async def reached(self) -> str | None:
        return self.position

    async def claim(self, number: str) -> bool:
        new = number not in self.claimed
        self.claimed.add(number)
        self.position = number
        return new

    async def bury(self, fields: dict[str, str | bytes]) -> None:
        self.letters.append(fields)

    async def dead_letters(self, name: str) -> list[dict[str, Any]]:
        return [dict(letter) for letter in reversed(self.letters) if letter["user"] == name]


class Clock:
    """Seconds that pass when somebody sleeps; ``slept`` holds every pause."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time, self.slept = now, []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


class Receiver:
    """An HTTP server on this loop that keeps what it is sent and answers ``answers`` in turn, then 200."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[str, dict[str, str], bytes]] = asyncio.Queue()
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self.received.put((first.split()[1], headers, body))
                status, extra, answer = self.answers.pop(0) if self.answers else (200, {}, b"{}")
                fields = {"Content-Length": str(len(answer)), **extra}
                told = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{told}\r\n".encode() + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def json(self) -> Any:
        """The next body that arrives."""
        return json.loads((await self.received.get())[2])


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver while the block runs."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    receiver.url = f"http://{host}:{port}"
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def dispatching(
    journal: MemoryJournal, clock: Clock, store: UserStore | None = None, **settings: Any
) -> AsyncIterator[tuple[Dispatcher, UserStore]]:
    """A dispatcher over a journal and clock; without a store it has one user, *ann*, who sees everything."""
    if store is None:
        store = open_store("sqlite://:memory:")
        store.add("ann", tier="dynamic")
    chosen = RelaySettings(**({"push_private_addresses": True, "push_attempts_max": 3} | settings))
    hub = Hub(State(), chosen, lambda signal_id, profile: "")
    dispatcher = Dispatcher(chosen, store, hub, journal, sleep=clock.sleep, now=clock.now)
    try:
        yield dispatcher, store
    finally:
        await dispatcher.stop()
        store.close()
