"""The signals job on real Kafka, Redis and Flink: everything that went in comes out, once, with the right values."""

import base64
import json
import socket
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis as redis_client

from cli.local.servers import Broker
from connectors.kafka.read import read_to_end
from connectors.paths import ROOT
from connectors.redis import keys as redis_keys
from models.messages import DeadLetter, FeatureRow, Signal, decode, encode
from models.signals.hash_chain import verify
from tests.support.job import minute_bars, publish, publish_bars, run_job
from udfs.kernel.compiler import BAR_COLUMNS, CALENDARS, FeatureConfig, Kernel

pytestmark = pytest.mark.integration

SYMBOLS, BARS = 40, 150


@pytest.fixture(scope="module")
def replayed(kafka: Broker, redis_server):
    """One bounded replay of 6,000 bars with bad messages among them, and what it left."""
    redis_client.Redis.from_url(redis_server.url).flushall()
    bars = minute_bars(SYMBOLS, BARS)
    bad = [
        b"{not json",
        b"\xff\xfe",
        encode(bars[0]).replace(b'"close"', b'"klose"'),
        encode(bars[1]).replace(b'"low":', b'"low":-'),
        encode(bars[0]),  # again: a repeat
    ]
    kafka.create_topic("replay-bars", partitions=3)
    publish_bars(kafka.bootstrap, "replay-bars", bars[: 5 * SYMBOLS])
    publish(kafka.bootstrap, "replay-bars", [(bars[0].symbol, payload, bars[0].end_ms) for payload in bad])
    publish_bars(kafka.bootstrap, "replay-bars", bars[5 * SYMBOLS :])
    done = run_job(
        "--kafka", kafka.bootstrap, "--redis", redis_server.url, "--bars-topic", "replay-bars", "--replay",
        "--out-prefix", "replay-", "--frame-offsets", "700",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [decode(value, FeatureRow) for *_, value in read_to_end(kafka.bootstrap, "replay-features")]
    letters = [decode(value, DeadLetter) for *_, value in read_to_end(kafka.bootstrap, "replay-dead-letter")]
    signals = [decode(value, Signal) for *_, value in read_to_end(kafka.bootstrap, "replay-trading-signals")]
    return bars, bad, rows, letters, signals, redis_client.Redis.from_url(redis_server.url)


def test_exactly_the_bars_that_went_in_come_out_the_last_frame_too(replayed) -> None:
    bars, _, rows, _, _, _ = replayed
    assert len(rows) == len(bars) == SYMBOLS * BARS
    assert sorted((row.symbol, row.start_ms) for row in rows) == sorted((bar.symbol, bar.start_ms) for bar in bars)


def test_values_are_those_of_one_run_of_the_kernel_over_each_symbol(replayed) -> None:
    bars, _, rows, _, _, _ = replayed
    kernel = Kernel(FeatureConfig())
    by_symbol: dict[str, list[FeatureRow]] = {}
    for row in rows:
        by_symbol.setdefault(row.symbol, []).append(row)
    for symbol in ("S000", "S017", f"S{SYMBOLS - 1:03d}"):
        own = [bar for bar in bars if bar.symbol == symbol]
        matrix = np.array(
            [[*(getattr(bar, name) for name in BAR_COLUMNS[:8]), CALENDARS["XNYS"]] for bar in own], np.float64
        )
        out, quality = np.empty((BARS, len(kernel.names))), np.empty((BARS, len(kernel.names)), np.uint8)
        kernel.run(kernel.new_states(1), np.zeros(BARS, np.int64), matrix, out, quality)
        got = np.array([[np.nan if v is None else v for v in row.values] for row in by_symbol[symbol]])
        np.testing.assert_array_equal(got, out)
        assert [row.quality for row in by_symbol[symbol]] == [bytes(q).decode() for q in quality]


def test_each_bad_message_is_a_dead_letter_with_its_bytes_place_and_reason(replayed) -> None:
    _, bad, _, letters, _, _ = replayed
    assert sorted(base64.b64decode(letter.payload_base64) for letter in letters) == sorted(bad)
    assert {letter.topic for letter in letters} == {"replay-bars"}
    reasons = {base64.b64decode(letter.payload_base64): letter.reason for letter in letters}
    assert "not JSON" in reasons[bad[0]]
    assert "close" in reasons[bad[2]]
    assert "positive price" in reasons[bad[3]]
    assert "late" in reasons[bad[4]] or "duplicate" in reasons[bad[4]]


def test_signals_are_complete_and_match_redis(replayed) -> None:
    _, _, rows, _, signals, store = replayed
    assert signals, "6,000 bars gave no signal at all"
    assert len({signal.signal_id for signal in signals}) == len(signals)
    decided = {(row.symbol, row.end_ms): row for row in rows}
    for signal in signals:
        row = decided[(signal.symbol, signal.created_ms)]
        assert (row.action, row.confidence) == (signal.action, signal.confidence)
        assert set(signal.model_votes) | set(signal.skipped_models)
        if signal.action == "buy":
            assert signal.stop_loss < signal.entry_price < signal.target_price
        if signal.action == "sell":
            assert signal.target_price < signal.entry_price < signal.stop_loss
    stream = store.xrange(redis_keys.SIGNALS_STREAM)
    assert {fields[b"id"].decode() for _, fields in stream} == {signal.signal_id for signal in signals}
    last = max((row for row in rows if row.symbol == "S003"), key=lambda row: row.end_ms)
    kept = store.hgetall(redis_keys.features_key("S003", "1m"))
    assert float(kept[b"end_ms"]) == last.end_ms
    price = json.loads(store.get(redis_keys.price_key("S003")))
    assert float(kept[b"current_price"]) == price["price"]


def without_clock(made: list[Signal]) -> list[bytes]:
    """The signals' bytes in order of id, but for ``emitted_ms``."""
    return [encode(msgspec.structs.replace(one, emitted_ms=0)) for one in sorted(made, key=attrgetter("signal_id"))]


def test_a_second_replay_gives_the_same_signals_and_changes_nothing_in_redis(replayed, kafka, redis_server) -> None:
    _, _, _, _, signals, store = replayed
    before = store.xlen(redis_keys.SIGNALS_STREAM)
    done = run_job(
        "--kafka", kafka.bootstrap, "--redis", redis_server.url, "--bars-topic", "replay-bars", "--replay",
        "--out-prefix", "again-", "--frame-offsets", "1900", "--parallelism", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    again = [decode(value, Signal) for *_, value in read_to_end(kafka.bootstrap, "again-trading-signals")]
    assert without_clock(again) == without_clock(signals)
    assert store.xlen(redis_keys.SIGNALS_STREAM) == before


def test_a_range_of_the_log_replays_to_the_same_signals_and_an_unbroken_record(replayed, kafka) -> None:
    bars, _, rows, _, signals, _ = replayed
    assert verify(sorted(signals, key=lambda one: one.created_ms)).problems == []
    begin, end = bars[100 * SYMBOLS].end_ms, bars[130 * SYMBOLS].end_ms
    done = subprocess.run(
        [sys.executable, "-m", "cli", "replay", "--kafka", kafka.bootstrap, "--bars-topic", "replay-bars",
         "--from", str(begin), "--to", str(end), "--out-prefix", "range-"],
        cwd=ROOT, text=True, capture_output=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    again = [decode(value, Signal) for *_, value in read_to_end(kafka.bootstrap, "range-trading-signals")]
    wanted = [one for one in signals if begin <= one.created_ms < end]
    assert wanted
    assert without_clock(again) == without_clock(wanted)
    some = [decode(value, FeatureRow) for *_, value in read_to_end(kafka.bootstrap, "range-features")]
    key = attrgetter("symbol", "end_ms")
    assert sorted(some, key=key) == sorted((row for row in rows if begin <= row.end_ms < end), key=key)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_broker_that_is_down_is_named() -> None:
    port = closed_port()
    done = run_job("--kafka", f"127.0.0.1:{port}", timeout_s=60)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_redis_that_is_down_is_named_without_its_password(kafka) -> None:
    port = closed_port()
    done = run_job("--kafka", kafka.bootstrap, "--redis", f"redis://me:hunter2@127.0.0.1:{port}/0", timeout_s=60)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_a_bundle_of_other_features_is_refused_naming_both(kafka, tmp_path: Path) -> None:
    from models.serving.bundle import bundle_path
    from models.serving.manifest import decode_manifest, encode_manifest

    folder = tmp_path / "other"
    folder.mkdir()
    for file in bundle_path("daily-swing").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = decode_manifest((folder / "manifest.json").read_bytes())
    other = msgspec.structs.replace(manifest, feature_set_hash="0123456789abcdef")
    (folder / "manifest.json").write_bytes(encode_manifest(other))
    done = run_job("--kafka", kafka.bootstrap, "--bundle", str(folder), timeout_s=60)
    assert done.returncode == 1
    assert "0123456789abcdef" in done.stderr
    assert Kernel(FeatureConfig()).feature_set_hash in done.stderr


def test_features_that_are_lacking_and_a_broken_configuration_are_named(kafka, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer.json"
    fewer.write_bytes(msgspec.json.encode(FeatureConfig(families=("rsi", "macd"))))
    done = run_job("--kafka", kafka.bootstrap, "--feature-config", str(fewer), timeout_s=60)
    assert done.returncode == 1
    assert "deciding reads volume_vs_ma_20, current_price, atr_14, which it does not compute" in done.stderr
    assert "add theirs (rsi, macd, volume, context, volatility)" in done.stderr
    enough_to_decide = ("rsi", "macd", "volume", "context", "volatility")
    fewer.write_bytes(msgspec.json.encode(FeatureConfig(families=enough_to_decide)))
    done = run_job("--kafka", kafka.bootstrap, "--feature-config", str(fewer), timeout_s=60)
    assert done.returncode == 1
    assert "needs features the job does not compute: bb_position" in done.stderr
    fewer.write_text('{"familys": []}')
    done = run_job("--kafka", kafka.bootstrap, "--feature-config", str(fewer), timeout_s=60)
    assert done.returncode == 1
    assert "unknown field 'familys'" in done.stderr


def test_a_wrong_setting_is_named() -> None:
    done = run_job("--kafka", "nowhere", timeout_s=60)
    assert done.returncode == 2
    assert "--kafka" in done.stderr
    assert "host:port" in done.stderr
