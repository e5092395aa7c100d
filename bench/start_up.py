"""How long it takes from starting the job, or the demo, to the first signal.

    python bench/start_up.py                 five starts of the job, two of `signals demo`
    python bench/start_up.py --starts 1 --demos 0

The job (`python -m jobs.signals`, a mini cluster in its own process) finds 500 minutes of 20 symbols waiting in a
broker that runs already, and signals in them. Of each start the seconds until Flink answers, and until the first row
and the first signal are on their topics, by the broker's stamps. (When every operator runs, Flink's REST interface
reports it up to three seconds late: after the first row.) Of each demo the seconds from the command to the first signal
on the terminal, broker and Redis included. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.cluster import rest_at  # noqa: E402
from bench.live import Live, Market  # noqa: E402
from bench.machine import description  # noqa: E402

SYMBOLS, MINUTES = 20, 500
#: A signal as the demo prints it: a day, a symbol and what to do.
_SIGNAL = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d  \S+ +(BUY|SELL|HOLD) ")


class Waiting(Live):
    """A job that finds its bars on the topic; ``began_s`` is when it was started."""

    began_s = 0.0

    def start_job(self, *arguments: str) -> None:
        """Publish, then start."""
        market = Market(self.broker.bootstrap, SYMBOLS)
        for _ in range(MINUTES):
            for bar in market.minute():
                market.send(bar)
        market.producer.flush()
        self.began_s = time.time()
        super().start_job(*arguments)

    def flink_answers(self) -> bool:
        """Whether there is a job to ask for."""
        try:
            return bool(rest_at(f"127.0.0.1:{self.rest_port}", "/jobs")["jobs"])
        except (URLError, OSError):
            return False


def start_job() -> dict[str, float]:
    """One start of the job: seconds until each of its steps."""
    with tempfile.TemporaryDirectory(prefix="start-up-") as folder, Waiting(Path(folder)) as live:
        while not live.flink_answers():
            if live.job.process.poll() is not None:
                raise SystemExit(f"the job ended:\n{live.job.tail()}")
            time.sleep(0.1)
        found = {"flink_s": time.time() - live.began_s}
        live.wait_for(SYMBOLS * MINUTES, 120)
        time.sleep(0.5)
        if not live.signals:
            raise SystemExit(f"no signal in {len(live.rows):,} rows")
        found["first_row_s"] = min(live.rows.values()) / 1000 - live.began_s
        found["first_signal_s"] = min(live.signals.values()) / 1000 - live.began_s
    return {step: round(seconds, 1) for step, seconds in found.items()}


def start_demo() -> float:
    """Seconds from the command to the first signal it prints."""
    began = time.monotonic()
    command = [sys.executable, "-u", "-m", "cli", "demo", "--port", "0"]
    demo = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"COLUMNS": "200"}, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        for line in demo.stdout:
            if _SIGNAL.match(line):
                return round(time.monotonic() - began, 1)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        demo.wait(60)
    raise SystemExit(f"the demo ended without a signal: {demo.returncode}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--demos", type=int, default=2)
    given = parser.parse_args()
    machine = description()
    print(machine)
    starts = []
    for number in range(given.starts):
        starts.append(start_job())
        print(f"start {number + 1}: {starts[-1]}", flush=True)
    demos = []
    for number in range(given.demos):
        demos.append(start_demo())
        print(f"demo {number + 1}: first signal after {demos[-1]} s", flush=True)
    figures: dict[str, float | list[float]] = {}
    if starts:
        figures |= {step: round(statistics.median(one[step] for one in starts), 1) for step in starts[0]}
        figures["first_signal_of_each_s"] = [one["first_signal_s"] for one in starts]
    print(json.dumps(figures | {"demo_first_signal_s": demos, "machine": machine}))


if __name__ == "__main__":
    main()
