"""The job file as users submit it: `flink run` with the wheel, on a cluster from the pip package's own scripts."""

import sys
import time
from pathlib import Path

import pytest

from connectors.local import Broker, FlinkCluster
from connectors.runtime import ROOT
from connectors.topics import read_topic
from models.messages import FeatureRow, decode

sys.path.insert(0, str(Path(__file__).parent))
from job import minute_bars, publish_bars

pytestmark = pytest.mark.integration


def test_the_job_is_submitted_to_a_cluster_and_scores_every_bar(kafka: Broker, redis_server, wheel: Path) -> None:
    bars = minute_bars(symbols=20, bars=60)
    kafka.create_topic("cluster-bars", partitions=2)
    publish_bars(kafka.bootstrap, "cluster-bars", bars)
    with FlinkCluster() as cluster:
        submitted = cluster.flink(
            "run", "--detached", "-py", str(ROOT / "jobs" / "signals.py"), "-pyfs", str(wheel),
            "--kafka", kafka.bootstrap, "--redis", redis_server.url, "--bars-topic", "cluster-bars",
            "--out-prefix", "cluster-", "--replay",
        )  # fmt: skip
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        rows: list[FeatureRow] = []
        deadline = time.monotonic() + 180
        while len(rows) < len(bars) and time.monotonic() < deadline:
            time.sleep(2)
            rows = [decode(value, FeatureRow) for *_, value in read_topic(kafka.bootstrap, "cluster-features")]
        log = "".join(
            path.read_text(errors="replace")[-4000:] for path in (cluster.folder / "log").glob("*taskexec*.log")
        )
        assert len(rows) == len(bars), log
    assert {(row.symbol, row.start_ms) for row in rows} == {(bar.symbol, bar.start_ms) for bar in bars}
    assert all(row.action for row in rows[-20:]), "the models did not score the last bars"
