"""Bars in, trading signals out: the main job.

    bars (Kafka) -> frames by symbol group -> features in keyed state -> ensemble (pandas UDF)
      -> decisions in keyed state -> signals, feature rows, dead letters (Kafka) and Redis
    bundle changes (Kafka) -> broadcast to the features, which name the bundle that scores each bar

Run it on a local mini cluster with ``signals run`` (or ``python -m jobs.signals``), or submit it:
``flink run -py jobs/signals.py -pyfs dist/signal_pipeline-*.whl --kafka HOST:PORT --redis redis://HOST:PORT/0``.

Guarantee: each message of the bars topic becomes one row on ``features`` or one record on ``dead-letter``, in order of
arrival within a symbol; at-least-once with deterministic ids, or exactly-once by ``--exactly-once``.
"""

from __future__ import annotations

import sys

from pyflink.table.expressions import call, col

from connectors.kafka import bundle_changes
from connectors.kafka.read import partition_count
from connectors.kafka.tables import changes_source, frames_query, publish_query
from connectors.kafka.topics import ensure_topics, require_broker
from connectors.redis.client import require_redis
from connectors.settings.signals_job import JobSettings, parse_settings
from models.serving.bundle import BundleError, bundle_folder, load_bundle
from models.signals.emission import PolicyConfig, load_policy
from udfs.kernel.catalogue import FeatureConfig, feature_set
from udfs.kernel.compiler import Kernel
from udfs.operators.environment import Environment, environment_soon
from udfs.operators.features import CHANGES, FrameFeatures
from udfs.operators.jvm_encoding import jvm_encoding
from udfs.operators.score import score_function
from udfs.operators.signals import FrameSignals
from udfs.steps.decide_frames import require_features


def build(environment: Environment, settings: JobSettings) -> None:
    """Wire the job."""
    t_env = environment.table
    config = features_of(settings)
    kernel = Kernel(config)
    environment.create_frame_tables(settings, settings.source_topics, settings.output_topics())
    t_env.execute_sql(
        changes_source(settings.kafka, settings.rollout_topic, bounded=settings.replay, group=settings.group_id)
    )
    t_env.create_temporary_function(
        "score", score_function(settings.bundle, kernel.feature_set, settings.execution_mode)
    )

    # (symbol_group, messages, positions): raw JSON of many bars, joined in the JVM
    environment.begin_query("frames")
    frames = t_env.to_data_stream(t_env.sql_query(frames_query(settings.groups, settings.frame_length, topics=True)))

    # (message, partition, offset): promoted and shadow bundles, the same for every instance
    environment.begin_query("changes")
    changes = t_env.to_data_stream(t_env.from_path("changes")).broadcast(CHANGES)

    # (symbol_group, frame): one matrix of features per frame; keyed state has each symbol's history
    announced = bundle_changes.records(settings.kafka, settings.rollout_topic)
    features = FrameFeatures(config, settings, announced, partition_count(settings.kafka, settings.bars_topic))
    featured = (
        frames.key_by(lambda frame: frame[0])
        .connect(changes)
        .process(features, features.output_type)
        .uid("features")
        .name("features in keyed state")
        .rescale()  # its own thread: two interpreters in one thread deadlock in compiled code, docs/adr/0001
    )

    # (symbol_group, frame, scores): each model called once for a batch of frames
    environment.begin_query("scores")
    feature_frames = t_env.from_data_stream(featured)
    scored = feature_frames.select(
        col("symbol_group"), col("frame"), call("score", col("frame")).alias("scores")
    )  # fmt: skip

    # (topic, event_ms, payloads): decisions as outgoing messages; keyed state has each symbol's last decision
    signals = FrameSignals(kernel.feature_set, settings, policy_of(settings))
    records = (
        t_env.to_data_stream(scored)
        .key_by(lambda frame: frame[0])
        .process(signals, signals.output_type)
        .uid("signals")
        .name("decide, and write Redis")
    )
    t_env.create_temporary_view("outgoing", t_env.from_data_stream(records))
    environment.insert("outbox", publish_query("outgoing", jvm_encoding(settings.execution_mode).sql_payload))


def features_of(settings: JobSettings) -> FeatureConfig:
    """What to compute: the file's families and parameters, or the whole catalogue."""
    return FeatureConfig.from_json(settings.feature_config.read_text()) if settings.feature_config else FeatureConfig()


def policy_of(settings: JobSettings) -> PolicyConfig:
    """When to emit: the file's rules, or the defaults."""
    return load_policy(settings.policy) if settings.policy else PolicyConfig()


def check(settings: JobSettings) -> None:
    """Refuse to start with an unusable broker, Redis or bundle, naming it."""
    require_broker(settings.kafka)
    if settings.redis:
        require_redis(settings.redis)
    policy_of(settings)
    job = feature_set(features_of(settings))
    require_features(job.names)
    load_bundle(bundle_folder(settings.bundle)).check_features(job)
    ensure_topics(settings.kafka, [*settings.source_topics, *settings.output_topics()])
    bundle_changes.ensure_topic(settings.kafka, settings.rollout_topic)


def main(arguments: list[str] | None = None) -> None:
    """Check, build and, on a local mini cluster, wait for the end."""
    settings = parse_settings(sys.argv[1:] if arguments is None else arguments)
    soon = environment_soon(settings)
    try:
        check(settings)
    except (ConnectionError, BundleError, ValueError, OSError) as error:
        raise SystemExit(f"signals: {error}") from None
    environment = soon.result()
    build(environment, settings)
    environment.run()


if __name__ == "__main__":
    main()
