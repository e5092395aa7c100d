"""The same graph as a naive PyFlink job would be written: one bar at a time, JSON in Python, `key_by(lambda)`.

It calls our own compiled kernel and models, so that the difference measured is the way of carrying bars.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pyflink.common import SimpleStringSchema, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.datastream.state import ValueStateDescriptor

from connectors.job_settings import parse_settings
from models.bundle import bundle_folder, load_bundle
from models.ensemble import ACTIONS, combine
from udfs.environment import stream_environment
from udfs.kernel import BAR_COLUMNS, CALENDARS, FeatureConfig, Kernel


class Features(KeyedProcessFunction):
    """One bar in, one dict of features out; the symbol's state is one value."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Compile and claim the state."""
        self._kernel = Kernel(FeatureConfig())
        self._state = runtime_context.get_state(ValueStateDescriptor("series", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, bar: dict, ctx: KeyedProcessFunction.Context) -> Iterator[dict]:
        """One bar."""
        kernel, width = self._kernel, len(self._kernel.names)
        states, stored = kernel.new_states(1), self._state.value()
        if stored is not None:
            states[0] = kernel.decode_state(stored)
        row = np.array([[*(bar.get(name, 0) for name in BAR_COLUMNS[:8]), CALENDARS["XNYS"]]], np.float64)
        out, quality = np.empty((1, width)), np.empty((1, width), np.uint8)
        kernel.run(states, np.zeros(1, np.int64), row, out, quality)
        self._state.update(kernel.encode_state(states[0]))
        yield {"symbol": bar["symbol"], "end_ms": bar["end_ms"], "values": out[0].tolist()}


class Score:
    """One dict in, JSON with the ensemble's decision out; loads the models on first use."""

    def __init__(self, bundle: str) -> None:
        self._path, self._bundle = bundle, None

    def __call__(self, row: dict) -> str:
        """One row."""
        if self._bundle is None:
            self._bundle = load_bundle(Path(self._path))
            names = Kernel(FeatureConfig()).names
            self._columns = [names.index(name) for name in self._bundle.features]
        bundle = self._bundle
        scores = bundle.score(np.array([[row["values"][i] for i in self._columns]]))
        decision = combine(scores.probabilities, bundle.weights, bundle.thresholds)
        action = int(decision.action[0])
        row["action"] = ACTIONS[action] if action >= 0 else None
        return json.dumps(row)


def main() -> None:
    """Run to the end of the topic."""
    settings = parse_settings(sys.argv[1:])
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
    serializer = (
        KafkaRecordSerializationSchema.builder()
        .set_topic(settings.topic("features"))
        .set_value_serialization_schema(SimpleStringSchema())
        .build()
    )
    sink = KafkaSink.builder().set_bootstrap_servers(settings.kafka).set_record_serializer(serializer).build()
    stream = environment.stream.from_source(source, WatermarkStrategy.no_watermarks(), "bars")
    (
        stream.map(json.loads)
        .key_by(lambda bar: bar["symbol"])
        .process(Features())
        .disable_chaining()  # docs/adr/0001: else compiled code waits for itself
        .map(Score(str(bundle_folder(settings.bundle))), Types.STRING())
        .sink_to(sink)
    )
    environment.stream.execute("row by row")


if __name__ == "__main__":
    main()
