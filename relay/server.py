"""Serves the relay with uvicorn and prints its address on one line."""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

import uvicorn
from pydantic import ValidationError

from connectors.logs import configure_logs
from connectors.redis.client import require_redis
from relay.app import create_app
from relay.push.channels import check_settings
from relay.settings import RelaySettings
from relay.wire import Socket

log = logging.getLogger("relay")


def config(settings: RelaySettings) -> uvicorn.Config:
    """uvicorn's configuration: our WebSocket protocol, no compression (so no inflated bombs), no access log."""
    return uvicorn.Config(
        create_app(settings), host=settings.host, port=settings.port, ws=Socket, ws_max_size=settings.message_bytes_max,
        ws_per_message_deflate=False, ws_ping_interval=20.0, ws_ping_timeout=20.0, access_log=False,
        log_level="warning", lifespan="on", server_header=False, timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=16_384, backlog=4_096,
    )  # fmt: skip


def bind(settings: RelaySettings) -> socket.socket:
    """The listening socket; raises OSError naming the address and what to do."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; try --port 0") from error
    listener.listen(4_096)
    return listener


def address_of(listener: socket.socket) -> str:
    """``http://host:port`` of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def main(**given: Any) -> int:
    """Serve with these settings, the rest from the environment; returns the exit status. Prints errors."""
    try:
        settings = RelaySettings(**given)
        check_settings()
    except ValidationError as error:
        for problem in error.errors():  # without the value, which may be a secret
            print(f"relay: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
        return 2
    if settings.demo_user and not settings.loopback:
        print("relay: --demo-user works on a loopback address only; use --host 127.0.0.1", file=sys.stderr)
        return 2
    return serve(settings)


def serve(settings: RelaySettings) -> int:
    """Serve until a signal ends it; the exit status."""
    try:
        configure_logs()
    except ValueError as error:
        print(f"relay: {error}", file=sys.stderr)
        return 2
    if not settings.loopback:
        log.warning(
            "listening on %s: everyone who reaches this machine can connect, unencrypted; put a TLS proxy in front, "
            "or use --host 127.0.0.1", settings.host,
        )  # fmt: skip
    try:
        require_redis(settings.redis_url)
    except ConnectionError as error:
        print(f"relay: {error}", file=sys.stderr)
        return 2
    try:
        configured = config(settings)
        listener = bind(settings)
    except (OSError, ValueError) as error:
        print(f"relay: {error}", file=sys.stderr)
        return 2

    class Server(uvicorn.Server):
        """Prints its address once it listens."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"relay listening on {address_of(listener)}", flush=True)

    server = Server(configured)
    server.run(sockets=[listener])
    if not server.started:
        print("relay: could not start; see the lines above", file=sys.stderr)
        return 2
    return 0
