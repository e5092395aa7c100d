"""Delivery state that relays share: which events were sent, up to which one, and what could not be delivered."""

from __future__ import annotations

from typing import Any, Protocol

from redis.asyncio import Redis

from connectors.redis import keys as redis_keys


class Journal(Protocol):
    """Kept outside the process, so that one of several relays sends each event, and a restart misses none."""

    async def reached(self) -> str | None:
        """The number of the last event that a relay claimed, if any."""

    async def claim(self, number: str) -> bool:
        """Claim an event; false if another relay has it."""

    async def bury(self, fields: dict[str, str | bytes]) -> None:
        """Keep a note that could not be delivered (a dead letter)."""

    async def dead_letters(self, name: str) -> list[dict[str, Any]]:
        """A user's undelivered notes, newest first."""


class RedisJournal:
    """The journal in Redis (keys: ``connectors.redis.keys``); each call raises RedisError when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def reached(self) -> str | None:
        """The number of the last event that a relay claimed, if any."""
        number = await self._redis.get(redis_keys.PUSH_POSITION)
        return number.decode() if number else None

    async def claim(self, number: str) -> bool:
        """Claim an event; false if another relay has it."""
        claimed = await self._redis.set(
            redis_keys.push_claim_key(number), b"1", nx=True, ex=redis_keys.PUSH_CLAIM_TTL_S
        )
        await self._redis.set(redis_keys.PUSH_POSITION, number)
        return bool(claimed)

    async def bury(self, fields: dict[str, str | bytes]) -> None:
        """Keep a note that could not be delivered (a dead letter)."""
        entry: dict[Any, Any] = dict(fields)
        maximum = redis_keys.PUSH_DEAD_LETTERS_MAX
        await self._redis.xadd(redis_keys.PUSH_DEAD_LETTERS, entry, maxlen=maximum, approximate=True)

    async def dead_letters(self, name: str) -> list[dict[str, Any]]:
        """A user's undelivered notes, newest first."""
        entries = await self._redis.xrevrange(redis_keys.PUSH_DEAD_LETTERS, count=200)
        dead_letters = [{key.decode(): value.decode() for key, value in fields.items()} for _, fields in entries]
        return [note for note in dead_letters if note.pop("user", None) == name][:20]
