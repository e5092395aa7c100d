"""Dead letters listed and requeued, on a real broker, by the command a person types."""

import json
import time

import pytest
from confluent_kafka import Consumer, Producer
from typer.testing import CliRunner

from cli.local.servers import Broker
from cli.main import app
from connectors.kafka.partitioner import kafka_producer
from connectors.kafka.publisher import Publisher
from connectors.kafka.security import kafka_client
from models.dead_letters import dead_letter

pytestmark = pytest.mark.integration
BARS = "dl-bars"


def records(broker: Broker, topic: str) -> list[tuple[bytes | None, bytes, int]]:
    """Key, value and timestamp of everything on a topic."""
    consumer = Consumer(kafka_client(broker.bootstrap, group_id=f"test-{time.time_ns()}", auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    found, quiet = [], time.monotonic() + 6
    while time.monotonic() < quiet:
        record = consumer.poll(0.2)
        if record is not None and record.error() is None:
            found.append((record.key(), record.value(), record.timestamp()[1]))
            quiet = time.monotonic() + 1
    consumer.close()
    return found


def run(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["dead-letter", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture(scope="module")
def broker():
    """A broker of this module's own: its dead-letter topic has a fixed name."""
    with Broker(partitions=2) as server:
        yield server


def test_messages_are_listed_fixed_and_requeued_once(broker: Broker) -> None:
    kafka = ("--kafka", broker.bootstrap)
    broker.create_topic(BARS, partitions=2)
    places: dict[bytes, tuple[int, int]] = {}
    producer = Producer(kafka_producer(broker.bootstrap))
    bodies = [b'{"symbol":"AAPL","close":-1.5}', b'{"symbol":"MSFT","close":-2}', b"\xff\xfe no text"]
    for body in bodies:
        producer.produce(
            BARS, body, b"KEY-" + body[:1], timestamp=1_000_000_000_000,
            on_delivery=lambda _, record: places.update({record.value(): (record.partition(), record.offset())}),
        )  # fmt: skip
    assert producer.flush(20) == 0
    publisher = Publisher(broker.bootstrap)
    reasons = ["close -1.5 is not above 0", "close -2 is not above 0", "not UTF-8"]
    for body, reason in zip(bodies, reasons, strict=True):
        partition, offset = places[body]
        publisher.dead(dead_letter(body, reason, BARS, "close" if b"close" in body else "", partition, offset), 1)
    publisher.dead(dead_letter(b"{}", "no symbol", "venue:alpaca", "S"), 1)
    publisher.flush()

    text = run("list", *kafka)
    assert "close # is not above #" in text
    assert "4 of 4 dead letters" in text
    assert "venue:alpaca" in text
    listed = [json.loads(line) for line in run("list", *kafka, "--field", "close", "--json").splitlines()]
    assert [line["payload"] for line in listed] == [body.decode() for body in bodies[:2]]

    refused = run("requeue", *kafka, status=2)
    assert "choose which" in refused
    aapl = listed[0]["place"]
    dry = run("requeue", *kafka, "--at", aapl, "--set", "close=101.5", "--dry-run")
    assert '"close":101.5' in dry
    assert len(records(broker, BARS)) == 3, "a dry run sent something"

    assert "1 requeued, 0 left" in run("requeue", *kafka, "--at", aapl, "--set", "close=101.5")
    assert "2 requeued, 2 left" in run("requeue", *kafka, "--all")
    now = records(broker, BARS)
    wanted = [(b"KEY-" + body[:1], body, 1_000_000_000_000) for body in (*bodies, *bodies[1:])]
    wanted.append((b"KEY-{", b'{"symbol":"AAPL","close":101.5}', 1_000_000_000_000))
    assert sorted(now) == sorted(wanted), "each with the key and event time of its original"

    # the job refuses two of them again: their new dead letters are known, and nothing goes round
    for body in (bodies[1], b'{"symbol":"AAPL","close":101.5}'):
        publisher.dead(dead_letter(body, "still not right", BARS, "close", 0, 99), 2)
    publisher.flush()
    text = run("requeue", *kafka, "--reason", "still", status=1)
    assert "0 requeued, 2 left" in text
    assert len(records(broker, BARS)) == 6
    # the original of these two is not kept any more: the key is the message's own symbol
    assert "2 requeued, 0 left" in run("requeue", *kafka, "--reason", "still", "--again")
    assert {key for key, *_ in records(broker, BARS)} == {b"KEY-{", b"KEY-\xff", b"AAPL", b"MSFT"}


def test_a_broker_that_is_away_is_named() -> None:
    assert "no Kafka broker answers at 127.0.0.1:1" in run("list", "--kafka", "127.0.0.1:1", status=2)
