"""One partitioner for every producer, and who refuses a topic that another one wrote."""

import ast
import subprocess
import zlib
from pathlib import Path

import pytest
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from connectors.kafka.partitioner import kafka_producer, murmur2, partition_of, strays
from udfs.state.partitions import TwoPartitionsError, check_partitioner

ROOT = Path(__file__).resolve().parents[4]
SYMBOLS = [b"AAPL", b"MSFT", b"GOOG", b"FB", b"NVDA", b"BTC/USDT", b"BRK.B", b"X", b"", "Ä".encode()]
SYMBOLS += [f"S{n:04d}".encode() for n in range(500)]


def producers() -> list[tuple[str, ast.Call]]:
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in files.split():
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Producer"):
                found.append((f"{name}:{node.lineno}", node))
    return found


def test_every_producer_is_made_with_the_one_partitioner():
    calls = producers()
    assert len(calls) >= 15
    for place, call in calls:
        assert "kafka_producer(" in ast.unparse(call), f"{place}: make its settings with kafka_producer()"
    assert kafka_producer("127.0.0.1:9")["partitioner"] == "murmur2_random"


@pytest.mark.parametrize("partitions", [1, 2, 4, 8, 13])
def test_it_is_kafkas_own(partitions):
    for key in SYMBOLS:
        assert partition_of(key, partitions) == (kafka_python_murmur2(key) & 0x7FFFFFFF) % partitions
    assert murmur2(b"21") & 0x7FFFFFFF == 1_173_551_340  # of Kafka's own test


def crc32_partition(key, partitions):
    """Where librdkafka's default partitioner puts a key."""
    return zlib.crc32(key) % partitions


def test_a_topic_written_with_crc32_is_found_until_its_keys_have_moved():
    old = [(key, crc32_partition(key, 4), 1_000) for key in SYMBOLS]
    found = list(strays(old, 4))
    assert (b"AAPL", crc32_partition(b"AAPL", 4), partition_of(b"AAPL", 4)) in found
    moved = old + [(key, partition_of(key, 4), 2_000) for key in SYMBOLS]
    assert list(strays(moved, 4)) == []


def test_state_of_another_partitioner_is_refused_and_state_without_one_takes_it():
    assert check_partitioner("bars", None) == check_partitioner("bars", "murmur2_random") == "murmur2_random"
    with pytest.raises(RuntimeError, match="dealt by 'consistent_random'"):
        check_partitioner("bars", "consistent_random")
    assert "'AAPL' lie in partitions 0 and 3" in str(TwoPartitionsError("bars", "AAPL", "0", "3"))
