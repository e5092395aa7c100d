"""Bytewax: batches from its Kafka source, keyed ``stateful_batch`` steps, models over a whole batch, recovery on.

By its documentation: ``stateful_batch`` is the operator for throughput, ``flat_map_batch`` passes a step the batch as
it arrived, state comes back from ``snapshot()`` at each epoch, and epochs are as long as snapshots are apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from bench.engines.work import SNAPSHOT_S, Arguments, Work, arguments, decode_bars
from models.messages import Bar
from udfs.frames.codec import FeatureFrame, ScoreFrame
from udfs.frames.groups import group_of
from udfs.frames.output_batch import Record

Scored = tuple[FeatureFrame, ScoreFrame]


class Features(StatefulBatchLogic[Bar, FeatureFrame, bytes]):
    """All bars of a key in one frame."""

    def __init__(self, work: Work, kept: bytes | None) -> None:
        self._work = work
        self._states = work.feature_states() if kept is None else work.feature_states().load(kept)

    def on_batch(self, values: list[Bar]) -> tuple[Iterable[FeatureFrame], bool]:
        """One batch of a key."""
        return [self._work.features(self._states, values)], StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """For the recovery store."""
        return self._states.dump()


class Decisions(StatefulBatchLogic[Scored, Record, bytes]):
    """A key's scored frames to messages."""

    def __init__(self, work: Work, kept: bytes | None) -> None:
        self._work = work
        self._states = work.decision_states() if kept is None else work.decision_states().load(kept)

    def on_batch(self, values: list[Scored]) -> tuple[Iterable[Record], bool]:
        """One batch of a key."""
        return [r for scored in values for r in self._work.decide(self._states, *scored)], StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """For the recovery store."""
        return self._states.dump()


def dataflow(given: Arguments) -> Dataflow:
    """The graph."""
    work = Work(given.out_prefix, given.policy)
    keys: dict[str, str] = {}

    def key_of(bar: Bar) -> str:
        key = keys.get(bar.symbol)
        if key is None:
            key = bar.symbol if not given.groups else str(group_of(bar.symbol, given.groups))
            keys[bar.symbol] = key
        return key

    def decode(batch: list[KafkaSourceMessage]) -> list[tuple[str, Bar]]:
        return [(key_of(bar), bar) for bar in decode_bars(message.value for message in batch)]

    def score(batch: list[tuple[str, FeatureFrame]]) -> list[tuple[str, Scored]]:
        scores = work.scores([frame for _, frame in batch])
        return [(key, (frame, found)) for (key, frame), found in zip(batch, scores, strict=True)]

    def message(keyed: tuple[str, Record]) -> KafkaSinkMessage[bytes, bytes]:
        made = keyed[1]
        return KafkaSinkMessage(made.key.encode(), made.payload, made.topic)

    flow = Dataflow("signals")
    messages = op.input("bars", flow, KafkaSource([given.kafka], [given.bars_topic], tail=False))
    keyed = op.flat_map_batch("decode", messages, decode)
    featured = op.stateful_batch("features", keyed, lambda kept: Features(work, kept))
    scored = op.flat_map_batch("score", featured, score)
    decided = op.stateful_batch("decide", scored, lambda kept: Decisions(work, kept))
    outgoing = op.map("message", decided, message)
    op.output("out", outgoing, KafkaSink([given.kafka], None))
    return flow


def main() -> None:
    """Run to the end of the topic on one worker."""
    given = arguments(__doc__ or "")
    store = given.folder / "recovery"
    store.mkdir(parents=True)
    init_db_dir(store, 1)
    cli_main(
        dataflow(given),
        workers_per_process=1,
        epoch_interval=timedelta(seconds=SNAPSHOT_S),
        recovery_config=RecoveryConfig(store),
    )


if __name__ == "__main__":
    main()
