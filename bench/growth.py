"""How the cost of a bar grows: with symbols, frame length, groups, parallelism and timeframe.

    python bench/growth.py                      the whole sweep, about 20 minutes
    python bench/growth.py --write              and write its plots and tables into docs/
    python bench/growth.py --only symbols --bars 20000

Each point is a separate job that differs in one setting from: 500 symbols, minute bars, 20 ms frames, 8 groups, one
instance. Measured: bars per second while a backlog is processed (from its first bar's append to its last row's), and
the latency from a bar's append to its row's at a steady thousand bars per second. Live frames, checkpoints every 10 s;
broker, job and measuring process share the machine. The kill switch is on: the cost of a signal does not depend on any
of these and would hide the costs that do. Parallelism is measured on a standalone cluster with one TaskManager per
instance. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.cluster import start, state_of  # noqa: E402
from bench.kill_taskmanager import build_wheel  # noqa: E402
from bench.latency import steady  # noqa: E402
from bench.live import Live, Market  # noqa: E402
from bench.machine import description  # noqa: E402
from cli.kill_switch import kill  # noqa: E402
from cli.local.servers import FlinkCluster  # noqa: E402

PAGE, FOLDER = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance"


class Point(NamedTuple):
    """One setting of the job and the market."""

    symbols: int = 500
    frame_ms: int = 20
    groups: int = 8
    timeframe: str = "1m"
    parallelism: int = 1


#: What is varied, over which values.
SWEEP: dict[str, list[Any]] = {
    "symbols": [10, 100, 500, 2_000, 5_000, 10_000, 20_000],
    "frame_ms": [5, 20, 100, 500],
    "groups": [1, 8, 64],
    "timeframe": ["1s", "1m", "1h", "1d"],
    "parallelism": [1, 2],
}
TITLES = {
    "symbols": "symbols", "frame_ms": "frame length, ms", "groups": "symbol groups",
    "timeframe": "timeframe", "parallelism": "instances, one TaskManager each",
}  # fmt: skip


class Clustered(Live):
    """The job on a standalone cluster, a TaskManager for each instance."""

    def __init__(self, folder: Path, wheel: Path, point: Point, *arguments: str, policy: dict[str, Any]) -> None:
        super().__init__(folder, *arguments, policy=policy)
        self._wheel, self._managers = wheel, point.parallelism

    def start_job(self, *arguments: str) -> None:
        """Submit it as users do."""
        self.cluster = self._stack.enter_context(FlinkCluster(self._managers))
        self._id = start(self.cluster, "signals", "-pyfs", str(self._wheel), *arguments)

    def wait_for(self, rows: int, timeout_s: float) -> None:
        """Wait until so many rows are written; RuntimeError with the job's state if they do not."""
        deadline = time.monotonic() + timeout_s
        while len(self.rows) < rows:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.rows):,} of {rows:,} rows, job {state_of(self.cluster, self._id)}")
            time.sleep(0.02)


def backlog(live: Live, market: Market, bars: int) -> float:
    """Bars per second over a backlog of at least so many, whole rounds of every symbol."""
    waiting = [bar for _ in range(-(-bars // market.symbols)) for bar in market.minute()]
    before = len(live.rows)
    market.sent.clear()
    for number, bar in enumerate(waiting):
        market.send(bar)
        if number % 1_000 == 0:
            market.producer.poll(0)
    market.producer.flush()
    live.wait_for(before + len(waiting), 300)
    last_ms = max(live.rows[place] for place in market.sent)
    return len(waiting) / ((last_ms - min(market.sent.values())) / 1000)


def measure(point: Point, given: argparse.Namespace, wheel: Path | None) -> dict[str, float]:
    """One point's figures."""
    arguments = ["--frame-ms", str(point.frame_ms), "--groups", str(point.groups)]
    arguments += ["--parallelism", str(point.parallelism)]
    policy = {"emit_holds": False}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="growth-")))
        live = Clustered(folder, wheel, point, *arguments, policy=policy) if wheel else Live(
            folder, *arguments, policy=policy
        )  # fmt: skip
        stack.enter_context(live)
        with contextlib.redirect_stdout(io.StringIO()):
            kill(kafka=live.broker.bootstrap, groups=point.groups, effective_ms=0)
        market = Market(live.broker.bootstrap, point.symbols, timeframe=point.timeframe)
        backlog(live, market, given.warm_up_bars)  # the kill may come after the first of these
        live.rows.clear()
        live.signals.clear()
        rate = backlog(live, market, given.bars)
        live.rows.clear()
        steady(live, market, given.rate, 15)  # the backlog's large frames are no warm-up for small ones
        found = steady(live, market, given.rate, given.seconds)["rows"]
        if live.signals:
            raise SystemExit(f"{len(live.signals):,} signals in spite of the kill switch: they are in the figures")
    return {"bars_per_s": round(rate), "p50_ms": found["p50_ms"], "p99_ms": found["p99_ms"]}


def table(name: str, rows: dict[Any, dict[str, float]]) -> str:
    """The figures as Markdown."""
    lines = [f"| {TITLES[name]} | bars/s | p50, ms | p99, ms |", "|---|---|---|---|"]
    for value, row in rows.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        lines.append(f"| {shown} | {row['bars_per_s']:,} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f} |")
    return "\n".join(lines)


def plot(name: str, rows: dict[Any, dict[str, float]]) -> None:
    """Bars per second and latency side by side, as one small SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
    values = list(rows) if name in ("symbols", "frame_ms", "groups") else [str(value) for value in rows]
    left.plot(values, [row["bars_per_s"] for row in rows.values()], marker="o", color="#1f5fa8")
    left.set_ylabel("bars/s")
    for label, colour in (("p50_ms", "#1f5fa8"), ("p99_ms", "#c0561f")):
        right.plot(values, [row[label] for row in rows.values()], marker="o", color=colour, label=label[:3])
    right.set_ylabel("ms from append to append")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlabel(TITLES[name])
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
        if name in ("symbols", "frame_ms", "groups"):
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{value / 1000:g}k" if value >= 1_000 else str(value) for value in values])
            axes.minorticks_off()
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def write(figures: dict[str, dict[Any, dict[str, float]]], note: str) -> None:
    """Plots, and the tables into the page between their markers."""
    text = PAGE.read_text()
    for name, rows in figures.items():
        plot(name, rows)
        text = replaced(text, name, table(name, rows))
    PAGE.write_text(replaced(text, "machine", note))


def replaced(text: str, name: str, inner: str) -> str:
    """The page with the text between ``<!-- NAME -->`` and ``<!-- /NAME -->`` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"{PAGE} has no <!-- {name} -->")
    return re.sub(pattern, lambda found: f"{found[1]}{inner}\n{found[2]}", text, flags=re.DOTALL)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(SWEEP), default=list(SWEEP))
    parser.add_argument("--bars", type=int, default=150_000, help="bars of a backlog")
    parser.add_argument("--warm-up-bars", type=int, default=150_000)
    parser.add_argument("--rate", type=float, default=1_000, help="bars per second while latency is taken")
    parser.add_argument("--seconds", type=float, default=20, help="of latency per point")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)} and its plots")
    given = parser.parse_args()
    machine = description()
    print(machine)
    began = time.monotonic()
    known: dict[tuple[Point, bool], dict[str, float]] = {}
    figures: dict[str, dict[Any, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="growth-wheel-") as folder:
        wheel = build_wheel(Path(folder)) if "parallelism" in given.only else None
        for name in given.only:
            figures[name] = {}
            for value in SWEEP[name]:
                point, clustered = Point()._replace(**{name: value}), name == "parallelism"
                if (point, clustered) not in known:  # the common point is measured once
                    known[point, clustered] = measure(point, given, wheel if clustered else None)
                figures[name][value] = row = known[point, clustered]
                print(
                    f"{(time.monotonic() - began) / 60:5.1f} min  {name} {value}: {row['bars_per_s']:,} bars/s, "
                    f"p50 {row['p50_ms']:.0f} ms, p99 {row['p99_ms']:.0f} ms", flush=True,
                )  # fmt: skip
                print(json.dumps(figures | {"machine": machine}), flush=True)  # a run cut short has its figures
    if given.write:
        write(figures, f"{machine}; backlog of {given.bars:,} bars, latency at {given.rate:,.0f} bars/s.")
        print(f"written: {PAGE.relative_to(ROOT)} and {FOLDER.relative_to(ROOT)}/*.svg")
    print(json.dumps(figures | {"minutes": round((time.monotonic() - began) / 60, 1), "machine": machine}))


if __name__ == "__main__":
    main()
