"""Protections: when signals are withheld because of what came before, and the kill switch.

All in event time (the end of bars), so that a replay withholds the same. A *book* of one notional position a series
(symbol and timeframe), opened by each buy or sell and closed by target, stop, expiry or the next signal, feeds them:

- **cooldown**: at least ``symbol_cooldown_ms`` between two signals of a series, ``global_cooldown_ms`` between any two
  of an account;
- **stop-loss guard**: after ``stops`` stops within ``window_ms`` nothing for ``pause_ms``, of the series or account;
- **drawdown halt**: when the account's summed P&L falls ``drawdown_percent`` below its peak, nothing for
  ``drawdown_pause_ms``; then the peak starts again;
- **kill switch** and venue halts: :class:`Halts`.

An account is what shares an account row: in the signals job a symbol group (``--groups 1`` makes it the whole market).
Account-wide protections depend on the order of bars between symbols, so they are off by default; bars of one frame are
then taken in order of their end. A hold closes a position and is never withheld by a protection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from models.jit import njit

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class StopGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``stops`` stops within ``window_ms`` pause new signals for ``pause_ms``; 0 stops: off (at most 8)."""

    stops: int = 0
    window_ms: int = _DAY_MS
    pause_ms: int = _DAY_MS


class RiskConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The protections' limits; 0 switches one off."""

    symbol_cooldown_ms: int = 0
    global_cooldown_ms: int = 0
    symbol_stops: StopGuard = StopGuard()
    global_stops: StopGuard = StopGuard()
    drawdown_percent: float = 0.0
    drawdown_pause_ms: int = _DAY_MS
    #: Costs of a round trip in basis points, charged to the book.
    cost_bps: float = 0.0

    def __post_init__(self) -> None:
        for name in ("symbol_cooldown_ms", "global_cooldown_ms", "drawdown_percent", "drawdown_pause_ms", "cost_bps"):
            if getattr(self, name) < 0:
                raise ValueError(f"risk.{name} = {getattr(self, name)}: must be 0 (off) or more")
        for name in ("symbol_stops", "global_stops"):
            guard = getattr(self, name)
            if not 0 <= guard.stops <= STOPS_MAX:
                raise ValueError(f"risk.{name}.stops = {guard.stops}: must be 0 (off) to {STOPS_MAX}")
            if guard.window_ms < 0 or guard.pause_ms < 0:
                raise ValueError(f"risk.{name}: window_ms and pause_ms must be 0 or more")

    @property
    def needs_order(self) -> bool:
        """Whether what is withheld depends on the order of bars between symbols."""
        return bool(self.global_cooldown_ms or self.global_stops.stops or self.drawdown_percent)


#: Stops remembered of a series or account.
STOPS_MAX = 8

#: Columns of an account's row.
EQUITY, PEAK, ACCOUNT_PAUSED_UNTIL, DRAWDOWN_UNTIL, LAST_EMIT, ACCOUNT_STOPS = 0, 1, 2, 3, 4, 5
ACCOUNT_COLUMNS = ACCOUNT_STOPS + STOPS_MAX

_NEVER = -1.0e18


def new_account() -> NDArray[np.float64]:
    """A fresh account row."""
    row = np.zeros(ACCOUNT_COLUMNS)
    row[[ACCOUNT_PAUSED_UNTIL, DRAWDOWN_UNTIL, LAST_EMIT]] = _NEVER
    row[ACCOUNT_STOPS:] = _NEVER
    return row


@njit(cache=True)
def note_stop(stops: npt.NDArray[np.float64], at_ms: float, count: int, window_ms: float, pause_ms: float) -> float:
    """Remember a stop in ``stops`` (latest first); the time until which to pause, or a time long past."""
    for k in range(len(stops) - 1, 0, -1):
        stops[k] = stops[k - 1]
    stops[0] = at_ms
    if count > 0 and at_ms - stops[count - 1] <= window_ms:
        return at_ms + pause_ms
    return _NEVER


@njit(cache=True)
def forget_stop(stops: npt.NDArray[np.float64], at_ms: float) -> None:
    """Take back the latest stop remembered for ``at_ms``."""
    for k in range(len(stops)):
        if stops[k] == at_ms:
            for j in range(k, len(stops) - 1):
                stops[j] = stops[j + 1]
            stops[-1] = _NEVER
            return


@njit(cache=True)
def note_profit(
    account: npt.NDArray[np.float64], percent: float, at_ms: float, limit_percent: float, pause_ms: float
) -> None:
    """Book a closed position's P&L; start the drawdown pause when the limit is reached."""
    account[EQUITY] += percent
    if account[EQUITY] > account[PEAK]:
        account[PEAK] = account[EQUITY]
    if limit_percent > 0.0 and account[PEAK] - account[EQUITY] >= limit_percent:
        account[DRAWDOWN_UNTIL] = at_ms + pause_ms
        account[PEAK] = account[EQUITY]


class KillSwitch(msgspec.Struct, frozen=True, kw_only=True):
    """The kill switch as a message on its own topic: no signals of ``symbol`` (``*``: of any) from
    ``effective_ms`` (event time, bars that end after it) until a ``resume``.
    """

    kind: Literal["kill", "resume"]
    effective_ms: int
    symbol: str = "*"
    reason: str = ""


class Halts:
    """Spans of event time in which signals are withheld, by symbol; ``*`` is every symbol.

    >>> halts = Halts()
    >>> halts.apply(KillSwitch(kind="kill", effective_ms=100))
    >>> halts.apply(KillSwitch(kind="resume", effective_ms=300))
    >>> halts.mask(["AAPL"], np.zeros(4, np.int64), np.array([100.0, 200.0, 300.0, 400.0])).tolist()
    [False, True, True, False]
    """

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[int, int | None]]] = {}

    def apply(self, message: KillSwitch) -> None:
        """Begin a span with ``kill``, end the open one with ``resume``; repeats change nothing."""
        self.note(message.symbol, message.kind == "kill", message.effective_ms)

    def note(self, symbol: str, halted: bool, at_ms: int) -> None:
        """The same for a venue's halt (:class:`~models.events.Halt` or :class:`~models.events.Resume`)."""
        spans = self.spans.setdefault(symbol, [])
        is_open = bool(spans) and spans[-1][1] is None
        if halted and not is_open and not (spans and at_ms <= spans[-1][0]):
            spans.append((at_ms, None))
        elif not halted and is_open and at_ms >= spans[-1][0]:
            spans[-1] = (spans[-1][0], at_ms)

    def mask(
        self, symbols: Sequence[str], index: NDArray[np.integer[Any]], ends: NDArray[np.float64]
    ) -> NDArray[np.bool_] | None:
        """Which bars fall in a span (``from < end <= until``); bar i is of ``symbols[index[i]]``. None: none do."""
        everyone = self.spans.get("*", [])
        named = [(k, self.spans[symbol]) for k, symbol in enumerate(symbols) if symbol in self.spans]
        if not everyone and not named:
            return None
        mask = np.zeros(len(ends), np.bool_)
        for start, end in everyone:
            mask |= _within(ends, start, end)
        for k, spans in named:
            for start, end in spans:
                mask |= (index == k) & _within(ends, start, end)
        return mask

    def encode(self) -> bytes:
        """The spans as JSON, for a job's state."""
        return msgspec.json.encode(self.spans)

    @classmethod
    def decode(cls, data: bytes) -> Halts:
        """The inverse of :meth:`encode`."""
        halts = cls()
        halts.spans = msgspec.json.decode(data, type=dict[str, list[tuple[int, int | None]]])
        return halts


def _within(ends: NDArray[np.float64], start: int, end: int | None) -> NDArray[np.bool_]:
    inside = ends > start
    return inside if end is None else inside & (ends <= end)
