"""Time from a bar's append to its row's and its signal's append, at steady loads.

    python bench/latency.py                          10 % and 50 % of 6,000 bars/s, 10 minutes each after warm-up
    python bench/latency.py --minutes 1 --loads 10 --frame-ms 10     unknown options are passed to the job

500 symbols, bars spread evenly over time, at-least-once, checkpoints every 10 s, 20 ms frames; everything on one
machine, broker and measuring process included. Every bar gives a row on ``features``; signals are those of the default
policy with a cooldown of an hour per symbol. A history of 2,000 minutes comes first, as fast as it is accepted: without
it every symbol would be warm in the same minute, a day after the first, and all 500 would signal at once. The last line
is one JSON object by load.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.live import Live, Market, percentiles, work_off_history  # noqa: E402
from bench.machine import description  # noqa: E402
from bench.stages import between, read_stages  # noqa: E402


def steady(live: Live, market: Market, rate: float, seconds: float) -> dict[str, dict[str, float]]:
    """Bars at ``rate`` a second for some time; latencies of rows and signals.

    A line for every ten seconds: whether a tail is constant, periodic or transient shows its cause.
    It also reports how late the sender was at worst: a burst sent to catch up is not a steady load.
    """
    market.sent.clear()
    before = len(live.rows)
    began = time.monotonic()
    sent = 0
    late_s: dict[int, float] = defaultdict(float)
    while time.monotonic() - began < seconds:
        for bar in market.minute():
            market.send(bar)
            sent += 1
            now_s = time.monotonic() - began
            ahead_s = sent / rate - now_s
            if ahead_s > 0.002:
                market.producer.poll(0)
                time.sleep(ahead_s)
            elif ahead_s < 0:
                late_s[int(now_s / 10)] = max(late_s[int(now_s / 10)], -ahead_s)
    market.producer.flush()
    live.wait_for(before + sent, 120)
    time.sleep(1)
    first = min(market.sent.values())
    by_time: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for place, stamp in market.sent.items():
        by_time[(stamp - first) // 10_000].append(place)
    for number, places in sorted(by_time.items()):
        told = percentiles([live.rows[place] - market.sent[place] for place in places])
        signals = sum(place in live.signals for place in places)
        print(
            f"  {number * 10:5} s  p50 {told['p50_ms']:5.0f}  p99 {told['p99_ms']:5.0f}  max {told['max_ms']:5.0f} ms"
            f"  {signals:5,} signals  sent {late_s[number] * 1000:3.0f} ms late at worst"
        )
    found = {}
    for name, out in (("rows", live.rows), ("signals", live.signals)):
        came = [out[place] - stamp for place, stamp in market.sent.items() if place in out]
        found[name] = percentiles(came) | {"count": len(came)}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capacity", type=float, default=6_000, help="bars per second that are 100 %% load")
    parser.add_argument("--loads", type=float, nargs="+", default=[10, 50], help="percent of the capacity")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--warm-up-s", type=float, default=60)
    parser.add_argument("--history-minutes", type=int, default=2_000)
    parser.add_argument("--symbols", type=int, default=500)
    given, job = parser.parse_known_args()
    machine = description()
    print(machine)
    with tempfile.TemporaryDirectory(prefix="latency-") as name, Live(Path(name), *job) as live:
        market = Market(live.broker.bootstrap, given.symbols)
        work_off_history(live, market, given.history_minutes)
        steady(live, market, given.capacity * max(given.loads) / 100, given.warm_up_s)
        figures = {}
        for load in given.loads:
            rate = given.capacity * load / 100
            before = read_stages(live.rest_port)
            found = steady(live, market, rate, given.minutes * 60)
            stages = between(before, read_stages(live.rest_port))
            print(f"{load:g} %, {rate:,.0f} bars/s for {given.minutes:g} min: {found}", flush=True)
            for stage, told in stages.items():
                print(f"  {stage:9} {told}", flush=True)
            figures[f"{load:g}"] = found["rows"] | {"bars_per_s": rate, "signals": found["signals"], "stages": stages}
    print(json.dumps({"load_percent": figures, "minutes": given.minutes, "job": job, "machine": machine}))


if __name__ == "__main__":
    main()
