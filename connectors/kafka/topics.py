"""Administration of Kafka: whether a broker answers, and the topics that must be there."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka.security import kafka_client


def require_broker(bootstrap: str, timeout_s: float = 10) -> None:
    """Raise ConnectionError naming the address, and the broker's reason if any, unless a broker answers there."""
    errors: list[str] = []

    def note(error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            errors.append(error.str())

    admin = AdminClient(kafka_client(bootstrap, log_level=0, error_cb=note))
    try:
        admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        admin.poll(0)
        reason = errors[0] if errors else error.args[0].str()
        raise ConnectionError(
            f"no Kafka broker answers at {bootstrap} within {timeout_s:.0f} s ({reason}): start it, set --kafka / "
            "SIGNALS_KAFKA to its address, or fix SIGNALS_KAFKA_PROTOCOL and the related settings (docs/deployment.md)"
        ) from None


def ensure_topics(bootstrap: str, topics: list[str], partitions: int = -1) -> None:
    """Create the missing topics (with the broker's default partition count)."""
    admin = AdminClient(kafka_client(bootstrap, log_level=0))
    known = admin.list_topics(timeout=10).topics
    wanted = [NewTopic(name, partitions, -1) for name in topics if name not in known]
    for name, future in (admin.create_topics(wanted) if wanted else {}).items():
        try:
            future.result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ConnectionError(f"topic {name} could not be made at {bootstrap}: {error.args[0].str()}") from None
