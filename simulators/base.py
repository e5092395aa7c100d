"""One simulated venue: replays messages over real sockets, answers history over HTTP on the same port, and misbehaves.

Truth is what :meth:`Simulator.feed` was given, in event order. Every event of it can be fetched from history from the
moment it was fed; whether it reaches a subscriber depends on the faults in force. Faults by name: see :data:`FAULTS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import random
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from models.messages import Bar, Message, News, Quote, Trade

#: What a simulator does on command, once for each call (``mute`` and ``freeze`` for a time).
FAULTS = (
    "refuse_key", "drop", "mute", "freeze", "duplicates", "late", "out_of_order", "wrong_units", "garbage", "oversize",
    "connection_limit", "symbol_limit", "error", "shutdown", "cut", "http_429", "http_500", "slow_handshake",
    "corrections",
)  # fmt: skip


def channel_of(message: Message) -> str:
    """The channel a message is sent on."""
    match message:
        case Trade():
            return "trades"
        case Bar():
            return "bars"
        case Quote():
            return "quotes"
        case News():
            return "news"
    return "statuses"


def event_ms(message: Any) -> int:
    """When it happened, as the venue's history orders it."""
    for name in ("start_ms", "updated_ms", "timestamp_ms"):
        if hasattr(message, name):
            return int(getattr(message, name))
    raise TypeError(type(message))


@dataclass
class Session:
    """One client."""

    socket: ServerConnection
    authenticated: bool = False
    channels: dict[str, set[str]] = field(default_factory=dict)
    held: list[tuple[int, Message]] = field(default_factory=list)  # (send after this many more events, event)

    def wants(self, message: Message) -> bool:
        """Whether the client subscribed to it."""
        symbols = self.channels.get(channel_of(message), set())
        return message.symbol in symbols or "*" in symbols


class Simulator:
    """The part that all venues share. A venue defines how it greets, answers, encodes and serves history."""

    def __init__(self, rng: random.Random | None = None, key: str = "key") -> None:
        self.rng = rng or random.Random(0)
        self.key = key
        self.sessions: list[Session] = []
        self.connections = 0
        self.logins: list[float] = []
        self.received: list[str] = []
        self.history: dict[tuple[str, str], list[Message]] = {}
        self.mute_until = self.freeze_until = 0.0
        self.duplicate_next = self.late_next = self.shuffle_next = 0
        self.refuse_next = self.limit_next = self.symbol_limit = self.slow_next = 0
        self.http_faults: list[int] = []
        self.ban_s = "0"
        self.requests: list[str] = []
        self.errors_next: list[Any] = []
        self.splits: list[tuple[str, str, float, float]] = []  # symbol, day of the new price, to, from
        self._server: Server | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> Simulator:
        """Listen on loopback."""
        self._server = await serve(
            self._handle, "127.0.0.1", port, process_request=self._http, ping_interval=None, max_size=2**24,
            close_timeout=0.2,
        )  # fmt: skip
        return self

    async def stop(self) -> None:
        """End every connection."""
        assert self._server is not None
        for session in list(self.sessions):
            session.socket.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    async def __aenter__(self) -> Simulator:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port given by the OS."""
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def ws(self) -> str:
        """``ws://`` address of the host."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def rest(self) -> str:
        """``http://`` address of the host."""
        return f"http://127.0.0.1:{self.port}"

    # -- what a venue overrides ------------------------------------------------------------------------------------

    def is_socket(self, path: str) -> bool:
        """Whether a path is the WebSocket endpoint (else it is history)."""
        raise NotImplementedError

    async def greet(self, session: Session) -> None:
        """Send the greeting."""

    async def answer(self, session: Session, text: str) -> None:
        """Answer a client's frame."""
        raise NotImplementedError

    def encode(self, messages: Sequence[Message]) -> list[str]:
        """The frames that carry these events."""
        raise NotImplementedError

    def wrong_units(self, message: Message) -> str | None:
        """A frame with the event's time in another unit."""
        raise NotImplementedError

    def serve_history(self, path: str, query: dict[str, str]) -> Any:
        """The JSON body of a history request; KeyError: no such path."""
        raise NotImplementedError

    # -- replay ----------------------------------------------------------------------------------------------------

    def remember(self, message: Message) -> None:
        """Enter an event into history."""
        self.history.setdefault((channel_of(message), message.symbol), []).append(message)

    def between(self, channel: str, symbol: str, start_ms: int, end_ms: int) -> list[Any]:
        """Events of history in ``[start_ms, end_ms]``."""
        held = self.history.get((channel, symbol), [])
        return held[bisect_left(held, start_ms, key=event_ms) : bisect_right(held, end_ms, key=event_ms)]

    async def feed(self, messages: Iterable[Message]) -> None:
        """Events happen now: into history, and to whoever subscribed, as far as the faults let them."""
        events = list(messages)
        for message in events:
            self.remember(message)
        if time.monotonic() < self.mute_until:
            return
        for session in list(self.sessions):
            wanted = [message for message in events if session.wants(message)]
            if wanted or session.held:
                await self._send(session, self._disorder(session, wanted))

    def _disorder(self, session: Session, events: list[Message]) -> list[Message]:
        """Apply duplicates, lateness and reordering to what one client is about to get."""
        out: list[Message] = []
        for message in events:
            if self.late_next > 0 and isinstance(message, Trade):
                self.late_next -= 1
                session.held.append((self.rng.randint(2, 12), message))
                continue
            out.append(message)
            if self.duplicate_next > 0:
                self.duplicate_next -= 1
                out.append(message)
            session.held = [(left - 1, held) for left, held in session.held]
            out += [held for left, held in session.held if left <= 0]
            session.held = [(left, held) for left, held in session.held if left > 0]
        if self.shuffle_next > 0 and len(out) > 1:
            self.shuffle_next -= 1
            self.rng.shuffle(out)
        return out

    async def release(self) -> None:
        """Send what lateness still holds back."""
        for session in list(self.sessions):
            held, session.held = session.held, []
            await self._send(session, [message for _, message in held])

    async def _send(self, session: Session, events: Sequence[Message]) -> None:
        for frame in self.encode(events) if events else []:
            await self.send(session, frame)

    async def send(self, session: Session, frame: str | bytes) -> None:
        """One frame to one client, if it is still there."""
        with contextlib.suppress(ConnectionClosed, ConnectionError):
            await session.socket.send(frame, text=True)

    # -- faults ----------------------------------------------------------------------------------------------------

    async def fault(self, name: str, amount: float = 1, detail: Any = None) -> None:
        """Misbehave: ``amount`` is how often, or for how many seconds."""
        count = int(amount)
        match name:
            case "refuse_key":
                self.refuse_next = count
            case "drop":
                for session in list(self.sessions):
                    session.socket.transport.abort()
            case "cut":
                for session in list(self.sessions):
                    await session.socket.close(1001, "24 hours are over")
            case "mute":
                self.mute_until = time.monotonic() + amount
            case "freeze":
                for session in list(self.sessions):
                    session.socket.transport.pause_reading()
            case "duplicates":
                self.duplicate_next = count
            case "late":
                self.late_next = count
            case "out_of_order":
                self.shuffle_next = count
            case "connection_limit":
                self.limit_next = count
            case "symbol_limit":
                self.symbol_limit = count
            case "slow_handshake":
                self.slow_next = count
            case "http_429":
                self.http_faults += [429] * count
            case "http_500":
                self.http_faults += [500] * count
            case "wrong_units":
                await self._to_all(lambda m: self.wrong_units(m), count)
            case "garbage":
                for session in list(self.sessions):
                    for _ in range(count):
                        await self.send(session, self.garbage())
            case "oversize":
                for session in list(self.sessions):
                    await self.send(session, '[{"T":"n","headline":"' + "x" * count + '"}]')
            case "error":
                await self.error(detail)
            case "corrections":
                await self.correct(count)
            case "shutdown":
                await self.shutdown(amount)
            case _:
                raise ValueError(f"fault = {name!r}: must be one of {', '.join(FAULTS)}")

    async def _to_all(self, spoil: Any, count: int) -> None:
        known = [m for (channel, _), held in self.history.items() if channel == "trades" for m in held[-count:]]
        for session in list(self.sessions):
            for message in known[:count]:
                if (frame := spoil(message)) is not None:
                    await self.send(session, frame)

    def garbage(self) -> str:
        """A frame no parser can like."""
        kind = self.rng.randrange(4)
        if kind == 0:
            return "".join(chr(self.rng.randint(32, 126)) for _ in range(self.rng.randint(1, 60)))
        return ('[{"T":"t","S":', '{"stream":1}', '[{"ev":"T","sym":"A","p":"x"},{"T":"t","S":"A"}]')[kind - 1]

    async def correct(self, count: int) -> None:
        """Amend or take back the newest events in the venue's own way; a venue without such messages sends nothing."""

    async def error(self, code: Any) -> None:
        """Send an error of the venue's own form to every client."""
        raise NotImplementedError

    async def shutdown(self, lead_s: float) -> None:
        """Announce the end of every connection, then cut it."""
        raise NotImplementedError

    # -- server ----------------------------------------------------------------------------------------------------

    async def _handle(self, socket: ServerConnection) -> None:
        self.connections += 1
        session = Session(socket)
        self.sessions.append(session)
        try:
            if self.slow_next > 0:
                self.slow_next -= 1
                await socket.wait_closed()
            await self.greet(session)
            async for text in socket:
                self.received.append(str(text))
                await self.answer(session, str(text))
        except (ConnectionClosed, ConnectionError):
            pass
        finally:
            self.sessions.remove(session)

    def _http(self, _: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        if self.is_socket(parts.path) and "Upgrade" in request.headers:
            if self.errors_next and isinstance(self.errors_next[0], tuple):
                return self._respond(*self.errors_next.pop(0))
            return None
        self.requests.append(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/control":
            asyncio.get_running_loop().create_task(self.fault(query["fault"], float(query.get("amount", "1"))))
            return self._respond(200, {"fault": query["fault"]})
        if self.http_faults:
            status = self.http_faults.pop(0)
            return self._respond(status, {"message": "no"}, {"Retry-After": self.ban_s} if status < 500 else {})
        try:
            return self._respond(200, self.serve_history(parts.path, query))
        except KeyError as error:
            return self._respond(404, {"message": f"no {error}"})

    @staticmethod
    def _respond(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
        data = json.dumps(body).encode()
        held = Headers({"Content-Type": "application/json", "Content-Length": str(len(data)), "Connection": "close"})
        held.update(headers or {})
        return Response(status, http.HTTPStatus(status).phrase, held, data)
