"""Frames between operators: bars, features and scores of one symbol group, packed and unpacked.

A crossing between the JVM and Python costs the same whatever it carries, so it carries a frame: all bars of one symbol
group in one short window (:mod:`udfs.frames.groups`, :mod:`udfs.frames.reader`).
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray


class Part(msgspec.Struct, array_like=True, frozen=True):
    """Bars of a frame that one bundle scores: int32 bar numbers, or nothing for all of them."""

    bundle: str
    rows: bytes = b""

    def bar_numbers(self, n: int) -> NDArray[np.int32]:
        """Which of a frame's ``n`` bars, int32."""
        return np.frombuffer(self.rows, np.int32) if self.rows else np.arange(n, dtype=np.int32)


class FeatureFrame(msgspec.Struct, array_like=True):
    """What the feature operator emits: bars, features and quality of one frame's n bars, and its dead letters.

    ``series`` lists (symbol, timeframe, source); ``index`` int32[n] points into it; ``bars`` float64[n, 8] in
    BAR_COLUMNS order; ``values`` float64[n, f], f = ``width``; ``quality`` uint8[n, f] (characters). ``parts`` is
    which bundle scores which bars, each bar once; ``shadows`` which score bars alongside it. ``side_messages`` are the
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
    def without_bars(cls, group: int, width: int, dead_letters: list[bytes]) -> FeatureFrame:
        """A frame of dead letters alone."""
        return cls(group, width, [], b"", b"", b"", b"", [], [], dead_letters)

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
    """One bundle's scores of its n bars: ``probabilities`` float64[n, m, 3] by ``models``, NaN where one was skipped.

    ``bundle_id`` is name@digest; ``skipped`` is by model why it gave nothing for the batch (with no models at all:
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
    """What the scorer emits: a frame's parts and shadows, scored in their order.

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
    """The frame as MessagePack; :mod:`udfs.operators.jvm_encoding` defines how the bytes travel."""
    return _pack(frame)


def unpack_features(data: bytes) -> FeatureFrame:
    """The inverse of :func:`pack`."""
    return _unpack_features(data)


def unpack_scores(data: bytes) -> ScoreFrame:
    """The inverse of :func:`pack`."""
    return _unpack_scores(data)
