"""Rate and connection limits, in memory, bounded (pure; the clock is passed in)."""

from __future__ import annotations

from collections import Counter, OrderedDict

#: Keys kept at once; the least recently used is dropped, which at worst refills it.
KEYS_MAX = 50_000


class TokenBucket:
    """``rate`` per second, ``burst`` at once, for each key.

    >>> bucket = TokenBucket(rate=1, burst=2)
    >>> [bucket.take("a", now) for now in (0.0, 0.0, 0.0, 1.0)]
    [True, True, False, True]
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float, cost: float = 1.0) -> bool:
        """Whether one more is allowed at ``now`` (seconds, monotonic)."""
        level, since = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        allowed = level >= cost
        self._levels[key] = (level - cost if allowed else level, now)
        if len(self._levels) > KEYS_MAX:
            self._levels.popitem(last=False)
        return allowed


class Slots:
    """How many connections each key has.

    >>> slots = Slots(maximum=1)
    >>> slots.enter("a"), slots.enter("a")
    (True, False)
    >>> slots.leave("a"); slots.enter("a")
    True
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._held: Counter[str] = Counter()

    def enter(self, key: str) -> bool:
        """Take a slot, if one is free."""
        if self._held[key] >= self._maximum:
            return False
        self._held[key] += 1
        return True

    def leave(self, key: str) -> None:
        """Release the slot."""
        self._held[key] -= 1
        if self._held[key] <= 0:
            del self._held[key]
