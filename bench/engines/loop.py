"""No engine: one process polls Kafka, processes a batch and produces. No state survives it: Python's upper bound."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer

from bench.engines.work import Work, arguments, decode_bars
from connectors.kafka.partitioner import kafka_producer

#: Bars per iteration.
BATCH = 2_000


def main() -> None:
    """Until every bar is out."""
    given = arguments(__doc__ or "")
    work = Work(given.out_prefix, given.policy)
    features, decisions = work.feature_states(), work.decision_states()
    consumer = Consumer(
        {"bootstrap.servers": given.kafka, "group.id": "loop", "auto.offset.reset": "earliest",
         "enable.auto.commit": False}
    )  # fmt: skip
    producer = Producer(
        kafka_producer(given.kafka) | {"linger.ms": 5, "batch.size": 1_000_000,
         "queue.buffering.max.messages": 1_000_000}
    )  # fmt: skip
    consumer.subscribe([given.bars_topic])
    done = 0
    while done < given.bars:
        payloads = [message.value() for message in consumer.consume(BATCH, 0.05) if message.error() is None]
        if not payloads:
            continue
        frame = work.features(features, decode_bars(payloads))
        for topic, key, _, payload in work.decide(decisions, frame, work.scores([frame])[0]):
            producer.produce(topic, payload, key)
        producer.poll(0)
        done += len(payloads)
    producer.flush()
    consumer.close()


if __name__ == "__main__":
    main()
