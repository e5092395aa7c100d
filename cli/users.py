"""``signals users``: users of the relay, their tiers and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from relay.users import UserStore

DEFAULT_STORE = "sqlite://~/.local/share/signals/users.db"
app = typer.Typer(
    help="Users, tiers and API tokens. Example: signals users add ann --tier premium", no_args_is_help=True
)

Store = Annotated[
    str,
    typer.Option(
        "--store", envvar="SIGNALS_RELAY_USERS_DSN", help="sqlite://PATH or postgresql://user:password@host/database."
    ),
]
Name = Annotated[str, typer.Argument(help="The user's name.")]


def _open(dsn: str) -> UserStore:
    from relay.users import UserError, open_store

    try:
        return open_store(dsn)
    except UserError as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"users: {error}", err=True)
    raise typer.Exit(2)


@app.command()
def add(
    name: Name,
    tier: Annotated[str, typer.Option(help="free, premium or dynamic.")] = "free",
    profile: Annotated[str, typer.Option(help="conservative, moderate or aggressive.")] = "moderate",
    watchlist: Annotated[str, typer.Option(help="Symbols, separated by commas; empty: all.")] = "",
    store: Store = DEFAULT_STORE,
) -> None:
    """Add a user. Example: signals users add ann --tier premium --watchlist AAPL,MSFT."""
    from relay.users import UserError

    try:
        user = _open(store).add(name, tier, profile, [s for s in watchlist.split(",") if s])
    except UserError as error:
        _fail(error)
    typer.echo(f"added {user.name}: {user.tier}, {user.risk_profile}; now `signals users token {user.name}`")


@app.command("list")
def list_users(store: Store = DEFAULT_STORE) -> None:
    """List all users. Example: signals users list"""
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "tier", "profile", "watchlist", "active")
    for user in _open(store).all():
        watchlist = ", ".join(user.watchlist) or "all"
        table.add_row(user.name, user.tier, user.risk_profile, watchlist, "yes" if user.active else "no")
    Console().print(table)


@app.command()
def tier(
    name: Name, tier: Annotated[str, typer.Argument(help="free, premium or dynamic.")], store: Store = DEFAULT_STORE
) -> None:
    """Move a user to a tier; open connections follow within seconds. Example: signals users tier ann dynamic."""
    from relay.users import UserError

    try:
        _open(store).set_tier(name, tier)
    except UserError as error:
        _fail(error)
    typer.echo(f"{name} is {tier} now")


@app.command()
def token(
    name: Name,
    revoke: Annotated[bool, typer.Option("--revoke", help="Revoke all of the user's tokens instead.")] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Make an API token and show it, this once. Example: signals users token ann."""
    from relay.users import UserError

    opened = _open(store)
    try:
        if revoke:
            typer.echo(f"revoked {opened.revoke_tokens(name)} tokens of {name}")
            return
        typer.echo(opened.issue_token(name))
    except UserError as error:
        _fail(error)


@app.command()
def off(name: Name, store: Store = DEFAULT_STORE) -> None:
    """Disable a user; open connections end within seconds. Example: signals users off ann."""
    _switch(name, False, store)


@app.command()
def on(name: Name, store: Store = DEFAULT_STORE) -> None:
    """Enable a user again. Example: signals users on ann."""
    _switch(name, True, store)


def _switch(name: str, active: bool, store: str) -> None:
    from relay.users import UserError

    try:
        _open(store).set_active(name, active)
    except UserError as error:
        _fail(error)
    typer.echo(f"{name} is {'enabled' if active else 'disabled'}")


def register(app_: typer.Typer) -> None:
    """Add the commands."""
    app_.add_typer(app, name="users")
