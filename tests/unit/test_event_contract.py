"""One contract: what any producer of ours can write as a status event, every reader of ours accepts and takes alike.

Producers: the venues' sockets (their recorded frames), the venues' histories (splits), ingestion's own events, and
Kafka feeds. Readers: the features' side inputs, halts of the signals job, the outcomes job, and ingestion itself after
a restart. Every kind of event there is must come from some producer here.
"""

import itertools
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.ingest import connection, supervisor
from connectors.ingest.dedupe import Dedupe
from connectors.ingest.feeds import KafkaFeed
from connectors.ingest.gaps import Gap
from connectors.ingest.stream_ingest import StreamIngest
from connectors.settings.signals_job import parse_settings
from connectors.venues import load
from connectors.venues.base import Stream, VenueSettings
from connectors.venues.history import split
from models.events import KINDS, Event, GapEvent, Halt, Pause, Resume, Split, UnknownEvent, decode_event
from models.messages import Bar, Signal, decode, encode
from models.signals.protections import Halts
from models.trade.calendar import calendar
from simulators.harness import Collected
from udfs.frames.groups import group_of
from udfs.steps.halts import apply_side_messages
from udfs.steps.outcome_frames import FollowSettings, OutcomeFrames
from udfs.steps.side_inputs import SideInputs, due_ms

FIXTURES = Path(__file__).parents[1] / "fixtures" / "venues"
RECORDED = Path(__file__).parents[1] / "fixtures" / "messages" / "status-recorded.jsonl"
AT_MS = 1_717_000_000_000
MINUTE = 60_000
TOPIC = "market-data-status"
CODES = ("H", "P", "Q", "T", "5")


def from_sockets() -> list[Event]:
    found: list[Event] = []
    for venue in ("alpaca", "polygon", "binance"):
        for file in sorted((FIXTURES / venue).glob("ws_*.json")):
            for line in file.read_bytes().splitlines():
                found += [m for m in load(venue).parse(line, AT_MS).messages if isinstance(m, Event)]
    alpaca = load("alpaca")
    tape = '[{"T":"s","S":"AAPL","sc":"%s","sm":"x","rc":"T12","rm":"News","t":"2024-05-29T16:26:40Z","z":"C"}]'
    found += [m for code in CODES for m in alpaca.parse((tape % code).encode(), AT_MS).messages]
    imbalance = b'[{"T":"i","S":"AAPL","p":4.5,"z":"N","t":"2024-05-29T16:26:40Z"}]'
    bands = b'[{"T":"l","S":"AAPL","u":3.2,"d":2.6,"i":"B","z":"B","t":"2024-05-29T16:26:40Z"}]'
    return found + [m for frame in (imbalance, bands) for m in alpaca.parse(frame, AT_MS).messages]


def from_ingestion() -> list[Event]:
    """Through the calls that ingestion's own modules make."""
    sink = Collected()
    settings = VenueSettings(symbols=["AAPL"], channels=["trades", "bars"], calendar="24/7")
    stream = Stream("alpaca", load("alpaca"), {"trades": ["AAPL"], "bars": ["AAPL"]})
    ingest = StreamIngest(stream, settings, sink, calendar("24/7"), AT_MS)
    gap = Gap(symbol="AAPL", channel="bars", numbering="minutes", first=AT_MS, last=AT_MS + 2 * MINUTE)
    ingest._gaps.append(gap)
    ingest.gaps(AT_MS)
    ingest.close(gap, 2, AT_MS)
    ingest.give_up(gap, "refused", AT_MS)
    for module, kind, fields in (
        (connection, "Connected", {"channels": {"trades": ["AAPL"]}}),
        (connection, "Stale", {}),
        (connection, "VenueError", {"code": "407", "action": "LOG"}),
        (connection, "SymbolsDropped", {"symbols": ("S1", "S2")}),
        (supervisor, "Disconnected", {"again_in_s": 0.15}),
        (supervisor, "Refused", {}),
    ):
        ingest.publish_event(getattr(module, kind), AT_MS, "a reason", **fields)
    return [m for m in sink.messages if isinstance(m, Event)]


def from_feed(*records: bytes) -> list[Event]:
    """Through a Kafka feed whose records have our field names."""
    names = ("symbol", "timestamp_ms", "kind", "reason", "detail")
    text = 'topic = "theirs"\nsource = "feed"\nmessage = "status"\n[fields]\n'
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "feed.toml"
        file.write_text(text + "".join(f'{name} = "{name}"\n' for name in names))
        feed = KafkaFeed(file)
    parsed = [feed.parse(record, AT_MS) for record in records]
    assert [one.rejects for one in parsed if one.rejects] == []
    return [message for one in parsed for message in one.messages]


def produced() -> list[Event]:
    splits = [split("AAPL", source, "2024-06-10", 10, 1, AT_MS) for source in ("alpaca", "polygon")]
    splits += [split("AAPL", "alpaca", "2024-06-10", 1, 8, AT_MS), split("AAPL", "polygon", "2024-06-10", 3, 2, AT_MS)]
    return [*from_sockets(), *splits, *from_ingestion(), *from_feed(*RECORDED.read_bytes().splitlines())]


EVENTS = produced()


def test_every_kind_of_event_is_produced_here():
    assert {event.kind for event in EVENTS} == set(KINDS)


def concrete(kind: type[Event]) -> set[type[Event]]:
    below = kind.__subclasses__()
    return set().union(*map(concrete, below)) if below else {kind}


def test_every_class_of_event_has_a_kind_that_readers_know():
    assert concrete(Event) == {*KINDS.values(), UnknownEvent}


def test_an_unknown_kind_passes_through_a_feed_and_is_counted_by_readers_and_refused_by_none():
    (event,) = from_feed(b'{"symbol":"AAPL","timestamp_ms":1717000000000,"kind":"merger","detail":{"into":"B"}}')
    wire = encode(event)
    assert (event.kind, msgspec.json.decode(wire)["detail"]) == ("merger", {"into": "B"})
    applied = apply_side_messages(Halts(), [(f"{TOPIC}:0:1", wire)], parse_settings([]).side_topics)
    assert (applied.refused, applied.unknown_kinds) == ([], ["merger"])
    frames = OutcomeFrames(FollowSettings())
    given = frames.take(frames.new_tracker(), group_of("AAPL", 8), wire.decode("latin-1"), f"{TOPIC}:0:1")
    assert (given.signals_refused, list(given.records)) == (0, [])
    assert SideInputs().add(decode_event(wire)) is None
    dedupe = Dedupe()
    again = from_feed(wire)[0]
    assert (dedupe.new(event), dedupe.new(again)) == (event, None)


@pytest.mark.parametrize("number", range(len(EVENTS)), ids=lambda n: f"{EVENTS[n].kind}-{n}")
def test_every_reader_takes_it_alike(number):
    event = EVENTS[number]
    wire = encode(event)
    assert decode_event(wire) == event
    assert decode(wire, parse_settings([]).side_topics[TOPIC]) == event

    side = SideInputs()
    taken = side.add(decode_event(wire))
    halts = Halts()
    applied = apply_side_messages(halts, [(f"{TOPIC}:0:1", wire)], parse_settings([]).side_topics)
    assert (applied.refused, applied.unknown_kinds) == ([], [])
    assert bool(halts.spans) == isinstance(event, Halt | Pause) or isinstance(event, Resume)

    frames = OutcomeFrames(FollowSettings())
    tracker = frames.new_tracker()
    given = frames.take(tracker, group_of(event.symbol, 8), wire.decode("latin-1"), f"{TOPIC}:0:1")
    assert (given.signals_refused, list(given.records)) == (0, [])

    dedupe = Dedupe()
    assert dedupe.new(event) == event
    assert dedupe.new(decode_event(wire)) is None
    assert dedupe.new(msgspec.structs.replace(event, ingestion_timestamp_ms=AT_MS + 7)) is None, "sent twice"

    if isinstance(event, Split):
        assert taken == ("split", (float(event.effective_ms), event.ratio))
        assert due_ms(taken) == event.effective_ms
        (known,) = side.due(event.symbol, None, np.array([event.effective_ms + MINUTE], float))
        assert known == (0, taken)
    else:
        assert taken is None


@pytest.mark.parametrize("event", [e for e in EVENTS if isinstance(e, Split)], ids=lambda e: f"{e.source}-{e.ratio:g}")
def test_a_split_means_the_same_to_features_and_outcomes(event):
    """The price of one share before and after: both readers convert with the same ratio, from the same bar on."""
    frames = OutcomeFrames(FollowSettings(cost_bps=0.0))
    tracker = frames.new_tracker()
    start = event.effective_ms
    day = 86_400_000
    opened = Signal(
        signal_id="s-0", symbol=event.symbol, timeframe="1m", action="buy", confidence=0.7, entry_price=1200.0,
        target_price=1204.0, stop_loss=1198.0, time_horizon="1d", created_ms=start - MINUTE, emitted_ms=0,
        expires_ms=start + day, reasoning="",
    )  # fmt: skip
    bars = [
        Bar(symbol=event.symbol, timeframe="1m", start_ms=start + i * MINUTE, end_ms=start + (i + 1) * MINUTE,
            open=price, high=price, low=price, close=price, volume=1.0)
        for i, price in ((-1, 1200.0), (0, 1200.0 / event.ratio))
    ]  # fmt: skip
    texts = [encode(one).decode("latin-1") for one in (event, opened, *bars)]
    places = [f"{TOPIC}:0:1", "trading-signals:0:1", "market-data-bars:0:1", "market-data-bars:0:2"]
    given = frames.take(tracker, group_of(event.symbol, 8), "\x1e".join(texts), ",".join(places))
    newest = list(itertools.chain(given.newest))
    assert [one.status for one in newest] == ["active"]
    assert newest[0].pnl_percent == pytest.approx(0.0, abs=1e-9)


def test_gaps_of_before_a_restart_are_understood():
    for event in EVENTS:
        if isinstance(event, GapEvent):
            assert Gap.of(decode_event(encode(event))) == Gap.of(event)
