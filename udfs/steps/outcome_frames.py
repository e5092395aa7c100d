"""Frames of bars, signals and splits to outgoing outcomes, without Flink: one tracker per symbol group.

A frame has the messages of several topics in order of arrival within each topic and symbol. Bars that the signals
job refuses are refused here too, by the same reader, and only counted (their dead letters are that job's); a signal or
status that cannot be used becomes a dead letter.

A :class:`~models.events.Split` takes effect with the first bar that starts at or after its ``effective_ms``, for the
tracker as for the features.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from models.events import Event, EventDecoder, Split
from models.messages import TIMEFRAME_MS, Outcome, Signal, encode
from models.outcomes.performance import latest
from models.outcomes.tracker import Series, Tracker
from udfs.frames.groups import SEPARATOR
from udfs.frames.output_batch import OutputBatch
from udfs.frames.reader import FrameReader, Reject, dead_letter
from udfs.state.layout import Layout, as_it_is

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Decoder(Protocol[T_co]):
    """What turns bytes into a message; raises ``msgspec.DecodeError``."""

    def decode(self, data: bytes, /) -> T_co:
        """The message in ``data``."""


#: Bars in one record of a job's state.
BUCKET_BARS = 256

_signal = msgspec.json.Decoder(Signal)
_event = EventDecoder()


class FrameOutcomes(msgspec.Struct):
    """What a frame gave: messages to send, the newest outcome of each signal for Redis, and what was refused."""

    records: OutputBatch
    newest: list[Outcome]
    bars_refused: int = 0
    signals_refused: int = 0


@dataclass(frozen=True)
class FollowSettings:
    """Which topics carry what, and how signals are followed.

    ``retention_ms``: event time for which bars are kept, behind what was reached (None: for ever); ``cost_bps``: costs
    of a round trip in basis points of the entry price; ``update_every_ms``: least event time between two updates of an
    open signal.
    """

    bars_topic: str = "market-data-bars"
    signals_topic: str = "trading-signals"
    status_topic: str = "market-data-status"
    outcomes_topic: str = "signal-outcomes"
    dead_letter_topic: str = "dead-letter"
    groups: int = 8
    cost_bps: float = 0.0
    retention_ms: float | None = None
    update_every_ms: int = 60_000


class OutcomeFrames:
    """Takes frames apart and lets a group's tracker follow them."""

    def __init__(self, settings: FollowSettings) -> None:
        self._bars_topic, self._signals_topic = settings.bars_topic, settings.signals_topic
        self._status_topic = settings.status_topic
        self._out, self._dead = settings.outcomes_topic, settings.dead_letter_topic
        self._reader = FrameReader(settings.groups)
        self._settings = settings

    def new_tracker(self) -> Tracker:
        """A tracker for one symbol group."""
        return Tracker(self._settings.cost_bps, self._settings.retention_ms, self._settings.update_every_ms)

    def take(
        self, tracker: Tracker, group: int, messages: str, places: str, clock_ms: float = float("inf")
    ) -> FrameOutcomes:
        """Follow one frame; ``places`` has ``topic:partition:offset`` of each message.

        ``clock_ms``: with this frame every message up to that event time is here.
        """
        by_topic = _by_topic(messages, places)
        parsed = self._reader.read(group, *by_topic[self._bars_topic]) if self._bars_topic in by_topic else None
        rejects: list[tuple[str, Reject]] = []
        signals, signal_origins = self._decode(_signal, by_topic.get(self._signals_topic), rejects, self._signals_topic)
        statuses, _ = self._decode(_event, by_topic.get(self._status_topic), rejects, self._status_topic)
        outcomes = tracker.take(signals, parsed.bars if parsed else (), _splits(statuses), clock_ms)
        bars_refused = len(parsed.rejects) if parsed else 0
        for refused in tracker.refused:
            if isinstance(refused.message, Signal):
                place, payload = signal_origins[id(refused.message)]
                rejects.append((self._signals_topic, Reject(place, payload, "created_ms", refused.reason)))
            else:
                bars_refused += 1
        records = self.records(outcomes)
        now_ms = int(time.time() * 1000)
        for topic, reject in rejects:
            records.add(self._dead, str(group), now_ms, encode(dead_letter(topic, reject)))
        return FrameOutcomes(records, latest(outcomes), bars_refused, len(rejects))

    def records(self, outcomes: Iterable[Outcome]) -> OutputBatch:
        """Outcomes as outgoing messages."""
        records = OutputBatch()
        for one in outcomes:
            records.add(self._out, one.symbol, one.updated_ms, encode(one))
        return records

    @staticmethod
    def _decode(
        decoder: Decoder[T],
        joined: tuple[str, str] | None,
        rejects: list[tuple[str, Reject]],
        topic: str,
    ) -> tuple[list[T], dict[int, tuple[str, bytes]]]:
        """The messages, and by ``id`` of each its place and bytes; what is none goes to ``rejects``."""
        out: list[T] = []
        origins: dict[int, tuple[str, bytes]] = {}
        if joined is None:
            return out, origins
        for text, place in zip(joined[0].split(SEPARATOR), joined[1].split(","), strict=True):
            payload = text.encode("latin-1")
            try:
                message = decoder.decode(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                rejects.append((topic, Reject(place, payload, "", str(error))))
                continue
            out.append(message)
            origins[id(message)] = (place, payload)
        return out, origins


def _by_topic(messages: str, places: str) -> dict[str, tuple[str, str]]:
    """``messages`` and ``partition:offset`` places of each topic, joined again.

    A message that contains the separator itself cannot be separated from its neighbours: then the pieces go to every
    topic's reader under the first place, and each reader takes what is its own.
    """
    parts, whole = messages.split(SEPARATOR), places.split(",")
    if len(parts) != len(whole):
        topics = dict.fromkeys(place.partition(":")[0] for place in whole)
        first = whole[0].partition(":")[2]
        return {topic: (messages, ",".join([first] * len(parts))) for topic in topics}
    by_topic: dict[str, tuple[list[str], list[str]]] = {}
    for part, place in zip(parts, whole, strict=True):
        topic, _, rest = place.partition(":")
        own = by_topic.setdefault(topic, ([], []))
        own[0].append(part)
        own[1].append(rest)
    return {topic: (SEPARATOR.join(texts), ",".join(rests)) for topic, (texts, rests) in by_topic.items()}


def _splits(events: Iterable[Event]) -> Iterator[tuple[str, int, float]]:
    return ((one.symbol, one.effective_ms, one.ratio) for one in events if isinstance(one, Split))


# A tracker as the records of a job's keyed state.

SIGNALS = Layout("the signals followed", b"SPT", 1, earlier={0: as_it_is})
BARS = Layout("the bars kept", b"SPB", 1, earlier={0: as_it_is})
SPLITS = Layout("splits", b"SPX", 1, earlier={0: as_it_is})


def changed_records(tracker: Tracker) -> Iterator[tuple[str, bytes]]:
    """What the series touched by the last call became: (key, bytes), bars by bucket."""
    for symbol in sorted(tracker.changed_splits):
        yield f"splits\x1f{symbol}", SPLITS.write(msgspec.msgpack.encode(tracker.splits[symbol]))
    for symbol, timeframe in sorted(tracker.touched):
        series = tracker.series[(symbol, timeframe)]
        yield f"signals\x1f{symbol}\x1f{timeframe}", SIGNALS.write(series.dump_signals())
        for bucket, data in series.take_changed_bars(bucket_ms(timeframe)):
            yield f"bars\x1f{symbol}\x1f{timeframe}\x1f{bucket}", BARS.write(data)


def bucket_ms(timeframe: str) -> int:
    """The span of one record of bars."""
    return BUCKET_BARS * TIMEFRAME_MS[timeframe]


def outdated_keys(tracker: Tracker, keys: Iterable[str]) -> Iterator[str]:
    """Records of bars that a touched series has dropped."""
    limits = {
        key: tracker.series[key].kept_from_ms // bucket_ms(key[1])
        for key in tracker.touched
        if tracker.series[key].kept_from_ms > 0
    }
    if not limits:
        return
    for key in keys:
        parts = key.split("\x1f")
        if parts[0] == "bars" and int(parts[3]) < limits.get((parts[1], parts[2]), -1):
            yield key


def restore(tracker: Tracker, records: Mapping[str, bytes]) -> None:
    """Give a fresh tracker the series in ``records``."""
    bars: dict[tuple[str, str], list[bytes]] = {}
    for key, data in records.items():
        kind, symbol, *rest = key.split("\x1f")
        if kind == "signals":
            series = tracker.series[(symbol, rest[0])] = Series(symbol, rest[0])
            series.load_signals(SIGNALS.read(data))
        elif kind == "bars":
            bars.setdefault((symbol, rest[0]), []).append(BARS.read(data))
        else:
            tracker.splits[symbol] = msgspec.msgpack.decode(SPLITS.read(data), type=list[tuple[int, float]])
    for name, buckets in bars.items():
        tracker.series[name].load_bars(buckets)
