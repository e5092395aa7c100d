"""The whole market at a minute's end: so many symbols within a second, minute after minute.

    python bench/burst.py                        11,000 symbols, 30 minutes, a burst every 60 s
    python bench/burst.py --minutes 5 --every-s 15

The figure per minute is the time from the append of its last bar to the append of its last row and last signal
(broker stamps). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.live import Live, Market, work_off_history  # noqa: E402
from bench.machine import description  # noqa: E402


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--every-s", type=float, default=60.0)
    parser.add_argument(
        "--history", type=int, default=100, help="minutes sent at once: warm features, expired cooldowns"
    )
    parser.add_argument("--warm-up", type=int, default=3, help="bursts before the measured ones")
    given = parser.parse_args()
    machine = description()
    print(machine)
    with tempfile.TemporaryDirectory(prefix="burst-") as name, Live(Path(name)) as live:
        market = Market(live.broker.bootstrap, given.symbols)
        rows_s, signals_s, spread_s = [], [], []
        work_off_history(live, market, given.history, 20 * given.symbols)
        for minute in range(given.warm_up + given.minutes):
            bars = list(market.minute())
            end_ms = bars[0][1]
            began = time.monotonic()
            for number, bar in enumerate(bars):
                market.send(bar)
                if number % 100 == 0:
                    market.producer.poll(0)
                    time.sleep(max(0.0, number / given.symbols - (time.monotonic() - began)))
            market.producer.flush()
            live.wait_for((given.history + minute + 1) * given.symbols, 300)
            time.sleep(0.3)
            stamps = [stamp for (_, end), stamp in market.sent.items() if end == end_ms]
            rows = [stamp for (_, end), stamp in live.rows.items() if end == end_ms]
            signals = [stamp for (_, end), stamp in live.signals.items() if end == end_ms]
            last_row_s = (max(rows) - max(stamps)) / 1000
            last_signal_s = (max(signals) - max(stamps)) / 1000 if signals else None
            counts = minute >= given.warm_up
            print(
                f"minute {minute + 1 - given.warm_up:>3}{'' if counts else ' (warm-up)'}: bars over "
                f"{(max(stamps) - min(stamps)) / 1000:.2f} s, last row {last_row_s:+.2f} s, last of "
                f"{len(signals):,} signals {'-' if last_signal_s is None else f'{last_signal_s:+.2f} s'}",
                flush=True,
            )  # fmt: skip
            if counts:
                rows_s.append(round(last_row_s, 3))
                signals_s.append(last_signal_s if last_signal_s is None else round(last_signal_s, 3))
                spread_s.append(round((max(stamps) - min(stamps)) / 1000, 3))
            market.sent.clear()
            time.sleep(max(0.0, given.every_s - (time.monotonic() - began)))
    figures = {"last_row_s": rows_s, "last_signal_s": signals_s, "bars_over_s": spread_s, "symbols": given.symbols}
    print(json.dumps(figures | {"machine": machine}))


if __name__ == "__main__":
    main()
