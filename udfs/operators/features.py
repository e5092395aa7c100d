"""The keyed operator that turns frames of bars into frames of features, and plans which bundle scores them.

State, keyed by symbol group: each series' (:mod:`udfs.state.series`). Broadcast state: the bundle changes announced so
far.

News, option summaries and splits are read from their topics by the operator itself (:mod:`connectors.kafka.side_inputs`
says why) and given to a series with the first bar that may know them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyflink.common import Row, TypeInformation, Types
from pyflink.datastream import KeyedBroadcastProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from connectors.gc_tuning import freeze_startup_objects
from connectors.kafka.side_inputs import SideLog, SideMessage
from connectors.paths import keep_packages_readable
from connectors.settings.signals_job import JobSettings
from models.events import Event
from models.messages import News, OptionSummary, encode
from udfs.features.base import COUNT, LAST_END
from udfs.frames.codec import FeatureFrame, pack
from udfs.frames.groups import group_of, separate_bars
from udfs.frames.reader import FrameReader, ParsedFrame, Reject, dead_letter
from udfs.kernel.catalogue import calendar_code
from udfs.kernel.compiler import BAR_COLUMNS, DUPLICATE, LATE, REVISED, VERDICTS, FeatureConfig, Kernel
from udfs.operators.context import instance_number
from udfs.operators.jvm_encoding import jvm_encoding
from udfs.operators.log import OperatorLog
from udfs.state.partitions import TwoPartitionsError, check_count, check_partitioner, check_places
from udfs.state.series import GroupsState, SeriesStates
from udfs.steps.bundle_plan import BundlePlan
from udfs.steps.side_inputs import SideInput, SideInputs, deal, due_ms

#: Broadcast state: one entry, the JSON of ``models.serving.rollout.RolloutState``.
CHANGES = MapStateDescriptor("bundle_changes", Types.STRING(), Types.STRING())
_CHANGES_KEY = "state"

#: Side inputs are kept this long behind the bars, for a symbol's slower timeframes.
_REMEMBERED_MS = 7 * 86_400_000.0

#: Names of the reasons for which a feature is missing (``models.messages.QUALITY``), in metrics.
_MISSING = {"w": "warming_up", "g": "gap", "z": "undefined", "m": "no_input", "s": "stale"}

_LATE_SPLIT = "the split takes effect before a bar that was seen already: features are masked until they refill"


@dataclass(frozen=True, slots=True)
class Computed:
    """The features of a frame's n bars: each bar's series, its numbers, f values and their quality codes.

    ``index`` int32[n] points into ``series`` (symbol, timeframe, source); ``matrix`` float64[n, 8]; ``values``
    float64[n, f]; ``quality`` uint8[n, f]; ``arrived_ms`` is when the first bar was ingested (0: not stamped).
    """

    series: list[tuple[str, str, str]]
    index: NDArray[np.int32]
    matrix: NDArray[np.float64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    arrived_ms: float


class FrameFeatures(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """Frame of messages (symbol_group, messages, places) in, packed FeatureFrame out; bundle changes on the other side.

    ``history`` is what stood on the rollout topic when the job was started, ``partitions`` how many the bars topic had;
    ``side_log`` reads the side inputs.
    Guarantee: every bar of a frame is either a row of the feature frame or a dead letter in it.
    """

    def __init__(
        self,
        config: FeatureConfig,
        settings: JobSettings,
        history: list[tuple[int, bytes]],
        partitions: int,
        side_log: type[SideLog] = SideLog,
    ) -> None:
        self._config, self._settings, self._history = config, settings, history
        self._partitions, self._follow = partitions, side_log

    @property
    def output_type(self) -> TypeInformation:
        """What leaves the operator: symbol group and a packed FeatureFrame."""
        frame = jvm_encoding(self._settings.execution_mode).frame_type
        return Types.ROW_NAMED(["symbol_group", "frame"], [Types.INT(), frame])

    def open(self, runtime_context: RuntimeContext) -> None:
        """Compile the kernel, claim the state, and read the side inputs to their end."""
        keep_packages_readable()
        settings = self._settings
        self._encoding = jvm_encoding(settings.execution_mode)
        self._kernel = Kernel(self._config)
        self._reader = FrameReader(settings.groups)
        self._bundle_plan = BundlePlan(
            settings.bundle, self._history, self._kernel.feature_set
        )  # fmt: skip
        self._states = SeriesStates(
            runtime_context.get_map_state(MapStateDescriptor("series", Types.STRING(), Types.PICKLED_BYTE_ARRAY())),
            self._kernel.new_states,
            self._kernel.encode_state,
            self._kernel.decode_state,
            self._log_restored,
        )
        self._built_on = runtime_context.get_state(ValueStateDescriptor("partitions", Types.INT()))
        self._dealt_by = runtime_context.get_state(ValueStateDescriptor("partitioner", Types.STRING()))
        self._checked: set[int] = set()
        self._partition_of: dict[str, str] = {}
        self._side_offsets = runtime_context.get_state(ValueStateDescriptor("side_places", Types.STRING()))
        self._groups = GroupsState(
            runtime_context.get_state(ValueStateDescriptor("groups", Types.STRING())), settings.groups
        )
        instance = instance_number(runtime_context)
        self._first_instance = instance == 0
        self._log = OperatorLog("features", instance)
        self._side = SideInputs()
        self._arrived: dict[int, list[SideMessage]] = {}
        self._side_log = self._follow(
            settings.kafka,
            {settings.news_topic: News, settings.options_topic: OptionSummary, settings.status_topic: Event},
        )
        began_s = time.monotonic()
        self._note(self._side_log.catch_up())
        self._log.info(
            f"side inputs read to their ends: {settings.news_topic}, {settings.options_topic}, {settings.status_topic}",
            count=sum(map(len, self._arrived.values())), seconds=round(time.monotonic() - began_s, 3),
        )  # fmt: skip
        metrics = runtime_context.get_metrics_group()
        self._counters = {
            "frames": metrics.counter("frames"),
            "bars": metrics.counter("bars"),
            "bars_revised": metrics.counter("bars_revised"),
            "bars_duplicate": metrics.counter("bars_duplicate"),
            "bars_late": metrics.counter("bars_late"),
            "dead_letters": metrics.counter("dead_letters"),
            "side_inputs": metrics.counter("side_inputs"),
        }
        self._missing = {
            ord(mark): metrics.add_group("reason", reason).counter("features_missing")
            for mark, reason in _MISSING.items()
        }
        self._warm_up()
        freeze_startup_objects()
        self._log.info(
            f"open: {len(self._kernel.names)} features, {settings.groups} symbol groups, bars from "
            f"{settings.bars_topic} in {self._partitions} partitions",
            bundle=settings.bundle, feature_set=self._kernel.feature_set_hash,
        )  # fmt: skip

    def _log_restored(self, group: int, series: int, migrated: int) -> None:
        self._log.info("state restored", group=group, count=series)
        if migrated:
            self._log.info(
                "state migrated: families whose cells changed start again", group=group, count=migrated,
                layout=self._kernel.layout_hash,
            )  # fmt: skip

    def _warm_up(self) -> None:
        """Compile every path before the first frame arrives."""
        columns = np.ones((1, len(BAR_COLUMNS)))
        columns[0, :2] = (0, 60_000)
        width = len(self._kernel.names)
        states = self._kernel.new_states(1)
        self._kernel.run(
            states, np.zeros(1, np.int64), columns, np.empty((1, width)), np.empty((1, width), np.uint8)
        )  # fmt: skip

    def process_broadcast_element(self, value: Row, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[Row]:
        """One announced bundle change (message, partition, offset); what cannot be applied is a dead letter."""
        changes = ctx.get_broadcast_state(CHANGES)
        payload, place = value[0].encode("latin-1"), f"{value[1]}:{value[2]}"
        state, refused = self._bundle_plan.after(changes.get(_CHANGES_KEY), int(value[2]), payload)
        changes.put(_CHANGES_KEY, state)
        self._log_change(payload, refused)
        if refused and self._first_instance:
            refused_message = dead_letter(self._settings.rollout_topic, Reject(place, payload, "bundle", refused))
            yield self._row(FeatureFrame.without_bars(0, len(self._kernel.names), [encode(refused_message)]))

    def _log_change(self, payload: bytes, refused: str) -> None:
        if refused:
            self._log.warning("bundle change refused", reason=refused)
            return
        change = self._bundle_plan.describe(payload)
        if change is not None and self._log.once("change", str(change)):
            self._log.info(
                f"bundle change applies: {change.kind}", bundle=change.bundle_id or change.bundle,
                effective_ms=change.effective_ms, reason=change.reason or None,
            )  # fmt: skip

    def process_element(self, value: Row, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[Row]:
        """One frame."""
        received_ms = time.time() * 1000
        group, topic = int(value[0]), self._settings.bars_topic
        messages, places, side_messages = separate_bars(value[1], value[2], topic)
        parsed = self._reader.read(group, messages, places) if places else ParsedFrame.empty()
        self._check_partitions(group, parsed)
        self._groups.require(group)
        known = self._states.of_group(group)
        self._note(self._side_log.poll())
        dead_letters = self._apply_side_inputs(group, known)
        computed = self._compute(group, parsed, messages)
        parts, shadows = self._bundle_plan.plan(
            ctx.get_broadcast_state(CHANGES).get(_CHANGES_KEY), computed.matrix[:, 1].astype(np.int64)
        )  # fmt: skip
        frame = FeatureFrame(
            group,
            len(self._kernel.names),
            computed.series,
            computed.index.tobytes(),
            computed.matrix.tobytes(),
            computed.values.tobytes(),
            computed.quality.tobytes(),
            parts,
            shadows,
            dead_letters + [encode(dead_letter(topic, reject)) for reject in parsed.rejects],
            side_messages,
            arrived_ms=computed.arrived_ms,
            received_ms=received_ms,
            featured_ms=time.time() * 1000,
        )
        yield self._row(frame)

    def _compute(self, group: int, parsed: ParsedFrame, messages: str) -> Computed:
        """Run the kernel over the frame's bars and write the series' state; bars it refuses join ``parsed.rejects``."""
        bars, n, width = parsed.bars, len(parsed.bars), len(self._kernel.names)
        places: dict[tuple[str, str], int] = {}
        index = np.fromiter((places.setdefault((b.symbol, b.timeframe), len(places)) for b in bars), np.int32, n)
        names = list(places)
        sources = dict(zip(index.tolist(), (bar.source for bar in bars), strict=True))
        rows = np.fromiter((self._states.row(group, name) for name in names), np.int64, len(names))
        calendars = np.array([calendar_code(name[0], sources[k]) for k, name in enumerate(names)])
        columns = np.column_stack([parsed.matrix, calendars[index]]) if n else np.empty((0, len(BAR_COLUMNS)))

        values, quality = np.empty((n, width)), np.full((n, width), ord("."), np.uint8)
        verdicts = self._run(names, rows, index, columns, values, quality)
        for name, row in zip(names, rows.tolist(), strict=True):
            self._states.write(name, row)

        kept = np.flatnonzero(verdicts < DUPLICATE)
        chosen: slice | NDArray[np.int64] = slice(None)  # no copies where every bar is kept, as nearly always
        if len(kept) < n:
            chosen = kept
            payloads = parsed.payloads or messages.encode("latin-1").split(b"\x1e")
            for i in np.flatnonzero(verdicts >= DUPLICATE).tolist():
                reject = Reject(parsed.places[i], payloads[i], "start_ms", VERDICTS[int(verdicts[i])])
                parsed.rejects.append(reject)
        computed = Computed(
            [(*name, sources[k]) for k, name in enumerate(names)], index[chosen], parsed.matrix[chosen], values[chosen],
            quality[chosen], float(bars[kept[0]].ingestion_timestamp_ms or 0) if len(kept) else 0.0,
        )  # fmt: skip
        self._count(verdicts, computed.quality, len(computed.index), len(parsed.rejects))
        return computed

    def _row(self, frame: FeatureFrame) -> Row:
        return Row(frame.group, self._encoding.wrap(pack(frame)))

    def _check_partitions(self, group: int, parsed: ParsedFrame) -> None:
        topic = self._settings.bars_topic
        if group not in self._checked:
            before = self._built_on.value()
            now = check_count(topic, before, self._partitions, self._settings.accept_partitions)
            if now != before:
                self._built_on.update(now)
            dealt_by = self._dealt_by.value()
            if (kept := check_partitioner(topic, dealt_by)) != dealt_by:
                self._dealt_by.update(kept)
            self._checked.add(group)
        check_places(topic, parsed.places, self._partitions)
        if self._settings.replay and not self._settings.accept_partitioner:
            for bar, place in zip(parsed.bars, parsed.places, strict=True):
                partition = place.partition(":")[0]
                if (known := self._partition_of.setdefault(bar.symbol, partition)) != partition:
                    raise TwoPartitionsError(topic, bar.symbol, known, partition)

    def _run(
        self,
        names: list[tuple[str, str]],
        rows: NDArray[np.int64],
        index: NDArray[np.int32],
        columns: NDArray[np.float64],
        out: NDArray[np.float64],
        quality: NDArray[np.uint8],
    ) -> NDArray[np.int8]:
        """The kernel over the frame, stopping where a bar is the first to know a side input."""
        stops: dict[int, list[tuple[int, SideInput]]] = {}
        if self._side:
            for k, (symbol, _) in enumerate(names):
                if symbol not in self._side:
                    continue
                row = int(rows[k])
                at = np.flatnonzero(index == k)
                for bar, event in self._side.due(symbol, self._last_end(row), columns[at, 1]):
                    stops.setdefault(int(at[bar]), []).append((row, event))
                self._side.forget(symbol, columns[at[0], 0] - _REMEMBERED_MS)
        verdicts = np.empty(len(columns), np.int8)

        def run(part: slice) -> None:
            verdicts[part] = self._kernel.run(
                self._states.matrix, rows[index[part]], columns[part], out[part], quality[part]
            )

        deal(len(columns), stops, run, lambda given: self._give(*given))
        return verdicts

    def _apply_side_inputs(self, group: int, known: dict[tuple[str, str], int]) -> list[bytes]:
        """Apply late side inputs immediately to all series of their symbol.

        How far each topic was read is state: after a restart the same messages change nothing.
        """
        if not (arrived := self._arrived.pop(group, None)):
            return []
        known_offsets: dict[str, int] = json.loads(self._side_offsets.value() or "{}")
        dead_letters = []
        for place, offset, message in arrived:
            event = self._side.add(message)
            if event is None or offset < known_offsets.get(place, 0):
                continue
            self._counters["side_inputs"].inc()
            for name, row in known.items():
                last_end = self._last_end(row)
                if name[0] == message.symbol and last_end is not None and due_ms(event) <= last_end:
                    if self._give(row, event) == LATE:
                        topic, _, partition = place.rpartition(":")
                        reject = Reject(f"{partition}:{offset}", encode(message), "effective_ms", _LATE_SPLIT)
                        dead_letters.append(encode(dead_letter(topic, reject)))
                    self._states.write(name, row)
        offsets = known_offsets | {place: offset + 1 for place, offset, _ in arrived}
        if offsets != known_offsets:
            self._side_offsets.update(json.dumps(offsets))
        return dead_letters

    def _note(self, messages: Iterator[SideMessage]) -> None:
        for message in messages:
            self._arrived.setdefault(group_of(message.message.symbol, self._settings.groups), []).append(message)

    def _give(self, row: int, event: SideInput) -> int:
        kind, values = event
        verdict = getattr(self._kernel, kind)(self._states.matrix, np.array([row]), np.array([values]))
        return 0 if verdict is None else int(verdict[0])

    def _last_end(self, row: int) -> float | None:
        state = self._states.matrix[row]
        return float(state[LAST_END]) if state[COUNT] > 0.0 else None

    def _count(self, verdicts: NDArray[np.int8], quality: NDArray[np.uint8], rows: int, rejects: int) -> None:
        counters = self._counters
        counters["frames"].inc()
        counters["bars"].inc(rows)
        counters["dead_letters"].inc(rejects)
        found = np.bincount(verdicts, minlength=LATE + 1).tolist()
        for name, code in (("bars_revised", REVISED), ("bars_duplicate", DUPLICATE), ("bars_late", LATE)):
            if found[code]:
                counters[name].inc(found[code])
        marks = np.bincount(quality.ravel(), minlength=128).tolist()
        for mark, counter in self._missing.items():
            if marks[mark]:
                counter.inc(marks[mark])

    def close(self) -> None:
        """Leave the broker; an operator that failed to open has none to leave."""
        if hasattr(self, "_side_log"):
            self._side_log.close()
