"""What the Flink image runs: application mode from the image's own scripts, its metrics and logs, a restart."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from cli.local.servers import ROOT, Broker
from connectors.kafka.read import read_to_end
from models.messages import FeatureRow, decode
from tests.support.image import FlinkImage
from tests.support.job import minute_bars, publish_bars
from udfs.kernel.compiler import FeatureConfig, Kernel
from udfs.operators.metrics import BOUNDS_S, STAGES

pytestmark = pytest.mark.integration

BARS, OUT = "image-bars", "image-"


def features(bootstrap: str) -> list[FeatureRow]:
    """The rows there are, each once: after a kill some come again."""
    try:
        rows = [decode(value, FeatureRow) for *_, value in read_to_end(bootstrap, f"{OUT}features")]
    except ConnectionError:  # the job has not made its topics yet
        return []
    return list({(row.symbol, row.start_ms): row for row in rows}.values())


def wait(what: str, done: Callable[[], Any], logs: Callable[[], str], timeout_s: float = 180) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := done()):
        assert time.monotonic() < deadline, f"{what} not in {timeout_s:.0f} s\n{logs()[-6000:]}"
        time.sleep(1)
    return found


def test_the_image_runs_a_job_goes_on_after_a_kill_and_shows_its_metrics(
    kafka: Broker, redis_server, tmp_path: Path
) -> None:
    image = FlinkImage(tmp_path)
    bars = [msgspec.structs.replace(bar, ingestion_timestamp_ms=bar.end_ms + 1_000) for bar in minute_bars(10, 60)]
    early, middle, late = bars[:390], bars[390:400], bars[400:]
    kafka.create_topic(BARS, partitions=2)
    publish_bars(kafka.bootstrap, BARS, early)
    arguments = [
        "signals", "--kafka", kafka.bootstrap, "--redis", redis_server.url, "--bars-topic", BARS,
        "--out-prefix", OUT,
    ]  # fmt: skip
    with image.task_manager() as task_manager:

        def logs() -> str:
            return manager.output() + task_manager.output()

        with image.job_manager(*arguments) as manager:
            wait("the first bars", lambda: len(features(kafka.bootstrap)) >= len(early), logs)
            checkpoints = tmp_path / "state" / "signals" / "checkpoints"
            past = time.time()
            wait(
                "a checkpoint",
                lambda: [file for file in checkpoints.glob("*/chk-*/_metadata") if file.stat().st_mtime > past],
                logs,
            )
            publish_bars(kafka.bootstrap, BARS, middle)  # figures of the frames before are told with these
            wait("more bars", lambda: len(features(kafka.bootstrap)) >= len(early + middle), logs)
            told = metrics(image.metrics_port)
            exported = metric_names(told) | metric_names(metrics(image.manager_metrics_port))
            manager.kill()
        publish_bars(kafka.bootstrap, BARS, late)
        # the same TaskManager, whose JVM has embedded Python already, serves the next life of the job
        with image.job_manager(*arguments) as manager:
            rows = wait("the last bars", lambda: len(found := features(kafka.bootstrap)) >= len(bars) and found, logs)
            assert re.search(r"start-job: signals from file://\S+/chk-\d+", manager.output())
    assert {(row.symbol, row.start_ms) for row in rows} == {(bar.symbol, bar.start_ms) for bar in bars}
    # ma_50 needs fifty bars: with twenty since the restart it exists only if the state came along
    column = Kernel(FeatureConfig()).names.index("ma_50")
    last = [row.values[column] for row in rows if row.start_ms == bars[-1].start_ms]
    assert last
    assert all(value is not None for value in last), "features began anew: the state was lost"
    assert_names_recorded(exported)
    assert_stages(told, frames_max=len(early + middle))
    assert_json(task_manager.output())


def metrics(port: int) -> list[Metric]:
    """What a process of Flink exports."""
    text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    return list(text_string_to_metric_families(text))


def metric_names(families: list[Metric]) -> set[str]:
    """Names as Prometheus stores them."""
    return {sample.name for family in families for sample in family.samples}


def assert_stages(families: list[Metric], frames_max: int) -> None:
    """The latency of every stage is a histogram that Prometheus can take a quantile of."""
    counts: dict[str, dict[float, float]] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == "flink_taskmanager_job_task_operator_stage_le_latency_seconds_bucket":
                counts.setdefault(sample.labels["stage"], {})[float(sample.labels["le"])] = sample.value
    assert counts.keys() == set(STAGES)
    for stage, buckets in counts.items():
        rising = [buckets[bound] for bound in (*BOUNDS_S, float("inf"))]
        assert rising == sorted(rising), f"{stage}: {buckets}"
        assert 0 < rising[-1] <= frames_max, f"{stage} was not observed: {buckets}"
    # the bars say that they were ingested a second after they ended, years ago
    assert counts["arrived"][0.5] == 0
    assert counts["arrived"][1.0] == counts["arrived"][float("inf")]
    assert counts["framed"][60.0] == 0
    assert counts["features"][60.0] > 0


def assert_names_recorded(exported: set[str]) -> None:
    """The names that dashboards and alerts may use are among those really exported."""
    recorded = set((ROOT / "tests" / "fixtures" / "flink_metrics.txt").read_text().split())
    assert not (missing := recorded - exported), f"no longer exported: {sorted(missing)}"


def assert_json(output: str) -> None:
    """Every line that Flink logs is an object with a time, a level and a message."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(lines) > 20
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
