"""``signals relay``: serve signals and the dashboard."""

from __future__ import annotations

from typing import Annotated

import typer


def relay(
    redis: Annotated[str, typer.Option(help="Redis that the pipeline writes to.")] = "redis://127.0.0.1:6379/0",
    host: Annotated[str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one and prints it.")] = 0,
    users: Annotated[str, typer.Option(help="User store: sqlite://PATH or postgresql://user:password@host/db.")] = "",
    demo_user: Annotated[
        str, typer.Option(help="Sign the page in by itself as a demo user of this tier (loopback only).")
    ] = "",
) -> None:
    """Serve signals over WebSocket, and the dashboard, at a printed address.

    Example: signals relay --redis redis://127.0.0.1:6379/0 --demo-user dynamic
    """
    from relay.server import main

    given = {"redis_url": redis, "host": host, "port": port, "demo_user": demo_user}
    if users:
        given["users_dsn"] = users
    raise typer.Exit(main(**given))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(relay)
