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
    from pydantic import ValidationError

    from relay.server import serve
    from relay.settings import RelaySettings

    given = {"redis_url": redis, "host": host, "port": port, "demo_user": demo_user}
    if users:
        given["users_dsn"] = users
    try:
        settings = RelaySettings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        for problem in error.errors():
            typer.echo(f"relay: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    if demo_user and not settings.loopback:
        typer.echo("relay: --demo-user works on a loopback address only; use --host 127.0.0.1", err=True)
        raise typer.Exit(2)
    raise typer.Exit(serve(settings))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(relay)
