"""Fan-out to clients whose sockets are lists: who is sent what, and what becomes of those who do not read."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from models.messages import encode
from relay.hub import Hub
from relay.protocol import CommandError
from relay.state import Event
from tests.support.relay import joined, make_hub

Make = Callable[..., Any]


def publish(hub: Hub, number: int, message: Any, kind: str = "signal") -> Event:
    """Fold one stream entry into the hub's state and send it."""
    event = hub.state.apply(f"{number}-0", message.signal_id, kind, encode(message))
    assert event is not None
    hub.publish(event)
    return event


def test_each_tier_is_sent_its_own_message_and_none_another_symbol(make_signal: Make) -> None:
    hub = make_hub()
    pipes = {tier: joined(hub, tier)[1] for tier in ("free", "premium", "dynamic")}
    _, other = joined(hub, "dynamic", "moderate", "MSFT")
    publish(hub, 1, make_signal())
    sent = {tier: [message["type"] for message in pipe.messages()] for tier, pipe in pipes.items()}
    assert sent == {"free": ["signal_summary"], "premium": ["trading_signal"], "dynamic": ["dynamic_signal"]}
    assert other.messages() == []


def test_a_client_that_follows_a_symbol_and_a_signal_is_sent_an_event_once(make_signal: Make) -> None:
    hub = make_hub()
    client, pipe = joined(hub, "premium", "moderate", "aapl")
    hub.follow(client, [], ["s1"], True)
    publish(hub, 1, make_signal())
    assert len(pipe.messages()) == 1
    hub.unfollow(client, ["AAPL"], ["s1"], True)
    publish(hub, 2, make_signal("s2", created_ms=5))
    assert pipe.messages() == []
    hub.leave(client)
    assert hub.clients == set()


def test_too_many_subscriptions_are_refused_by_number() -> None:
    hub = make_hub(subscriptions_max=2)
    client, _ = joined(hub, "free", "moderate", "A")
    with pytest.raises(CommandError, match="more than 2 subscriptions"):
        hub.follow(client, ["B"], ["s1"], False)
    assert client.symbols == {"A"}


def test_prices_go_to_dynamic_followers_of_the_symbol() -> None:
    hub = make_hub()
    pipes = [joined(hub, tier, "moderate", "AAPL")[1] for tier in ("free", "premium", "dynamic")]
    hub.publish_price("AAPL", 101.5, 7)
    assert [[message["type"] for message in pipe.messages()] for pipe in pipes] == [[], [], ["price"]]


def test_what_waits_for_a_slow_client_is_conflated_and_kept_in_order(make_signal: Make, make_outcome: Make) -> None:
    async def run() -> None:
        hub = make_hub(socket_bytes_max=1)
        _, pipe = joined(hub, "dynamic")
        pipe.taking = False
        publish(hub, 1, make_signal())  # written, and held back by the socket: what follows is queued
        publish(hub, 2, make_outcome("s1", "active", 1.0), "outcome")
        publish(hub, 3, make_signal("s2", created_ms=9))
        publish(hub, 4, make_outcome("s1", "active", 2.0, updated_ms=10**13), "outcome")
        pipe.taking = True
        pipe.take()
        hub.drain()
        assert [message["number"] for message in pipe.messages()] == ["1-0", "3-0", "4-0"]
        assert (hub.conflated, hub.delivered, hub.dropped_slow) == (1, 3, 0)

    asyncio.run(run())


def test_a_client_whose_queue_is_full_or_does_not_move_is_closed(make_signal: Make) -> None:
    async def run() -> None:
        hub = make_hub(socket_bytes_max=1, queue_messages_max=2, stalled_s_max=10.0)
        (_, full), (_, stuck) = joined(hub, "premium"), joined(hub, "premium", "moderate", "MSFT")
        full.taking = stuck.taking = False
        for number in range(1, 5):
            publish(hub, number, make_signal(f"s{number}", created_ms=number))
        assert full.closed is not None
        assert full.closed[0] == 4413
        for number in range(5, 7):
            publish(hub, number, make_signal(f"m{number}", "MSFT", created_ms=number))
        client = next(client for client in hub.clients if client.socket is stuck)
        hub.drain(now=client.moved_at + 9.0)
        assert stuck.closed is None
        hub.drain(now=client.moved_at + 11.0)
        assert stuck.closed is not None
        assert (hub.dropped_slow, hub.clients) == (2, set())

    asyncio.run(run())


def test_a_client_resumes_from_its_number_until_that_is_forgotten(make_signal: Make) -> None:
    async def run() -> None:
        hub = make_hub(log_events_max=3)
        for number in range(1, 6):
            publish(hub, number, make_signal(f"s{number}", created_ms=number))
        client, pipe = joined(hub, "premium")
        assert [hub.can_resume(f"{number}-0") for number in (1, 2, 5, 6)] == [False, True, True, False]
        assert await hub.catch_up(client, "3-0")
        assert [message["number"] for message in pipe.messages()] == ["4-0", "5-0"]
        assert not await hub.catch_up(client, "1-0")

    asyncio.run(run())


def test_a_changed_tier_is_welcomed_and_sees_everything_anew(make_signal: Make) -> None:
    hub = make_hub()
    client, pipe = joined(hub, "free")
    publish(hub, 1, make_signal())
    pipe.messages()
    hub.update_user(client, client.user.__class__(name="free user", tier="premium"))
    welcome, snapshot = pipe.messages()
    assert (welcome["type"], welcome["tier"], snapshot["type"], snapshot["reset"]) == (
        "welcome", "premium", "snapshot", True,
    )  # fmt: skip
    assert [signal["type"] for signal in snapshot["signals"]] == ["trading_signal"]


def test_the_snapshot_of_everything_is_renewed_when_something_happens(make_signal: Make) -> None:
    hub = make_hub()
    client, pipe = joined(hub, "premium")
    sizes = []
    for number in range(1, 4):
        hub.send_snapshot(client)
        hub.send_snapshot(client)
        sizes += [len(message["signals"]) for message in pipe.messages() if message["type"] == "snapshot"]
        publish(hub, number, make_signal(f"s{number}", created_ms=number))
    assert sizes == [0, 0, 1, 1, 2, 2]
