"""The chart image of a signal: price with entry, target, stop and life, RSI, MACD, volume, and the reasoning, as PNG.

Drawn on first request in a worker process (a drawing takes some tenths of a second of CPU, which would delay every
client), then cached; concurrent requests for the same image wait for the one drawing.
"""

from __future__ import annotations

import asyncio
import io
import math
import multiprocessing
import os
import textwrap
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec

from connectors.redis.bars import BarTuple
from models.messages import Signal

#: Bars shown, newest last.
BARS_SHOWN = 90
#: Images drawn or waiting at once; further requests are refused.
WAITING_MAX = 32
_UP, _DOWN, _INK, _QUIET, _ACCENT = "#0b7f66", "#c0362c", "#172033", "#5b6780", "#2f5fde"


class Busy(Exception):
    """Too many images are being drawn; retry in a few seconds."""


def rsi(closes: Sequence[float], period: int = 14) -> list[float]:
    """RSI by Wilder's smoothing; NaN while warming up.

    >>> [round(v, 1) for v in rsi([1.0, 2.0, 3.0, 2.0], period=2)[2:]]
    [100.0, 50.0]
    """
    out, gain, loss = [math.nan] * len(closes), 0.0, 0.0
    for i in range(1, len(closes)):
        change = closes[i] - closes[i - 1]
        up, down = max(change, 0.0), max(-change, 0.0)
        if i <= period:
            gain, loss = gain + up / period, loss + down / period
        else:
            gain, loss = (gain * (period - 1) + up) / period, (loss * (period - 1) + down) / period
        if i >= period:
            out[i] = 100.0 * gain / (gain + loss) if gain + loss else 0.0
    return out


def ema(values: Sequence[float], period: int, start: int = 0) -> list[float]:
    """Exponential mean seeded with the plain mean of the first ``period`` values from ``start``; NaN before.

    >>> ema([1.0, 2.0, 3.0], 2)[1:]
    [1.5, 2.5]
    """
    out = [math.nan] * len(values)
    if len(values) < start + period:
        return out
    level = math.fsum(values[start : start + period]) / period
    out[start + period - 1] = level
    for i in range(start + period, len(values)):
        level += 2.0 / (period + 1) * (values[i] - level)
        out[i] = level
    return out


def render(encoded: bytes, risk_profile: str, bars: Sequence[BarTuple]) -> bytes:
    """Draw the signal (JSON) for a risk profile over ``bars``, oldest first; PNG bytes, 1000 x 720 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    signal = msgspec.json.decode(encoded, type=Signal)
    figure = Figure(figsize=(10, 7.2), dpi=100, facecolor="white")
    price, strength, trend = _panels(figure)
    known = [bar for bar in bars if bar[0] < signal.created_ms] or list(bars)
    first = max(0, len(known) - BARS_SHOWN)
    shown = known[first:]
    seen = signal.risk_profiles.get(risk_profile)
    target, stop = (seen.target_price, seen.stop_loss) if seen else (signal.target_price, signal.stop_loss)
    if shown:
        _draw_candles(price, shown)
        closes = [bar[4] for bar in known]
        _draw_rsi(strength, closes, first)
        _draw_macd(trend, closes, first)
        _date_ticks(trend, shown, signal.timeframe)
    else:
        price.text(0.5, 0.5, "no bars kept for this chart", transform=price.transAxes, ha="center", color=_QUIET)
        price.set_ylim(min(stop, target) * 0.98, max(stop, target) * 1.02)
        price.set_xticks([])
    for axes, name in ((strength, "RSI 14"), (trend, "MACD 12 26 9")):
        axes.text(0.006, 0.82, name, transform=axes.transAxes, fontsize=8, color=_QUIET, va="center")
    for axes in (price, strength):
        axes.tick_params(labelbottom=False)
    _draw_levels(price, signal, seen.action if seen else signal.action, target, stop, len(shown))
    _write_words(figure, signal, risk_profile)

    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _panels(figure: Any) -> list[Any]:
    """Axes for price, RSI and MACD, one above the other."""
    grid = figure.add_gridspec(3, 1, height_ratios=(5, 1, 1), left=0.03, right=0.91, top=0.87, bottom=0.17, hspace=0.08)
    price = figure.add_subplot(grid[0])
    below = [figure.add_subplot(grid[row], sharex=price) for row in (1, 2)]
    for axes in (price, *below):
        axes.yaxis.tick_right()
        axes.grid(color="#e6eaf1", linewidth=0.6)
        axes.tick_params(colors=_QUIET, labelsize=8, length=0)
        for edge in axes.spines.values():
            edge.set_color("#dde3ec")
    return [price, *below]


def _draw_rsi(axes: Any, closes: Sequence[float], first: int) -> None:
    axes.plot(range(len(closes) - first), rsi(closes)[first:], color=_ACCENT, linewidth=1.1)
    for level in (30, 70):
        axes.axhline(level, color=_QUIET, linewidth=0.6, linestyle=":")
    axes.set_ylim(0, 100)


def _draw_macd(axes: Any, closes: Sequence[float], first: int) -> None:
    x = range(len(closes) - first)
    fast, slow = ema(closes, 12, 14), ema(closes, 26)
    line = [a - b for a, b in zip(fast, slow, strict=True)]
    smooth = ema(line, 9, 25)
    axes.plot(x, line[first:], color=_ACCENT, linewidth=1.1)
    axes.plot(x, smooth[first:], color=_QUIET, linewidth=0.9, linestyle="--")
    gaps = [0.0 if math.isnan(a - b) else a - b for a, b in zip(line, smooth, strict=True)][first:]
    axes.bar(x, gaps, color=[_UP if gap >= 0 else _DOWN for gap in gaps], alpha=0.5, width=0.7)


def _draw_levels(price: Any, signal: Signal, action: str, target: float, stop: float, bars: int) -> None:
    """Entry, target and stop, and the signal's mark after the last of ``bars``."""
    right = bars + 12
    price.set_xlim(-1, right)
    born = bars - 0.5
    entry = signal.entry_price
    price.fill_between([born, right], entry, target, color=_UP, alpha=0.12, linewidth=0)
    price.fill_between([born, right], entry, stop, color=_DOWN, alpha=0.12, linewidth=0)
    for value, colour, style, name in (
        (entry, _ACCENT, "-", "entry"), (target, _UP, "--", "target"), (stop, _DOWN, ":", "stop"),
    ):  # fmt: skip
        price.axhline(value, color=colour, linewidth=1.1, linestyle=style)
        price.annotate(
            f"{name} {value:,.2f}", (right, value), xytext=(-4, 3), textcoords="offset points", ha="right",
            color=colour, fontsize=8.5, fontweight="bold",
        )  # fmt: skip
    mark = {"buy": "^", "sell": "v", "hold": "s"}[action]
    price.plot([born], [entry], marker=mark, markersize=11, color={"buy": _UP, "sell": _DOWN}.get(action, _QUIET))


def _write_words(figure: Any, signal: Signal, risk_profile: str) -> None:
    """Title, terms and reasoning, as the risk profile sees them."""
    seen = signal.risk_profiles.get(risk_profile)
    action = seen.action if seen else signal.action
    confidence = seen.confidence if seen else signal.confidence
    horizon = seen.time_horizon if seen else signal.time_horizon
    when = datetime.fromtimestamp(signal.created_ms / 1e3, UTC).strftime("%d %b %Y %H:%M UTC")
    glyph = {"buy": "▲", "sell": "▼", "hold": "■"}[action]
    figure.text(0.03, 0.945, f"{signal.symbol}  {glyph} {action.upper()}", fontsize=17, fontweight="bold", color=_INK)
    figure.text(
        0.03, 0.9, f"probability {confidence:.0%} · {signal.timeframe} bars · horizon {horizon} · {when}",
        fontsize=9.5, color=_QUIET,
    )  # fmt: skip
    figure.text(0.97, 0.945, risk_profile, fontsize=9.5, color=_QUIET, ha="right")
    reasoning = "\n".join(textwrap.wrap(_plain(signal.reasoning), 135)[:4])
    figure.text(0.03, 0.115, reasoning, fontsize=9, color=_INK, va="top", linespacing=1.4)
    figure.text(0.03, 0.015, "Not financial advice.", fontsize=8, color=_QUIET)


def _plain(text: str) -> str:
    """Text that the drawing library does not parse as formulas."""
    return text.replace("$", r"\$")


def _draw_candles(axes: Any, bars: Sequence[BarTuple]) -> None:
    for direction, colour in ((True, _UP), (False, _DOWN)):
        chosen = [(i, bar) for i, bar in enumerate(bars) if (bar[4] >= bar[1]) == direction]
        x = [i for i, _ in chosen]
        axes.vlines(x, [b[3] for _, b in chosen], [b[2] for _, b in chosen], color=colour, linewidth=0.9)
        axes.bar(
            x, [abs(b[4] - b[1]) for _, b in chosen], bottom=[min(b[1], b[4]) for _, b in chosen], width=0.65,
            facecolor="white" if direction else colour, edgecolor=colour, linewidth=0.9, zorder=2,
        )  # fmt: skip
    volume = axes.twinx()
    most = max(bar[5] or 0.0 for bar in bars) or 1.0
    volume.bar(range(len(bars)), [bar[5] or 0.0 for bar in bars], color=_QUIET, alpha=0.22, width=0.8)
    volume.set_ylim(0, most * 6)
    volume.axis("off")
    axes.yaxis.tick_right()


def _date_ticks(axes: Any, bars: Sequence[BarTuple], timeframe: str) -> None:
    at = range(0, len(bars), max(1, len(bars) // 7))
    form = "%d %b %Y" if timeframe == "1d" else "%d %b %H:%M"
    axes.set_xticks(list(at), [datetime.fromtimestamp(bars[i][0] / 1e3, UTC).strftime(form) for i in at])


def _end_with_relay() -> None:
    """In the worker: exit when the relay does, however it ends; an idle worker would wait for work for ever."""
    relay = multiprocessing.parent_process()
    assert relay is not None

    def watch() -> None:
        relay.join()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


class ChartImages:
    """Draws in one worker process, keeps the last ``maximum`` images."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._drawing: dict[tuple[str, str], asyncio.Future[bytes]] = {}
        self._pool: ProcessPoolExecutor | None = None
        self.drawn = 0

    async def image(self, signal: Signal, risk_profile: str, bars: Sequence[BarTuple]) -> bytes:
        """The PNG; raises Busy when too many are waiting."""
        key = signal.signal_id, risk_profile
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._drawing:
            if len(self._drawing) >= WAITING_MAX:
                raise Busy
            if self._pool is None:  # spawned, because a forked worker would share the sockets of all clients
                self._pool = ProcessPoolExecutor(
                    1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_relay
                )
            task = asyncio.get_running_loop().run_in_executor(
                self._pool, render, msgspec.json.encode(signal), risk_profile, list(bars)
            )
            self._drawing[key] = task
            try:
                self._kept[key] = await asyncio.shield(task)
                self.drawn += 1
            finally:
                self._drawing.pop(key, None)
            while len(self._kept) > self._maximum:
                self._kept.popitem(last=False)
            return self._kept[key] if key in self._kept else task.result()
        return await asyncio.shield(self._drawing[key])

    def close(self) -> None:
        """End the worker."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
