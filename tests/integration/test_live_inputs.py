"""Bundle changes, news, option summaries and splits in the real job: replayed, and announced while it runs."""

import shutil
import time
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
import redis as redis_client

from cli.local.servers import PythonProcess
from connectors.kafka.bundle_changes import announce
from connectors.kafka.read import read_to_end
from connectors.redis import keys as redis_keys
from models.events import Event, Split
from models.messages import DeadLetter, FeatureRow, News, OptionSummary, Signal, decode, encode
from models.serving.bundle import bundle_path, load_bundle
from models.serving.rollout import RolloutMessage, ShadowScore
from tests.support.job import minute_bars, publish, publish_bars, run_job
from udfs.kernel.compiler import Kernel
from udfs.offline.batch import features_table

pytestmark = pytest.mark.integration

SYMBOLS, BARS = 6, 240
IDS = {name: load_bundle(bundle_path(name)).id for name in ("daily-swing", "minute-day")}
MINUTE = 60_000


def side_inputs(bars):
    """News with edits, option summaries and a split, each with an arrival; and the messages that cannot be used."""
    rng = np.random.default_rng(11)
    ends = sorted({bar.end_ms for bar in bars})
    good: list[News | OptionSummary | Event] = []
    for k in range(40):
        created = int(rng.integers(ends[0] - 3_600_000, ends[-1]))
        for edit in range(int(rng.integers(1, 3))):
            updated = created + edit * 7 * MINUTE
            good.append(
                News(
                    symbol=f"S{k % SYMBOLS:03d}", news_id=f"n{k}", created_ms=created, updated_ms=updated,
                    headline=f"story {k}", sentiment=round(float(rng.uniform(-1, 1)), 6),
                    ingestion_timestamp_ms=updated + int(rng.integers(0, 2 * MINUTE)),
                )
            )  # fmt: skip
    for k in range(60):
        at = int(rng.integers(ends[0], ends[-1]))
        good.append(
            OptionSummary(
                symbol=f"S{k % SYMBOLS:03d}", timestamp_ms=at, call_volume=float(rng.integers(1, 999)),
                put_volume=float(rng.integers(1, 999)), implied_volatility=0.2 + k / 100, ingestion_timestamp_ms=at + 5,
            )
        )  # fmt: skip
    good.append(Split(symbol="S001", timestamp_ms=ends[100], ratio=4.0, effective_ms=ends[150]))
    bad = [
        ("market-data-news", b'{"symbol": "S000"}'),
        ("market-data-status", b'{"symbol":"S002","timestamp_ms":%d,"kind":"split"}' % ends[9]),
    ]
    return good, bad


class Symbol(msgspec.Struct):
    """What every message has."""

    symbol: str


def topic_of(message):
    names = {News: "market-data-news", OptionSummary: "market-data-options", Split: "market-data-status"}
    return names[type(message)]


def decoded(kafka, topic, kind):
    return [decode(value, kind) for *_, value in read_to_end(kafka.bootstrap, topic)]


@pytest.fixture(scope="module")
def replayed(kafka, tmp_path_factory):
    """A replay with everything on its topics before it starts."""
    bars = minute_bars(SYMBOLS, BARS, seed=3)
    ends = sorted({bar.end_ms for bar in bars})
    good, bad = side_inputs(bars)
    kafka.create_topic("swap-bars", "swap-news", "swap-options", "swap-status", partitions=2)
    kafka.create_topic("swap-model-control", partitions=1)
    torn = tmp_path_factory.mktemp("bundles") / "torn"
    shutil.copytree(bundle_path("minute-day"), torn)
    (torn / "manifest.json").write_text("{")
    for message in (
        RolloutMessage(kind="promote", bundle="minute-day", effective_ms=ends[100], bundle_id=IDS["minute-day"]),
        RolloutMessage(kind="shadow", bundle="minute-day", effective_ms=ends[40]),
        RolloutMessage(kind="promote", bundle=str(torn), effective_ms=ends[120]),
        RolloutMessage(kind="unshadow", effective_ms=ends[80]),
        RolloutMessage(kind="rollback", effective_ms=ends[200]),
    ):
        announce(kafka.bootstrap, message, "swap-model-control")
    publish(kafka.bootstrap, "swap-model-control", [("", b"{not json", 1)])
    on_topics = [(topic_of(message), encode(message)) for message in good] + bad
    for topic in {topic for topic, _ in on_topics}:
        payloads = [(decode(one, Symbol).symbol, one, 1) for name, one in on_topics if name == topic]
        publish(kafka.bootstrap, topic.replace("market-data", "swap"), payloads)
    publish_bars(kafka.bootstrap, "swap-bars", bars)
    done = run_job(
        "--kafka", kafka.bootstrap, "--bars-topic", "swap-bars", "--news-topic", "swap-news", "--options-topic",
        "swap-options", "--status-topic", "swap-status", "--rollout-topic", "swap-model-control", "--replay",
        "--out-prefix", "swap-", "--frame-offsets", "130", "--parallelism", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return bars, ends, good, bad


def test_each_bar_is_scored_once_by_the_bundle_in_force_at_its_end(kafka, replayed) -> None:
    bars, ends, _, _ = replayed
    rows = decoded(kafka, "swap-features", FeatureRow)
    assert sorted((row.symbol, row.end_ms) for row in rows) == sorted((bar.symbol, bar.end_ms) for bar in bars)
    for row in rows:
        promoted = ends[100] <= row.end_ms < ends[200]
        assert row.bundle == IDS["minute-day" if promoted else "daily-swing"]
    signals = decoded(kafka, "swap-trading-signals", Signal)
    by_bar = {(row.symbol, row.end_ms): row.bundle for row in rows}
    assert {made.bundle for made in signals} == set(IDS.values())
    assert all(made.bundle == by_bar[made.symbol, made.created_ms] for made in signals)


def test_a_shadow_scores_beside_and_never_emits(kafka, replayed) -> None:
    bars, ends, _, _ = replayed
    shadows = decoded(kafka, "swap-shadow-scores", ShadowScore)
    expected = sorted((bar.symbol, bar.end_ms) for bar in bars if ends[40] <= bar.end_ms < ends[80])
    assert sorted((score.symbol, score.end_ms) for score in shadows) == expected
    assert {(score.bundle, score.in_force) for score in shadows} == {(IDS["minute-day"], IDS["daily-swing"])}


def test_refused_changes_and_bad_messages_are_dead_letters(kafka, replayed) -> None:
    letters = decoded(kafka, "swap-dead-letter", DeadLetter)
    found = sorted((letter.topic, letter.reason) for letter in letters)
    assert [topic for topic, _ in found] == ["swap-model-control"] * 2 + ["swap-news", "swap-status"]
    assert "manifest.json" in found[0][1] or "manifest.json" in found[1][1]
    assert any("not a bundle change" in reason for _, reason in found)
    assert "news_id" in found[2][1]
    assert "needs 'ratio'" in found[3][1]


def test_features_with_side_inputs_equal_the_batch_to_the_bit(kafka, replayed) -> None:
    bars, _, good, _ = replayed
    fields = ("symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume", "revision")
    table = pd.DataFrame([{name: getattr(bar, name) for name in fields} for bar in bars])
    batch = features_table(table, side_inputs=good)
    names = batch.attrs["names"]
    expected = {
        (row[0], row[2]): (np.array(row[3 : 3 + len(names)], float), row[-1]) for row in batch.itertuples(index=False)
    }
    for row in decoded(kafka, "swap-features", FeatureRow):
        values, quality = expected[row.symbol, row.start_ms]
        assert row.quality == quality
        got = np.array([np.nan if value is None else value for value in row.values], float)
        assert got.tobytes() == np.where(np.isnan(values), np.nan, values).tobytes()
    seen = batch[["news_volume_1h", "put_call_ratio", "iv_rank"]].notna().any()
    assert seen[["news_volume_1h", "put_call_ratio"]].all()
    after_split = batch[(batch.symbol == "S001") & (table.start_ms >= good[-1].effective_ms)]
    before = batch[(batch.symbol == "S001") & (table.start_ms < good[-1].effective_ms)]
    assert after_split.ma_20.iloc[0] < before.ma_20.iloc[-1] / 3


def test_a_promotion_while_the_job_runs_and_news_for_the_page(kafka, redis_url, tmp_path: Path) -> None:
    bars = minute_bars(SYMBOLS, 60, seed=5)
    ends = sorted({bar.end_ms for bar in bars})
    kafka.create_topic("now-bars", "now-news", "now-features", partitions=2)
    job = PythonProcess(
        "signals-job",
        ["-m", "jobs.signals", "--kafka", kafka.bootstrap, "--redis", redis_url, "--bars-topic", "now-bars",
         "--news-topic", "now-news", "--rollout-topic", "now-model-control", "--out-prefix", "now-"],
        tmp_path,
    )  # fmt: skip
    client = redis_client.Redis.from_url(redis_url)
    with job:
        publish_bars(kafka.bootstrap, "now-bars", [bar for bar in bars if bar.end_ms <= ends[20]])
        wait_for(lambda: len(list(read_to_end(kafka.bootstrap, "now-features"))) >= 21 * SYMBOLS, job)
        promotion = RolloutMessage(kind="promote", bundle="minute-day", effective_ms=ends[40])
        announce(kafka.bootstrap, promotion, "now-model-control")
        story = News(symbol="S002", news_id="1", created_ms=ends[20], updated_ms=ends[20], headline="a", sentiment=0.5)
        edited = News(
            symbol="S002", news_id="1", created_ms=ends[20], updated_ms=ends[30], headline="b", sentiment=-0.5
        )
        publish(kafka.bootstrap, "now-news", [("S002", encode(one), one.updated_ms) for one in (story, edited, story)])
        wait_for(lambda: client.llen(redis_keys.news_key("S002")) == 1, job)
        time.sleep(2)  # both topics are read within milliseconds
        publish_bars(kafka.bootstrap, "now-bars", [bar for bar in bars if ends[20] < bar.end_ms <= ends[45]])
        time.sleep(2)  # the system page is told once a second
        publish_bars(kafka.bootstrap, "now-bars", [bar for bar in bars if bar.end_ms > ends[45]])
        wait_for(lambda: len(list(read_to_end(kafka.bootstrap, "now-features"))) >= len(bars), job)
        status = client.hgetall(redis_keys.SYSTEM_STATUS)
    rows = decoded(kafka, "now-features", FeatureRow)
    assert len(rows) == len(bars)
    assert all(row.bundle == IDS["minute-day" if row.end_ms >= ends[40] else "daily-swing"] for row in rows)
    assert [decode(one, News) for one in client.lrange(redis_keys.news_key("S002"), 0, -1)] == [edited]
    sentiment = Kernel().column_of("news_sentiment_24h")
    seen = {row.end_ms: row.values[sentiment] for row in rows if row.symbol == "S002"}
    assert seen[ends[29]] == pytest.approx(0.5, abs=1e-6)
    assert seen[ends[30]] == pytest.approx(-0.5, abs=1e-6)
    assert b"minute-day" in status[b"job"]
    assert b"base_rates" in status[b"bundle"]


def wait_for(condition, job, timeout_s=120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert job.process.poll() is None, job.tail()
        assert time.monotonic() < deadline, "not within the time\n" + job.tail()
        time.sleep(0.5)
