"""The keyed operator that carries :class:`udfs.steps.decide_frames.Decider`: its state, its metrics, and Redis.

State, keyed by symbol group: the last decision on each symbol and timeframe, written through in the call that
changes it. Redis is written once per frame, in one pipeline, and every write is idempotent by signal id and revision:
a replay after a failure changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pyflink.common import Row, TypeInformation, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from connectors.gc_tuning import freeze_startup_objects
from connectors.paths import keep_packages_readable
from connectors.redis.status import SystemStatus
from connectors.redis.writer import RedisStore
from connectors.settings.signals_job import JobSettings
from models.serving.feature_set import FeatureSet
from models.signals.emission import STATE_COLUMNS, PolicyConfig
from models.signals.outputs import OUTPUT_TOPICS
from models.signals.protections import ACCOUNT_COLUMNS, Halts
from udfs.frames.codec import FeatureFrame, ScoreFrame, unpack_features, unpack_scores
from udfs.frames.latest import latest_values
from udfs.operators.context import instance_number
from udfs.operators.jvm_encoding import jvm_encoding
from udfs.operators.log import OperatorLog
from udfs.operators.metrics import JobMetrics
from udfs.state.layout import Layout, as_it_is
from udfs.state.series import SeriesStates

LAST_EMITTED = Layout("the last emission of a series", b"SPD", 1, size=8 * STATE_COLUMNS, earlier={0: as_it_is})
ACCOUNT = Layout("the account of a symbol group", b"SPA", 1, size=8 * ACCOUNT_COLUMNS, earlier={0: as_it_is})
HALTS = Layout("halts", b"SPH", 1, earlier={0: as_it_is})


class FrameSignals(KeyedProcessFunction):  # type: ignore[misc]
    """Scored frame (symbol_group, frame, scores) in, outgoing messages of each topic out."""

    def __init__(self, job: FeatureSet, settings: JobSettings, policy: PolicyConfig) -> None:
        self._job, self._names, self._settings, self._policy = job, job.names, settings, policy

    @property
    def output_type(self) -> TypeInformation:
        """What leaves the operator: outgoing messages of one topic and event time, by key."""
        return jvm_encoding(self._settings.execution_mode).output_type

    def open(self, runtime_context: RuntimeContext) -> None:
        """Load the bundle's rules, connect to Redis, claim the state."""
        keep_packages_readable()
        from models.serving.bundle_cache import BundleCache
        from models.trade.calendar import calendar
        from udfs.steps.decide_frames import Decider, DecideSettings

        self._encoding = jvm_encoding(self._settings.execution_mode)
        self._log = OperatorLog("signals", instance_number(runtime_context))
        self._bundles = cache = BundleCache(self._job)
        self._bundle = cache.get(self._settings.bundle)
        decide = DecideSettings(
            topics={name: self._settings.topic(name) for name in OUTPUT_TOPICS},
            side_topics=self._settings.side_topics,
            feature_rows=self._settings.feature_rows,
            emit_from_ms=self._settings.emit_from_ms or 0,
        )
        self._decider = Decider(cache.get, self._job, decide, self._policy)
        self._states = SeriesStates(
            runtime_context.get_map_state(MapStateDescriptor("last_said", Types.STRING(), Types.PICKLED_BYTE_ARRAY())),
            self._decider.new_states,
            lambda row: LAST_EMITTED.write(row.tobytes()),
            lambda record: np.frombuffer(LAST_EMITTED.read(record)),
            self._log_restored,
        )
        self._heads = runtime_context.get_map_state(MapStateDescriptor("heads", Types.STRING(), Types.STRING()))
        self._known_heads: dict[str, str] = {}
        self._account = runtime_context.get_state(ValueStateDescriptor("account", Types.PICKLED_BYTE_ARRAY()))
        self._accounts: dict[int, NDArray[np.float64]] = {}
        self._halted = runtime_context.get_state(ValueStateDescriptor("halts", Types.PICKLED_BYTE_ARRAY()))
        self._halts: dict[int, Halts] = {}
        self._store: RedisStore | None = None
        self._status: SystemStatus | None = None
        if self._settings.redis:
            from connectors.redis.client import connect

            client = connect(self._settings.redis)
            self._store, self._status = RedisStore(client), SystemStatus(client)
        calendar("XNYS")
        self._decider.warm_up(self._settings.bundle)
        self._metrics = JobMetrics(
            runtime_context.get_metrics_group(),
            live=not self._settings.replay,
            timed=self._settings.execution_mode == "thread",
        )
        freeze_startup_objects()
        self._log.info(
            f"open: writes {', '.join(decide.topics.values())}" + (", and Redis" if self._store else ""),
            bundle=self._bundle.id, feature_set=self._job.hash,
        )  # fmt: skip

    def _log_restored(self, group: int, series: int, migrated: int) -> None:
        self._log.info("state restored", group=group, count=series)
        if migrated:
            self._log.info("state migrated", group=group, count=migrated, layout=LAST_EMITTED.version)

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        """One frame."""
        unwrap = self._encoding.unwrap
        frame, scores = unpack_features(unwrap(value[1])), unpack_scores(unwrap(value[2]))
        self._states.of_group(frame.group)
        rows = np.fromiter((self._states.row(frame.group, series[:2]) for series in frame.series), np.int64)
        before = self._states.matrix[rows]
        account = self._account_of(frame.group)
        halts = self._halts_of(frame.group)
        account_before = account.copy()
        heads = {symbol: self._head_of(symbol) for symbol, *_ in frame.series}
        decided = self._decider.decide(frame, scores, self._states.matrix, rows, account, heads, halts)
        if frame.side_messages:
            self._halted.update(HALTS.write(halts.encode()))
        for symbol, head in heads.items():
            if head != self._known_heads[symbol]:
                self._known_heads[symbol] = head
                self._heads.put(symbol, head)
        if (account != account_before).any():
            self._account.update(ACCOUNT.write(account.tobytes()))
        for i in np.flatnonzero((before != self._states.matrix[rows]).any(axis=1)).tolist():
            self._states.write(frame.series[i][:2], int(rows[i]))
        if self._store is not None:
            self._store.write_frame(signals=decided.signals, news=decided.news, **latest_values(frame, self._names))
        self._metrics.count(frame, scores, decided)
        self._note_failures(scores)
        self._report(frame, scores)
        yield from self._encoding.rows(decided.records)

    def _note_failures(self, scores: ScoreFrame) -> None:
        """Count and log the models of this operator's bundles that failed: here they explain signals."""
        for reference in {part.part.bundle for part in scores.parts if part.models}:
            bundle = self._bundles.get(reference)
            if not bundle.failures:
                continue
            for model, count in bundle.failures.items():
                self._metrics.model_failed(model, count)
                if self._log.once(bundle.id, model):
                    self._log.warning("model failed to explain a signal", bundle=bundle.id, model=model)
            bundle.failures.clear()

    def _report(self, frame: FeatureFrame, scores: ScoreFrame) -> None:
        """Report the job's condition to the system page, at most once per second."""
        if self._status is None:
            return
        if len(frame) and scores.parts and scores.parts[-1].models:
            self._bundle = self._bundles.get(scores.parts[-1].part.bundle)
            self._status.report(
                "job",
                bundle=self._bundle.id,
                watermark_ms=int(frame.bar_matrix()[:, 1].max()),
                bars=self._metrics.bars,
                signals=self._metrics.signals,
                dead_letters=self._metrics.dead_letters,
            )
        metrics = self._bundle.manifest.metrics
        self._status.report("bundle", name=self._bundle.id, base_rates=metrics.get("base_rates") or {})
        if figures := scores.drift.get(self._bundle.id):
            self._status.report("drift", **figures)

    def _head_of(self, symbol: str) -> str:
        if symbol not in self._known_heads:
            self._known_heads[symbol] = self._heads.get(symbol) or ""
        return self._known_heads[symbol]

    def _account_of(self, group: int) -> NDArray[np.float64]:
        if group not in self._accounts:
            stored = self._account.value()
            self._accounts[group] = (
                self._decider.new_account() if stored is None else np.frombuffer(ACCOUNT.read(stored)).copy()
            )
        return self._accounts[group]

    def _halts_of(self, group: int) -> Halts:
        if group not in self._halts:
            stored = self._halted.value()
            self._halts[group] = Halts() if stored is None else Halts.decode(HALTS.read(stored))
        return self._halts[group]

    def close(self) -> None:
        """Close Redis and flush the last metrics."""
        if hasattr(self, "_metrics"):
            self._metrics.flush(at_once=True)
        if self._store is not None:
            self._store.close()
