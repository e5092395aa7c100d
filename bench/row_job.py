"""The same work as a naive PyFlink job would do it: one bar at a time, JSON in Python, `key_by(lambda)`.

It calls our own compiled kernel, models and decisions, so that the difference measured is the way of carrying bars.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyflink.common import SimpleStringSchema, Types, WatermarkStrategy
from pyflink.datastream import DataStream, KeyedProcessFunction, OutputTag, RuntimeContext
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.datastream.state import ValueStateDescriptor

from connectors.settings.signals_job import JobSettings, parse_settings
from models.messages import Bar
from udfs.operators.environment import stream_environment

SIGNALS = OutputTag("signals", Types.STRING())


class BarByBar(KeyedProcessFunction):
    """One bar in, its row out, and a signal on the side where there is one; a symbol's state is two values."""

    def __init__(self, prefix: str, policy: Path) -> None:
        self._prefix, self._policy = prefix, policy

    def open(self, runtime_context: RuntimeContext) -> None:
        """Compile, load the models and claim the state."""
        from bench.engines.work import Work

        self._work = Work(self._prefix, self._policy)
        self._features = runtime_context.get_state(ValueStateDescriptor("features", Types.PICKLED_BYTE_ARRAY()))
        self._decisions = runtime_context.get_state(ValueStateDescriptor("decisions", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value: dict[str, Any], ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        """One bar."""
        work = self._work
        features, decisions = work.feature_states(), work.decision_states()
        if (kept := self._features.value()) is not None:
            features.load(kept)
            decisions.load(self._decisions.value())
        frame = work.features(features, [Bar(**value)])
        records = work.decide(decisions, frame, work.scores([frame])[0])
        self._features.update(features.dump())
        self._decisions.update(decisions.dump())
        for record in records:
            text = record.payload.decode()
            yield text if record.topic == work.rows_topic else (SIGNALS, text)


def write(stream: DataStream, settings: JobSettings, name: str) -> None:
    """Sink a stream of texts to an output topic."""
    serializer = (
        KafkaRecordSerializationSchema.builder()
        .set_topic(settings.topic(name))
        .set_value_serialization_schema(SimpleStringSchema())
        .build()
    )
    stream.sink_to(
        KafkaSink.builder().set_bootstrap_servers(settings.kafka).set_record_serializer(serializer).build()
    )  # fmt: skip


def main() -> None:
    """Run to the end of the topic."""
    settings = parse_settings(sys.argv[1:])
    assert settings.policy is not None, "--policy is needed"
    environment = stream_environment(settings)
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(settings.kafka)
        .set_topics(settings.bars_topic)
        .set_group_id("row")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_bounded(KafkaOffsetsInitializer.latest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    bars = environment.stream.from_source(source, WatermarkStrategy.no_watermarks(), "bars").map(json.loads)
    rows = (
        bars.key_by(lambda bar: bar["symbol"])
        .process(BarByBar(settings.out_prefix, settings.policy), Types.STRING())
        .disable_chaining()  # docs/adr/0001: otherwise compiled code deadlocks
    )
    write(rows, settings, "features")
    write(rows.get_side_output(SIGNALS), settings, "trading-signals")
    environment.stream.execute("row by row")


if __name__ == "__main__":
    main()
