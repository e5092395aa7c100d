"""How long to wait before the next attempt: exponential with full jitter, reset only by data."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from ``least_s`` to ``most_s``, each drawn between half of itself and itself.

    A successful login does not reset it: a venue that accepts the login and then refuses the connection would be
    flooded with retries. Only data does.

    >>> backoff = Backoff(1, 8, random.Random(1))
    >>> delays = [backoff.next_s() for _ in range(6)]
    >>> all(low / 2 <= delay <= low for delay, low in zip(delays, (1, 2, 4, 8, 8, 8)))
    True
    """

    def __init__(self, least_s: float, most_s: float, rng: random.Random | None = None) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._rng = rng or random.Random()
        self._failures = 0

    def next_s(self) -> float:
        """The next delay in seconds."""
        ceiling = min(self._most_s, self._least_s * 2.0**self._failures)
        if ceiling < self._most_s:
            self._failures += 1
        return ceiling * self._rng.uniform(0.5, 1)

    def reset(self) -> None:
        """Data came: the next failure starts from the least delay."""
        self._failures = 0
