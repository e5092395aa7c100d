"""Reports a process's status to the dashboard's system page: one hash in Redis, one field per component.

>>> import redis
>>> SystemStatus(redis.Redis(port=1)).report("job", lag_ms=12, bars=400)  # Redis away: returns False, never raises
False
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import redis

from connectors.redis.keys import SYSTEM_STATUS


class SystemStatus:
    """Writes over one redis-py client, each component at most once in ``every_s`` seconds.

    Components and their fields are listed at :data:`connectors.redis.keys.SYSTEM_STATUS`; names ending ``_ms`` that are
    epoch milliseconds are shown as times. At most once; a lost report is replaced by the next.
    """

    def __init__(self, client: Any, every_s: float = 1.0) -> None:
        self._client, self._every_s = client, every_s
        self._written: dict[str, float] = {}

    def report(self, component: str, **fields: Any) -> bool:
        """Renew a component's fields (JSON values); true if they were written now."""
        now = time.monotonic()
        if now - self._written.get(component, -1e9) < self._every_s:
            return False
        self._written[component] = now
        body = msgspec.json.encode(fields | {"updated_ms": int(time.time() * 1_000)})
        try:
            self._client.hset(SYSTEM_STATUS, component, body)
        except (redis.RedisError, OSError):
            return False
        return True
