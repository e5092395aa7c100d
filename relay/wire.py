"""The WebSocket transport: uvicorn's own protocol, plus writing one ready-made frame to many sockets.

A server's frames are not masked, and without compression they are the same bytes for every client. So a message is
framed once per tier and its bytes are handed to each socket: a ``write`` that never waits. What the operating system
does not accept is buffered by the transport, whose size the hub checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

#: Send buffer of each connection in the kernel (which doubles it).
KERNEL_BYTES = 128 * 1024

#: How long a connection that was closed here may take to end.
GRACE_S = 3.0

#: Where the ASGI scope carries the protocol object.
EXTENSION = "signals.socket"


def text_frame(payload: bytes) -> bytes:
    """One unmasked, final text frame (RFC 6455, section 5.2).

    >>> text_frame(b"hi")
    b'\\x81\\x02hi'
    >>> text_frame(b"x" * 300)[:4], len(text_frame(b"x" * 70_000))
    (b'\\x81~\\x01,', 70010)
    """
    length = len(payload)
    if length < 126:
        return b"\x81" + bytes((length,)) + payload
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def payload(frame: bytes) -> bytes:
    """What :func:`text_frame` framed.

    >>> [len(payload(text_frame(b"x" * length))) for length in (0, 125, 126, 65_535, 65_536)]
    [0, 125, 126, 65535, 65536]
    """
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


class Outlet(Protocol):
    """Where a client's frames are written, without waiting."""

    @property
    def open(self) -> bool:
        """Whether frames can still be written."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were not taken yet."""

    def write_frame(self, frame: bytes) -> None:
        """Write without waiting."""

    def close_now(self, code: int, reason: str) -> None:
        """Close after what is buffered."""


class AsgiOutlet:
    """The same over any ASGI server (tests, hypercorn): a task sends what waits, one message after the other."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._waiting: deque[bytes] = deque()
        self._close: tuple[int, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self.waiting_bytes = 0

    @property
    def open(self) -> bool:
        """Whether messages can still be sent."""
        return self._close is None and self._websocket.application_state is WebSocketState.CONNECTED

    def write_frame(self, frame: bytes) -> None:
        """Let the task send the frame's payload."""
        self._waiting.append(frame)
        self.waiting_bytes += len(frame)
        self._wake()

    def close_now(self, code: int, reason: str) -> None:
        """Close when what waits was sent."""
        if self.open:
            self._close = code, reason
            self._wake()

    async def sent(self) -> None:
        """Return when nothing waits."""
        while self._task is not None and not self._task.done():
            await self._task

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
            while self._waiting:
                frame = self._waiting.popleft()
                await self._websocket.send_text(payload(frame).decode())
                self.waiting_bytes -= len(frame)
            if self._close is not None:
                await self._websocket.close(*self._close)


class Socket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, which the app can also write ready-made frames to."""

    def connection_made(self, transport: Any) -> None:
        """Bound what the kernel buffers for a client that does not read (it would grow to megabytes)."""
        super().connection_made(transport)
        if (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)

    def handle_connect(self, event: Any) -> None:
        """Make this object available to the app."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            scope: Any = self.scope
            scope["extensions"][EXTENSION] = self

    @property
    def open(self) -> bool:
        """Whether frames can still be written."""
        return self.handshake_complete and not self.close_sent and not self.transport.is_closing()

    @property
    def waiting_bytes(self) -> int:
        """Bytes the operating system has not taken yet."""
        return self.transport.get_write_buffer_size()

    def write_frame(self, frame: bytes) -> None:
        """Write without waiting; the caller has checked :attr:`open`."""
        self.transport.write(frame)

    def handle_parser_exception(self) -> None:
        """Close with the code and drop further input: closing over unread bytes would reset the connection, and the
        reset would overtake the code."""
        if self.close_sent:
            return
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._read_out(GRACE_S)

    def _read_out(self, grace_s: float) -> None:
        """Read until the peer is done, or the grace period is over."""
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = asyncio.get_running_loop().call_later(grace_s, self.transport.abort)

    def close_now(self, code: int, reason: str, grace_s: float = GRACE_S) -> None:
        """Send a close frame after what is buffered and drop the connection if the peer does not read it in time."""
        if not self.open:
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._read_out(grace_s)
