"""The relay's state: a fold over the signal stream, in event time (pure: no clock, no I/O).

The same entries in the same order give the same state, so a restarted relay has the state of the old one, and
message numbers (the stream's own entry ids) stay the same.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter, OrderedDict, defaultdict
from typing import Any, Literal

import msgspec

from connectors.redis.bars import BarTuple
from models.messages import News, Outcome, Signal, decode
from relay.performance import HistoricalPerformance, historical
from relay.risk import SimilarSignals, similar, volatility_percentile

Mode = Literal["live", "delayed", "replay", "simulated", "unknown"]
DAY_MS = 86_400_000
#: Number of ids of ended signals kept, so that a repeated entry is not taken for a new signal.
ENDED_MAX = 20_000
#: Final outcomes kept for each symbol.
OUTCOMES_MAX = 5_000
#: Number of final outcomes in performance reports.
CLOSED_MAX = 50_000
#: A signal this much later than its bar's end comes from a replay; from ``DELAYED_MS`` on, from a delayed feed.
REPLAY_MS = 3 * DAY_MS
DELAYED_MS = 15 * 60_000


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered event. ``withdrawn`` is why ``signal`` is over (empty: it is not).

    ``supersedes`` is the id of the signal that a new one replaces. ``risk_profile``: only users of this profile are
    concerned (its horizon is shorter than the signal's own); empty: everyone.
    """

    number: str
    kind: Literal["signal", "update", "withdrawn"]
    symbol: str
    signal_id: str
    signal: Signal | None = None
    outcome: Outcome | None = None
    withdrawn: str = ""
    supersedes: str = ""
    risk_profile: str = ""
    timestamp_ms: int = 0


class Expired(msgspec.Struct, frozen=True):
    """Content of an ``expired`` stream entry: the risk profile for which it ends; empty: for all."""

    risk_profile: str = ""


def position(number: str) -> tuple[int, int]:
    """A message number as a sortable value; raises ValueError if it is not one.

    >>> position("1700000000000-10") > position("1700000000000-9")
    True
    """
    milliseconds, dash, sequence = number.partition("-")
    if not dash or not (
        milliseconds.isascii() and milliseconds.isdigit() and sequence.isascii() and sequence.isdigit()
    ):
        raise ValueError(f"{number!r} is not a message number; send one that a message carried")
    return int(milliseconds), int(sequence)


class State:
    """Active signals, outcomes, counts and each symbol's clock."""

    def __init__(self) -> None:
        self.signals: dict[str, Signal] = {}
        self.outcomes: dict[str, dict[str, Outcome]] = defaultdict(dict)
        self.clock_ms: dict[str, int] = {}
        self.news: dict[str, list[News]] = {}
        self.system: dict[str, Any] = {}
        #: Base rates of each action, by bundle id.
        self.base_rates: dict[str, dict[str, float]] = {}
        self.last_bundle = ""
        self.last_lag_ms: int | None = None
        self.number = "0-0"
        self._ended: OrderedDict[str, None] = OrderedDict()
        #: (end, signal id, risk profile that ends then; empty: the signal itself).
        self._expiries: list[tuple[int, str, str]] = []
        self._over: dict[str, set[str]] = defaultdict(set)
        self._days: Counter[int] = Counter()
        self._history: dict[str, HistoricalPerformance] = {}
        self._closed: list[Outcome] = []
        self._similar: dict[tuple[str, str], SimilarSignals] = {}
        self._volatility: dict[str, float | None] = {}

    def apply(self, number: str, signal_id: str, kind: str, data: bytes) -> Event | None:
        """Fold one stream entry in; the event it makes, or None if it changes nothing.

        Raises ``msgspec.DecodeError`` (or its ValidationError) when ``data`` does not match ``kind``.
        """
        self.number = number
        if kind == "signal":
            return self._signal(number, decode(data, Signal))
        if kind == "outcome":
            return self._outcome(number, decode(data, Outcome))
        if kind == "cancel":
            cancelled = decode(data, Signal)
            return self._withdraw(number, cancelled.cancels or signal_id, "cancelled")
        if kind == "expired":
            profile = decode(data, Expired).risk_profile
            return (
                self._end_profile(number, signal_id, profile)
                if profile
                else self._withdraw(number, signal_id, "expired")
            )
        return None

    def adopt(self, signal: Signal) -> None:
        """Add an active signal whose stream entry is no longer kept."""
        if signal.signal_id not in self.signals and signal.signal_id not in self._ended:
            self._add(signal)

    def adopt_outcome(self, outcome: Outcome) -> None:
        """Add an outcome from the kept history."""
        known = self.outcomes[outcome.symbol].get(outcome.signal_id)
        if known is None or known.updated_ms <= outcome.updated_ms:
            self._keep(outcome)

    def set_system(self, system: dict[str, Any]) -> bool:
        """Renew the system's status; returns whether a bundle with active signals has other base rates now."""
        self.system = system
        bundle = system.get("bundle")
        name, rates = (bundle.get("name"), bundle.get("base_rates")) if isinstance(bundle, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(rates, dict) or self.base_rates.get(name) == rates:
            return False
        self.base_rates[name] = rates
        return any(signal.bundle == name for signal in self.signals.values())

    def unknown_bundles(self) -> set[str]:
        """Bundles of active signals whose base rates are not known yet."""
        return {signal.bundle for signal in self.signals.values()} - self.base_rates.keys()

    def set_base_rates(self, bundle: str, rates: dict[str, float]) -> None:
        """Set how often each action was right in a bundle's training data."""
        self.base_rates[bundle] = rates

    def set_news(self, symbol: str, articles: list[News]) -> None:
        """Renew a symbol's news, newest first."""
        self.news[symbol] = articles

    def see_price(self, symbol: str, timestamp_ms: int) -> None:
        """Advance a symbol's clock."""
        self.clock_ms[symbol] = max(self.clock_ms.get(symbol, 0), timestamp_ms)

    def is_over(self, signal_id: str, risk_profile: str) -> bool:
        """Whether an active signal has ended for this risk profile."""
        return risk_profile in self._over.get(signal_id, ())

    def mark_over(self, signal_id: str, risk_profile: str) -> None:
        """Record that an active signal has ended for this risk profile."""
        self._over[signal_id].add(risk_profile)

    def due(self, wall_ms: int) -> list[tuple[str, str]]:
        """(signal id, risk profile or empty for all) whose time is over.

        By the wall clock, or in a replay by the symbol's own event time.
        """
        replaying = self.mode == "replay"
        over: list[tuple[str, str]] = []
        kept: list[tuple[int, str, str]] = []
        while self._expiries:
            expires_ms, signal_id, profile = self._expiries[0]
            signal = self.signals.get(signal_id)
            if signal is None or self.is_over(signal_id, profile):
                heapq.heappop(self._expiries)
            elif replaying and expires_ms > self.clock_ms.get(signal.symbol, 0):
                # Symbols replay at different speeds, so a later expiry may be due before this one.
                kept.append(heapq.heappop(self._expiries))
            elif replaying or expires_ms <= wall_ms:
                over.append((signal_id, profile))
                kept.append(heapq.heappop(self._expiries))
            else:
                break
        for entry in kept:
            heapq.heappush(self._expiries, entry)
        return over

    @property
    def mode(self) -> Mode:
        """The data mode: as the pipeline reports it, else derived from the last signal's age."""
        reported = self.system.get("mode")
        modes: dict[str, Mode] = {"live": "live", "delayed": "delayed", "replay": "replay", "simulated": "simulated"}
        if isinstance(reported, dict) and (mode := modes.get(str(reported.get("mode")))):
            return mode
        if self.last_lag_ms is None:
            return "unknown"
        return "replay" if self.last_lag_ms > REPLAY_MS else "delayed" if self.last_lag_ms > DELAYED_MS else "live"

    @property
    def signals_today(self) -> int:
        """Signals whose bar ended on the latest UTC day seen."""
        return self._days[max(self._days)] if self._days else 0

    def history(self, symbol: str) -> HistoricalPerformance:
        """Outcomes of the symbol's closed signals."""
        if symbol not in self._history:
            self._history[symbol] = historical(self.outcomes.get(symbol, {}).values())
        return self._history[symbol]

    def all_closed(self) -> list[Outcome]:
        """Every final outcome in the order they closed."""
        return self._closed

    def set_bars(self, symbol: str, bars: list[BarTuple]) -> None:
        """Renew the bars from which the symbol's volatility is derived."""
        self._volatility[symbol] = volatility_percentile(bars)

    def volatility(self, symbol: str) -> float | None:
        """Percentile of the symbol's latest volatility among its recent ones, in [0, 100]."""
        return self._volatility.get(symbol)

    def similar(self, action: str, time_horizon: str) -> SimilarSignals:
        """Outcomes of closed signals of this side and horizon."""
        key = action, time_horizon
        if key not in self._similar:
            self._similar[key] = similar(action, time_horizon, self._closed)
        return self._similar[key]

    # Folding

    def _add(self, signal: Signal) -> None:
        self.signals[signal.signal_id] = signal
        self.see_price(signal.symbol, signal.created_ms)
        heapq.heappush(self._expiries, (signal.expires_ms, signal.signal_id, ""))
        for name, profile in signal.risk_profiles.items():
            if 0 < profile.expires_ms < signal.expires_ms:
                heapq.heappush(self._expiries, (profile.expires_ms, signal.signal_id, name))
        self._days[signal.created_ms // DAY_MS] += 1
        self.last_lag_ms = signal.emitted_ms - signal.created_ms
        self.last_bundle = signal.bundle

    def _end(self, signal_id: str) -> Signal | None:
        signal = self.signals.pop(signal_id, None)
        self._over.pop(signal_id, None)
        self._ended[signal_id] = None
        while len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)
        return signal

    def _signal(self, number: str, signal: Signal) -> Event | None:
        if signal.signal_id in self.signals or signal.signal_id in self._ended:
            return None
        supersedes = signal.cancels if signal.cancels in self.signals else ""
        if not supersedes:  # a revision replaces the same bar's signal, whether or not it names it
            supersedes = next(
                (
                    known.signal_id for known in self.signals.values()
                    if known.symbol == signal.symbol and known.timeframe == signal.timeframe
                    and known.created_ms == signal.created_ms and known.bundle == signal.bundle
                    and known.revision < signal.revision
                ),
                "",
            ) if signal.revision else ""  # fmt: skip
        if supersedes:
            self._end(supersedes)
        self._add(signal)
        return Event(
            number=number, kind="signal", symbol=signal.symbol, signal_id=signal.signal_id, signal=signal,
            supersedes=supersedes, timestamp_ms=signal.created_ms,
        )  # fmt: skip

    def _keep(self, outcome: Outcome) -> None:
        by_id = self.outcomes[outcome.symbol]
        known = by_id.pop(outcome.signal_id, None)
        new = known is None or known.status == "active"
        by_id[outcome.signal_id] = outcome
        while len(by_id) > OUTCOMES_MAX:
            del by_id[next(iter(by_id))]
        self.see_price(outcome.symbol, outcome.updated_ms)
        if known is not None and known.status != "active":  # a revised end replaces the first
            self._closed = [o for o in self._closed if o.signal_id != known.signal_id]
            new = True
        if outcome.status != "active" or (known is not None and known.status != "active"):
            self._history.pop(outcome.symbol, None)
            self._similar.pop((outcome.action, outcome.time_horizon), None)
        if outcome.status != "active" and new:
            bisect.insort(self._closed, outcome, key=lambda o: (o.updated_ms, o.signal_id))
            if len(self._closed) > CLOSED_MAX:
                del self._closed[0]

    def _outcome(self, number: str, outcome: Outcome) -> Event | None:
        known = self.outcomes[outcome.symbol].get(outcome.signal_id)
        active = outcome.signal_id in self.signals
        final = known is not None and known.status != "active"
        repeated = known == outcome or (known is not None and final and known.revision >= outcome.revision)
        if repeated and not active:
            return None
        self._keep(outcome)
        signal = self.signals.get(outcome.signal_id)
        if outcome.status == "active":
            withdrawn = ""
        else:
            withdrawn = outcome.status
            self._end(outcome.signal_id)
        return Event(
            number=number, kind="update", symbol=outcome.symbol, signal_id=outcome.signal_id, signal=signal,
            outcome=outcome, withdrawn=withdrawn, timestamp_ms=outcome.updated_ms,
        )  # fmt: skip

    def _end_profile(self, number: str, signal_id: str, profile: str) -> Event | None:
        signal = self.signals.get(signal_id)
        if signal is None:
            return None
        self.mark_over(signal_id, profile)
        return Event(
            number=number, kind="withdrawn", symbol=signal.symbol, signal_id=signal_id, signal=signal,
            withdrawn="expired", risk_profile=profile,
            timestamp_ms=max(self.clock_ms.get(signal.symbol, 0), signal.created_ms),
        )  # fmt: skip

    def _withdraw(self, number: str, signal_id: str, why: str) -> Event | None:
        signal = self._end(signal_id)
        if signal is None:
            return None
        return Event(
            number=number, kind="withdrawn", symbol=signal.symbol, signal_id=signal_id, signal=signal, withdrawn=why,
            timestamp_ms=max(self.clock_ms.get(signal.symbol, 0), signal.created_ms),
        )  # fmt: skip
