"""Halts and kill switch among the frames of bars."""

from models.events import Event
from models.messages import News, OptionSummary, encode
from models.signals.protections import Halts, KillSwitch
from udfs.frames.groups import group_of, separate_bars
from udfs.steps.halts import apply_side_messages, key_of_group

KINDS = {
    "market-data-status": Event, "market-data-news": News, "market-data-options": OptionSummary,
    "risk-control": KillSwitch,
}  # fmt: skip


def status(kind, at_ms, symbol="AAPL", **fields):
    event = {"symbol": symbol, "timestamp_ms": at_ms, "kind": kind, **fields}
    return "market-data-status:0:1", encode(event)


def test_halts_and_kill_become_spans_and_the_rest_is_refused():
    halts = Halts()
    kill = encode(KillSwitch(kind="kill", effective_ms=50))
    story = News(symbol="AAPL", news_id="7", created_ms=5, updated_ms=6, headline="x")
    news, refused, unknown_kinds = apply_side_messages(
        halts,
        [
            status("halt", 10), status("luld", 15, upper=2.0, lower=1.0),
            status("moon", 16), status("resume", 20),
            status("pause", 30, "MSFT"), ("risk-control:1:7", kill), ("risk-control:1:8", b'{"kind": "stop"}'),
            ("market-data-status:0:9", b"\xff"), ("market-data-news:0:1", encode(story)), ("market-data-news:0:2",
            b'{"symbol": "AAPL"}'), ("market-data-options:0:1", encode(OptionSummary(symbol="AAPL", timestamp_ms=1))),
            status("split", 60),
        ],
        KINDS,
    )  # fmt: skip
    assert news == [story]
    assert unknown_kinds == ["moon"]
    assert halts.spans == {"AAPL": [(10, 20)], "MSFT": [(30, None)], "*": [(50, None)]}
    assert [(topic, reject.place, reject.payload) for topic, reject in refused] == [
        ("risk-control", "1:8", b'{"kind": "stop"}'), ("market-data-status", "0:9", b"\xff"),
        ("market-data-news", "0:2", b'{"symbol": "AAPL"}'), ("market-data-status", "0:1", status("split", 60)[1]),
    ]  # fmt: skip
    assert "news_id" in refused[2][1].reason
    assert "needs 'ratio'" in refused[3][1].reason


def test_every_group_has_a_key_of_its_own():
    for groups in (1, 8, 13, 128):
        assert [group_of(key_of_group(group, groups), groups) for group in range(groups)] == list(range(groups))


def test_bars_are_parted_from_the_rest_in_order():
    parted = separate_bars("a\x1eb\x1ec\x1ed", "bars:0:1,status:2:9,bars:1:2,bars:0:2", "bars")
    assert parted == ("a\x1ec\x1ed", "0:1,1:2,0:2", [("status:2:9", b"b")])
    assert separate_bars("a\x1eb", "bars:0:1,bars:0:2", "bars") == ("a\x1eb", "0:1,0:2", [])
    assert separate_bars("x", "status:2:9", "bars") == ("", "", [("status:2:9", b"x")])
    # a topic whose name ends like another's is not taken for it
    assert separate_bars("a\x1eb", "bars:0:1,my-bars:0:2", "bars")[0] == "a"
