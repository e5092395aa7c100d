"""Sends notes to targets: one queue per target, retried with backoff, dead-lettered after the last attempt.

In a queue a newer note replaces an older one of the same signal that has not been delivered yet. Of several
relays one sends each event (it is claimed in Redis), and a relay that was down for less than :data:`CATCH_UP_MS`
sends what it missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool

from relay import protocol
from relay.hub import Hub, variant_of
from relay.push import channels
from relay.push.channels.base import Context
from relay.push.delivery import TIMEOUT_S, AddressError, Attempt
from relay.push.journal import Journal
from relay.push.note import Note, collapse_key, words
from relay.push.preferences import Preferences, kind_of
from relay.settings import RelaySettings
from relay.state import Event
from relay.users import PushTarget, User, UserStore

log = logging.getLogger("relay.push")

#: A relay that was down for longer than this does not send what it missed.
CATCH_UP_MS = 600_000
#: Notes waiting for one target; the oldest is dead-lettered.
LINE_MAX = 100
_RECEIPTS_MAX = 1_000


class Line:
    """The queue of one target."""

    def __init__(self, target: PushTarget) -> None:
        self.target = target
        self.waiting: OrderedDict[str, Note] = OrderedDict()
        self.receipts: OrderedDict[str, str] = OrderedDict()
        self.task: asyncio.Task[None] | None = None


class Dispatcher:
    """Turns events into notes and delivers them over the channels of ``relay/push/channels``.

    ``sleep`` waits the seconds between two attempts, ``now`` gives the wall clock in seconds.
    """

    def __init__(
        self,
        settings: RelaySettings,
        store: UserStore,
        hub: Hub,
        journal: Journal,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._store, self._hub, self._journal = settings, store, hub, journal
        self._sleep, self._now = sleep, now
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
        #: The channels by name.
        self.channels = channels.open_all(Context(self._client, store.secret, settings.push_private_addresses))
        self._lines: dict[str, Line] = {}
        self._users: dict[str, User] = {}
        self._targets: dict[str, list[PushTarget]] = {}
        self._preferences: dict[str, Preferences] = {}
        self._events: asyncio.Queue[Event] = asyncio.Queue(10_000)
        self._tasks: list[asyncio.Task[None]] = []
        self.counts = {"delivered": 0, "retried": 0, "dead": 0, "collapsed": 0}

    async def start(self, missed: list[Event]) -> None:
        """Start; ``missed`` are recent events that may not have been sent."""
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log addresses with their tokens
        await self.renew()
        with contextlib.suppress(RedisError):
            reached = await self._journal.reached()
            since = int(reached.split("-")[0]) if reached else None
            oldest = self._now() * 1_000 - CATCH_UP_MS
            for event in missed:
                at = int(event.number.split("-")[0])
                if since is not None and at >= max(since, oldest):
                    self.on_event(event)
        self._tasks = [asyncio.create_task(self._work(), name="push"), asyncio.create_task(self._renewing())]

    async def stop(self) -> None:
        """End all queues; waiting notes are lost, as after a crash."""
        tasks = [*self._tasks, *(line.task for line in self._lines.values() if line.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def renew(self) -> None:
        """Read users, targets and preferences again (they are few; every ten seconds and on a change)."""
        users, targets, kept = await run_in_threadpool(
            lambda: (self._store.all(), self._store.push_targets(), self._store.push_preferences())
        )
        self._users = {user.name: user for user in users if user.active}
        by_user: dict[str, list[PushTarget]] = {}
        for target in targets:
            by_user.setdefault(target.name, []).append(target)
        self._targets = by_user
        self._preferences = {}
        for name, text in kept.items():
            with contextlib.suppress(msgspec.DecodeError, ValueError):
                self._preferences[name] = msgspec.json.decode(text, type=Preferences)
        alive = {target.target_id for target in targets}
        for target_id in [t for t in self._lines if t not in alive]:
            line = self._lines.pop(target_id)
            if line.task is not None:
                line.task.cancel()

    async def drained(self) -> None:
        """Return when no note waits for delivery."""
        while tasks := [line.task for line in self._lines.values() if line.task is not None and not line.task.done()]:
            await asyncio.gather(*tasks, return_exceptions=True)

    def preferences(self, name: str) -> Preferences:
        """A user's preferences."""
        return self._preferences.get(name, Preferences())

    def on_event(self, event: Event) -> None:
        """Take an event from the follower; never waits."""
        if self._targets and kind_of(event) is not None:
            with contextlib.suppress(asyncio.QueueFull):
                self._events.put_nowait(event)

    async def test(self, name: str) -> int:
        """Send a test note to all of a user's targets; how many there are."""
        targets = self._targets.get(name, [])
        for target in targets:
            note_id = f"test-{time.time_ns()}"
            message = {"type": "test", "timestamp_ms": int(self._now() * 1e3)}
            self._queue(target, Note(note_id=note_id, collapse=note_id, title="Signals", body="This is a test.",
                                     silent=False, message=message))  # fmt: skip
        return len(targets)

    async def dead_letters(self, name: str) -> list[dict[str, Any]]:
        """A user's undelivered notes, newest first."""
        return await self._journal.dead_letters(name)

    # From events to queues

    async def _renewing(self) -> None:
        while True:
            await asyncio.sleep(10)
            with contextlib.suppress(Exception):
                await self.renew()

    async def _work(self) -> None:
        while True:
            event = await self._events.get()
            try:
                claimed = await self._journal.claim(event.number)
            except (RedisError, OSError):
                claimed = True  # a duplicate is better than a loss
            if claimed:
                self.notify(event)

    def notify(self, event: Event) -> None:
        """Queue the event for every target whose user wants it."""
        kind = kind_of(event)
        if kind is None:
            return
        now = datetime.fromtimestamp(self._now(), UTC)
        for name, targets in self._targets.items():
            user = self._users.get(name)
            if user is None or (user.watchlist and event.symbol not in user.watchlist):
                continue
            loudness = self.preferences(name).loudness(kind, now)
            if loudness == "off":
                continue
            tier, profile = variant_of(user)
            message = protocol.project(event, tier, profile, self._hub.state, self._hub.image_url)
            if message is None or (kind != "new_signal" and isinstance(message, protocol.SignalSummary)):
                continue
            title, body = words(message)
            for target in targets:
                note = Note(
                    note_id=f"{event.number}-{target.target_id[:8]}", title=title, body=body,
                    collapse=collapse_key(event.signal, event.signal_id, event.symbol), silent=loudness == "silent",
                    message=msgspec.to_builtins(message),
                )  # fmt: skip
                self._queue(target, note)

    def _queue(self, target: PushTarget, note: Note) -> None:
        line = self._lines.setdefault(target.target_id, Line(target))
        if line.waiting.pop(note.collapse, None) is not None:
            self.counts["collapsed"] += 1
        line.waiting[note.collapse] = note
        if len(line.waiting) > LINE_MAX:
            _, oldest = line.waiting.popitem(last=False)
            asyncio.get_running_loop().create_task(self._bury(line, oldest, "too many notes were waiting", 0))
        if line.task is None or line.task.done():
            line.task = asyncio.get_running_loop().create_task(self._drain(line))

    # Delivery

    async def _drain(self, line: Line) -> None:
        while line.waiting:
            collapse = next(iter(line.waiting))
            note, attempts = line.waiting[collapse], 0
            while True:
                attempt = await self._attempt(line, note)
                attempts += 1
                current = line.waiting.get(collapse)
                if attempt.result == "retry" and attempts < self._settings.push_attempts_max:
                    self.counts["retried"] += 1
                    backoff = self._settings.push_backoff_s * 2 ** (attempts - 1) * random.uniform(0.8, 1.2)
                    await self._sleep(min(attempt.wait_s if attempt.wait_s is not None else backoff, 3_600))
                    current = line.waiting.get(collapse)
                    if current is not note and current is not None:
                        note, attempts = current, 0
                    continue
                break
            if attempt.result == "delivered":
                self.counts["delivered"] += 1
                if attempt.receipt:
                    line.receipts[collapse] = attempt.receipt
                    while len(line.receipts) > _RECEIPTS_MAX:
                        line.receipts.popitem(last=False)
            else:
                await self._bury(line, note, attempt.reason, attempts)
                if attempt.result == "gone":
                    await run_in_threadpool(self._store.remove_push_target, line.target.name, line.target.target_id)
                    await self.renew()
                    return
            if current is note:
                line.waiting.pop(collapse, None)

    async def _attempt(self, line: Line, note: Note) -> Attempt:
        target = line.target
        channel = self.channels.get(target.channel)
        if channel is None:
            return Attempt("refused", f"this relay has no channel {target.channel!r} any more")
        try:
            return await channel.deliver(target.address, note, line.receipts.get(note.collapse, ""))
        except AddressError as error:
            return Attempt("refused", str(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Attempt("retry", f"no answer: {type(error).__name__}")
        except Exception as error:  # one broken target must not end the others' queues
            log.error("a %s delivery failed: %s", target.channel, type(error).__name__)
            return Attempt("refused", f"could not be sent: {type(error).__name__}")

    async def _bury(self, line: Line, note: Note, reason: str, attempts: int) -> None:
        self.counts["dead"] += 1
        fields: dict[str, str | bytes] = {
            "user": line.target.name, "target": line.target.target_id, "channel": line.target.channel,
            "note": note.note_id, "title": note.title, "reason": reason, "attempts": str(attempts),
            "at_ms": str(int(self._now() * 1e3)), "message": msgspec.json.encode(note.message),
        }  # fmt: skip
        with contextlib.suppress(RedisError, OSError):
            await self._journal.bury(fields)
