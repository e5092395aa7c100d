"""Deliveries over a receiver in this process, with a clock that moves when the dispatcher waits."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from models.messages import Outcome, Signal
from relay.push.dispatcher import CATCH_UP_MS, LINE_MAX, Dispatcher
from relay.state import Event
from relay.users import UserStore
from tests.support.push import Clock, MemoryJournal, Receiver, dispatching, receiving

Make = Callable[..., Any]


def event(signal: Signal, number: str = "1700000000000-0") -> Event:
    return Event(number=number, kind="signal", symbol=signal.symbol, signal_id=signal.signal_id, signal=signal)


async def add_webhook(dispatcher: Dispatcher, store: UserStore, receiver: Receiver, name: str = "ann") -> str:
    """A webhook of the user; its target's id."""
    target = store.add_push_target(name, "webhook", {"url": receiver.url + "/hook", "secret": "s"})
    await dispatcher.renew()
    return target.target_id


def test_a_note_is_delivered_once_and_counted(make_signal: Make) -> None:
    async def run() -> None:
        async with receiving() as receiver, dispatching(MemoryJournal(), Clock()) as (dispatcher, store):
            await add_webhook(dispatcher, store, receiver)
            dispatcher.notify(event(make_signal()))
            assert (await receiver.json())["data"]["signal_id"] == "s1"
            await dispatcher.drained()
            assert dispatcher.counts == {"delivered": 1, "retried": 0, "dead": 0, "collapsed": 0}
            assert receiver.received.empty()

    asyncio.run(run())


def test_retries_double_their_pause_and_keep_the_delivery_id(make_signal: Make) -> None:
    async def run() -> None:
        clock, journal = Clock(), MemoryJournal()
        async with receiving() as receiver, dispatching(journal, clock, push_backoff_s=2.0) as (dispatcher, store):
            await add_webhook(dispatcher, store, receiver)
            receiver.answers = [(500, {}, b"")] * 3
            dispatcher.notify(event(make_signal()))
            await dispatcher.drained()
            requests = [receiver.received.get_nowait() for _ in range(3)]
            assert len({headers["signals-delivery"] for _, headers, _ in requests}) == 1
            first, second = clock.slept
            assert 1.6 <= first <= 2.4
            assert 3.2 <= second <= 4.8
            letter = (await dispatcher.dead_letters("ann"))[0]
            assert (letter["attempts"], letter["reason"]) == ("3", "the receiver answered 500")
            assert json.loads(letter["message"])["data"]["signal_id"] == "s1"
            assert dispatcher.counts == {"delivered": 0, "retried": 2, "dead": 1, "collapsed": 0}

    asyncio.run(run())


def test_the_pause_is_the_one_that_the_receiver_names(make_signal: Make) -> None:
    async def run() -> None:
        clock = Clock()
        async with receiving() as receiver, dispatching(MemoryJournal(), clock) as (dispatcher, store):
            await add_webhook(dispatcher, store, receiver)
            receiver.answers = [(503, {"Retry-After": "7"}, b"")]
            dispatcher.notify(event(make_signal()))
            await dispatcher.drained()
            assert clock.slept == [7.0]
            assert dispatcher.counts["delivered"] == 1

    asyncio.run(run())


def test_a_refusal_is_not_tried_again_and_a_target_that_is_gone_is_forgotten(make_signal: Make) -> None:
    async def run() -> None:
        clock, journal = Clock(), MemoryJournal()
        async with receiving() as receiver, dispatching(journal, clock) as (dispatcher, store):
            await add_webhook(dispatcher, store, receiver)
            receiver.answers = [(400, {}, b""), (410, {}, b"")]
            dispatcher.notify(event(make_signal()))
            await dispatcher.drained()
            assert [target.channel for target in store.push_targets("ann")] == ["webhook"]
            dispatcher.notify(event(make_signal("s2", created_ms=1), "1700000000001-0"))
            await dispatcher.drained()
            assert store.push_targets("ann") == []
            assert [letter["attempts"] for letter in journal.letters] == ["1", "1"]
            assert clock.slept == []

    asyncio.run(run())


def test_a_receiver_that_is_down_and_a_channel_that_is_gone_make_dead_letters(make_signal: Make) -> None:
    async def run() -> None:
        journal = MemoryJournal()
        async with receiving() as receiver, dispatching(journal, Clock()) as (dispatcher, store):
            store.add_push_target("ann", "pigeon", {"loft": 7})
            await add_webhook(dispatcher, store, receiver)
            async with receiving() as away:  # an address that nobody listens at when the block is left
                pass
            store.add_push_target("ann", "webhook", {"url": away.url, "secret": "s"})
            await dispatcher.renew()
            dispatcher.notify(event(make_signal()))
            await dispatcher.drained()
            assert sorted((letter["reason"], letter["attempts"]) for letter in journal.letters) == [
                ("no answer: ConnectError", "3"), ("this relay has no channel 'pigeon' any more", "1"),
            ]  # fmt: skip
            assert dispatcher.counts["delivered"] == 1

    asyncio.run(run())


def test_a_revision_takes_the_place_of_the_note_that_is_being_retried(make_signal: Make) -> None:
    async def run() -> None:
        async with receiving() as receiver, dispatching(MemoryJournal(), Clock()) as (dispatcher, store):
            await add_webhook(dispatcher, store, receiver)
            receiver.answers = [(500, {}, b"")]
            dispatcher.notify(event(make_signal("s1-0")))
            assert (await receiver.json())["data"]["signal_id"] == "s1-0"
            dispatcher.notify(event(make_signal("s1-1", revision=1), "1700000000001-0"))
            await dispatcher.drained()
            assert (await receiver.json())["data"]["signal_id"] == "s1-1"
            assert receiver.received.empty()
            assert (dispatcher.counts["collapsed"], dispatcher.counts["delivered"]) == (1, 1)

    asyncio.run(run())


def test_the_oldest_of_too_many_waiting_notes_is_a_dead_letter(make_signal: Make) -> None:
    async def run() -> None:
        journal = MemoryJournal()
        async with receiving() as receiver, dispatching(journal, Clock()) as (dispatcher, store):
            await add_webhook(dispatcher, store, receiver)
            for n in range(LINE_MAX + 1):
                dispatcher.notify(event(make_signal(f"s{n}", created_ms=n), f"17000000000{n:02}-0"))
            await dispatcher.drained()
            assert [(letter["reason"], letter["attempts"]) for letter in journal.letters] == [
                ("too many notes were waiting", "0")
            ]
            assert dispatcher.counts["delivered"] == LINE_MAX

    asyncio.run(run())


def test_watchlist_preferences_and_tier_decide(make_signal: Make, make_outcome: Make) -> None:
    async def run() -> None:
        async with receiving() as receiver, dispatching(MemoryJournal(), Clock()) as (dispatcher, store):
            store.set_watchlist("ann", ["AAPL"])
            store.set_push_preferences("ann", '{"new_signal": "off", "stop_hit": "on"}')
            store.add("free", tier="free")
            await add_webhook(dispatcher, store, receiver)
            await add_webhook(dispatcher, store, receiver, "free")
            dispatcher.notify(event(make_signal()))
            await dispatcher.drained()
            assert (await receiver.json())["type"] == "signal_summary"  # the free user's; ann has it off
            for symbol in ("MSFT", "AAPL"):
                ended: Outcome = make_outcome("s1", "hit_stop", -5.0, symbol=symbol)
                dispatcher.notify(
                    Event(
                        number="1700000000002-0", kind="update", symbol=symbol, signal_id="s1", outcome=ended,
                        withdrawn="hit_stop",
                    )
                )  # fmt: skip
            await dispatcher.drained()
            messages = [json.loads(receiver.received.get_nowait()[2]) for _ in range(receiver.received.qsize())]
            assert [(one["type"], one["symbol"]) for one in messages if one["type"] == "signal_update"] == [
                ("signal_update", "AAPL")
            ]

    asyncio.run(run())


def test_of_two_relays_one_sends_an_event_and_a_restart_sends_what_was_missed(make_signal: Make) -> None:
    async def run() -> None:
        journal, clock = MemoryJournal(), Clock()
        at = int(clock.now() * 1_000)
        async with receiving() as receiver, dispatching(journal, clock) as (one, store):
            await add_webhook(one, store, receiver)
            async with dispatching(journal, clock, store) as (other, _):
                await other.renew()
                for dispatcher in (one, other):
                    await dispatcher.start([])
                    dispatcher.on_event(event(make_signal("s1"), f"{at}-0"))
                assert (await receiver.json())["data"]["signal_id"] == "s1"
                await one.drained()
                await other.drained()
                assert one.counts["delivered"] + other.counts["delivered"] == 1
                missed = [
                    event(make_signal("old", created_ms=1), f"{at - CATCH_UP_MS - 1}-0"),
                    event(make_signal("s2", created_ms=2), f"{at + 1}-0"),
                ]
                async with dispatching(journal, clock, store) as (restarted, _):
                    await restarted.start(missed)
                    assert (await receiver.json())["data"]["signal_id"] == "s2"
                    await restarted.drained()
                    assert receiver.received.empty()

    asyncio.run(run())
