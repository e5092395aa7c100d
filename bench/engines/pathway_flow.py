"""Pathway: JSON parsed by its Kafka reader, state in ``stateful_many`` reducers, models in a batched UDF, snapshots on.

By its documentation: ``stateful_many`` gets all new rows of a group at once and keeps whatever it returns;
``to_stream`` turns its changing table into messages; ``max_batch_size`` gives a UDF many rows per call;
``max_backlog_size`` bounds what a backlog puts into memory. Persistence is the default kind, which keeps the input and
processes it again after a failure: the faster one, of operators' state, requires a licence key.
"""

from __future__ import annotations

import pathway as pw

from bench.engines.work import SNAPSHOT_S, Work, arguments
from models.messages import Bar
from udfs.frames.codec import pack, unpack_features, unpack_scores
from udfs.frames.groups import group_of


class BarSchema(pw.Schema):
    """The fields of a bar that the work needs."""

    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


def main() -> None:
    """Run until it is stopped: a Kafka topic has no end for Pathway."""
    given = arguments(__doc__ or "")
    work = Work(given.out_prefix, given.policy)

    @pw.reducers.stateful_many
    def features(state: tuple[bytes, str] | None, rows: list) -> tuple[bytes, str]:
        states = work.feature_states()
        if state is not None:
            states.load(state[0])
        bars = [
            Bar(
                symbol=symbol, timeframe=timeframe, start_ms=start, end_ms=end, open=o, high=h, low=low, close=c,
                volume=v,
            )
            for (symbol, timeframe, start, end, o, h, low, c, v), _ in rows
        ]  # fmt: skip
        bars.sort(key=lambda bar: bar.end_ms)  # a batch is unordered
        frame = work.features(states, bars)
        return states.dump(), pack(frame)

    @pw.udf(max_batch_size=1_000, deterministic=True)
    def score(frames: list[bytes]) -> list[bytes]:
        return [pack(found) for found in work.scores([unpack_features(frame) for frame in frames])]

    @pw.reducers.stateful_many
    def decisions(state: tuple[bytes, list] | None, rows: list) -> tuple:
        states = work.decision_states()
        if state is not None:
            states.load(state[0])
        made = [
            tuple(record)
            for (frame, scores), count in rows
            if count > 0
            for record in work.decide(states, unpack_features(frame), unpack_scores(scores))
        ]
        return states.dump(), tuple(made)

    @pw.udf(deterministic=True)
    def key_of(symbol: str) -> str:
        return symbol if not given.groups else str(group_of(symbol, given.groups))

    settings = {"bootstrap.servers": given.kafka, "group.id": f"{given.out_prefix}pathway"}
    settings |= {"auto.offset.reset": "earliest"}
    bars = pw.io.kafka.read(
        settings, given.bars_topic, schema=BarSchema, format="json", autocommit_duration_ms=100, name="bars",
        max_backlog_size=4_000,
    )  # fmt: skip
    bars = bars.with_columns(key=key_of(bars.symbol))
    featured = bars.groupby(pw.this.key).reduce(
        pw.this.key,
        made=features(
            pw.this.symbol, pw.this.timeframe, pw.this.start_ms, pw.this.end_ms, pw.this.open, pw.this.high,
            pw.this.low, pw.this.close, pw.this.volume,
        ),
    )  # fmt: skip
    frames = featured.select(pw.this.key, frame=pw.this.made[1]).to_stream()
    frames = frames.filter(pw.this.is_upsert).select(pw.this.key, frame=pw.declare_type(bytes, pw.this.frame))
    scored = frames.select(pw.this.key, pw.this.frame, scores=score(pw.this.frame))
    decided = scored.groupby(pw.this.key).reduce(pw.this.key, made=decisions(pw.this.frame, pw.this.scores))
    records = decided.select(records=pw.this.made[1]).to_stream()
    records = records.filter(pw.this.is_upsert).flatten(pw.this.records)
    records = records.select(
        topic=pw.declare_type(str, pw.this.records[0]),
        key=pw.declare_type(str, pw.this.records[1]),
        payload=pw.declare_type(bytes, pw.this.records[3]),
    )
    pw.io.kafka.write(records, settings, records.topic, format="raw", key=records.key, value=records.payload)
    backend = pw.persistence.Backend.filesystem(given.folder / "persistence")
    pw.run(
        monitoring_level=pw.MonitoringLevel.NONE,
        persistence_config=pw.persistence.Config(
            backend,
            snapshot_interval_ms=SNAPSHOT_S * 1_000,
            persistence_mode=pw.PersistenceMode.PERSISTING,
        ),
    )


if __name__ == "__main__":
    main()
