"""One way to reach Redis, with an error that names the address."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry


def connect(url: str, timeout_s: float = 5.0) -> redis.Redis:
    """A client that reconnects with backoff for about 30 s before it gives up."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ExponentialBackoff(cap=5, base=0.1), 10),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )


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
        redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s).ping()
    except (redis.RedisError, OSError) as error:
        raise ConnectionError(
            f"no Redis answers at {address_of(url)} ({error}): start it, or set --redis / SIGNALS_REDIS to its address"
        ) from None
