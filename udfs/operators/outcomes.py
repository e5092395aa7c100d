"""The keyed operator that carries :class:`udfs.steps.outcome_frames.OutcomeFrames`: its state, timers, metrics, and
Redis.

State, keyed by symbol group: the bars kept (in buckets) and the signals of each series, written through in the call
that changes them. The tracker in memory is a cache of those records; after a restart it fills again from state. One
event-time timer a group stands at the next expiry.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyflink.common import Row, TypeInformation, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from connectors.paths import keep_packages_readable
from connectors.redis.writer import RedisStore
from connectors.settings.outcomes_job import OutcomeSettings
from models.messages import Outcome
from models.outcomes.performance import latest
from models.outcomes.tracker import Tracker
from udfs.frames.output_batch import OutputBatch
from udfs.operators.context import instance_number
from udfs.operators.jvm_encoding import jvm_encoding
from udfs.operators.log import OperatorLog
from udfs.state.series import GroupsState
from udfs.steps.outcome_frames import FollowSettings, OutcomeFrames, changed_records, outdated_keys, restore

#: The watermark at the end of a bounded input.
_END_OF_INPUT = 9_223_372_036_854_775_807
#: The watermark before the first.
_BEFORE_ALL = -9_223_372_036_854_775_808


def follow_settings(settings: OutcomeSettings) -> FollowSettings:
    """What following signals takes from the job's settings."""
    return FollowSettings(
        bars_topic=settings.bars_topic,
        signals_topic=settings.signals_topic,
        status_topic=settings.status_topic,
        outcomes_topic=settings.topic("signal-outcomes"),
        dead_letter_topic=settings.topic("dead-letter"),
        groups=settings.groups,
        cost_bps=settings.cost_bps,
        retention_ms=None if settings.replay else settings.history_hours * 3_600_000,
        update_every_ms=settings.update_every_ms,
    )


class FollowSignals(KeyedProcessFunction):  # type: ignore[misc]
    """Frame of bars, signals and statuses (symbol_group, messages, places) in, outgoing messages of each topic out."""

    def __init__(self, settings: OutcomeSettings) -> None:
        self._settings = settings

    @property
    def output_type(self) -> TypeInformation:
        """What leaves the operator: outgoing messages of one topic and event time, by key."""
        return jvm_encoding(self._settings.execution_mode).output_type

    def open(self, runtime_context: RuntimeContext) -> None:
        """Claim the state, connect to Redis, compile."""
        keep_packages_readable()
        self._log = OperatorLog("outcomes", instance_number(runtime_context))
        self._frames = OutcomeFrames(follow_settings(self._settings))
        self._encoding = jvm_encoding(self._settings.execution_mode)
        self._trackers: dict[int, Tracker] = {}
        self._keys: dict[int, set[str]] = {}
        self._timers: dict[int, float] = {}
        self._clocks: dict[int, int] = {}
        self._records = runtime_context.get_map_state(
            MapStateDescriptor("tracked", Types.STRING(), Types.PICKLED_BYTE_ARRAY())
        )
        self._groups = GroupsState(
            runtime_context.get_state(ValueStateDescriptor("groups", Types.STRING())), self._settings.groups
        )
        self._store: RedisStore | None = None
        if self._settings.redis:
            from connectors.redis.client import connect

            self._store = RedisStore(connect(self._settings.redis))
        metrics = runtime_context.get_metrics_group()
        self._outcome_count = metrics.counter("outcomes")
        self._finished_count = metrics.counter("finished")
        self._bars_refused = metrics.counter("bars_refused")
        self._signals_refused = metrics.counter("signals_refused")
        self._log.info(
            f"open: follows {self._settings.signals_topic} over bars of {self._settings.bars_topic}, "
            f"{self._settings.groups} symbol groups" + (", writes Redis" if self._store else "")
        )

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        """One frame."""
        group = int(value[0])
        tracker = self._tracker_of(group)
        # The watermark may be ahead of messages that wait for the end of their frame, by one frame at most.
        arrived = self._clocks.get(group, _BEFORE_ALL)
        self._clocks[group] = ctx.timer_service().current_watermark()
        followed = self._frames.take(tracker, group, value[1], value[2], float(arrived))
        self._keep(group, tracker)
        self._set_timer(group, tracker, ctx)
        self._bars_refused.inc(followed.bars_refused)
        self._signals_refused.inc(followed.signals_refused)
        yield from self._publish(followed.records, followed.newest)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Event time has passed an expiry: end the signals no bar will end.

        At the end of a replay every timer fires; what expires after the group's newest bar stays active.
        """
        group = int(ctx.get_current_key())
        tracker = self._tracker_of(group)
        self._timers.pop(group, None)
        watermark = ctx.timer_service().current_watermark()
        over = watermark >= _END_OF_INPUT
        outcomes = tracker.expire(tracker.newest_ms if over else float(timestamp))
        self._keep(group, tracker)
        if not over:
            self._set_timer(group, tracker, ctx)
        yield from self._publish(self._frames.records(outcomes), latest(outcomes))

    def _publish(self, records: OutputBatch, newest: list[Outcome]) -> Iterator[Row]:
        if self._store is not None and newest:
            self._store.write_frame(outcomes=newest)
        self._outcome_count.inc(len(records))
        self._finished_count.inc(sum(one.status != "active" for one in newest))
        yield from self._encoding.rows(records)

    def _tracker_of(self, group: int) -> Tracker:
        tracker = self._trackers.get(group)
        if tracker is None:
            self._groups.require(group)
            tracker = self._trackers[group] = self._frames.new_tracker()
            records = dict(self._records.items())
            restore(tracker, records)
            self._keys[group] = set(records)
            if records:
                self._log.info("state restored", group=group, count=len(records))
        return tracker

    def _keep(self, group: int, tracker: Tracker) -> None:
        keys = self._keys[group]
        for key, data in changed_records(tracker):
            self._records.put(key, data)
            keys.add(key)
        for key in list(outdated_keys(tracker, keys)):
            self._records.remove(key)
            keys.discard(key)

    def _set_timer(
        self, group: int, tracker: Tracker, ctx: KeyedProcessFunction.Context | KeyedProcessFunction.OnTimerContext
    ) -> None:
        """A timer at the next expiry; one that is no longer the next does no harm when it fires."""
        due = tracker.next_expiry_ms
        if due < self._timers.get(group, float("inf")):
            self._timers[group] = due
            ctx.timer_service().register_event_time_timer(int(due))

    def close(self) -> None:
        """Close Redis."""
        store: RedisStore | None = getattr(self, "_store", None)
        if store is not None:
            store.close()
