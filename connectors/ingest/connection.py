"""One WebSocket connection to a venue: its handshake, its data, its end. The supervisor decides what follows.

Rules: each step of the handshake has a time limit; a refused key is never retried; a connection limit is retried
on the same socket or after a pause; a symbol limit shrinks the subscription; a silent channel ends the
connection; pings go out and pongs come back (the WebSocket library answers the venue's own pings).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from connectors.ingest import metrics
from connectors.ingest.stream_ingest import StreamIngest
from connectors.venues.base import Action, ConnectionEvent, Stream, VenueSettings
from models.events import Connected, Stale, SymbolsDropped, VenueError

log = logging.getLogger("ingest")


class FatalError(RuntimeError):
    """The venue refuses; a retry cannot help. The message says what to change."""


@dataclass(frozen=True)
class Ending:
    """Why a connection ended; ``cool_down``: the venue asked for a pause, of ``after_s`` if it named one."""

    reason: str
    cool_down: bool = False
    after_s: float = 0.0


class _EndError(Exception):
    def __init__(self, ending: Ending) -> None:
        self.ending = ending


def now_ms() -> int:
    """Wall-clock epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Connection:
    """One connection of one stream.

    ``live`` is set when data first comes, ``expiring`` when the connection asks for a successor.
    """

    def __init__(self, stream: Stream, settings: VenueSettings, ingest: StreamIngest, tick_s: float = 0.1) -> None:
        self._stream, self._settings, self._ingest, self._tick_s = stream, settings, ingest, tick_s
        self._adapter = stream.adapter
        self.channels = {name: list(symbols) for name, symbols in stream.channels.items()}
        self.live, self.expiring = asyncio.Event(), asyncio.Event()
        self._stopping = asyncio.Event()
        self._frames: list[bytes] = []
        self._arrived = asyncio.Event()
        self._events: list[ConnectionEvent] = []
        self._streaming = False
        self._ended: BaseException | None = None

    def stop(self) -> None:
        """End the connection once received data is processed."""
        self._stopping.set()
        self._arrived.set()

    async def run(self) -> Ending:
        """Connect, log in, subscribe, read data until the end; raises FatalError if a retry cannot help."""
        limits = self._settings
        try:
            async with asyncio.timeout(limits.connect_timeout_s):
                socket = await connect(
                    self._adapter.url(),
                    open_timeout=None,
                    ping_interval=limits.ping_interval_s,
                    ping_timeout=limits.ping_timeout_s,
                    close_timeout=1,
                    max_size=limits.frame_bytes_max,
                    max_queue=1024,
                )
        except InvalidStatus as error:
            return self._refused_at_http(error)
        except (OSError, TimeoutError, InvalidHandshake) as error:
            return Ending(f"no connection to {self._adapter.url()}: {type(error).__name__} {error}".strip())
        reader = asyncio.create_task(self._read(socket))
        try:
            await self._handshake(socket)
            self._streaming = True
            self._ingest.staleness.restart(now_ms())
            self._connected(1)
            self._ingest.publish_event(Connected, now_ms(), channels=self.channels)
            return await self._serve(socket)
        except _EndError as error:
            return error.ending
        except ConnectionClosed as error:
            return Ending(_closing(error))
        finally:
            if self._streaming:
                self._connected(-1)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            await socket.close()
            self._drain()

    def _connected(self, change: int) -> None:
        for channel in self._stream.counted:
            metrics.CONNECTED.labels(self._ingest.source, channel).inc(change)

    def _refused_at_http(self, error: InvalidStatus) -> Ending:
        status = error.response.status_code
        metrics.ERRORS.labels(self._ingest.source, f"http_{status}").inc()
        if status in (401, 402, 403):
            raise FatalError(f"{self._stream.name}: HTTP {status} at the handshake: check key and plan")
        if status in (418, 429):
            with contextlib.suppress(ValueError):
                return Ending(f"HTTP {status}", True, float(error.response.headers.get("Retry-After", "0")))
            return Ending(f"HTTP {status}", True)
        return Ending(f"HTTP {status} at the handshake")

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                frame = await socket.recv(decode=False)
                self._frames.append(frame)  # a separate statement: the list is swapped while the read waits
                self._arrived.set()
                if len(self._frames) >= self._settings.queue_frames_max:
                    await asyncio.sleep(0)  # yield to the consumer: the venue's sends wait in TCP meanwhile
        except ConnectionClosed as error:
            self._ended = error
        finally:
            self._arrived.set()

    def _drain(self) -> None:
        frames, self._frames = self._frames, []
        self._arrived.clear()
        if not frames:
            return
        before = self._ingest.data_count
        self._events += self._ingest.take(frames, now_ms(), self._adapter)
        if self._ingest.data_count > before:
            self.live.set()

    async def _step(self) -> None:
        """Wait for frames, at most one tick, and return them."""
        if not self._frames and self._ended is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._arrived.wait()
        self._drain()
        if self._ended is not None and not self._events:
            raise self._ended

    async def _expect(self, kind: str, resend: str | None, socket: ClientConnection) -> ConnectionEvent | None:
        """The event awaited; None when the subscription was shrunk and must be sent again."""
        tries = 0
        deadline = time.monotonic() + self._settings.handshake_timeout_s
        while True:
            while self._events:
                event = self._events.pop(0)
                if event.kind == kind:
                    return event
                if event.kind != "error":
                    continue
                action = self._note(event)
                if action is Action.WAIT:
                    tries += 1
                    if tries > self._settings.wait_tries:
                        raise _EndError(Ending(f"error {event.code}: {event.text}, {tries - 1} times", True))
                    await asyncio.sleep(self._settings.wait_s * min(tries, 10))
                    if resend:
                        await socket.send(resend)
                    deadline = time.monotonic() + self._settings.handshake_timeout_s
                elif action is Action.SHRINK:
                    self._shrink(event)
                    return None
                else:
                    self._act(action, event)
            if time.monotonic() > deadline:
                raise _EndError(Ending(f"no {kind} within {self._settings.handshake_timeout_s:g} s"))
            await self._step()

    async def _handshake(self, socket: ClientConnection) -> None:
        adapter = self._adapter
        if adapter.greets:
            await self._expect("welcome", None, socket)
        if adapter.authenticates and (login := adapter.login()) is not None:
            await socket.send(login)
            await self._expect("authenticated", login, socket)
        while True:
            frames = adapter.subscribe(self.channels)
            for frame in frames:
                await socket.send(frame)
                if await self._expect("subscribed", frame, socket) is None:
                    break
                if len(frames) > 1:
                    await asyncio.sleep(0.25)  # at most five incoming messages a second are allowed
            else:
                return

    def _note(self, event: ConnectionEvent) -> Action:
        metrics.ERRORS.labels(self._ingest.source, event.code).inc()
        action = self._adapter.action(event, self._streaming)
        log.warning("%s: error %s %s: %s", self._stream.name, event.code, event.text, action.value)
        self._ingest.publish_event(VenueError, now_ms(), event.text, code=event.code, action=action.name)
        return action

    def _act(self, action: Action, event: ConnectionEvent) -> None:
        text = f"error {event.code}: {event.text}"
        if action is Action.FATAL:
            raise FatalError(f"{self._stream.name}: {text}: {action.value}")
        if action is Action.COOL_DOWN:
            raise _EndError(Ending(text, True))
        if action is Action.RECONNECT or (action is Action.WAIT and self._streaming):
            raise _EndError(Ending(text))

    def _shrink(self, event: ConnectionEvent) -> None:
        """Drop the newest quarter of the symbols (at least one) from every channel."""
        symbols = list(dict.fromkeys(symbol for held in self.channels.values() for symbol in held))
        keep = symbols[: len(symbols) - max(1, len(symbols) // 4)]
        if not keep:
            raise FatalError(f"{self._stream.name}: {event.text}: not even one symbol is allowed on this plan")
        dropped = [symbol for symbol in symbols if symbol not in keep]
        self.channels = {name: [s for s in held if s in keep] for name, held in self.channels.items()}
        log.warning("%s: symbol limit: dropped %s", self._stream.name, " ".join(dropped))
        self._ingest.publish_event(SymbolsDropped, now_ms(), event.text, symbols=tuple(dropped))

    async def _serve(self, socket: ClientConnection) -> Ending:
        started = time.monotonic()
        lifetime = self._settings.lifetime_s
        while not self._stopping.is_set():
            await self._step()
            while self._events:
                event = self._events.pop(0)
                if event.kind == "shutdown":
                    self.expiring.set()
                elif event.kind == "error":
                    action = self._note(event)
                    if action is Action.SHRINK:
                        self._shrink(event)
                        for frame in self._adapter.subscribe(self.channels):
                            await socket.send(frame)
                    else:
                        self._act(action, event)
            if lifetime and time.monotonic() - started > lifetime:
                self.expiring.set()
            if stale := self._ingest.stale(now_ms()):
                self._ingest.publish_event(Stale, now_ms(), f"nothing on {', '.join(stale)}")
                return Ending(f"stale: {', '.join(stale)}")
        return Ending("stopped")


def _closing(error: ConnectionClosed) -> str:
    for side, frame in (("venue", error.rcvd), ("client", error.sent)):
        if frame is not None:
            return f"closed by the {side}: {frame.code} {frame.reason}".strip()
    return "the connection broke"
