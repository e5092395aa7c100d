"""Signals meet bars: follows every open signal of a symbol to its end, by the rules of :mod:`models.trade.exits`.

Pure: signals, bars and splits in, outcomes out; no clock but event time. The verdict on a signal is a function of the
*set* of signals, bars and splits, so it does not depend on the order in which they arrive:

- a signal that comes after its bars is walked over the bars that are kept;
- a bar that comes late or revised is put in its place, and every verdict it touches is given again; one that was
  already out and changes goes out with ``revision`` + 1;
- a split converts the bars after it back to the units of each signal made before it.

Outcomes: one ``active`` for each open signal and minute of event time that has a bar, one final at its end. A signal
follows the bars of its own timeframe. Holds are not followed. A revision voids the signal it replaces, a cancellation
the one it names.

Bars are kept ``retention_ms`` behind the newest of their series, and behind the ``clock_ms`` of :meth:`Tracker.take`,
up to which everything has arrived: while a backlog is read, bars may run ahead of signals by years. (None: bars are
kept for ever.) What comes too late for that is refused, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from models.jit import njit
from models.messages import TIMEFRAME_MS, Action, Bar, Horizon, Outcome, Signal
from models.outcomes.performance import VOID_REASONS
from models.trade.exits import ACTIVE, EXPIRED, HIT_STOP, SIDES, STATUS_NAMES, check_bar, pnl_percent

MINUTE_MS = 60_000

#: Columns of a series' bars: the start (also the order), the end, prices, revision, and the product of splits so far.
BAR_WIDTH = 8
_START, _END, _OPEN, _HIGH, _LOW, _CLOSE, _REVISION, _SPLIT = range(BAR_WIDTH)

#: Columns of a series' signals.
SIGNAL_WIDTH = 17
(
    _SIDE, _ENTRY, _TARGET, _STOP, _CREATED, _EXPIRES, _UNITS, _STATUS, _SEEN, _PRICE, _UPDATED, _MINUTE, _CORRECTIONS,
    _SAID_STATUS, _SAID_PRICE, _SAID_UPDATED, _VOID,
) = range(SIGNAL_WIDTH)  # fmt: skip

_BEFORE_ALL = -1.0e18

#: ``exit_reason`` of a void signal, by its code in the void column.
_VOID_REASONS = ("", *VOID_REASONS)


class Tracked(msgspec.Struct, frozen=True, array_like=True):
    """What is told about a signal in its outcomes and never changes."""

    signal_id: str
    action: Action
    time_horizon: Horizon
    confidence: float
    bundle: str
    entry_price: float
    target_price: float
    stop_loss: float
    created_ms: int
    expires_ms: int
    votes: dict[str, Action]


class Refused(msgspec.Struct, frozen=True):
    """A message the tracker cannot use, and why."""

    message: Any
    reason: str


@njit(cache=True)
def _advance(
    signals: npt.NDArray[np.float64], chosen: npt.NDArray[np.int64], bars: npt.NDArray[np.float64], every_ms: float
) -> npt.NDArray[np.float64]:
    """Walk the chosen open signals over the bars they have not seen: events (signal, status, price, time)."""
    starts = bars[:, _START]
    room = 0
    for k in chosen:
        s = signals[k]
        room += len(bars) - np.searchsorted(starts, max(s[_CREATED], s[_SEEN] + 1.0)) + 1
    events = np.empty((room, 4))
    n = 0
    for k in chosen:
        s = signals[k]
        for i in range(np.searchsorted(starts, max(s[_CREATED], s[_SEEN] + 1.0)), len(bars)):
            bar = bars[i]
            status = ACTIVE
            if bar[_START] >= s[_EXPIRES]:
                status, s[_UPDATED] = EXPIRED, s[_EXPIRES]
            else:
                units = bar[_SPLIT] / s[_UNITS]
                status, s[_PRICE] = check_bar(
                    int(s[_SIDE]),
                    s[_TARGET],
                    s[_STOP],
                    bar[_OPEN] * units,
                    bar[_HIGH] * units,
                    bar[_LOW] * units,
                    bar[_CLOSE] * units,
                )
                s[_SEEN], s[_UPDATED] = bar[_START], bar[_END]
                if status == ACTIVE and bar[_END] >= s[_EXPIRES]:
                    status = EXPIRED
            s[_STATUS] = status
            minute = np.floor(s[_UPDATED] / every_ms)
            if status != ACTIVE or minute > s[_MINUTE]:
                events[n, 0], events[n, 1], events[n, 2], events[n, 3] = k, status, s[_PRICE], s[_UPDATED]
                n += 1
                s[_MINUTE] = max(s[_MINUTE], minute)
            if status != ACTIVE:
                break
    return events[:n]


class Series:
    """The bars and signals of one symbol and timeframe. Rows ``[:n]`` of the arrays are in use."""

    def __init__(self, symbol: str, timeframe: str) -> None:
        self.symbol, self.timeframe = symbol, timeframe
        self._bars = np.empty((16, BAR_WIDTH))
        self._n_bars = 0
        self._signals = np.empty((4, SIGNAL_WIDTH))
        self.tracked: list[Tracked] = []
        self._row: dict[str, int] = {}
        #: Highest revision seen of each decision (id without revision), and the code of the void it causes.
        self._latest: dict[str, tuple[int, int]] = {}
        self.splits: list[tuple[int, float]] = []
        #: Bars that started before this were let go.
        self.kept_from_ms = _BEFORE_ALL
        #: Last expiry of a signal that ended without a bar: an earlier bar may still come.
        self._ended_by_clock_ms = _BEFORE_ALL
        #: Starts of the bars that changed since the last :meth:`take_changed_bars`.
        self._changed_bars: set[int] = set()

    @property
    def bars(self) -> NDArray[np.float64]:
        """The bars kept, in order of their start."""
        return self._bars[: self._n_bars]

    @property
    def signals(self) -> NDArray[np.float64]:
        """The signals' numbers, a row each as in ``tracked``."""
        return self._signals[: len(self.tracked)]

    @property
    def newest_ms(self) -> float:
        """End of the newest bar."""
        return float(self.bars[-1, _END]) if self._n_bars else _BEFORE_ALL

    def add_bar(self, bar: Bar) -> str:
        """Put a bar in its place; the reason where it is refused, else ""."""
        if not bar.final:
            return ""
        row = (bar.start_ms, bar.end_ms, bar.open, bar.high, bar.low, bar.close, bar.revision, 1.0)
        n = self._n_bars
        if n == len(self._bars):
            self._bars = np.concatenate([self._bars, np.empty_like(self._bars)])
        if n and bar.start_ms <= self._bars[n - 1, _START]:
            return self._insert(bar, row)
        self._bars[n] = row
        if self.splits:
            self._bars[n, _SPLIT] = self._split_product(bar.start_ms, inclusive=True)
        self._n_bars += 1
        self._changed_bars.add(bar.start_ms)
        if bar.start_ms < self._ended_by_clock_ms:
            self._replay(float(bar.start_ms))
        return ""

    def _insert(self, bar: Bar, row: tuple[float, ...]) -> str:
        if bar.start_ms < self.kept_from_ms:
            return f"late: bars of {self.symbol} {self.timeframe} are kept from {self.kept_from_ms:.0f} on"
        at = int(np.searchsorted(self.bars[:, _START], bar.start_ms))
        if self._bars[at, _START] == bar.start_ms:
            if bar.revision <= self._bars[at, _REVISION]:
                return ""  # a repeat, as at-least-once delivery brings
        else:
            self._bars[at + 1 : self._n_bars + 1] = self._bars[at : self._n_bars].copy()
            self._n_bars += 1
        self._bars[at] = row
        self._bars[at, _SPLIT] = self._split_product(bar.start_ms, inclusive=True)
        self._changed_bars.add(bar.start_ms)
        self._replay(float(bar.start_ms))
        return ""

    def _replay(self, from_ms: float) -> None:
        """Let the signals whose path the bars from ``from_ms`` on may change see them again."""
        signals, starts = self.signals, self.bars[:, _START]
        touched = (signals[:, _VOID] == 0) & (signals[:, _CREATED] <= from_ms) & (from_ms < signals[:, _EXPIRES])
        touched &= (signals[:, _SEEN] >= from_ms) | (signals[:, _STATUS] == EXPIRED)
        for k in np.flatnonzero(touched).tolist():
            s = signals[k]
            before = int(np.searchsorted(starts, from_ms)) - 1
            on_path = before >= 0 and starts[before] >= s[_CREATED]
            s[_STATUS], s[_SEEN] = ACTIVE, starts[before] if on_path else _BEFORE_ALL
            units = self.bars[before, _SPLIT] / s[_UNITS] if on_path else 1.0
            s[_PRICE] = self.bars[before, _CLOSE] * units if on_path else s[_ENTRY]
            s[_UPDATED] = self.bars[before, _END] if on_path else s[_CREATED]

    def add_split(self, at_ms: int, ratio: float) -> None:
        """``ratio`` new shares for one old from ``at_ms`` on (bars that start then or later are in new units)."""
        if (at_ms, ratio) in self.splits:
            return
        self.splits = sorted([*self.splits, (at_ms, ratio)])
        for bar in self.bars:
            bar[_SPLIT] = self._split_product(bar[_START], inclusive=True)
        self._changed_bars.update(int(start) for start in self.bars[:, _START] if start >= at_ms)
        for s in self.signals:
            s[_UNITS] = self._split_product(s[_CREATED], inclusive=False)
        later = self.bars[self.bars[:, _START] >= at_ms, _START]
        if len(later):
            self._replay(float(later[0]))

    def _split_product(self, at_ms: float, inclusive: bool) -> float:
        product = 1.0
        for effective, ratio in self.splits:
            if effective < at_ms or (inclusive and effective == at_ms):
                product *= ratio
        return product

    def add_signal(self, signal: Signal) -> str:
        """Begin to follow a signal; the reason where it is refused, else ""."""
        stem = signal.signal_id.rpartition("-")[0] or signal.signal_id
        held, _ = self._latest.get(stem, (-1, 0))
        if signal.revision > held:
            code = 2 if signal.cancels else 1
            self._latest[stem] = (signal.revision, code)
            for revision in range(signal.revision):
                row = self._row.get(f"{stem}-{revision}")
                if row is not None and self._signals[row, _VOID] == 0:
                    self._signals[row, _VOID] = code
        if signal.action == "hold" or signal.cancels or signal.signal_id in self._row:
            return ""
        if signal.created_ms < self.kept_from_ms:
            return f"late: bars of {self.symbol} {self.timeframe} are kept from {self.kept_from_ms:.0f} on"
        n = len(self.tracked)
        if n == len(self._signals):
            self._signals = np.concatenate([self._signals, np.empty_like(self._signals)])
        s = self._signals[n]
        s[:] = 0.0
        s[_SIDE], s[_ENTRY] = SIDES[signal.action], signal.entry_price
        s[_TARGET], s[_STOP] = signal.target_price, signal.stop_loss
        s[_CREATED], s[_EXPIRES] = signal.created_ms, signal.expires_ms
        s[_UNITS] = self._split_product(signal.created_ms, inclusive=False)
        s[_STATUS], s[_SEEN], s[_PRICE], s[_UPDATED] = ACTIVE, _BEFORE_ALL, signal.entry_price, signal.created_ms
        s[_MINUTE], s[_SAID_STATUS], s[_SAID_UPDATED] = _BEFORE_ALL, ACTIVE, _BEFORE_ALL
        latest, code = self._latest[stem]
        s[_VOID] = code if signal.revision < latest else 0
        self._row[signal.signal_id] = n
        self.tracked.append(
            Tracked(
                signal.signal_id,
                signal.action,
                signal.time_horizon,
                signal.confidence,
                signal.bundle,
                signal.entry_price,
                signal.target_price,
                signal.stop_loss,
                signal.created_ms,
                signal.expires_ms,
                {model: vote[0] for model, vote in signal.model_votes.items()},
            )
        )
        return ""

    def advance(self, cost_bps: float, every_ms: float) -> list[Outcome]:
        """Outcomes of everything added since the last call, in order of event time."""
        signals = self.signals
        chosen = np.flatnonzero((signals[:, _STATUS] == ACTIVE) & (signals[:, _VOID] == 0))
        events = _advance(self._signals, chosen, self.bars, every_ms)
        return self._told(events[np.lexsort((events[:, 0], events[:, 3]))], cost_bps)

    def expire(self, clock_ms: float, cost_bps: float) -> list[Outcome]:
        """End the open signals whose expiry lies a whole bar behind ``clock_ms``: no bar will come for them."""
        signals = self.signals
        due = (signals[:, _STATUS] == ACTIVE) & (signals[:, _VOID] == 0)
        due &= signals[:, _EXPIRES] + TIMEFRAME_MS.get(self.timeframe, 0) <= clock_ms
        events = []
        for k in np.flatnonzero(due).tolist():
            s = signals[k]
            s[_STATUS], s[_UPDATED] = EXPIRED, s[_EXPIRES]
            self._ended_by_clock_ms = max(self._ended_by_clock_ms, s[_EXPIRES])
            events.append((k, EXPIRED, s[_PRICE], s[_UPDATED]))
        return self._told(np.array(events).reshape(-1, 4), cost_bps)

    @property
    def next_expiry_ms(self) -> float:
        """When :meth:`expire` next has something to do; infinity when nothing is open."""
        signals = self.signals
        is_open = (signals[:, _STATUS] == ACTIVE) & (signals[:, _VOID] == 0)
        if not is_open.any():
            return float("inf")
        return float(signals[is_open, _EXPIRES].min()) + TIMEFRAME_MS.get(self.timeframe, 0)

    def _told(self, events: NDArray[np.float64], cost_bps: float) -> list[Outcome]:
        """The events that say something new, as outcomes; then what became void or open again."""
        out = []
        for k, status, price, updated in events.tolist():
            s = self._signals[int(k)]
            if s[_SAID_STATUS] != ACTIVE:  # a verdict is out: only another one is news
                if status == ACTIVE:
                    continue
                if (status, price, updated) == (s[_SAID_STATUS], s[_SAID_PRICE], s[_SAID_UPDATED]):
                    continue
                s[_CORRECTIONS] += 1
            elif updated <= s[_SAID_UPDATED]:  # time was told further on already: a late bar ended it earlier
                s[_CORRECTIONS] += 1
            s[_SAID_STATUS], s[_SAID_PRICE], s[_SAID_UPDATED] = status, price, updated
            out.append(self._outcome(int(k), int(status), price, updated, cost_bps))
        signals = self.signals
        reopened = (signals[:, _STATUS] == ACTIVE) & (signals[:, _SAID_STATUS] != ACTIVE) & (signals[:, _VOID] == 0)
        for k in np.flatnonzero(reopened).tolist():
            s = signals[k]
            s[_SAID_STATUS], s[_SAID_UPDATED] = ACTIVE, s[_UPDATED]
            s[_CORRECTIONS] += 1
            out.append(self._outcome(k, ACTIVE, s[_PRICE], s[_UPDATED], cost_bps))
        for k in np.flatnonzero((signals[:, _VOID] > 0) & (signals[:, _VOID] < 10)).tolist():
            s = signals[k]
            s[_CORRECTIONS] += s[_MINUTE] > _BEFORE_ALL
            s[_STATUS], s[_PRICE], s[_UPDATED] = EXPIRED, s[_ENTRY], s[_CREATED]
            out.append(self._outcome(k, EXPIRED, s[_ENTRY], s[_CREATED], 0.0))
            s[_VOID] += 10  # said
        return out

    def _outcome(self, k: int, status: int, price: float, updated_ms: float, cost_bps: float) -> Outcome:
        one, s = self.tracked[k], self._signals[k]
        final = status != ACTIVE
        return Outcome(
            signal_id=one.signal_id,
            symbol=self.symbol,
            timeframe=self.timeframe,
            status=STATUS_NAMES[status],
            entry_price=one.entry_price,
            current_price=price,
            target_price=one.target_price,
            stop_loss=one.stop_loss,
            pnl_percent=pnl_percent(int(s[_SIDE]), one.entry_price, price, cost_bps),
            created_ms=one.created_ms,
            updated_ms=int(updated_ms),
            action=one.action,
            time_horizon=one.time_horizon,
            confidence=one.confidence,
            bundle=one.bundle,
            exit_price=price if final else None,
            exit_reason=self._reason(s, status, price) if final else "",
            revision=int(s[_CORRECTIONS]),
            votes=one.votes,
        )

    @staticmethod
    def _reason(s: NDArray[np.float64], status: int, price: float) -> str:
        if s[_VOID]:
            return _VOID_REASONS[int(s[_VOID]) % 10]
        if status == EXPIRED:
            return "expiry"
        name, level = ("stop", s[_STOP]) if status == HIT_STOP else ("target", s[_TARGET])
        return name if price == level else f"{name}_gap"

    def trim(self, retention_ms: float, clock_ms: float = float("inf")) -> None:
        """Let go of bars that started more than ``retention_ms`` before the newest and before ``clock_ms``, and of
        signals finished by then.
        """
        limit = min(self.newest_ms, clock_ms) - retention_ms
        cut = int(np.searchsorted(self.bars[:, _START], limit))
        if cut > 32:  # in strides: moving the rest costs a copy
            self.kept_from_ms = float(self._bars[cut, _START])
            self._bars[: self._n_bars - cut] = self._bars[cut : self._n_bars].copy()
            self._n_bars -= cut
            self._let_go(limit)

    def _let_go(self, limit: float) -> None:
        signals = self.signals
        keep = (signals[:, _STATUS] == ACTIVE) & (signals[:, _VOID] == 0) | (signals[:, _UPDATED] >= limit)
        if keep.all():
            return
        kept = np.flatnonzero(keep).tolist()
        self._signals = np.concatenate([signals[keep], np.empty((4, SIGNAL_WIDTH))])
        self.tracked = [self.tracked[k] for k in kept]
        self._row = {one.signal_id: k for k, one in enumerate(self.tracked)}
        stems = {one.signal_id.rpartition("-")[0] or one.signal_id for one in self.tracked}
        self._latest = {stem: held for stem, held in self._latest.items() if stem in stems}

    # What a job keeps in its state.

    def dump_signals(self) -> bytes:
        """Everything but the bars."""
        return msgspec.msgpack.encode(
            (self.tracked, self.signals.tobytes(), self._latest, self.splits, self.kept_from_ms)
        )

    def load_signals(self, data: bytes) -> None:
        """The inverse of :meth:`dump_signals`."""
        kind = tuple[list[Tracked], bytes, dict[str, tuple[int, int]], list[tuple[int, float]], float]
        self.tracked, numbers, self._latest, self.splits, self.kept_from_ms = msgspec.msgpack.decode(data, type=kind)
        self._signals = np.concatenate([np.frombuffer(numbers).reshape(-1, SIGNAL_WIDTH), np.empty((4, SIGNAL_WIDTH))])
        self._row = {one.signal_id: k for k, one in enumerate(self.tracked)}
        ended = self.signals[self.signals[:, _STATUS] == EXPIRED, _EXPIRES]
        self._ended_by_clock_ms = float(ended.max(initial=_BEFORE_ALL))

    def take_changed_bars(self, bucket_ms: int) -> Iterator[tuple[int, bytes]]:
        """The buckets of ``bucket_ms`` that changed since the last call, with all their bars."""
        starts = self.bars[:, _START]
        for bucket in sorted({start // bucket_ms for start in self._changed_bars}):
            first, last = np.searchsorted(starts, (bucket * bucket_ms, (bucket + 1) * bucket_ms)).tolist()
            yield bucket, self.bars[first:last].tobytes()
        self._changed_bars.clear()

    def load_bars(self, buckets: Iterable[bytes]) -> None:
        """Take back the bars of all buckets, in any order."""
        parts = [np.frombuffer(data).reshape(-1, BAR_WIDTH) for data in buckets]
        rows = np.concatenate([np.empty((0, BAR_WIDTH)), *parts])
        rows = rows[np.argsort(rows[:, _START], kind="stable")]
        rows = rows[rows[:, _START] >= self.kept_from_ms]
        self._n_bars = len(rows)
        self._bars = np.concatenate([rows, np.empty((16, BAR_WIDTH))])


class Tracker:
    """All series of one owner (a symbol group, or a file).

    ``cost_bps``: costs of a round trip in basis points; ``update_every_ms``: least event time between two ``active``
    outcomes of a signal; ``retention_ms``: see the module.

    >>> bar = Bar(symbol="A", timeframe="1d", start_ms=0, end_ms=86_400_000, open=10, high=12, low=9.9, close=11, volume=1)
    >>> signal = Signal(signal_id="x-0", symbol="A", timeframe="1d", action="buy", confidence=0.7, entry_price=10.0,
    ...                 target_price=11.5, stop_loss=9.0, time_horizon="3d", created_ms=0, emitted_ms=0,
    ...                 expires_ms=259_200_000, reasoning="")
    >>> tracker = Tracker()
    >>> [(one.status, one.pnl_percent) for one in tracker.take(signals=[signal], bars=[bar])]
    [('hit_target', 15.0)]
    """  # noqa: E501

    def __init__(
        self, cost_bps: float = 0.0, retention_ms: float | None = None, update_every_ms: float = MINUTE_MS
    ) -> None:
        if cost_bps < 0 or update_every_ms <= 0:
            raise ValueError(f"cost_bps {cost_bps} must be 0 or more, update_every_ms {update_every_ms} above 0")
        self.cost_bps, self.retention_ms, self.update_every_ms = cost_bps, retention_ms, update_every_ms
        self.series: dict[tuple[str, str], Series] = {}
        #: (effective_ms, ratio) of each symbol's splits, for series yet to come; which symbols the last call changed.
        self.splits: dict[str, list[tuple[int, float]]] = {}
        self.changed_splits: set[str] = set()
        #: Series touched by the last :meth:`take` or :meth:`expire`.
        self.touched: set[tuple[str, str]] = set()
        self.refused: list[Refused] = []

    def take(
        self,
        signals: Iterable[Signal] = (),
        bars: Iterable[Bar] = (),
        splits: Iterable[tuple[str, int, float]] = (),
        clock_ms: float = float("inf"),
    ) -> list[Outcome]:
        """Add what arrived together, walk on, and return the outcomes; what was refused is in ``refused``.

        ``splits``: (symbol, effective_ms, new shares for one old). ``clock_ms``: with this call everything up to that
        event time is here.
        """
        self.touched, self.refused, self.changed_splits = set(), [], set()
        for symbol, at_ms, ratio in splits:
            if (at_ms, ratio) in self.splits.setdefault(symbol, []):
                continue  # a repeat
            self.splits[symbol].append((at_ms, ratio))
            self.changed_splits.add(symbol)
            for (name, timeframe), series in list(self.series.items()):
                if name == symbol:
                    series.add_split(at_ms, ratio)
                    self.touched.add((name, timeframe))
        for bar in bars:
            if reason := self.of(bar.symbol, bar.timeframe).add_bar(bar):
                self.refused.append(Refused(bar, reason))
        for signal in signals:
            if reason := self.of(signal.symbol, signal.timeframe).add_signal(signal):
                self.refused.append(Refused(signal, reason))
        out: list[Outcome] = []
        for key in sorted(self.touched):
            out += self.series[key].advance(self.cost_bps, self.update_every_ms)
            if self.retention_ms is not None:
                self.series[key].trim(self.retention_ms, clock_ms)
        return out

    def of(self, symbol: str, timeframe: str) -> Series:
        """The series of a symbol and timeframe, marked as touched."""
        key = (symbol, timeframe)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(symbol, timeframe)
            for at_ms, ratio in self.splits.get(symbol, ()):
                series.add_split(at_ms, ratio)
        self.touched.add(key)
        return series

    def expire(self, clock_ms: float) -> list[Outcome]:
        """Event time has reached ``clock_ms`` everywhere: end what can have no more bars."""
        self.touched, self.changed_splits = set(), set()
        out: list[Outcome] = []
        for key in sorted(self.series):
            series = self.series[key]
            if series.next_expiry_ms <= clock_ms:
                self.touched.add(key)
                out += series.expire(clock_ms, self.cost_bps)
        return out

    @property
    def newest_ms(self) -> float:
        """End of the newest bar of any series."""
        return max((series.newest_ms for series in self.series.values()), default=_BEFORE_ALL)

    @property
    def next_expiry_ms(self) -> float:
        """When :meth:`expire` next has something to do; infinity when nothing is open."""
        return min((series.next_expiry_ms for series in self.series.values()), default=float("inf"))
