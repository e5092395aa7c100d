"""The keyed operator that turns frames of bars into frames of features.

State, keyed by symbol group: one record a symbol and timeframe, written through in the call that changes it. The
matrix in memory is a cache of those records; after a restart it fills again from state.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor

from models.expiry import calendar_name
from models.messages import encode
from udfs.frames import FeatureFrame, FrameReader, ParsedFrame, Reject, dead_letter, pack, part_controls
from udfs.kernel import BAR_COLUMNS, CALENDARS, DUPLICATE, VERDICTS, FeatureConfig, Kernel

#: What leaves the operator: symbol group and a packed FeatureFrame.
OUTPUT_TYPE = Types.ROW_NAMED(["symbol_group", "frame"], [Types.INT(), Types.STRING()])


class FrameFeatures(KeyedProcessFunction):
    """Frame of bars (symbol_group, messages, places) in, packed FeatureFrame out.

    ``topic`` names the source in dead letters. Guarantee: every message of a frame is either a row of the feature
    frame or a dead letter in it.
    """

    def __init__(self, config: FeatureConfig, groups: int, topic: str, bundle: str) -> None:
        self._config, self._groups, self._topic, self._bundle = config, groups, topic, bundle

    def open(self, runtime_context: RuntimeContext) -> None:
        """Compile the kernel and claim the state."""
        self._kernel = Kernel(self._config)
        self._reader = FrameReader(self._groups)
        self._states = self._kernel.new_states(256)
        self._rows: dict[tuple[int, str, str], int] = {}
        self._records = runtime_context.get_map_state(
            MapStateDescriptor("series", Types.STRING(), Types.PICKLED_BYTE_ARRAY())
        )
        metrics = runtime_context.get_metrics_group()
        self._bar_count = metrics.counter("bars")
        self._dead_count = metrics.counter("dead_letters")
        self._frame_count = metrics.counter("frames")
        self._warm_up()

    def _warm_up(self) -> None:
        """Compile every path before the first frame arrives."""
        columns = np.ones((1, len(BAR_COLUMNS)))
        columns[0, :2] = (0, 60_000)
        width = len(self._kernel.names)
        states = self._kernel.new_states(1)
        self._kernel.run(
            states, np.zeros(1, np.int64), columns, np.empty((1, width)), np.empty((1, width), np.uint8)
        )  # fmt: skip

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        """One frame."""
        group = int(value[0])
        messages, places, controls = part_controls(value[1], value[2], self._topic)
        parsed = self._reader.read(group, messages, places) if places else ParsedFrame.empty()
        bars, rejects = parsed.bars, parsed.rejects
        n, width = len(bars), len(self._kernel.names)

        series: dict[tuple[str, str], int] = {}
        index = np.fromiter((series.setdefault((b.symbol, b.timeframe), len(series)) for b in bars), np.int32, n)
        names = list(series)
        sources = dict(zip(index.tolist(), (bar.source for bar in bars), strict=True))
        rows = np.fromiter((self._row_of(group, *name) for name in names), np.int64, len(names))

        out, quality = np.empty((n, width)), np.full((n, width), ord("."), np.uint8)
        calendars = np.array([self._calendar_of(name[0], sources[k]) for k, name in enumerate(names)])
        columns = np.column_stack([parsed.matrix, calendars[index]]) if n else np.empty((0, len(BAR_COLUMNS)))
        verdicts = self._kernel.run(self._states, rows[index], columns, out, quality)
        for name, row in zip(names, rows.tolist(), strict=True):
            self._records.put("\x1f".join(name), self._kernel.encode_state(self._states[row]))

        matrix = parsed.matrix
        if (refused := verdicts >= DUPLICATE).any():
            payloads = parsed.payloads or messages.encode("latin-1").split(b"\x1e")
            for i in np.flatnonzero(refused).tolist():
                rejects.append(Reject(parsed.places[i], payloads[i], "start_ms", VERDICTS[int(verdicts[i])]))
            kept = ~refused
            index, matrix, out, quality = index[kept], matrix[kept], out[kept], quality[kept]

        self._frame_count.inc()
        self._bar_count.inc(len(index))
        self._dead_count.inc(len(rejects))
        frame = FeatureFrame(
            group,
            width,
            [(*name, sources[k]) for k, name in enumerate(names)],
            index.tobytes(),
            matrix.tobytes(),
            out.tobytes(),
            quality.tobytes(),
            self._bundle,
            [encode(dead_letter(self._topic, reject)) for reject in rejects],
            controls,
        )
        yield Row(group, pack(frame))

    @staticmethod
    def _calendar_of(symbol: str, source: str) -> float:
        return float(CALENDARS[calendar_name(symbol, source)])

    def _row_of(self, group: int, symbol: str, timeframe: str) -> int:
        key = (group, symbol, timeframe)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            if row == len(self._states):
                self._states = np.concatenate([self._states, self._kernel.new_states(len(self._states))])
            record = self._records.get(f"{symbol}\x1f{timeframe}")
            if record is not None:
                self._states[row] = self._kernel.decode_state(record)
        return row
