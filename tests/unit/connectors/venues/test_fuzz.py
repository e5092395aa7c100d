"""100,000 broken messages for each parser: it never raises, and nothing vanishes."""

import math
import random
from pathlib import Path

import pytest

from connectors.venues import load
from models.messages import Bar, Trade

FIXTURES = Path(__file__).parents[3] / "fixtures" / "venues"
COUNT = 100_000
ODD = [
    b"null",
    b"-1",
    b"1e400",
    b'"x"',
    b"[]",
    b"{}",
    b"true",
    b"NaN",
    b'"\\ud800"',
    b"9" * 25,
    b'"' + b"9" * 60 + b'"',
]


def broken(rng: random.Random, frame: bytes) -> bytes:
    """One frame with one to three faults: bytes changed, cut, doubled or removed, or a value replaced."""
    data = bytearray(frame)
    for _ in range(rng.randint(1, 3)):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case 3:
                data[at:at] = data[max(0, at - 8) : at]
            case 4 | 5:
                colon = data.find(b":", at)
                if colon > 0:
                    ends = [e for e in (data.find(b",", colon), data.find(b"}", colon)) if e > 0]
                    if ends:
                        data[colon + 1 : min(ends)] = rng.choice(ODD)
    return bytes(data)


@pytest.mark.parametrize("venue", ["alpaca", "polygon", "binance"])
def test_parser_survives_anything(venue: str) -> None:
    adapter, rng = load(venue), random.Random(20_260_101)
    frames = [line for path in sorted((FIXTURES / venue).glob("ws_*.json")) for line in path.read_bytes().splitlines()]
    rejected = accepted = 0
    for _ in range(COUNT):
        frame = broken(rng, rng.choice(frames))
        parsed = adapter.parse(frame, 1_700_000_000_000)
        if not (parsed.messages or parsed.connection_events or parsed.rejects):
            assert frame.strip() == b"[]", frame
        for refused in parsed.rejects:
            assert refused.reason
            assert refused.payload in frame or refused.payload == frame
        for message in parsed.messages:
            if isinstance(message, Trade):
                assert 0 < message.price < 1e10
                assert 0 <= message.size < 1e15
                assert 946_684_800_000 <= message.timestamp_ms < 4_102_444_800_000
            elif isinstance(message, Bar):
                assert math.isfinite(message.open + message.high + message.low + message.close + message.volume)
        rejected += len(parsed.rejects)
        accepted += len(parsed.messages)
    assert rejected > COUNT / 4
    assert accepted > COUNT / 50
