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

if TYPE_CHECKING:
    import pandas as pd

    from models.messages import Bar, Outcome, Signal

#: The sample's bars from this day on are new to the shipped daily bundle, which was trained on those before.
SAMPLE_FROM = "2010-01-01"
_COLOURS = {"buy": "green", "sell": "red", "hold": "yellow"}


class Demo:
    """The parts of a running demo; ``stack`` ends them in reverse order."""

    #: What the page calls the data.
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

    def say(self, text: str) -> None:
        """One line of progress, with the seconds since the start."""
        self.console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/]  {text}")

    def play(self, bars: Path | None, timeframe: str, symbol: str, speed: float, exit_when_done: bool) -> None:
        """Start everything, publish the bars, show what comes out."""
        from cli.local.servers import Broker, PythonProcess, RedisServer, free_port

        table, rejects, source = self._read(bars, timeframe, symbol)
        for part in ("kafka", "redis", "checkpoints"):  # a demo begins with empty topics, in a kept folder too
            shutil.rmtree(self._home / part, ignore_errors=True)
        self.say("starting a Kafka broker and a Redis server")
        broker = self._stack.enter_context(Broker(self._home / "kafka"))
        redis = self._stack.enter_context(RedisServer(self._home / "redis"))
        self.say(f"Kafka at {broker.bootstrap}, Redis at {redis.url}")
        self._say_mode(redis.url)

        rest_ports = free_port(), free_port()  # where the relay asks both jobs how they are
        job = PythonProcess(
            "signals-job",
            ["-m", "jobs.signals", "--kafka", broker.bootstrap, "--redis", redis.url, "--bundle", self._bundle,
             "--checkpoints", str(self._home / "checkpoints"), "--rest-port", str(rest_ports[0])],
            self._home / "job",
        )  # fmt: skip
        relay = PythonProcess(
            "relay",
            ["-m", "cli", "relay", "--redis", redis.url, "--port", str(self._port), "--demo-user", "dynamic",
             "--users", f"sqlite://{self._home / 'users.db'}", "--kafka", broker.bootstrap,
             *(word for port in rest_ports for word in ("--flink", f"http://127.0.0.1:{port}"))],
            self._home / "relay",
            ready_line="relay listening on ",
        )  # fmt: skip
        follower = PythonProcess(
            "outcomes-job",
            ["-m", "jobs.outcomes", "--kafka", broker.bootstrap, "--redis", redis.url, "--checkpoint-ms", "2000",
             "--checkpoints", str(self._home / "checkpoints"), "--rest-port", str(rest_ports[1]),
             "--history-hours", "1000000"],  # the demo plays days in a second: three of them are soon over
            self._home / "outcomes",
        )  # fmt: skip
        self.say(f"starting the Flink job (jobs/signals.py, bundle {self._bundle}) and the relay")
        self._stack.enter_context(job)
        self._stack.enter_context(relay)
        page = relay.ready_text
        self.console.rule(f"[bold]page: {page}[/]  (Ctrl-C ends everything)")

        publisher = threading.Thread(target=self._publish, args=(broker.bootstrap, table, rejects, source, speed))
        publisher.start()
        self._stack.callback(publisher.join)
        self._stack.callback(self._stopping.set)
        self._watch(broker.bootstrap, job, follower, page, exit_when_done)

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
            raise ValueError(f"{path.name}: none of its rows is a bar")
        shown = ", ".join(symbols[:8]) + (" …" if len(symbols) > 8 else "")
        self.say(f"{len(table):,} bars of {len(symbols)} symbols ({shown}), {len(rejects)} rejected")
        return table, rejects, path.name

    def _say_mode(self, redis_url: str) -> None:
        """Tell the page what kind of data this is."""
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
        except Exception as error:  # shown by the main thread, which ends the demo
            self._failure = f"publishing stopped: {error}"
        self.finished_publishing.set()

    def _watch(self, bootstrap: str, job: Any, follower: Any, page: str, exit_when_done: bool) -> None:
        """Print signals and their ends as they come and keep one line of figures; returns when done or a part failed.

        ``follower``, the job that follows signals, is started after the first of them: two jobs that start at once
        would hold each other up.
        """
        from rich.live import Live

        counts = Counts(bootstrap)
        self._stack.callback(counts.close)
        told = followed = False
        live = Live(console=self.console, refresh_per_second=4, transient=True)
        last_line = 0.0
        with live if self.console.is_terminal else contextlib.nullcontext():
            while True:
                for made in counts.new_signals(timeout_s=0.25):
                    self._print_signal(made)
                for ended in counts.new_ends():
                    self._print_end(ended)
                if counts.signals and follower.process is None:
                    self.say("starting the Flink job that follows signals to their end (jobs/outcomes.py)")
                    self._stack.enter_context(follower)
                rows, dead = counts.processed()
                lag = self.published + self.rejected - rows - dead
                line = (
                    f"bars in {self.published:,}   processed {rows:,}   signals out {counts.signals:,}   "
                    f"ended {len(counts.ends):,}   dead letters {dead:,}   lag {max(lag, 0):,} bars"
                )
                if rows == 0:
                    line += "   [dim](the job is starting: imports, state, warm-up)[/]"
                if self.console.is_terminal:
                    live.update(line)
                elif time.monotonic() - last_line > 5:
                    last_line = time.monotonic()
                    self.say(line)
                for part in (job, follower):
                    if part.process is not None and part.process.poll() is not None:
                        raise ValueError(f"the {part.name} ended; its log says:\n" + part.tail())
                if self._failure:
                    raise ValueError(self._failure)
                if self.finished_publishing.is_set() and lag <= 0 and not told:
                    told = True
                    for made in counts.new_signals(timeout_s=1.0):
                        self._print_signal(made)
                    self.say(
                        f"[bold]done[/]: {self.published:,} bars in, {rows:,} processed, {dead:,} dead letters, "
                        f"{counts.signals:,} signals out"
                    )
                if told and not followed and (not counts.signals or counts.all_followed()):
                    followed = True
                    for ended in counts.new_ends():
                        self._print_end(ended)
                    self._say_performance(list(counts.ends.values()))
                    if exit_when_done:
                        return
                    self.say(f"still serving at {page}; Ctrl-C ends everything")

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
                f"{total.win_rate:.0%} with a profit, {total.mean_pnl_percent:+.2f} % a signal before costs"
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
