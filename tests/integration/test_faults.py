"""``kill -9`` of the TaskManager in mid-replay: nothing is lost, and nothing is there twice once repeats are dropped.

In transactions nothing is there twice at all. ``bench/kill_taskmanager.py`` does the same many times.
"""

import base64
import random
import time

import pytest

from bench.kill_taskmanager import BARS_TOPIC, QUICK, SHORT_QUEUES, Rig, compare, identified, publish, real_bars
from cli.local.servers import FlinkCluster
from connectors.kafka.read import read_to_end
from models.messages import Bar, DeadLetter, FeatureRow, Signal, decode, encode
from models.outcomes.tracker import Tracker
from udfs.frames.groups import group_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def rig(kafka, wheel):
    """A cluster, the bars on their topic, and the signals of a replay that nobody disturbed."""
    bars = real_bars(copies=2)
    kafka.create_topic(BARS_TOPIC, partitions=2)
    publish(kafka.bootstrap, BARS_TOPIC, bars)
    with FlinkCluster(settings=QUICK | SHORT_QUEUES) as cluster:
        rig = Rig(kafka, cluster, wheel, frame_offsets=4, spread_s=0.5, each_after_checkpoint=False)
        rig.replay("signals", "calm-", 0, random.Random(), "--no-feature-rows")
        yield rig, bars, dict(identified(kafka.bootstrap, "calm-trading-signals"))


def seeded():
    seed = time.time_ns() % 1_000_000
    print("seed", seed)
    return random.Random(seed)


def what_became_of_bars(kafka, prefix):
    """(symbol, start) of each bar's row or, for the few that are no sound bars, dead letter."""
    rows = [decode(value, FeatureRow) for *_, value in read_to_end(kafka.bootstrap, f"{prefix}features")]
    letters = [decode(value, DeadLetter) for *_, value in read_to_end(kafka.bootstrap, f"{prefix}dead-letter")]
    refused = [decode(base64.b64decode(letter.payload_base64), Bar) for letter in letters]
    assert len(refused) < len(rows) / 100
    return [(one.symbol, one.start_ms) for one in (*rows, *refused)]


def test_signals_are_the_same_once_repeats_are_dropped(rig, kafka):
    rig, bars, calm = rig
    assert rig.replay("signals", "faulty-", 1, seeded()) == 1
    found = compare(kafka.bootstrap, "faulty-trading-signals", calm)
    assert (found.lost, found.extra, found.changed) == (0, 0, 0)
    assert len(calm) > 1_000
    assert set(what_became_of_bars(kafka, "faulty-")) == {(bar.symbol, bar.start_ms) for bar in bars}


def test_in_transactions_no_signal_and_no_row_is_lost_or_there_twice(rig, kafka):
    rig, bars, calm = rig
    assert rig.replay("signals", "once-", 2, seeded(), "--exactly-once", "--checkpoint-ms", "500") == 2
    found = compare(kafka.bootstrap, "once-trading-signals", calm)
    assert found == (len(calm), 0, 0, 0, 0)
    assert sorted(what_became_of_bars(kafka, "once-")) == sorted((bar.symbol, bar.start_ms) for bar in bars)
    every = sum(1 for _ in read_to_end(kafka.bootstrap, "once-features", committed_only=False))
    assert every >= len(bars)
    print(f"{every - len(bars)} rows were in transactions that the kills left open, and were aborted")


def test_every_update_of_an_outcome_is_that_of_the_pure_tracker(rig, kafka):
    rig, bars, calm = rig
    assert rig.replay("outcomes", "followed-", 1, seeded()) == 1
    signals = [decode(value, Signal) for value in calm.values()]
    expected = {}
    for group in range(8):  # the job's trackers: one a symbol group
        tracker = Tracker()
        told = tracker.take(
            [one for one in signals if group_of(one.symbol, 8) == group],
            [bar for bar in bars if group_of(bar.symbol, 8) == group],
        )
        told += tracker.expire(tracker.newest_ms)
        expected |= {f"{one.signal_id} {one.revision} {one.updated_ms}": encode(one) for one in told}
    found = compare(kafka.bootstrap, "followed-signal-outcomes", expected)
    assert (found.lost, found.extra, found.changed) == (0, 0, 0)
    assert len(expected) > 10_000
