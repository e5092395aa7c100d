"""Tracks each signal over later bars to its outcome.

    bars, signals, splits (Kafka) -> frames by symbol group -> each open signal tracked in keyed state
      -> outcomes (Kafka) and Redis

Run it on a local mini cluster with ``signals run-outcomes`` (or ``python -m jobs.outcomes``), or submit it:
``flink run -py jobs/outcomes.py -pyfs dist/signal_pipeline-*.whl --kafka HOST:PORT --redis redis://HOST:PORT/0``.

Guarantee: every signal gets one outcome, the same in whatever order signals and bars arrive; a bar that comes late or
revised corrects it by a higher ``revision``. At-least-once: a consumer drops repeats by ``signal_id``, ``revision``
and ``updated_ms``. Exactly-once by ``--exactly-once``.
"""

from __future__ import annotations

import sys

from connectors.kafka.tables import frames_query, publish_query
from connectors.kafka.topics import ensure_topics, require_broker
from connectors.redis.client import require_redis
from connectors.settings.outcomes_job import OutcomeSettings, parse_outcome_settings
from udfs.operators.environment import Environment, environment_soon
from udfs.operators.jvm_encoding import jvm_encoding
from udfs.operators.outcomes import FollowSignals


def build(environment: Environment, settings: OutcomeSettings) -> None:
    """Wire the job."""
    t_env = environment.table
    environment.create_frame_tables(
        settings, settings.source_topics, settings.output_topics(), lateness_ms=settings.lateness_ms
    )

    # (symbol_group, messages, positions): raw JSON of bars, signals and statuses, joined in the JVM
    environment.begin_query("frames")
    frames = t_env.to_data_stream(t_env.sql_query(frames_query(settings.groups, settings.frame_length, topics=True)))

    # (topic, event_ms, payloads): outcomes as outgoing messages; keyed state has open signals and recent bars
    follow = FollowSignals(settings)
    records = (
        frames.key_by(lambda frame: frame[0])
        .process(follow, follow.output_type)
        .uid("outcomes")
        .name("follow signals, and write Redis")
    )
    t_env.create_temporary_view("outgoing", t_env.from_data_stream(records))
    environment.insert("outbox", publish_query("outgoing", jvm_encoding(settings.execution_mode).sql_payload))


def check(settings: OutcomeSettings) -> None:
    """Refuse to start with an unusable broker or Redis, naming it."""
    require_broker(settings.kafka)
    if settings.redis:
        require_redis(settings.redis)
    ensure_topics(settings.kafka, [*settings.source_topics, *settings.output_topics()])


def main(arguments: list[str] | None = None) -> None:
    """Check, build and, on a local mini cluster, wait for the end."""
    settings = parse_outcome_settings(sys.argv[1:] if arguments is None else arguments)
    soon = environment_soon(settings, "outcomes")
    try:
        check(settings)
    except ConnectionError as error:
        raise SystemExit(f"signals: {error}") from None
    environment = soon.result()
    build(environment, settings)
    environment.run()


if __name__ == "__main__":
    main()
