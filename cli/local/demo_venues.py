"""``signals demo --venues simulated``: the whole path from the venues' sockets to the page.

    simulators ──WebSocket──> signals ingest ──trades──> jobs/bars.py ──daily bars──> jobs/signals.py ──> page

Each venue is a server on loopback with its own protocol that plays real trading days; a daily bar built from its
trades is the real one. Faults can be injected into each while the demo runs.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from cli.local.demo import SAMPLE_FROM, Demo

#: Bars per second by default: venues that play faster drift apart, and late trades revise bars.
FULL_SPEED = 400.0
#: Many days pass in a second here. Half a day of lateness keeps one venue's trades from being late by another's; a
#: partition that lags for a while is waited for; what a faulty venue delivers late revises bars of up to a year.
_BARS_SETTINGS = '\n[bars]\ntimeframes = ["1d"]\nlate_s = 43200\nidle_s = 60\nrevise_h = 8760\n'
_COUNTER = re.compile(r'^ingest_(messages|gaps|backfilled|rejected)_total\{(.*)venue="(\w+)"\} (\d+)', re.MULTILINE)


class VenuesDemo(Demo):
    """A demo whose bars come from simulated venues instead of a file."""

    mode = "simulated"

    def _read(self, bars: Path | None, timeframe: str, symbol: str) -> tuple[Any, list[Any], str]:
        if bars or timeframe or symbol:
            raise ValueError("--bars, --timeframe and --symbol name a file of bars: leave them out with --venues")
        self.say(f"simulated venues: Alpaca, Polygon and Binance.US on loopback, real trading days from {SAMPLE_FROM}")
        return None, [], "venues"

    def _publish(self, bootstrap: str, table: Any, rejects: list[Any], source: str, speed: float) -> None:
        # The processes end with the thread that started them, so this one lives until the demo is over.
        with contextlib.ExitStack() as stack:
            try:
                self._run(stack, bootstrap, speed or FULL_SPEED)
            except Exception as error:  # printed by the main thread, which ends the demo
                self._failure = f"the simulated venues stopped: {error}"

    def _run(self, stack: contextlib.ExitStack, bootstrap: str, speed: float) -> None:
        from cli.local.servers import PythonProcess

        venues = PythonProcess(
            "venues",
            ["-m", "simulators", "--days-from", SAMPLE_FROM, "--events-per-s", str(4 * speed)],
            self._home / "venues",
            ready_line="{",
        )
        stack.enter_context(venues)
        ready = json.loads("{" + venues.ready_text)
        config = self._home / "signals.toml"
        config.write_text(Path(ready["settings"]).read_text() + _BARS_SETTINGS)
        self.say("starting the Flink job that builds daily bars from trades (jobs/bars.py)")
        bars = self._system.bars_job(config)
        bars.start_timeout_s = 240  # two jobs start at once, perhaps on two cores
        stack.enter_context(bars)
        ingest = stack.enter_context(self._system.ingest(config=config))
        self.say(f"ingesting from {', '.join(name for name in ready if name != 'settings')}: {ingest.ready_text}")
        self.say(f"inject a fault: curl '{ready['alpaca']['rest']}/control?fault=drop'")
        self._follow(bootstrap, [venues, bars, ingest], ingest.ready_text)

    def _follow(self, bootstrap: str, parts: list[Any], metrics: str) -> None:
        """Count bars as they are built; returns when everything the venues sent has become bars."""
        waited = 0
        with counted(bootstrap, "market-data-bars") as count:
            while not self._stopping.wait(0.5):
                built = count()
                waited = 0 if built != self.published else waited + 1
                self.published = built
                for part in parts:
                    if part.process.poll() is not None:
                        raise ValueError(f"{part.name} ended; end of its log:\n{part.tail()}")
                sent = last_line(parts[0])
                if sent and not self.finished_publishing.is_set():
                    if built >= sent["bars"] and waited >= 6:  # three idle seconds: late trades have revised their bars
                        revised = f", {built - sent['bars']:,} revisions among them" if built > sent["bars"] else ""
                        self.say(f"{sent['trades']:,} trades of {sent['days']:,} days: {built:,} daily bars{revised}")
                        self.say(summary(urlopen(metrics, timeout=5).read().decode()))
                        self.finished_publishing.set()
                    elif waited > 120:
                        raise ValueError(f"{sent['bars']:,} bars expected, {built:,} received, none for the last 60 s")


@contextlib.contextmanager
def counted(bootstrap: str, topic: str) -> Iterator[Callable[[], int]]:
    """A function that returns how many records a topic has."""
    from confluent_kafka import Consumer, TopicPartition

    from connectors.kafka.security import kafka_client

    consumer = Consumer(kafka_client(bootstrap, group_id="demo-venues", log_level=0))

    def count() -> int:
        partitions = consumer.list_topics(topic, timeout=5).topics[topic].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=5)[1] for n in partitions)

    try:
        yield count
    finally:
        consumer.close()


def last_line(venues: Any) -> dict[str, int] | None:
    """The simulators' totals once all was sent; None while they play."""
    line = venues.tail(1).strip()
    return json.loads(line) if line.startswith('{"days"') else None


def summary(metrics: str) -> str:
    """Ingestion's counters, by venue.

    >>> summary('ingest_messages_total{channel="trades",venue="alpaca"} 12.0')
    'alpaca 12 messages, 0 gaps, 0 backfilled, 0 rejected'
    """
    by_venue: dict[str, dict[str, int]] = {}
    for what, _, venue, count in _COUNTER.findall(metrics):
        counts = by_venue.setdefault(venue, {"messages": 0, "gaps": 0, "backfilled": 0, "rejected": 0})
        counts[what] += int(count)
    return "; ".join(
        f"{venue} " + ", ".join(f"{count:,} {what}" for what, count in counts.items())
        for venue, counts in sorted(by_venue.items())
    )
