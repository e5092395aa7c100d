"""When a decision becomes a signal: on news, not once a bar.

A bar's decision is a signal when it changes the series' action (the first hold is no news), when the confidence of the
same buy or sell has moved by ``confidence_step`` since the last signal, or when that signal has expired. It is then
withheld, and counted by cause, while an input is missing, the market is closed (bars shorter than a day) or halted, or
a protection of :mod:`models.signals.protections` holds. What was withheld is said as soon as nothing forbids it.

A series (symbol and timeframe) is one row of float64 state; :meth:`Policy.run` takes a whole frame of bars through
compiled code, in order, some 0.2 us a bar. A revised bar (same start, higher revision) is decided again from the state
before it: the result is a new signal of that revision, or a cancellation if it was a signal and is none any more. The
account's peak and pauses stay as the first version left them.

The result depends only on the bars of a series (and, with account-wide protections, of its account), never on how
frames are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.jit import njit
from models.messages import TIMEFRAME_MS
from models.signals import protections
from models.signals.protections import RiskConfig
from models.trade.calendar import DAY_MS, calendar, calendar_name
from models.trade.exits import ACTIVE, EXPIRED, HIT_STOP, check_bar, pnl_percent
from models.trade.expiry import DAYS, SESSIONS, session_expiry
from models.trade.levels import ATR_MULTIPLES, daily_atr_scale, default_tick, level_prices

Cells = NDArray[np.float64]

#: What became of each decision, by code; 0 is a signal. ``unchanged`` is no news; the rest withheld a signal.
CAUSES: tuple[str, ...] = (
    "",
    "unchanged",
    "no_models",
    "no_price",
    "no_atr",
    "missing_feature",
    "level_not_positive",
    "outside_calendar",
    "closed",
    "halted",
    "cooldown",
    "global_cooldown",
    "stop_guard",
    "global_stop_guard",
    "drawdown",
)
(
    EMIT, UNCHANGED, NO_MODELS, NO_PRICE, NO_ATR, MISSING_FEATURE, LEVEL_NOT_POSITIVE, OUTSIDE_CALENDAR, CLOSED, HALTED,
    COOLDOWN, GLOBAL_COOLDOWN, STOP_GUARD, GLOBAL_STOP_GUARD, DRAWDOWN,
) = range(len(CAUSES))  # fmt: skip

#: What made a signal news, by code.
TRIGGERS: tuple[str, ...] = ("", "action", "confidence", "expiry", "revision")
_BY_ACTION, _BY_CONFIDENCE, _BY_EXPIRY, _BY_REVISION = 1, 2, 3, 4

# Columns of a series' row: what was said, the position it opened, stops; then what a revision needs.
SAID, SAID_CONFIDENCE, SAID_MS, SAID_EXPIRES = 0, 1, 2, 3
SIDE, ENTRY, TARGET, STOP, LAST_CLOSE, PAUSED_UNTIL, STOPS = 4, 5, 6, 7, 8, 9, 10
_CURRENT = STOPS + protections.STOPS_MAX
LAST_START, EMITTED_REVISION, BOOKED, BOOKED_STOP, EMIT_BEFORE = range(_CURRENT, _CURRENT + 5)
_SAVED = _CURRENT + 5
#: Width of a series' state row.
STATE_COLUMNS = _SAVED + _CURRENT

_NEVER = -1.0e18
_SELL, _HOLD, _BUY = 0, 1, 2


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to speak; see the module."""

    confidence_step: float = 0.1
    emit_holds: bool = True
    #: Bars shorter than a day give signals only while their market is in session.
    session_only: bool = True
    risk: RiskConfig = RiskConfig()

    def __post_init__(self) -> None:
        if not self.confidence_step > 0.0:
            raise ValueError(f"policy.confidence_step = {self.confidence_step}: must be above 0 (1: never)")


def load_policy(path: Path) -> PolicyConfig:
    """The configuration in a JSON file; ValueError naming file, field and value."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PolicyConfig)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: {error}") from None


class Verdicts(NamedTuple):
    """Of n bars: ``cause`` int8 (:data:`CAUSES`), ``trigger`` int8 (:data:`TRIGGERS`), and ``cancels`` int64.

    ``cancels`` is the revision of the signal that this bar withdraws, -1 for none.
    """

    cause: NDArray[np.int8]
    trigger: NDArray[np.int8]
    cancels: NDArray[np.int64]

    @property
    def emit(self) -> NDArray[np.bool_]:
        """Which bars are signals."""
        emitted: NDArray[np.bool_] = self.cause == EMIT
        return emitted

    def counts(self) -> dict[str, int]:
        """How many signals were withheld, by cause (``unchanged`` was no news and is left out)."""
        numbers = np.bincount(self.cause, minlength=len(CAUSES)).tolist()
        return {cause: numbers[code] for code, cause in enumerate(CAUSES) if code > UNCHANGED and numbers[code]}


class Policy:
    """The rules of one configuration. Holds nothing of the stream: the caller keeps the state rows.

    ``calendar_of(symbol, source)`` names a symbol's calendar.

    >>> policy = Policy()
    >>> states, account = policy.new_states(1), policy.new_account()
    >>> day = 86_400_000
    >>> bars = np.array([[i * day, (i + 1) * day, 100, 101, 99, 100, 5, 0] for i in range(12000, 12004)], float)
    >>> verdicts = policy.run(states, np.array([0]), account, [("AAPL", "1d", "")], np.zeros(4, np.int32), bars,
    ...                       np.array([1, 2, 2, 0], np.int8), np.array([0.5, 0.7, 0.72, 0.7]), np.full(4, 2.0))
    >>> [CAUSES[code] or TRIGGERS[why] for code, why in zip(verdicts.cause, verdicts.trigger)]
    ['unchanged', 'action', 'unchanged', 'action']
    """

    def __init__(
        self, config: PolicyConfig | None = None, calendar_of: Callable[[str, str], str] = calendar_name
    ) -> None:
        self.config = config or PolicyConfig()
        self._calendar_of = calendar_of
        self._limits = _limits(self.config)
        self._horizons = _horizon_table()
        self._series: dict[tuple[str, str, str], tuple[float, int, bool]] = {}
        self._markets: dict[str, int] = {}
        self._opens = np.zeros(0, np.int64)
        self._closes = np.zeros(0, np.int64)
        self._first = np.zeros(1, np.int64)

    def new_states(self, n: int) -> NDArray[np.float64]:
        """Fresh rows for n series."""
        states = np.zeros((n, STATE_COLUMNS))
        states[:, SAID] = -1.0
        states[:, [SAID_MS, PAUSED_UNTIL]] = _NEVER
        states[:, STOPS:_CURRENT] = _NEVER
        states[:, [LAST_START, EMITTED_REVISION]] = -1.0
        return states

    def new_account(self) -> NDArray[np.float64]:
        """A fresh account row (one a symbol group)."""
        return protections.new_account()

    def run(
        self,
        states: NDArray[np.float64],
        rows: NDArray[np.int64],
        account: NDArray[np.float64],
        series: Sequence[tuple[str, str, str]],
        index: NDArray[np.int32],
        bars: NDArray[np.float64],
        actions: NDArray[np.int8],
        confidences: NDArray[np.float64],
        atrs: NDArray[np.float64],
        ready: NDArray[np.bool_] | None = None,
        halted: NDArray[np.bool_] | None = None,
    ) -> Verdicts:
        """Take a frame's bars in order; ``states`` and ``account`` are updated in place.

        ``series`` lists (symbol, timeframe, source), ``rows`` the state row of each; ``index`` int32[n] is each bar's
        series. ``bars`` float64[n, 8]: start, end, open, high, low, close, volume, revision. ``actions`` int8[n]: 0
        sell, 1 hold, 2 buy, -1 none; ``ready`` is false where a required feature is missing, ``halted`` true in a halt.
        """
        n = len(bars)
        described = [self._describe(one) for one in series]
        scales = np.array([one[0] for one in described])
        markets = np.array([one[1] for one in described], np.int64)
        intraday = np.array([one[2] for one in described], np.bool_)
        order = np.arange(n)
        if self.config.risk.needs_order:
            names = np.argsort(np.argsort(["\x1f".join(one) for one in series], kind="stable"), kind="stable")
            order = np.lexsort((names[index], bars[:, 1]))
        cause, trigger = np.empty(n, np.int8), np.zeros(n, np.int8)
        cancels = np.full(n, -1, np.int64)
        _run(
            states,
            rows,
            account,
            index,
            np.ascontiguousarray(bars),
            np.ascontiguousarray(actions, dtype=np.int8),
            np.ascontiguousarray(confidences, dtype=np.float64),
            np.ascontiguousarray(atrs, dtype=np.float64),
            np.ones(n, np.bool_) if ready is None else ready,
            np.zeros(n, np.bool_) if halted is None else halted,
            scales,
            markets,
            intraday,
            order,
            self._opens,
            self._closes,
            self._first,
            self._limits,
            self._horizons,
            cause,
            trigger,
            cancels,
        )
        return Verdicts(cause, trigger, cancels)

    def _describe(self, series: tuple[str, str, str]) -> tuple[float, int, bool]:
        known = self._series.get(series)
        if known is None:
            symbol, timeframe, source = series
            name = self._calendar_of(symbol, source)
            market = self._market(name)
            scale = daily_atr_scale(timeframe, calendar(name).session_ms)
            known = self._series[series] = (scale, market, TIMEFRAME_MS[timeframe] < DAY_MS)
        return known

    def _market(self, name: str) -> int:
        """The calendar's index in the session tables, adding it when new."""
        if name not in self._markets:
            self._markets[name] = len(self._markets)
            table = calendar(name)
            self._opens = np.concatenate([self._opens, table.open_ms])
            self._closes = np.concatenate([self._closes, table.close_ms])
            self._first = np.append(self._first, len(self._opens))
        return self._markets[name]


_LIMITS = (
    "confidence_step", "emit_holds", "session_only", "symbol_cooldown_ms", "global_cooldown_ms", "symbol_stops",
    "symbol_window_ms", "symbol_pause_ms", "global_stops", "global_window_ms", "global_pause_ms", "drawdown_percent",
    "drawdown_pause_ms", "cost_bps",
)  # fmt: skip
(
    _STEP, _HOLDS, _SESSION, _COOLDOWN, _ALL_COOLDOWN, _N, _WINDOW, _PAUSE, _ALL_N, _ALL_WINDOW, _ALL_PAUSE,
    _DRAWDOWN, _DRAWDOWN_PAUSE, _COST,
) = range(len(_LIMITS))  # fmt: skip


def _limits(config: PolicyConfig) -> NDArray[np.float64]:
    guard, all_guard = config.risk.symbol_stops, config.risk.global_stops
    return np.array(
        [
            config.confidence_step, config.emit_holds, config.session_only, config.risk.symbol_cooldown_ms,
            config.risk.global_cooldown_ms, guard.stops, guard.window_ms, guard.pause_ms, all_guard.stops,
            all_guard.window_ms, all_guard.pause_ms, config.risk.drawdown_percent, config.risk.drawdown_pause_ms,
            config.risk.cost_bps,
        ],
        np.float64,
    )  # fmt: skip


def _horizon_table() -> NDArray[np.float64]:
    """A row for each of 1d, 3d, 1w: ATR multiple, sessions, days."""
    return np.array([[ATR_MULTIPLES[h], SESSIONS[h], DAYS[h]] for h in ("1d", "3d", "1w")], np.float64)


@njit(cache=True)
def _horizon(confidence: float) -> int:
    """Row of the horizon table; the same thresholds as ``models.signals.decide.horizon_of``."""
    return 0 if confidence > 0.8 else 1 if confidence > 0.6 else 2


@njit(cache=True)
def _close_position(s: Cells, account: Cells, price: float, at_ms: float, stopped: bool, limits: Cells) -> None:
    """Book the series' open position at ``price``."""
    percent = pnl_percent(int(s[SIDE]), s[ENTRY], price, limits[_COST])
    s[SIDE] = 0.0
    s[BOOKED] += percent
    protections.note_profit(account, percent, at_ms, limits[_DRAWDOWN], limits[_DRAWDOWN_PAUSE])
    if stopped:
        s[BOOKED_STOP] = at_ms
        until = protections.note_stop(s[STOPS:_CURRENT], at_ms, int(limits[_N]), limits[_WINDOW], limits[_PAUSE])
        s[PAUSED_UNTIL] = max(s[PAUSED_UNTIL], until)
        stops = account[protections.ACCOUNT_STOPS :]
        until = protections.note_stop(stops, at_ms, int(limits[_ALL_N]), limits[_ALL_WINDOW], limits[_ALL_PAUSE])
        account[protections.ACCOUNT_PAUSED_UNTIL] = max(account[protections.ACCOUNT_PAUSED_UNTIL], until)


@njit(cache=True)
def _follow(s: Cells, account: Cells, bar: Cells, limits: Cells) -> None:
    """Take the open position through one bar, by the tracker's rules."""
    if bar[0] >= s[SAID_EXPIRES]:
        _close_position(s, account, s[LAST_CLOSE], s[SAID_EXPIRES], False, limits)
        return
    status, price = check_bar(int(s[SIDE]), s[TARGET], s[STOP], bar[2], bar[3], bar[4], bar[5])
    if status == ACTIVE and bar[1] >= s[SAID_EXPIRES]:
        status = EXPIRED
    if status != ACTIVE:
        _close_position(s, account, price, bar[1], status == HIT_STOP, limits)


@njit(cache=True)
def _news(s: Cells, action: int, confidence: float, end_ms: float, limits: Cells) -> int:
    """Why this decision is news, or 0."""
    said = int(s[SAID])
    if action != said:
        if action == _HOLD and (said < 0 or limits[_HOLDS] == 0.0):
            return 0
        return _BY_ACTION
    if action == _HOLD:
        return 0
    if abs(confidence - s[SAID_CONFIDENCE]) >= limits[_STEP] - 1e-9:
        return _BY_CONFIDENCE
    return _BY_EXPIRY if end_ms >= s[SAID_EXPIRES] else 0


@njit(cache=True)
def _is_open(at_ms: float, opens: NDArray[np.int64], closes: NDArray[np.int64]) -> bool:
    i = np.searchsorted(opens, at_ms, side="right") - 1
    return bool(i >= 0 and at_ms < closes[i])


@njit(cache=True)
def _protected(s: Cells, account: Cells, end_ms: float, limits: Cells) -> int:
    """The protection that forbids a buy or sell now, or EMIT."""
    if limits[_COOLDOWN] > 0.0 and end_ms - s[SAID_MS] < limits[_COOLDOWN]:
        return COOLDOWN
    # Between symbols event time may run backwards inside a frame: switched off must mean off.
    if limits[_ALL_COOLDOWN] > 0.0 and end_ms - account[protections.LAST_EMIT] < limits[_ALL_COOLDOWN]:
        return GLOBAL_COOLDOWN
    if end_ms < s[PAUSED_UNTIL]:
        return STOP_GUARD
    if end_ms < account[protections.ACCOUNT_PAUSED_UNTIL]:
        return GLOBAL_STOP_GUARD
    if end_ms < account[protections.DRAWDOWN_UNTIL]:
        return DRAWDOWN
    return EMIT


@njit(cache=True)
def _take_back(s: Cells, account: Cells) -> None:
    """Return the series to its state before its last bar, and take back what that bar booked."""
    account[protections.EQUITY] -= s[BOOKED]
    if s[BOOKED_STOP] > 0.0:
        protections.forget_stop(account[protections.ACCOUNT_STOPS :], s[BOOKED_STOP])
    if s[EMIT_BEFORE] != 0.0 and account[protections.LAST_EMIT] == s[SAID_MS]:
        account[protections.LAST_EMIT] = s[EMIT_BEFORE]
    s[:_CURRENT] = s[_SAVED:]


@njit(cache=True)
def _decide_bar(
    s: Cells,
    account: Cells,
    bar: Cells,
    action: int,
    confidence: float,
    atr: float,
    ready: bool,
    halted: bool,
    scale: float,
    intraday: bool,
    opens: NDArray[np.int64],
    closes: NDArray[np.int64],
    limits: Cells,
    horizons: Cells,
) -> tuple[int, int]:
    """(cause, trigger) of one bar; speaking changes the row."""
    if action < 0:
        return NO_MODELS, 0
    end_ms, price = bar[1], bar[5]
    trigger = _news(s, action, confidence, end_ms, limits)
    if trigger == 0:
        if action == _HOLD and (s[SAID] < 0.0 or limits[_HOLDS] == 0.0):
            s[SAID] = _HOLD
        return UNCHANGED, 0
    if not price > 0.0:
        return NO_PRICE, trigger
    if not (atr > 0.0 and np.isfinite(atr)):
        return NO_ATR, trigger
    if not ready:
        return MISSING_FEATURE, trigger
    horizon = _horizon(confidence)
    if len(opens) == 0:
        expires = end_ms + horizons[horizon, 2] * DAY_MS
    else:
        expires = float(session_expiry(int(end_ms), int(horizons[horizon, 1]), opens, closes))
        if expires < 0.0:
            return OUTSIDE_CALENDAR, trigger
    side = int(action) - 1
    tick = default_tick(price)
    # The widest level of any risk profile is the signal's own: a bolder one has a shorter horizon.
    target, stop = level_prices(side, price, atr * horizons[horizon, 0] * scale, tick)
    if not (target > 0.0 and stop > 0.0):
        return LEVEL_NOT_POSITIVE, trigger
    if action != _HOLD:
        if limits[_SESSION] != 0.0 and intraday and len(opens) > 0 and not _is_open(end_ms - 1.0, opens, closes):
            return CLOSED, trigger
        if halted:
            return HALTED, trigger
        cause = _protected(s, account, end_ms, limits)
        if cause != EMIT:
            return cause, trigger
    if s[SIDE] != 0.0:
        _close_position(s, account, price, end_ms, False, limits)
    s[SAID], s[SAID_CONFIDENCE], s[SAID_EXPIRES] = action, confidence, expires
    if action != _HOLD:
        s[SAID_MS] = end_ms
        s[SIDE], s[ENTRY], s[TARGET], s[STOP] = side, price, target, stop
        s[EMIT_BEFORE] = account[protections.LAST_EMIT]
        account[protections.LAST_EMIT] = max(account[protections.LAST_EMIT], end_ms)
    return EMIT, trigger


@njit(cache=True)
def _run(
    states: Cells,
    rows: NDArray[np.int64],
    account: Cells,
    index: NDArray[np.int32],
    bars: Cells,
    actions: NDArray[np.int8],
    confidences: Cells,
    atrs: Cells,
    ready: NDArray[np.bool_],
    halted: NDArray[np.bool_],
    scales: Cells,
    markets: NDArray[np.int64],
    intraday: NDArray[np.bool_],
    order: NDArray[np.int64],
    all_opens: NDArray[np.int64],
    all_closes: NDArray[np.int64],
    first: NDArray[np.int64],
    limits: Cells,
    horizons: Cells,
    cause: NDArray[np.int8],
    trigger: NDArray[np.int8],
    cancels: NDArray[np.int64],
) -> None:
    for i in order:
        k = index[i]
        s = states[rows[k]]
        bar = bars[i]
        market = markets[k]
        opens = all_opens[first[market] : first[market + 1]]
        closes = all_closes[first[market] : first[market + 1]]
        withdrawn = -1
        if bar[0] == s[LAST_START]:
            withdrawn = int(s[EMITTED_REVISION])
            _take_back(s, account)
        else:
            s[_SAVED:] = s[:_CURRENT]
        s[LAST_START], s[EMITTED_REVISION] = bar[0], -1.0
        s[BOOKED], s[BOOKED_STOP], s[EMIT_BEFORE] = 0.0, 0.0, 0.0
        if s[SIDE] != 0.0:
            _follow(s, account, bar, limits)
        cause[i], trigger[i] = _decide_bar(
            s, account, bar, actions[i], confidences[i], atrs[i], ready[i], halted[i], scales[k], intraday[k],
            opens, closes, limits, horizons,
        )  # fmt: skip
        s[LAST_CLOSE] = bar[5]
        if cause[i] == EMIT:
            s[EMITTED_REVISION] = bar[7]
            if bar[7] > 0.0:
                trigger[i] = _BY_REVISION
        elif withdrawn >= 0:
            cancels[i] = withdrawn
