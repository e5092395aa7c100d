"""One way to reach Redis: signed in and encrypted as configured, with an error that names the address.

Variables, all optional: ``SIGNALS_REDIS_USERNAME`` and ``SIGNALS_REDIS_PASSWORD`` (or a file, see
:mod:`connectors.secrets`), the ACL user; for a ``rediss://`` URL ``SIGNALS_REDIS_CA_FILE`` (PEM; default: the
machine's own authorities) and ``SIGNALS_REDIS_CLIENT_FILE`` (PEM: certificate and private key). A URL may hold name and
password too, but command lines are seen by others on the machine.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from connectors.secrets import SecretError, secret


def security_options(url: str) -> dict[str, Any]:
    """Keyword arguments of redis-py for sign-in and encryption; SecretError naming a file that is not there.

    >>> security_options("redis://127.0.0.1:6379/0")
    {}
    """
    options: dict[str, Any] = {}
    if username := os.environ.get("SIGNALS_REDIS_USERNAME", ""):
        options["username"] = username
    if password := secret("SIGNALS_REDIS_PASSWORD"):
        options["password"] = password
    files = {
        "SIGNALS_REDIS_CA_FILE": ("ssl_ca_certs",),
        "SIGNALS_REDIS_CLIENT_FILE": ("ssl_certfile", "ssl_keyfile"),
    }
    for name, arguments in files.items():
        if not (file := os.environ.get(name, "")):
            continue
        if not url.startswith("rediss://"):
            raise SecretError(f"{name} is set but {address_of(url)} has no TLS: write rediss://, or unset it")
        if not Path(file).is_file():
            raise SecretError(f"{name} = {file}: no such file")
        options |= dict.fromkeys(arguments, file)
    return options


def connect(url: str, timeout_s: float = 5.0) -> redis.Redis:
    """A client that retries a lost or refused connection for about a second before it gives up."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # A refused connection is an OSError here: unnamed, it would not be retried at all.
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 3, (redis.ConnectionError, redis.TimeoutError, OSError)),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        **security_options(url),
    )


def connect_asyncio(url: str, timeout_s: float = 5.0) -> redis.asyncio.Redis:
    """A client for asyncio that checks an idle connection every 30 s."""
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        url, socket_connect_timeout=timeout_s, health_check_interval=30, **security_options(url)
    )
    return client


def address_of(url: str) -> str:
    """The URL without user and password, for messages and logs.

    >>> address_of("redis://user:secret@cache:6379/0")
    'redis://cache:6379/0'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def require_redis(url: str, timeout_s: float = 5.0) -> None:
    """Raise ConnectionError naming the address unless a server answers PING there."""
    try:
        client = redis.Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, **security_options(url)
        )
        client.ping()
        client.close()
    except (redis.RedisError, OSError, ValueError) as error:
        if isinstance(error, SecretError):
            raise
        reason = str(error).replace(url, address_of(url))
        raise ConnectionError(
            f"no Redis answers at {address_of(url)} ({reason}): start it, set --redis / SIGNALS_REDIS to its address, "
            "or fix SIGNALS_REDIS_USERNAME and the related settings (docs/deployment.md)"
        ) from None
