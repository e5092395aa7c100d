"""User store: users, their tier, watchlist and risk profile, API tokens and push targets, behind one interface.

SQLite by default, PostgreSQL by a DSN; both run the same statements. Calls block (microseconds on SQLite, a round trip
on PostgreSQL), so the relay makes them in a thread. An API token is 256 random bits; only its SHA-256 is kept.

>>> store = open_store("sqlite://:memory:")
>>> user = store.add("ann", tier="premium", watchlist=["AAPL"])
>>> token = store.issue_token("ann")
>>> store.by_token(token).name, store.by_token("sp_wrong")
('ann', None)
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

import msgspec

from models.messages import Tier

RISK_PROFILES = ("conservative", "moderate", "aggressive")
TIERS: tuple[str, ...] = get_args(Tier)
#: Symbols a watchlist may hold.
WATCHLIST_MAX = 500
TOKEN_PREFIX = "sp_"
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_SYMBOL = re.compile(r"[A-Z0-9.\-/:]{1,24}")

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, tier TEXT NOT NULL, risk_profile TEXT NOT NULL,"
    " watchlist TEXT NOT NULL, active INTEGER NOT NULL, created_ms BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS tokens (digest TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS push_targets (target_id TEXT PRIMARY KEY, name TEXT NOT NULL, channel TEXT NOT NULL,"
    " address TEXT NOT NULL, created_ms BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS push_preferences (name TEXT PRIMARY KEY, preferences TEXT NOT NULL)",
)


class UserError(ValueError):
    """A user, tier, symbol or DSN that is not valid; the message names it and what is allowed."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One user. ``watchlist`` is what a connection follows when it names nothing; empty means all symbols."""

    name: str
    tier: Tier
    risk_profile: str = "moderate"
    watchlist: list[str] = msgspec.field(default_factory=list)
    active: bool = True
    created_ms: int = 0


class PushTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where a user's notifications go: ``channel`` names a file of ``relay/push/channels``, ``address`` is its JSON."""

    target_id: str
    name: str
    channel: str
    address: dict[str, Any]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def check_watchlist(symbols: list[str]) -> list[str]:
    """The symbols in upper case, each once; raises UserError for an invalid one, or too many."""
    upper = list(dict.fromkeys(symbol.upper() for symbol in symbols))
    if bad := [symbol for symbol in upper if not _SYMBOL.fullmatch(symbol)]:
        raise UserError(f"watchlist: {bad[0]!r} is not a symbol; use letters, digits and . - / : (at most 24)")
    if len(upper) > WATCHLIST_MAX:
        raise UserError(f"watchlist: {len(upper)} symbols; at most {WATCHLIST_MAX} are kept, or leave it empty for all")
    return upper


def _check_choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{field}: {value!r} is unknown; use one of {', '.join(allowed)}")


class UserStore:
    """All users in one database; safe to call from any thread.

    ``connect`` gives a DB-API connection, ``mark`` is its parameter mark (``?`` or ``%s``), ``lost`` the errors that
    mean the connection is gone: then it is reopened, once per call.
    """

    def __init__(self, connect: Callable[[], Any], mark: str, lost: tuple[type[Exception], ...] = ()) -> None:
        self._connect, self._mark, self._lost = connect, mark, lost
        self._connection, self._lock = connect(), threading.Lock()
        for statement in _SCHEMA:
            self._run(statement)

    def _run(self, statement: str, *values: Any) -> list[Any]:
        """One statement in a transaction of its own."""
        text = statement.replace("?", self._mark)
        with self._lock:
            try:
                return self._execute(text, values)
            except self._lost:
                with contextlib.suppress(Exception):
                    self._connection.close()
                self._connection = self._connect()
                return self._execute(text, values)

    def _execute(self, text: str, values: tuple[Any, ...]) -> list[Any]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(text, values)
            rows = list(cursor.fetchall()) if cursor.description else []
            self._connection.commit()
            return rows
        except BaseException:
            with contextlib.suppress(Exception):
                self._connection.rollback()
            raise
        finally:
            cursor.close()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    # Users

    def add(
        self, name: str, tier: str = "free", risk_profile: str = "moderate", watchlist: list[str] | None = None
    ) -> User:
        """Add a user; raises UserError when the name is taken or not allowed."""
        if not _NAME.fullmatch(name):
            raise UserError(f"name: {name!r} is not allowed; use 1 to 64 letters, digits and _ . @ -")
        _check_choice("tier", tier, TIERS)
        _check_choice("risk_profile", risk_profile, RISK_PROFILES)
        if self.get(name) is not None:
            raise UserError(f"name: {name!r} exists already; choose another, or change it with `signals users tier`")
        symbols = msgspec.json.encode(check_watchlist(watchlist or [])).decode()
        self._run(
            "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)", name, tier, risk_profile, symbols, 1, int(time.time() * 1e3)
        )
        user = self.get(name)
        assert user is not None
        return user

    def get(self, name: str) -> User | None:
        """The user, or None."""
        rows = self._run("SELECT * FROM users WHERE name = ?", name)
        return self._user(rows[0]) if rows else None

    def all(self) -> list[User]:
        """Every user, by name."""
        return [self._user(row) for row in self._run("SELECT * FROM users ORDER BY name")]

    @staticmethod
    def _user(row: Any) -> User:
        name, tier, risk_profile, watchlist, active, created_ms = row
        return User(
            name=name, tier=tier, risk_profile=risk_profile, watchlist=msgspec.json.decode(watchlist),
            active=bool(active), created_ms=created_ms,
        )  # fmt: skip

    def _update(self, name: str, column: str, value: Any) -> None:
        if self.get(name) is None:
            raise UserError(f"name: no user {name!r}; add it with `signals users add {name}`")
        self._run(f"UPDATE users SET {column} = ? WHERE name = ?", value, name)

    def set_tier(self, name: str, tier: str) -> None:
        """Move a user to another tier; open connections follow within seconds."""
        _check_choice("tier", tier, TIERS)
        self._update(name, "tier", tier)

    def set_risk_profile(self, name: str, risk_profile: str) -> None:
        """Choose which of a signal's three profiles the user is shown."""
        _check_choice("risk_profile", risk_profile, RISK_PROFILES)
        self._update(name, "risk_profile", risk_profile)

    def set_watchlist(self, name: str, symbols: list[str]) -> None:
        """Replace the watchlist."""
        self._update(name, "watchlist", msgspec.json.encode(check_watchlist(symbols)).decode())

    def set_active(self, name: str, active: bool) -> None:
        """Enable or disable a user; open connections of a disabled one end within seconds."""
        self._update(name, "active", int(active))

    # API tokens

    def issue_token(self, name: str) -> str:
        """A new API token; it is shown only once; only its digest is kept."""
        if self.get(name) is None:
            raise UserError(f"name: no user {name!r}; add it with `signals users add {name}`")
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._run("INSERT INTO tokens VALUES (?, ?, ?)", _digest(token), name, int(time.time() * 1e3))
        return token

    def revoke_tokens(self, name: str) -> int:
        """Revoke all of a user's API tokens; returns how many."""
        count = len(self._run("SELECT digest FROM tokens WHERE name = ?", name))
        self._run("DELETE FROM tokens WHERE name = ?", name)
        return count

    def by_token(self, token: str) -> User | None:
        """The active user a token belongs to, or None."""
        rows = self._run("SELECT name FROM tokens WHERE digest = ?", _digest(token))
        user = self.get(rows[0][0]) if rows else None
        return user if user and user.active else None

    # Secrets of the relay itself (URL signing, VAPID), shared by all relays on one store

    def secret(self, name: str, fresh: str | None = None) -> str:
        """The stored secret, made on first use (``fresh`` or 256 random bits)."""
        fresh = fresh or secrets.token_urlsafe(32)
        self._run("INSERT INTO secrets VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, fresh)
        return str(self._run("SELECT value FROM secrets WHERE name = ?", name)[0][0])

    # Push targets and preferences

    def add_push_target(self, name: str, channel: str, address: dict[str, Any]) -> PushTarget:
        """Keep a target; the same address of the same user replaces itself."""
        encoded = msgspec.json.encode(address, order="deterministic").decode()
        target_id = hashlib.sha256(f"{name}\n{channel}\n{encoded}".encode()).hexdigest()[:24]
        self._run("DELETE FROM push_targets WHERE target_id = ?", target_id)
        self._run(
            "INSERT INTO push_targets VALUES (?, ?, ?, ?, ?)", target_id, name, channel, encoded, int(time.time() * 1e3)
        )
        return PushTarget(target_id=target_id, name=name, channel=channel, address=address)

    def remove_push_target(self, name: str, target_id: str) -> bool:
        """Forget a target of this user; false if the user has none such."""
        found = self._run("SELECT 1 FROM push_targets WHERE target_id = ? AND name = ?", target_id, name)
        self._run("DELETE FROM push_targets WHERE target_id = ? AND name = ?", target_id, name)
        return bool(found)

    def push_targets(self, name: str | None = None) -> list[PushTarget]:
        """A user's targets, or everyone's."""
        columns = "SELECT target_id, name, channel, address FROM push_targets"
        rows = self._run(f"{columns} WHERE name = ?", name) if name else self._run(columns)
        return [
            PushTarget(target_id=row[0], name=row[1], channel=row[2], address=msgspec.json.decode(row[3]))
            for row in rows
        ]

    def set_push_preferences(self, name: str, preferences: str) -> None:
        """Keep a user's notification preferences (JSON)."""
        self._run("DELETE FROM push_preferences WHERE name = ?", name)
        self._run("INSERT INTO push_preferences VALUES (?, ?)", name, preferences)

    def push_preferences(self) -> dict[str, str]:
        """Everyone's preferences (JSON) by user."""
        return {row[0]: row[1] for row in self._run("SELECT name, preferences FROM push_preferences")}


def open_store(dsn: str) -> UserStore:
    """Open ``sqlite://PATH``, ``sqlite://:memory:`` or ``postgresql://user:password@host:port/database``.

    Raises UserError naming the DSN (never its password) when it cannot be opened.
    """
    if dsn.startswith("sqlite://"):
        return UserStore(lambda: _open_sqlite(dsn), "?")
    parts = urlsplit(dsn)
    if parts.scheme in ("postgresql", "postgres"):
        import pg8000.dbapi

        return UserStore(lambda: _open_postgresql(dsn), "%s", (pg8000.dbapi.InterfaceError, OSError))
    raise UserError(f"user store: {parts.scheme or dsn!r} is unknown; use sqlite://PATH or postgresql://...")


def _open_sqlite(dsn: str) -> Any:
    path = dsn.removeprefix("sqlite://")
    try:
        if path != ":memory:":
            file = Path(path).expanduser()
            file.parent.mkdir(parents=True, exist_ok=True)
            path = str(file)
        connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
        connection.execute("PRAGMA journal_mode=WAL")
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"user store: cannot open {dsn}: {error}") from error
    return connection


def _open_postgresql(dsn: str) -> Any:
    import pg8000.dbapi

    parts = urlsplit(dsn)
    try:
        return pg8000.dbapi.connect(
            user=unquote(parts.username or ""), password=unquote(parts.password or "") or None,
            host=parts.hostname or "localhost", port=parts.port or 5432, database=parts.path.lstrip("/"),
            timeout=10, tcp_keepalive=True,
        )  # fmt: skip
    except (pg8000.dbapi.Error, OSError) as error:
        address = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        raise UserError(f"user store: cannot reach PostgreSQL at {address}: {error}") from error
