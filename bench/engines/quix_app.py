"""Quix Streams: one stateful ``apply``, state in RocksDB with a changelog topic, commits every ten seconds.

The library passes user code one message at a time, so kernel and models are called with one bar.
"""

from __future__ import annotations

from quixstreams import Application, State

from bench.engines.work import SNAPSHOT_S, Work, arguments, decode_bar
from udfs.frames.output_batch import Record


def main() -> None:
    """Run until every bar is out."""
    given = arguments(__doc__ or "")
    work = Work(given.out_prefix, given.policy)

    def step(payload: bytes, state: State) -> list[Record]:
        features, decisions = work.feature_states(), work.decision_states()
        if (kept := state.get_bytes("features")) is not None:
            features.load(kept)
            decisions.load(state.get_bytes("decisions"))
        frame = work.features(features, [decode_bar(payload)])
        records = work.decide(decisions, frame, work.scores([frame])[0])
        state.set_bytes("features", features.dump())
        state.set_bytes("decisions", decisions.dump())
        return records

    app = Application(
        broker_address=given.kafka,
        consumer_group=f"{given.out_prefix}quix",
        auto_offset_reset="earliest",
        commit_interval=SNAPSHOT_S,
        state_dir=given.folder / "state",
        producer_extra_config={"linger.ms": 20},
    )
    bars = app.topic(given.bars_topic, value_deserializer="bytes", key_deserializer="str")
    out = {
        name: app.topic(name, value_serializer="bytes", key_serializer="str")
        for name in (work.rows_topic, work.signals_topic)
    }
    records = app.dataframe(bars).apply(step, stateful=True)
    records.apply(lambda made: [r.payload for r in made if r.topic == work.rows_topic], expand=True).to_topic(
        out[work.rows_topic]
    )
    records.apply(lambda made: [r.payload for r in made if r.topic == work.signals_topic], expand=True).to_topic(
        out[work.signals_topic]
    )
    app.run()


if __name__ == "__main__":
    main()
