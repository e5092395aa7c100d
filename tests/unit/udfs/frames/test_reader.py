"""The frame reader: every message is a bar or a reject with its reason, whatever stands beside it."""

import base64
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.messages import Bar, encode
from udfs.frames.groups import group_of
from udfs.frames.reader import FrameReader, dead_letter

GROUPS = 8
GOOD = Bar(symbol="AAPL", timeframe="1m", start_ms=0, end_ms=60_000, open=10, high=12, low=9, close=11, volume=5)


def read(payloads: list[bytes], symbol: str = "AAPL"):
    group = group_of(symbol, GROUPS)
    places = ",".join(f"3:{offset}" for offset in range(len(payloads)))
    return FrameReader(GROUPS).read(group, b"\x1e".join(payloads).decode("latin-1"), places)


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(encode(GOOD)) | fields).encode()


def without(field: str) -> bytes:
    message = json.loads(encode(GOOD))
    del message[field]
    return json.dumps(message).encode()


IN_TEN_DAYS = int(time.time() * 1000) + 10 * 86_400_000
BAD = {
    "not JSON": (b"{oops", "", "not JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "", "not JSON"),
    "empty": (b"", "", "the message is empty"),
    "an array": (b"[1, 2]", "", "not a bar"),
    "a missing field": (without("close"), "close", "missing required field `close`"),
    "text for a price": (changed(close="11"), "close", "Expected `float`"),
    "a negative price": (changed(low=-1.0), "low", "not a positive price"),
    "a zero price": (changed(low=0.0), "low", "not a positive price"),
    "NaN": (encode(GOOD).replace(b'"close":11', b'"close":NaN'), "", "not JSON"),
    "high below low": (changed(high=8.0), "low", "above high"),
    "close above high": (changed(close=13.0), "close", "outside low"),
    "negative volume": (changed(volume=-1.0), "volume", "negative"),
    "an end before the start": (changed(start_ms=60_000, end_ms=0), "end_ms", "not after start_ms"),
    "a negative start": (changed(start_ms=-60_000, end_ms=0), "end_ms", "negative"),
    "a stamp far in the future": (changed(start_ms=IN_TEN_DAYS, end_ms=IN_TEN_DAYS + 60_000), "end_ms", "future"),
    "microseconds for milliseconds": (
        changed(start_ms=1_700_000_000_000_000, end_ms=1_700_000_000_060_000), "end_ms", "milliseconds",
    ),
    "an unknown timeframe": (changed(timeframe="7m"), "timeframe", "not one of"),
    "a bar longer than its timeframe": (changed(end_ms=120_000), "end_ms", "longer than its timeframe"),
    "a lower-case symbol": (changed(symbol="aapl"), "symbol", "upper-case"),
    "an empty symbol": (changed(symbol=""), "symbol", "upper-case"),
    "a symbol with a separator": (changed(symbol="A\x1fB"), "symbol", "upper-case"),
    "another key than the symbol": (changed(symbol="GOOG"), "symbol", "Kafka key"),
    "a negative revision": (changed(revision=-1), "revision", "negative"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_message_is_refused_with_its_reason_and_the_next_bar_is_read(case: str) -> None:
    payload, field, reason = BAD[case]
    frame = read([encode(GOOD), payload, changed(start_ms=60_000, end_ms=120_000)])
    assert [bar.start_ms for bar in frame.bars] == [0, 60_000]
    assert frame.matrix.shape == (2, 8)
    (reject,) = frame.rejects
    assert (reject.field, reject.place) == (field, "3:1")
    assert reason in reject.reason
    letter = dead_letter("market-data-bars", reject)
    assert (letter.partition, letter.offset) == (3, 1)
    assert base64.b64decode(letter.payload_base64) == payload


def test_every_bar_of_a_series_is_judged_not_only_its_first() -> None:
    late = [changed(start_ms=i * 60_000, end_ms=(i + 1) * 60_000, low=-1.0 if i == 3 else 9.0) for i in range(5)]
    frame = read(late)
    assert [bar.start_ms for bar in frame.bars] == [0, 60_000, 120_000, 240_000]
    assert [reject.place for reject in frame.rejects] == ["3:3"]


def test_the_future_is_judged_by_the_recorded_arrival_where_there_is_one() -> None:
    arrived = changed(ingestion_timestamp_ms=60_050)
    early = changed(start_ms=3_600_000, end_ms=3_660_000, ingestion_timestamp_ms=60_050)
    frame = read([arrived, early])
    assert len(frame.bars) == 1
    assert "future" in frame.rejects[0].reason


def test_a_missing_volume_is_not_a_number() -> None:
    frame = read([changed(volume=None)])
    assert np.isnan(frame.matrix[0, 6])


@given(st.lists(st.sampled_from([encode(GOOD), *(payload for payload, _, _ in BAD.values())]), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_messages_are_judged_alike_however_they_are_framed(payloads: list[bytes]) -> None:
    together = read(payloads)
    singly = [read([payload]) for payload in payloads]
    assert len(together.bars) + len(together.rejects) == len(payloads)
    assert [bar for one in singly for bar in one.bars] == together.bars
    alone = sorted((r.payload, r.reason) for one in singly for r in one.rejects)
    assert sorted((r.payload, r.reason) for r in together.rejects) == alone


@pytest.mark.parametrize(("symbol", "java_hash"), [("AAPL", 2001436), ("", 0)])
def test_groups_follow_javas_hash_code(symbol: str, java_hash: int) -> None:
    assert group_of(symbol, 1 << 40) == abs(java_hash)
