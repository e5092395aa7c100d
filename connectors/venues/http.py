"""HTTP GET by venues' rules: pages, rate limits, bans, and never a retry of a refused key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import msgspec


class RefusedError(RuntimeError):
    """The venue refuses the key or the request; a retry cannot help."""


class UnavailableError(RuntimeError):
    """The venue did not answer in ``tries`` attempts."""


def retry_after_s(response: httpx.Response, now_s: float) -> float | None:
    """The pause a response asks for: ``Retry-After`` (s) or ``X-RateLimit-Reset`` (epoch s).

    >>> retry_after_s(httpx.Response(429, headers={"Retry-After": "7"}), now_s=0)
    7.0
    >>> retry_after_s(httpx.Response(429, headers={"X-RateLimit-Reset": "1010"}), now_s=1000)
    10.0
    """
    for name, since in (("Retry-After", 0.0), ("X-RateLimit-Reset", now_s)):
        try:
            return max(0.0, float(response.headers[name]) - since)
        except (KeyError, ValueError):
            continue
    return None


class Http:
    """JSON over HTTP for one venue. ``wait_s_max`` bounds any pause a venue may ask for."""

    def __init__(
        self,
        base: str,
        headers: dict[str, str] | None = None,
        tries: int = 5,
        pause_s: float = 0.5,
        wait_s_max: float = 300,
        timeout_s: float = 20,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._base = base.rstrip("/")
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout_s)
        self._tries, self._pause_s, self._wait_s_max, self._sleep = tries, pause_s, wait_s_max, sleep
        self._not_before_s = 0.0

    async def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """The decoded JSON at a path (or at a whole URL, as pages give it)."""
        url = path if path.startswith("http") else self._base + path
        problem = ""
        for attempt in range(self._tries):
            ban = self._not_before_s - time.time()
            if ban > 0:  # 429 and 418 stop every request, not only the one that received it
                await self._sleep(min(ban, self._wait_s_max))
            try:
                response = await self._client.get(url, params=params)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                await self._sleep(self._pause_s * 2**attempt)
                continue
            if response.status_code == 200:
                try:
                    return msgspec.json.decode(response.content)
                except msgspec.DecodeError as error:
                    problem = f"not JSON: {error}"
            elif response.status_code in (418, 429):
                asked = retry_after_s(response, time.time())
                self._not_before_s = time.time() + (asked if asked is not None else self._pause_s * 2**attempt)
                problem = f"HTTP {response.status_code}, too many requests"
                continue
            elif response.status_code < 500:
                raise RefusedError(f"{url}: HTTP {response.status_code}: {response.text[:200]}")
            else:
                problem = f"HTTP {response.status_code}"
            await self._sleep(self._pause_s * 2**attempt)
        raise UnavailableError(f"{url}: no answer in {self._tries} tries: {problem}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
