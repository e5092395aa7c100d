"""A frame's outgoing messages keep each symbol's order, and cross into the JVM as they are in both modes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.frames.output_batch import OutputBatch
from udfs.operators.jvm_encoding import jvm_encoding

messages = st.lists(
    st.tuples(st.sampled_from(["features", "trading-signals"]), st.sampled_from("ABC"), st.integers(0, 3)), max_size=60
)


@given(messages)
def test_every_message_comes_out_once_and_those_of_a_key_in_order(added):
    batch = OutputBatch()
    for number, (topic, key, event_ms) in enumerate(added):
        batch.add(topic, key, event_ms, str(number).encode())
    assert len(batch) == len(added)
    out = list(batch)
    for topic in "features", "trading-signals":
        for key in "ABC":
            want = [(at, number) for number, (to, of, at) in enumerate(added) if (to, of) == (topic, key)]
            assert [(r.event_ms, int(r.payload)) for r in out if (r.topic, r.key) == (topic, key)] == want


def test_bars_in_order_of_time_need_one_map_a_moment():
    batch = OutputBatch()
    for minute in range(30):
        for symbol in range(200):
            batch.add("features", f"S{symbol}", minute * 60_000, b"{}")
    assert len(list(batch.segments())) == 30


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_bytes_come_back_whole_in_each_mode(mode):
    data = random.Random(11).randbytes(1_000)
    how = jvm_encoding(mode)
    assert how.unwrap(how.wrap(data)) == data
    batch = OutputBatch()
    batch.add("features", "A", 5, '{"text":"é"}'.encode())
    (row,) = how.rows(batch)
    payload = row[2]["A"]
    assert (row[0], row[1]) == ("features", 5)
    assert (payload if isinstance(payload, bytes) else payload.encode()) == '{"text":"é"}'.encode()
