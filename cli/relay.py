"""``signals relay``: serve signals and the dashboard."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def relay(
    redis: Annotated[str, typer.Option(help="Redis that the pipeline writes to.")] = "redis://127.0.0.1:6379/0",
    host: Annotated[str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one and prints it.")] = 0,
    users: Annotated[str, typer.Option(help="User store: sqlite://PATH or postgresql://user:password@host/db.")] = "",
    demo_user: Annotated[
        str, typer.Option(help="Sign the page in by itself as a demo user of this tier (loopback only).")
    ] = "",
    flink: Annotated[
        list[str] | None,
        typer.Option(help="Flink's REST address, for the system page: http://HOST:8081; repeatable."),
    ] = None,
    kafka: Annotated[str, typer.Option(help="Kafka, for the system page's consumer lag: HOST:PORT[,HOST:PORT].")] = "",
    kafka_group: Annotated[
        list[str] | None, typer.Option(help="A consumer group to report (default: signals, outcomes, bars).")
    ] = None,
) -> None:
    """Serve signals over WebSocket, and the dashboard, at a printed address.

    Example: signals relay --redis redis://127.0.0.1:6379/0 --demo-user dynamic --flink http://127.0.0.1:8081
    """
    from relay.server import main

    given: dict[str, Any] = {"redis_url": redis, "host": host, "port": port, "demo_user": demo_user}
    # Only the options given: the rest comes from the environment.
    given |= {
        name: value
        for name, value in {
            "users_dsn": users, "flink_urls": flink, "kafka": kafka, "kafka_groups": kafka_group,
        }.items()
        if value
    }  # fmt: skip
    raise typer.Exit(main(**given))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(relay)
