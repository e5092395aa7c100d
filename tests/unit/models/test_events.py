"""Status events: typed on the wire, one meaning for every reader, recorded ones upgraded."""

from pathlib import Path

import msgspec
import pytest

from models import events
from models.events import KINDS, Event, Split, UnknownEvent, decode_event
from models.messages import decode, encode
from models.recorded_events import UPGRADES

RECORDED = (Path(__file__).parents[2] / "fixtures" / "messages" / "status-recorded.jsonl").read_bytes().splitlines()
AT_MS = 1_700_000_000_000


def test_every_kind_has_a_recorded_message_and_an_upgrade():
    assert set(UPGRADES) == set(KINDS)
    assert {msgspec.json.decode(line)["kind"] for line in RECORDED} == set(KINDS)


@pytest.mark.parametrize("line", RECORDED, ids=lambda line: msgspec.json.decode(line)["kind"])
def test_a_recorded_message_is_upgraded_and_written_typed(line):
    event = decode_event(line)
    old = msgspec.json.decode(line)
    assert type(event) is KINDS[old["kind"]]
    assert (event.symbol, event.timestamp_ms, event.reason) == (
        old["symbol"],
        old["timestamp_ms"],
        old.get("reason", ""),
    )
    assert decode_event(encode(event)) == event
    assert decode(encode(event), Event) == event
    # What the release before reads is still there: every key that it wrote, but for what no reader of it used.
    kept = msgspec.json.decode(encode(event)).get("detail", {})
    if old["kind"] != "split":
        theirs = {name: value for name, value in old.get("detail", {}).items() if name not in ("i", "z")}
        assert {name: kept.get(name) for name in theirs} == theirs


@pytest.mark.parametrize("line", RECORDED[:4])
def test_all_shapes_of_a_split_mean_the_same(line):
    event = decode_event(line)
    assert isinstance(event, Split)
    assert (event.ratio, event.effective_ms) == (10.0, 1_717_992_000_000)
    assert event.detail == {"split_to": 10.0, "split_from": 1, "effective_ms": 1_717_992_000_000}


@pytest.mark.parametrize(
    "detail",
    [b"{}", b"null", b'"2:1"', b'{"ratio":[2]}', b'{"ratio":0}', b'{"ratio":-1}', b'{"ratio":1e9}', b'{"ratio":null}',
     b'{"new_rate":2,"old_rate":0}', b'{"new_rate":2,"old_rate":"0"}', b'{"new_rate":2}', b'{"ratio":"two"}',
     b'{"ratio":true}', b'{"ratio":2,"effective_ms":null}', b'{"ratio":2,"effective_ms":"soon"}'],
)  # fmt: skip
def test_a_split_that_says_too_little_is_refused_by_name(detail):
    with pytest.raises(msgspec.ValidationError, match=r"split|ratio|effective_ms|detail"):
        decode_event(b'{"symbol":"A","timestamp_ms":5,"kind":"split","detail":%s}' % detail)


@pytest.mark.parametrize(
    ("payload", "words"),
    [(b"[]", "object"), (b"{}", "kind"), (b'{"kind":7}', "kind"), (b'{"kind":"halt","symbol":"A"}', "timestamp_ms"),
     (b'{"kind":"gap","symbol":"A","timestamp_ms":1}', "channel"), (b'{"kind":"moon","symbol":3}', "symbol"),
     (b'{"kind":"moon","symbol":"A"}', "timestamp_ms")],
)  # fmt: skip
def test_what_is_no_event_is_refused_by_name(payload, words):
    with pytest.raises(msgspec.DecodeError, match=words):
        decode_event(payload)


def test_an_unknown_kind_is_kept_whole():
    wire = b'{"kind":"merger","symbol":"A","timestamp_ms":5,"name":"n","into":"B","detail":{"cash":1}}'
    event = decode_event(wire)
    assert isinstance(event, UnknownEvent)
    assert (event.kind, event.symbol, event.fields["into"]) == ("merger", "A", "B")
    assert encode(event) == wire
    assert decode_event(encode(event)) == event


def test_required_fields_have_no_default():
    needed = {"split": {"ratio", "effective_ms"}, "luld": {"upper", "lower"}, "connected": {"channels"},
              "gap": {"channel", "numbering", "first", "last"}, "disconnected": {"again_in_s"},
              "venue_error": {"code", "action"}, "symbols_dropped": {"symbols"}}  # fmt: skip
    for kind, names in needed.items():
        assert names <= {field.name for field in msgspec.structs.fields(KINDS[kind]) if field.required}
    assert issubclass(events.Halt, events.TradingState)
