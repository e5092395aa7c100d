"""``signals kill`` and ``signals resume``: the kill switch of the signals job."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("kill")(kill)
    app.command("resume")(resume)


_Kafka = Annotated[str, typer.Option(help="Kafka bootstrap address, host:port")]
_Symbol = Annotated[str, typer.Option(help="one symbol; * for all")]
_Groups = Annotated[int, typer.Option(min=1, help="symbol groups of the job (its --groups)")]
_At = Annotated[int | None, typer.Option(help="event time in epoch ms from which it applies; default: now")]
_Reason = Annotated[str, typer.Option(help="kept with the message")]
_Topic = Annotated[str, typer.Option(help="the job's --kill-switch-topic")]


def kill(
    kafka: _Kafka = "127.0.0.1:9092",
    symbol: _Symbol = "*",
    groups: _Groups = 8,
    effective_ms: _At = None,
    reason: _Reason = "",
    topic: _Topic = "risk-control",
) -> None:
    """Stop buy and sell signals, of one symbol or all, for bars that end after the effective time.

    Example: signals kill --kafka 127.0.0.1:9092 --reason "prices look wrong"
    """
    _send("kill", kafka, symbol, groups, effective_ms, reason, topic)


def resume(
    kafka: _Kafka = "127.0.0.1:9092",
    symbol: _Symbol = "*",
    groups: _Groups = 8,
    effective_ms: _At = None,
    reason: _Reason = "",
    topic: _Topic = "risk-control",
) -> None:
    """Allow signals again, for bars that end after the effective time.

    Example: signals resume --kafka 127.0.0.1:9092
    """
    _send("resume", kafka, symbol, groups, effective_ms, reason, topic)


def _send(kind: str, kafka: str, symbol: str, groups: int, effective_ms: int | None, reason: str, topic: str) -> None:
    import time

    from confluent_kafka import Producer

    from connectors.kafka.partitioner import kafka_producer
    from connectors.kafka.topics import ensure_topics, require_broker
    from models.messages import encode
    from models.signals.protections import KillSwitch
    from udfs.steps.halts import key_of_group

    at_ms = int(time.time() * 1000) if effective_ms is None else effective_ms
    message = KillSwitch(kind="kill" if kind == "kill" else "resume", effective_ms=at_ms, symbol=symbol, reason=reason)
    keys = [symbol] if symbol != "*" else [key_of_group(group, groups) for group in range(groups)]
    try:
        require_broker(kafka)
        ensure_topics(kafka, [topic])
    except ConnectionError as error:
        typer.echo(f"signals: {error}", err=True)
        raise typer.Exit(2) from None
    producer = Producer(kafka_producer(kafka))
    for key in keys:
        producer.produce(topic, encode(message), key, timestamp=max(at_ms, 0))
    if producer.flush(30):
        typer.echo(f"signals: {kafka} did not take the message within 30 s", err=True)
        raise typer.Exit(1)
    typer.echo(f"{kind} of {'all symbols' if symbol == '*' else symbol} from event time {at_ms} ms sent to {topic}")
