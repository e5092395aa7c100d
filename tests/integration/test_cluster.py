"""The job file as users submit it: `flink run` with the wheel, on a cluster from the pip package's own scripts."""

import time
from pathlib import Path

import psutil
import pytest

from bench.cluster import failure_of, rest
from bench.kill_taskmanager import QUICK
from cli.local.servers import Broker, FlinkCluster
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from models.messages import FeatureRow, decode
from tests.support.job import minute_bars, publish_bars

pytestmark = pytest.mark.integration


def rows_of(bootstrap: str) -> dict[tuple[str, int], FeatureRow]:
    """Each bar's row; what a restart worked again is the same."""
    try:
        rows = [decode(value, FeatureRow) for *_, value in read_to_end(bootstrap, "cluster-features")]
    except ConnectionError:  # the job has not made its topics yet
        return {}
    return {(row.symbol, row.start_ms): row for row in rows}


def await_rows(cluster: FlinkCluster, bootstrap: str, count: int) -> dict[tuple[str, int], FeatureRow]:
    deadline = time.monotonic() + 180
    while len(rows := rows_of(bootstrap)) < count:
        if time.monotonic() > deadline:
            log = (path.read_text(errors="replace")[-6000:] for path in (cluster.folder / "log").glob("*taskexec*.log"))
            pytest.fail(f"{len(rows)} rows of {count}\n{''.join(log)}")
        time.sleep(0.5)
    return rows


def kill_workers(cluster: FlinkCluster) -> None:
    """``kill -9`` of the processes that score, so that the job restarts inside the same TaskManager."""
    workers = [child for pid in cluster.pids("taskexecutor") for child in psutil.Process(pid).children(recursive=True)]
    assert workers
    for worker in workers:
        worker.kill()


def test_the_job_is_submitted_to_a_cluster_restarts_in_place_and_scores_every_bar(
    kafka: Broker, redis_server, wheel: Path
) -> None:
    bars = minute_bars(symbols=20, bars=60)
    early = bars[:900]
    kafka.create_topic("cluster-bars", partitions=2)
    publish_bars(kafka.bootstrap, "cluster-bars", early)
    with FlinkCluster(settings=QUICK) as cluster:
        submitted = cluster.flink(
            "run", "--detached", "-py", str(ROOT / "jobs" / "signals.py"), "-pyfs", str(wheel),
            "--kafka", kafka.bootstrap, "--redis", redis_server.url, "--bars-topic", "cluster-bars",
            "--out-prefix", "cluster-",
        )  # fmt: skip
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        await_rows(cluster, kafka.bootstrap, len(early))
        kill_workers(cluster)
        publish_bars(kafka.bootstrap, "cluster-bars", bars[900:])
        rows = await_rows(cluster, kafka.bootstrap, len(bars))
        (job,) = rest(cluster, "/jobs")["jobs"]
        assert failure_of(cluster, job["id"]), "the job was not disturbed"
    assert rows.keys() == {(bar.symbol, bar.start_ms) for bar in bars}
    assert all(rows[bar.symbol, bar.start_ms].action for bar in bars[-20:]), "the models did not score the last bars"
