"""The demo: the whole system on this machine, its parts started in order and watched until they are done."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.local.demo_counts import Counts
from cli.local.demo_progress import Figures, Phase, Progress

if TYPE_CHECKING:
    import pandas as pd

    from models.messages import Bar, Outcome, Signal

#: The shipped daily bundle was trained on the sample's bars before this day.
SAMPLE_FROM = "2010-01-01"
_COLOURS = {"buy": "green", "sell": "red", "hold": "yellow"}


class Demo:
    """The parts of a running demo; ``stack`` ends them in reverse order."""

    #: Data mode that the page shows.
    mode = "replay"

    def __init__(self, stack: contextlib.ExitStack, home: Path, bundle: str, port: int) -> None:
        from rich.console import Console

        self.console = Console(highlight=False, soft_wrap=True)
        self._stack, self._home, self._bundle, self._port = stack, home, bundle, port
        self._began = time.monotonic()
        self.published = 0
        self.rejected = 0
        self.finished_publishing = threading.Event()
        self._stopping = threading.Event()
        self._failure = ""
        self._shown_s = 0.0

    def say(self, text: str) -> None:
        """One line of progress, with the seconds since the start."""
        self.console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/]  {text}")

    def play(self, bars: Path | None, timeframe: str, symbol: str, speed: float, exit_when_done: bool) -> None:
        """Start everything, publish the bars, print the results."""
        from cli.local.system import System

        table, rejects, source = self._read(bars, timeframe, symbol)
        for part in ("kafka", "redis", "checkpoints"):  # a demo starts with empty topics, even in an existing folder
            shutil.rmtree(self._home / part, ignore_errors=True)
        self.say("starting a Kafka broker and a Redis server")
        system = System(self._home)
        system.start_servers(self._stack)
        self.say(f"Kafka at {system.kafka}, Redis at {system.redis}")
        self._system = system
        self._say_mode(system.redis)
        checkpoints = ["--checkpoints", str(self._home / "checkpoints")]
        job = system.job("signals", "--bundle", self._bundle, *checkpoints)
        follower = system.job(
            "outcomes", "--checkpoint-ms", "2000", *checkpoints,
            "--history-hours", "1000000",  # the demo plays days in a second: three of them pass quickly
        )  # fmt: skip
        relay = system.relay(self._port, demo_user="dynamic")
        self.say(f"starting the Flink job (jobs/signals.py, bundle {self._bundle}) and the relay")
        self._stack.enter_context(job)
        self._stack.enter_context(relay)
        page = relay.ready_text
        self.console.rule(f"[bold]page: {page}[/]  (Ctrl-C ends everything)")

        publisher = threading.Thread(target=self._publish, args=(system.kafka, table, rejects, source, speed))
        publisher.start()
        self._stack.callback(publisher.join)
        self._stack.callback(self._stopping.set)
        self._watch(system.kafka, job, follower, page, exit_when_done)

    def _read(self, bars: Path | None, timeframe: str, symbol: str) -> tuple[pd.DataFrame, list[Any], str]:
        from connectors.files.bars import read_bars
        from connectors.files.samples import daily_bars_file

        path = bars or daily_bars_file()
        self.say(f"reading bars from {path.name}")
        table, mapping, rejects = read_bars(path, timeframe or ("1d" if bars is None else None), symbol or None)
        if bars is None:
            import pandas as pd

            since = int(pd.Timestamp(SAMPLE_FROM, tz="UTC").timestamp() * 1000)
            table = table[table.start_ms >= since]
        self.say("columns: " + ", ".join(f"{ours} = {theirs!r}" for ours, theirs in mapping.items()))
        table = table.sort_values("start_ms", kind="stable")
        for reject in rejects[:20]:
            self.say(f"[yellow]line {reject.line}[/]: {reject.field} {reject.value!r}: {reject.reason}")
        if len(rejects) > 20:
            self.say(f"[yellow]… and {len(rejects) - 20} more rejected lines[/], all in topic dead-letter")
        symbols = sorted(table.symbol.unique())
        if not len(table):
            raise ValueError(f"{path.name}: it has no valid bar")
        shown = ", ".join(symbols[:8]) + (" …" if len(symbols) > 8 else "")
        self.say(f"{len(table):,} bars of {len(symbols)} symbols ({shown}), {len(rejects)} rejected")
        return table, rejects, path.name

    def _say_mode(self, redis_url: str) -> None:
        """Report the data mode to the page."""
        from connectors.redis.client import connect
        from connectors.redis.keys import SYSTEM_STATUS

        client = connect(redis_url)
        client.hset(SYSTEM_STATUS, "mode", f'{{"mode": "{self.mode}"}}')
        client.close()

    def _publish(self, bootstrap: str, table: pd.DataFrame, rejects: list[Any], source: str, speed: float) -> None:
        from connectors.kafka.publisher import Publisher
        from models.dead_letters import dead_letter

        try:
            publisher = Publisher(bootstrap)
            for reject in rejects:
                reason = f"line {reject.line}: {reject.reason}"
                publisher.dead(dead_letter(reject.raw.encode(), reason, source, reject.field), int(time.time() * 1000))
                self.rejected += 1
            started = time.monotonic()
            for bar in as_bars(table, source):
                if self._stopping.is_set():
                    break
                publisher.publish(bar)
                self.published += 1
                if speed:
                    ahead = self.published / speed - (time.monotonic() - started)
                    if ahead > 0.02:
                        publisher.poll()
                        self._stopping.wait(ahead)
            publisher.flush()
        except Exception as error:  # printed by the main thread, which ends the demo
            self._failure = f"publishing stopped: {error}"
        self.finished_publishing.set()

    def _watch(self, bootstrap: str, job: Any, follower: Any, page: str, exit_when_done: bool) -> None:
        """Print signals and their outcomes as they arrive, and one line of figures; returns when done.

        ``follower``, the outcomes job, is started after the first signal: two jobs that start at the same time
        would delay each other. ValueError if a part failed.
        """
        from rich.live import Live

        counts = Counts(bootstrap)
        self._stack.callback(counts.close)
        progress = Progress()
        live = Live(console=self.console, refresh_per_second=4, transient=True)
        with live if self.console.is_terminal else contextlib.nullcontext():
            while True:
                self._print_new(counts, timeout_s=0.25)
                if counts.signals and follower.process is None:
                    self.say("starting the Flink job that tracks signals to their end (jobs/outcomes.py)")
                    self._stack.enter_context(follower)
                figures = self._figures(counts)
                self._show(figures, live)
                self._require_sound(job, follower)
                for left in progress.step(figures, self.finished_publishing.is_set(), counts.all_followed):
                    self._print_new(counts, timeout_s=1.0)
                    self._say_left(left, self._figures(counts), counts)
                    if left is Phase.FOLLOWING:
                        if exit_when_done:
                            return
                        self.say(f"still serving at {page}; Ctrl-C ends everything")

    def _print_new(self, counts: Counts, timeout_s: float) -> None:
        """Print new signals and outcomes since the last call; waits up to ``timeout_s`` for a signal."""
        for made in counts.new_signals(timeout_s):
            self._print_signal(made)
        for ended in counts.new_ends():
            self._print_end(ended)

    def _figures(self, counts: Counts) -> Figures:
        rows, dead = counts.processed()
        return Figures(self.published, self.rejected, rows, dead, counts.signals, len(counts.ends))

    def _show(self, figures: Figures, live: Any) -> None:
        """The line of figures: updated in place on a terminal, printed every five seconds elsewhere."""
        line = figures.line()
        if figures.rows == 0:
            line += "   [dim](the job is starting: imports, state, warm-up)[/]"
        if self.console.is_terminal:
            live.update(line)
        elif time.monotonic() - self._shown_s > 5:
            self._shown_s = time.monotonic()
            self.say(line)

    def _require_sound(self, *parts: Any) -> None:
        """ValueError with a part's log if it has ended, or with why publishing stopped."""
        for part in parts:
            if part.process is not None and part.process.poll() is not None:
                raise ValueError(f"the {part.name} job ended; end of its log:\n" + part.tail())
        if self._failure:
            raise ValueError(self._failure)

    def _say_left(self, phase: Phase, figures: Figures, counts: Counts) -> None:
        if phase is Phase.PROCESSING:
            self.say(
                f"[bold]done[/]: {figures.published:,} bars in, {figures.rows:,} processed, {figures.dead:,} dead "
                f"letters, {figures.signals:,} signals out"
            )
        else:
            self._say_performance(list(counts.ends.values()))

    def _print_end(self, ended: Outcome) -> None:
        from datetime import UTC, datetime

        day = datetime.fromtimestamp(ended.updated_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        colour = "green" if ended.pnl_percent > 0 else "red"
        self.console.print(
            f"[dim]{day}  {ended.symbol:<6}{ended.action:<5}from {ended.entry_price:,.2f} ended: "
            f"{ended.exit_reason} {ended.current_price:,.2f}[/]  [{colour}]{ended.pnl_percent:+.1f} %[/]"
        )

    def _say_performance(self, ends: list[Outcome]) -> None:
        from models.outcomes.performance import summarise

        total = summarise(ends).total
        if total is not None:
            self.say(
                f"[bold]{total.count:,} signals ended[/]: {total.hit_rate:.0%} at their target, "
                f"{total.win_rate:.0%} with a profit, {total.mean_pnl_percent:+.2f} % per signal before costs"
            )

    def _print_signal(self, made: Signal) -> None:
        from datetime import UTC, datetime

        day = datetime.fromtimestamp(made.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        colour = _COLOURS[made.action]
        self.console.print(
            f"{day}  [bold]{made.symbol:<6}[/][{colour}]{made.action.upper():<5}[/]{made.confidence:6.1%}  "
            f"entry {made.entry_price:,.2f}  target {made.target_price:,.2f}  stop {made.stop_loss:,.2f}  "
            f"{made.time_horizon}",
        )
        self.console.print(f"[dim]                  {made.reasoning}[/]")


def as_bars(table: pd.DataFrame, source: str) -> Iterator[Bar]:
    """The rows of :func:`connectors.files.bars.read_bars` as messages; a volume that is NaN becomes null."""
    from models.messages import Bar

    fields = ["symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume", "revision"]
    for values in zip(*(table[field].tolist() for field in fields), strict=True):
        row = dict(zip(fields, values, strict=True))
        if row["volume"] != row["volume"]:
            row["volume"] = None
        yield Bar(**row, source=source)
