"""Reads the joined messages of a frame into bars: every message is a bar or a reject with its reason."""

from __future__ import annotations

import time
from itertools import chain
from operator import attrgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import bar_rules, dead_letters
from models.bar_columns import BAR_COLUMNS
from models.messages import Bar, DeadLetter
from udfs.frames.groups import group_of

_fields = attrgetter(*BAR_COLUMNS[:8])
_many = msgspec.json.Decoder(list[Bar])
_one = msgspec.json.Decoder(Bar)


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
    """The first rule of :mod:`models.bar_rules` that a bar breaks, as (field, reason); None where it is sound.

    Beyond them the Kafka key must be the symbol: its group is ``group`` of ``groups``.

    >>> sound = Bar(symbol="A", timeframe="1m", start_ms=0, end_ms=60_000, open=1, high=2, low=1, close=1, volume=0)
    >>> explain(sound, 0, group_of("A", 8), 8)
    >>> import msgspec
    >>> explain(msgspec.structs.replace(sound, low=3.0), 0, group_of("A", 8), 8)
    ('low', 'low 3.0 is above high 2')
    """
    if broken := bar_rules.first_broken(bar, received_ms, "explain"):
        return broken
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
            # A message contains the separator itself. It is no JSON, and neither are its halves; which message it was
            # cannot be determined from the joined text, so each sound part is kept and the rest is refused together.
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
    sound: NDArray[np.bool_] = (
        (low > 0) & (low <= open_) & (open_ <= high) & (low <= close) & (close <= high) & (high < np.inf)
    )
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
