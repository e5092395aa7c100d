"""Frames: how bars, features and scores travel between the JVM and Python, many at a time.

A crossing between the JVM and Python costs the same whatever it carries, so it carries a frame: all bars of one symbol
group in one short window. This module is pure: text in, arrays and rejects out, and the codecs between operators.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import dead_letters
from models.bar_columns import BAR_COLUMNS
from models.messages import TIMEFRAME_MS, Bar, DeadLetter

#: Joins the messages of a frame, as ``connectors.kafka.tables.frames_query`` does in SQL. JSON text cannot hold it.
SEPARATOR = "\x1e"

#: How far a bar's end may lie after the moment it was received (venue clocks drift; a wrong unit is far off).
FUTURE_TOLERANCE_MS = 5 * 60_000

_SYMBOL = re.compile(r"[A-Z0-9./:_^=-]{1,40}")
_fields = attrgetter(*BAR_COLUMNS[:8])
_many = msgspec.json.Decoder(list[Bar])
_one = msgspec.json.Decoder(Bar)


def group_of(symbol: str, groups: int) -> int:
    """The symbol group, as SQL's ``ABS(MOD(HASH_CODE(symbol), groups))`` gives it (Java's String.hashCode).

    >>> [group_of(symbol, 8) for symbol in ("AAPL", "MSFT", "")]
    [4, 4, 0]
    """
    value = 0
    for byte in symbol.encode("latin-1", "replace"):
        value = (31 * value + byte) & 0xFFFFFFFF
    signed = value - (1 << 32) if value & 0x80000000 else value
    return abs(signed) % groups


def separate_bars(messages: str, places: str, bars_topic: str) -> tuple[str, str, list[tuple[str, bytes]]]:
    """A frame of several topics as bars, their ``partition:offset`` places, and the rest as (place, message).

    >>> separate_bars('{"a":1}\x1e{"b":2}', "bars:0:7,status:1:8", "bars")
    ('{"a":1}', '0:7', [('status:1:8', b'{"b":2}')])
    """
    prefix = f"{bars_topic}:"
    if places.startswith(prefix) and places.count(f",{prefix}") == places.count(","):  # bars alone, as nearly always
        return messages, places.removeprefix(prefix).replace(f",{prefix}", ","), []
    parts, whole = messages.split(SEPARATOR), places.split(",")
    if len(parts) != len(whole):  # a message holds the separator itself: its pieces are nobody's
        return messages, ",".join(place.partition(":")[2] for place in whole), []
    pairs = list(zip(parts, whole, strict=True))
    bars = [(part, place.removeprefix(prefix)) for part, place in pairs if place.startswith(prefix)]
    others = [(place, part.encode("latin-1")) for part, place in pairs if not place.startswith(prefix)]
    return SEPARATOR.join(bar[0] for bar in bars), ",".join(bar[1] for bar in bars), others


class Reject(msgspec.Struct, frozen=True):
    """A message of a frame that cannot be processed: where it stood, why, and the message itself."""

    place: str
    payload: bytes
    field: str
    reason: str


class ParsedFrame(msgspec.Struct):
    """A frame's sound bars in arrival order (objects and the matrix of their numbers), and what was refused."""

    bars: list[Bar]
    matrix: NDArray[np.float64]
    places: list[str]
    payloads: list[bytes]
    rejects: list[Reject]

    @classmethod
    def empty(cls) -> ParsedFrame:
        """A frame without bars."""
        return cls([], _matrix([]), [], [], [])


def explain(bar: Bar, received_ms: float, group: int, groups: int) -> tuple[str, str] | None:
    """The first rule a bar breaks, as (field, reason); None where it is sound.

    >>> sound = Bar(symbol="A", timeframe="1m", start_ms=0, end_ms=60_000, open=1, high=2, low=1, close=1, volume=0)
    >>> explain(sound, 0, group_of("A", 8), 8)
    >>> import msgspec
    >>> explain(msgspec.structs.replace(sound, low=3.0), 0, group_of("A", 8), 8)
    ('low', 'low 3.0 is above high 2')
    """
    if not _SYMBOL.fullmatch(bar.symbol):
        return "symbol", f"symbol {bar.symbol!r} is not an upper-case name of 1 to 40 letters, digits and ./:_-^="
    if bar.timeframe not in TIMEFRAME_MS:
        return "timeframe", f"timeframe {bar.timeframe!r} is not one of {', '.join(TIMEFRAME_MS)}"
    for name in ("open", "high", "low", "close"):
        price = getattr(bar, name)
        if not (np.isfinite(price) and price > 0):
            return name, f"{name} {price} is not a positive price"
    if bar.volume is not None and not (np.isfinite(bar.volume) and bar.volume >= 0):
        return "volume", f"volume {bar.volume} is negative or not finite"
    if bar.low > bar.high:
        return "low", f"low {bar.low} is above high {bar.high}"
    for name in ("open", "close"):
        price = getattr(bar, name)
        if not bar.low <= price <= bar.high:
            return name, f"{name} {price} lies outside low {bar.low} .. high {bar.high}"
    if bar.start_ms < 0 or bar.end_ms <= bar.start_ms:
        return "end_ms", f"end_ms {bar.end_ms} is not after start_ms {bar.start_ms}, or start_ms is negative"
    if bar.end_ms - bar.start_ms > TIMEFRAME_MS[bar.timeframe]:
        return "end_ms", f"the bar lasts {bar.end_ms - bar.start_ms} ms, longer than its timeframe {bar.timeframe}"
    if bar.end_ms > (bar.ingestion_timestamp_ms or received_ms) + FUTURE_TOLERANCE_MS:
        return "end_ms", f"end_ms {bar.end_ms} is in the future of its arrival: is it in milliseconds?"
    if bar.revision < 0:
        return "revision", f"revision {bar.revision} is negative"
    if group_of(bar.symbol, groups) != group:
        return "symbol", f"the Kafka key does not name the symbol {bar.symbol!r}: produce bars with the symbol as key"
    return None


class FrameReader:
    """Reads joined messages into bars; one for each operator instance.

    Future stamps are judged against the bar's own ``ingestion_timestamp_ms`` where it has one, so that a replay gives
    the same verdict; else against the clock of this machine.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        self._sound_series: set[tuple[str, str, int]] = set()

    def read(self, group: int, messages: str, places: str) -> ParsedFrame:
        """One frame: one typed decode; message by message only when that fails."""
        raw = messages.encode("latin-1")
        place_list = places.split(",")
        separators = raw.count(b"\x1e")
        bars: list[Bar] | None = None
        if separators == len(place_list) - 1:
            try:
                bars = _many.decode(b"[" + raw.replace(b"\x1e", b",") + b"]")
            except (msgspec.MsgspecError, UnicodeDecodeError):
                bars = None
        if bars is not None and len(bars) == len(place_list):
            frame = ParsedFrame(bars, _matrix(bars), place_list, [], [])
        else:
            frame = self._read_singly(raw, place_list)
        return self._refuse_unsound(frame, group, raw)

    def _read_singly(self, raw: bytes, places: list[str]) -> ParsedFrame:
        bars: list[Bar] = []
        kept: list[str] = []
        payloads: list[bytes] = []
        rejects: list[Reject] = []
        parts = raw.split(b"\x1e")
        if len(parts) != len(places):
            # A message holds the separator itself. It is no JSON, and neither are its halves; which message it was
            # cannot be told from the joined text, so each sound part is kept and the rest is refused together.
            places = [places[0]] * len(parts)
        for place, payload in zip(places, parts, strict=True):
            try:
                bars.append(_one.decode(payload))
                kept.append(place)
                payloads.append(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                rejects.append(Reject(place, payload, _field_of(str(error)), _reason_of(payload, error)))
        return ParsedFrame(bars, _matrix(bars), kept, payloads, rejects)

    def _refuse_unsound(self, frame: ParsedFrame, group: int, raw: bytes) -> ParsedFrame:
        now_ms = time.time() * 1000
        suspects = _suspects(frame.matrix, now_ms)
        for index, bar in enumerate(frame.bars):
            key = (bar.symbol, bar.timeframe, bar.end_ms - bar.start_ms)
            if key not in self._sound_series:
                if explain(bar, now_ms, group, self.groups) is None:
                    self._sound_series.add(key)
                else:
                    suspects[index] = True
            elif bar.ingestion_timestamp_ms is not None and bar.end_ms > bar.ingestion_timestamp_ms:
                suspects[index] = True
        if not suspects.any():
            return frame
        payloads = frame.payloads or raw.split(b"\x1e")
        reasons: dict[int, Reject] = {}
        for index in np.flatnonzero(suspects).tolist():
            found = explain(frame.bars[index], now_ms, group, self.groups)
            if found:
                reasons[index] = Reject(frame.places[index], payloads[index], *found)
        keep = [index for index in range(len(frame.bars)) if index not in reasons]
        return ParsedFrame(
            [frame.bars[index] for index in keep],
            frame.matrix[keep],
            [frame.places[index] for index in keep],
            [payloads[index] for index in keep],
            [*frame.rejects, *reasons.values()],
        )


def _matrix(bars: list[Bar]) -> NDArray[np.float64]:
    columns = len(BAR_COLUMNS[:8])
    try:
        flat = np.fromiter(chain.from_iterable(map(_fields, bars)), np.float64, len(bars) * columns)
    except TypeError:  # a volume is null: NaN, by the slower way
        flat = np.array([_fields(bar) for bar in bars], np.float64)
    return flat.reshape(len(bars), columns)


def _suspects(matrix: NDArray[np.float64], now_ms: float) -> NDArray[np.bool_]:
    start, end, open_, high, low, close, volume, revision = matrix.T
    sound = (low > 0) & (low <= open_) & (open_ <= high) & (low <= close) & (close <= high) & (high < np.inf)
    sound &= (np.isnan(volume) | ((volume >= 0) & (volume < np.inf))) & (start >= 0) & (end > start) & (revision >= 0)
    sound &= end <= now_ms
    return ~sound


def _field_of(error: str) -> str:
    """The field a msgspec error names: ``... - at `$.close` `` or ``missing required field `close` ``.

    >>> _field_of("Object missing required field `close`"), _field_of("Expected `float`, got `str` - at `$.close`")
    ('close', 'close')
    """
    if "`$." in error:
        return error.split("`$.")[1].split("`")[0]
    if "missing required field `" in error:
        return error.split("missing required field `")[1].split("`")[0]
    return ""


def _reason_of(payload: bytes, error: Exception) -> str:
    if not payload.strip():
        return "the message is empty"
    if isinstance(error, msgspec.ValidationError):
        return f"not a bar: {error}"
    return f"not JSON: {error}"


def dead_letter(topic: str, reject: Reject) -> DeadLetter:
    """The reject as it goes to the dead-letter topic."""
    partition, _, offset = reject.place.partition(":")
    return dead_letters.dead_letter(
        reject.payload, reject.reason, topic, reject.field, partition=int(partition), offset=int(offset)
    )


class Part(msgspec.Struct, array_like=True, frozen=True):
    """Bars of a frame that one bundle scores: int32 bar numbers, or nothing for all of them."""

    bundle: str
    rows: bytes = b""

    def bar_numbers(self, n: int) -> NDArray[np.int32]:
        """Which of a frame's ``n`` bars, int32."""
        return np.frombuffer(self.rows, np.int32) if self.rows else np.arange(n, dtype=np.int32)


class FeatureFrame(msgspec.Struct, array_like=True):
    """What the feature operator hands on: bars, features and quality of one frame's n bars, and its dead letters.

    ``series`` lists (symbol, timeframe, source); ``index`` int32[n] points into it; ``bars`` float64[n, 8] in
    BAR_COLUMNS order; ``values`` float64[n, f], f = ``width``; ``quality`` uint8[n, f] (characters). ``parts`` says
    which bundle scores which bars, each bar once; ``shadows`` which score bars beside it. ``side_messages`` are the
    frame's other messages as (``topic:partition:offset``, message). For the latency by stage: ``arrived_ms`` is when
    the first bar was ingested (0: not stamped), ``received_ms`` and ``featured_ms`` when the feature operator had and
    gave it.
    """

    group: int
    width: int
    series: list[tuple[str, str, str]]
    index: bytes
    bars: bytes
    values: bytes
    quality: bytes
    parts: list[Part]
    shadows: list[Part]
    dead_letters: list[bytes]
    side_messages: list[tuple[str, bytes]] = []
    arrived_ms: float = 0.0
    received_ms: float = 0.0
    featured_ms: float = 0.0

    @classmethod
    def without_bars(cls, group: int, width: int, letters: list[bytes]) -> FeatureFrame:
        """A frame of dead letters alone."""
        return cls(group, width, [], b"", b"", b"", b"", [], [], letters)

    def __len__(self) -> int:
        return len(self.index) // 4

    def bar_matrix(self) -> NDArray[np.float64]:
        """``bars`` as float64[n, 8]."""
        return np.frombuffer(self.bars, np.float64).reshape(len(self), 8)

    def value_matrix(self) -> NDArray[np.float64]:
        """``values`` as float64[n, f]."""
        return np.frombuffer(self.values, np.float64).reshape(len(self), self.width)

    def quality_matrix(self) -> NDArray[np.uint8]:
        """``quality`` as uint8[n, f]."""
        return np.frombuffer(self.quality, np.uint8).reshape(len(self), self.width)

    def row_series(self) -> NDArray[np.int32]:
        """``index`` as int32[n]."""
        return np.frombuffer(self.index, np.int32)


class PartScores(msgspec.Struct, array_like=True):
    """What one bundle says of its n bars: ``probabilities`` float64[n, m, 3] by ``models``, NaN where one is silent.

    ``bundle_id`` is name@digest; ``skipped`` says by model why it gave nothing for the batch (with no models at all:
    why the bundle could not be used). ``unlike`` float64[n]: each row's dissimilarity to the bundle's training data;
    empty without a reference sample.
    """

    part: Part
    bundle_id: str
    models: tuple[str, ...]
    probabilities: bytes
    skipped: dict[str, str]
    unlike: bytes = b""

    def probability_array(self) -> NDArray[np.float64]:
        """``probabilities`` as float64[n, m, 3]."""
        return np.frombuffer(self.probabilities, np.float64).reshape(-1, len(self.models), 3)


class ScoreFrame(msgspec.Struct, array_like=True):
    """What the scorer hands on: a frame's parts and shadows, scored in their order.

    ``drift`` has each bundle's figures (``DriftMonitor.metrics``) now and then, else nothing; ``score_us`` is the time
    of the batch that the frame was in, ``scored_ms`` when it ended.
    """

    parts: list[PartScores]
    shadows: list[PartScores]
    drift: dict[str, dict[str, float]] = {}
    score_us: int = 0
    scored_ms: float = 0.0


_pack = msgspec.msgpack.Encoder().encode
_unpack_features = msgspec.msgpack.Decoder(FeatureFrame).decode
_unpack_scores = msgspec.msgpack.Decoder(ScoreFrame).decode


def pack(frame: FeatureFrame | ScoreFrame) -> bytes:
    """The frame as MessagePack; :mod:`udfs.operators.jvm_encoding` says how the bytes travel."""
    return _pack(frame)


def unpack_features(data: bytes) -> FeatureFrame:
    """The inverse of :func:`pack`."""
    return _unpack_features(data)


def unpack_scores(data: bytes) -> ScoreFrame:
    """The inverse of :func:`pack`."""
    return _unpack_scores(data)


class LatestValues(TypedDict):
    """What a frame leaves in Redis beside its signals (arguments of ``RedisStore.write_frame``)."""

    features: list[tuple[str, str, dict[str, float]]]
    prices: list[tuple[str, float, int]]
    bars: dict[tuple[str, str], list[Bar]]


def latest_values(frame: FeatureFrame, names: Sequence[str]) -> LatestValues:
    """The last feature row and price of each series of a frame, and all its bars for the charts.

    Features that are NaN are left out; ``end_ms`` tells the row's time.
    """
    table, values = frame.bar_matrix().tolist(), frame.value_matrix()
    bars: dict[tuple[str, str], list[Bar]] = {}
    last: dict[int, int] = {}
    for row, which in enumerate(frame.row_series().tolist()):
        symbol, timeframe, source = frame.series[which]
        start, end, open_, high, low, close, volume, revision = table[row]
        bars.setdefault((symbol, timeframe), []).append(
            Bar(
                symbol=symbol,
                timeframe=timeframe,
                start_ms=int(start),
                end_ms=int(end),
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=None if volume != volume else volume,
                revision=int(revision),
                source=source,
            )
        )
        last[which] = row
    features: list[tuple[str, str, dict[str, float]]] = []
    prices: list[tuple[str, float, int]] = []
    for which, row in last.items():
        symbol, timeframe, _ = frame.series[which]
        known = {name: value for name, value in zip(names, values[row].tolist(), strict=True) if value == value}
        features.append((symbol, timeframe, known | {"end_ms": table[row][1]}))
        prices.append((symbol, table[row][5], int(table[row][1])))
    return LatestValues(features=features, prices=prices, bars=bars)
