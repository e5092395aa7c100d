"""The performance history as one self-contained page: tables and plots drawn as SVG."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from html import escape

from models.outcomes.performance import History, Row

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 260, 56, 28

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d0d7de; --blue: #1f6feb; --grey: #6e7781 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --blue: #58a6ff; --grey: #8d96a0 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto; max-width: 42rem } text { fill: var(--grey); font-size: 12px }
.axis { stroke: var(--line) } .range { stroke: var(--grey) }
.curve { fill: none; stroke: var(--blue); stroke-width: 1.5 }
.dot { fill: var(--blue) } .bar { fill: var(--blue); opacity: .75 } .ideal { stroke: var(--grey); stroke-dasharray: 4 }
"""


def page(history: History) -> str:
    """The whole page."""
    body = [
        f"<p>{history.finished} finished, {history.active} active, {history.void} void. P&amp;L in percent of the "
        "entry price, signed by side, after costs, equal stakes added up; drawdown in percentage points below the "
        "highest point of that sum. Past results do not guarantee future ones; this is not financial "
        "advice.</p>"
    ]
    if history.total is not None:
        body += [
            _section("In all", _table("", [history.total])),
            _section("P&L over time", _curve(history)),
            _section(
                "Reliability: share that ended in profit against predicted confidence",
                _reliability(history) + _reliability_table(history),
            ),
            _section("Hit rate by horizon and action", _bars(history.tables["horizon"] + history.tables["action"])),
            *(_section(f"By {name}", _table(name, rows)) for name, rows in history.tables.items()),
        ]
    else:
        body.append("<p>No finished signal yet.</p>")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Signal performance</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<style>{_STYLE}</style></head><body><h1>Signal performance</h1>{''.join(body)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _table(name: str, rows: list[Row]) -> str:
    heads = (name, "count", "at target", "in profit", "mean P&L", "total P&L", "drawdown", "hours held")
    lines = [
        f"<tr><td>{escape(row.key)}</td><td>{row.count}</td><td>{row.hit_rate:.1%}</td><td>{row.win_rate:.1%}</td>"
        f"<td>{row.mean_pnl_percent:+.3f} %</td><td>{row.total_pnl_percent:+.2f} %</td>"
        f"<td>{row.max_drawdown_percent:.2f}</td><td>{row.holding_hours:.1f}</td></tr>"
        for row in rows
    ]
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _reliability_table(history: History) -> str:
    lines = [
        f"<tr><td>{one.bucket}</td><td>{one.count}</td><td>{one.confidence:.1%}</td><td>{one.win_rate:.1%}</td>"
        f"<td>{one.low:.1%} to {one.high:.1%}</td></tr>"
        for one in history.reliability
    ]
    head = "".join(
        f"<th scope='col'>{text}</th>" for text in ("confidence", "count", "promised", "in profit", "95 % interval")
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _frame(label: str, content: str, x_texts: list[tuple[float, str]], y_texts: list[tuple[float, str]]) -> str:
    """An SVG with axes; positions are in drawing units from the top left."""
    base = _HEIGHT - _BOTTOM
    texts = [f"<text x='{x:.1f}' y='{_HEIGHT - 8}' text-anchor='middle'>{escape(text)}</text>" for x, text in x_texts]
    texts += [f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{escape(text)}</text>" for y, text in y_texts]
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='{escape(label, quote=True)}'>"
        f"<line class='axis' x1='{_LEFT}' y1='{base}' x2='{_WIDTH - 8}' y2='{base}'/>"
        f"<line class='axis' x1='{_LEFT}' y1='8' x2='{_LEFT}' y2='{base}'/>{content}{''.join(texts)}</svg>"
    )


def round_steps(low: float, high: float) -> list[float]:
    """Three to seven round numbers from ``low`` to ``high``.

    >>> round_steps(-604.0, 3.0), round_steps(0.0, 0.9)
    ([-600.0, -400.0, -200.0, 0.0], [0.0, 0.2, 0.4, 0.6, 0.8])
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(size * power for size in (0.2, 0.5, 1.0, 2.0) if span / (size * power) < 6)
    return [round(n * step, 10) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _moments(first_ms: int, last_ms: int) -> list[float]:
    """Four times, spaced to leave room for their dates."""
    return [first_ms + (last_ms - first_ms) * part for part in (0.05, 0.35, 0.65, 0.95)]


def _curve(history: History) -> str:
    points = history.curve
    step = max(1, len(points) // 1000)
    points = [*points[::step], points[-1]]
    first, last = points[0][0], points[-1][0]
    low, high = min(0.0, *(y for _, y in points)), max(0.0, *(y for _, y in points))
    span_x, span_y = max(1, last - first), (high - low) or 1.0
    right, base = _WIDTH - 16, _HEIGHT - _BOTTOM

    def at(time_ms: float, percent: float) -> tuple[float, float]:
        x = _LEFT + (time_ms - first) / span_x * (right - _LEFT)
        return x, base - (percent - low) / span_y * (base - 12)

    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
    zero = at(first, 0.0)[1]
    drawing = (
        f"<line class='ideal' x1='{_LEFT}' y1='{zero:.1f}' x2='{right}' y2='{zero:.1f}'/>"
        f"<polyline class='curve' points='{path}'/>"
    )
    days = [(at(t, 0)[0], datetime.fromtimestamp(t / 1000, UTC).strftime("%Y-%m-%d")) for t in _moments(first, last)]
    levels = [(at(first, v)[1], f"{v:+.4g} %" if v else "0 %") for v in round_steps(low, high)]
    return _frame(f"Cumulative P&L, {history.curve[-1][1]:+.1f} percent at the end", drawing, days, levels)


def _reliability(history: History) -> str:
    base, right = _HEIGHT - _BOTTOM, _WIDTH - 16

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x * (right - _LEFT), base - y * (base - 12)

    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    parts = [f"<line class='ideal' x1='{x0}' y1='{y0}' x2='{x1}' y2='{y1}'/>"]
    for one in history.reliability:
        x, y = at(one.confidence, one.win_rate)
        _, top = at(0, one.high)
        _, bottom = at(0, one.low)
        parts.append(f"<line class='range' x1='{x:.1f}' y1='{top:.1f}' x2='{x:.1f}' y2='{bottom:.1f}'/>")
        parts.append(f"<circle class='dot' cx='{x:.1f}' cy='{y:.1f}' r='4'><title>{one.count} signals</title></circle>")
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    return _frame(
        "Share of wins against predicted confidence",
        "".join(parts),
        [(at(t, 0)[0], f"{t:.0%}") for t in ticks],
        [(at(0, t)[1], f"{t:.0%}") for t in ticks],
    )


def _bars(rows: list[Row]) -> str:
    base, right = _HEIGHT - _BOTTOM, _WIDTH - 16
    width = (right - _LEFT) / max(1, len(rows))
    parts, labels = [], []
    for i, row in enumerate(rows):
        tall = row.hit_rate * (base - 12)
        x = _LEFT + i * width + width * 0.2
        parts.append(
            f"<rect class='bar' x='{x:.1f}' y='{base - tall:.1f}' width='{width * 0.6:.1f}' height='{tall:.1f}'/>"
        )
        labels.append((x + width * 0.3, f"{row.key} {row.hit_rate:.0%}"))
    return _frame("Hit rate", "".join(parts), labels, [(base, "0%"), (12, "100%")])
