"""Fan-out: one event to every client that follows it, encoded once per tier and risk profile, never awaiting a client.

A client whose socket buffers more than ``socket_bytes_max`` gets a queue; in it a newer update of a signal (or
price of a symbol) replaces the older one. A queue that is full all the same, or does not drain, closes the
connection with code 4413; the client loses nothing, because it resumes from the last number it received.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable

from models.messages import Signal, Tier
from relay import protocol
from relay.protocol import ImageUrl, Message
from relay.settings import RelaySettings
from relay.state import Event, State, position
from relay.users import User
from relay.wire import Outlet, text_frame

#: Events sent to a resuming client between two checks of whether it reads them.
CATCH_UP_BATCH = 64

#: What a message is encoded for.
Variant = tuple[Tier, str]


class Client:
    """One connection: its user, its subscriptions and its queue."""

    __slots__ = (
        "address", "all", "expires_ms", "moved_at", "queue", "signals", "socket", "symbols", "user", "variant",
    )  # fmt: skip

    def __init__(self, socket: Outlet, user: User, address: str, expires_ms: int | None) -> None:
        self.socket, self.user, self.address, self.expires_ms = socket, user, address, expires_ms
        self.all = False
        self.symbols: set[str] = set()
        self.signals: set[str] = set()
        self.queue: OrderedDict[str, bytes] | None = None
        self.moved_at = 0.0
        self.variant: Variant = variant_of(user)

    def follows(self, symbol: str, signal_id: str) -> bool:
        """Whether the client wants this event."""
        return self.all or symbol in self.symbols or signal_id in self.signals


def variant_of(user: User) -> Variant:
    """What messages for this user are encoded for; a free user has no risk profile."""
    return user.tier, "" if user.tier == "free" else user.risk_profile


class Hub:
    """All clients of this relay and the events they may resume from."""

    def __init__(self, state: State, settings: RelaySettings, image_url: ImageUrl) -> None:
        self.state, self.settings, self.image_url = state, settings, image_url
        self.clients: set[Client] = set()
        self.pipeline_ok = True
        self.dropped_slow = 0
        self.conflated = 0
        self.delivered = 0
        self._everything: set[Client] = set()
        self._by_symbol: defaultdict[str, set[Client]] = defaultdict(set)
        self._by_signal: defaultdict[str, set[Client]] = defaultdict(set)
        self._queued: set[Client] = set()
        self._log: deque[Event] = deque(maxlen=settings.log_events_max)
        #: Every event after this position is in the log.
        self._kept_after = (0, 0)
        self._snapshots: dict[Variant, tuple[str, bytes]] = {}
        self._drain_timer: asyncio.TimerHandle | None = None

    # Clients and what they follow

    def join(self, client: Client) -> None:
        """Add the client; it follows nothing yet."""
        self.clients.add(client)

    def leave(self, client: Client) -> None:
        """Remove the client."""
        self.clients.discard(client)
        self._queued.discard(client)
        self._everything.discard(client)
        for symbol in client.symbols:
            self._forget(self._by_symbol, symbol, client)
        for signal_id in client.signals:
            self._forget(self._by_signal, signal_id, client)

    @staticmethod
    def _forget(index: defaultdict[str, set[Client]], key: str, client: Client) -> None:
        index[key].discard(client)
        if not index[key]:
            del index[key]

    def follow(self, client: Client, symbols: Iterable[str], signals: Iterable[str], everything: bool) -> None:
        """Follow more; raises CommandError beyond ``subscriptions_max``."""
        symbols = {symbol.upper() for symbol in symbols}
        signals = set(signals)
        if len(client.symbols | symbols) + len(client.signals | signals) > self.settings.subscriptions_max:
            raise protocol.CommandError(
                f'more than {self.settings.subscriptions_max} subscriptions; use {{"all": true}} instead'
            )
        for symbol in symbols:
            self._by_symbol[symbol].add(client)
        for signal_id in signals:
            self._by_signal[signal_id].add(client)
        client.symbols |= symbols
        client.signals |= signals
        if everything:
            client.all = True
            self._everything.add(client)

    def unfollow(self, client: Client, symbols: Iterable[str], signals: Iterable[str], everything: bool) -> None:
        """Follow less; ``everything`` ends the subscription to all and leaves those by name."""
        for symbol in {symbol.upper() for symbol in symbols} & client.symbols:
            client.symbols.discard(symbol)
            self._forget(self._by_symbol, symbol, client)
        for signal_id in set(signals) & client.signals:
            client.signals.discard(signal_id)
            self._forget(self._by_signal, signal_id, client)
        if everything:
            client.all = False
            self._everything.discard(client)

    def followers(self, symbol: str, signal_id: str) -> Iterable[Client]:
        """Every client that follows this symbol or signal, once."""
        by_symbol, by_signal = self._by_symbol.get(symbol), self._by_signal.get(signal_id)
        if not by_symbol and not by_signal:
            return list(self._everything)
        return self._everything | (by_symbol or set()) | (by_signal or set())

    def update_user(self, client: Client, user: User) -> None:
        """Apply a changed tier or risk profile: to later messages and, by a snapshot, to earlier ones."""
        before, client.user, client.variant = client.variant, user, variant_of(user)
        if client.variant != before:
            self.send(client, self.welcome(client, resumed=True))
            self.send_snapshot(client)

    # Events

    def remember(self, event: Event) -> None:
        """Keep an event from before this relay started, for clients that resume."""
        if len(self._log) == self._log.maxlen:
            self.forget_until(self._log[0].number)
        self._log.append(event)

    def forget_until(self, number: str) -> None:
        """Events up to this number are no longer kept."""
        self._kept_after = max(self._kept_after, position(number))

    def recent(self) -> list[Event]:
        """The events kept, oldest first."""
        return list(self._log)

    def publish(self, event: Event) -> None:
        """Send an event to everyone who follows it."""
        self.remember(event)
        frames: dict[Variant, bytes | None] = {}
        key = event.signal_id if event.kind == "update" and not event.withdrawn else event.number
        for client in self.followers(event.symbol, event.signal_id):
            variant = client.variant
            if variant not in frames:
                message = protocol.project(event, variant[0], variant[1], self.state, self.image_url)
                frames[variant] = None if message is None else text_frame(protocol.encode(message))
            frame = frames[variant]
            if frame is not None:
                self._deliver(client, frame, key)

    def publish_price(self, symbol: str, price: float, timestamp_ms: int) -> None:
        """Send a price to the dynamic users who follow the symbol."""
        message = protocol.Price(number=self.state.number, symbol=symbol, price=price, timestamp_ms=timestamp_ms)
        frame = text_frame(protocol.encode(message))
        for client in self.followers(symbol, ""):
            if client.variant[0] == "dynamic":
                self._deliver(client, frame, f"price {symbol}")

    def publish_status(self) -> None:
        """Send everyone the data mode and whether the pipeline can be reached."""
        frame = text_frame(protocol.encode(self.status()))
        for client in list(self.clients):
            self._deliver(client, frame, "system")

    def status(self) -> protocol.SystemStatus:
        """The data mode and whether Redis answers."""
        return protocol.SystemStatus(number=self.state.number, mode=self.state.mode, pipeline_ok=self.pipeline_ok)

    # The first messages to a client

    def welcome(self, client: Client, resumed: bool) -> protocol.Welcome:
        """The welcome message: who the client is to the relay."""
        user = client.user
        return protocol.Welcome(
            number=self.state.number, version=protocol.VERSION, user=user.name, tier=user.tier,
            risk_profile=user.risk_profile, watchlist=user.watchlist, mode=self.state.mode, resumed=resumed,
            token_expires_ms=client.expires_ms,
        )  # fmt: skip

    def snapshot(self, client: Client, reset: bool) -> protocol.Snapshot:
        """Everything active that the client follows."""
        return self.snapshot_of([s for s in self.state.signals.values() if client.follows(s.symbol, s.signal_id)],
                                client, reset)  # fmt: skip

    def send_snapshot(self, client: Client) -> None:
        """Send everything active that the client follows, to replace what it has.

        A snapshot of everything is cached until the next event: after a restart thousands request it at once.
        """
        cached = self._snapshots.get(client.variant) if client.all else None
        if cached is None or cached[0] != self.state.number:
            cached = self.state.number, text_frame(protocol.encode(self.snapshot(client, reset=True)))
            if client.all:
                self._snapshots[client.variant] = cached
        self._deliver(client, cached[1], f"own {time.monotonic_ns()}")

    def send_snapshots(self) -> None:
        """Send every client a snapshot: the signals it has are out of date."""
        self._snapshots.clear()
        for client in list(self.clients):
            self.send_snapshot(client)

    def snapshot_of(self, signals: list[Signal], client: Client, reset: bool) -> protocol.Snapshot:
        """These signals as the client may see them."""
        tier, risk_profile = client.variant
        return protocol.snapshot(
            signals, tier, risk_profile, self.state, self.image_url, reset, self.settings.snapshot_signals_max
        )

    def can_resume(self, after: str) -> bool:
        """Whether everything after this number is still kept."""
        wanted = position(after)
        if wanted > position(self.state.number):
            return False  # a number of another stream: Redis was emptied since
        return wanted >= self._kept_after

    async def catch_up(self, client: Client, after: str) -> bool:
        """Send what the client would have received since ``after``, no faster than it reads; false: it is stuck.

        On return the client has everything up to this moment; the caller adds its subscriptions without waiting.
        """
        reached = position(after)
        while reached < position(self.state.number):
            if reached < self._kept_after:
                return False  # slower than the log is rewritten
            tier, risk_profile = client.variant
            for event in [e for e in self._log if position(e.number) > reached][:CATCH_UP_BATCH]:
                reached = position(event.number)
                if client.follows(event.symbol, event.signal_id):
                    message = protocol.project(event, tier, risk_profile, self.state, self.image_url)
                    if message is not None:
                        self.send(client, message)
            if not self._log or reached >= position(self._log[-1].number):
                return True
            stuck_at = time.monotonic() + self.settings.stalled_s_max
            while client.socket.open and client.socket.waiting_bytes > self.settings.socket_bytes_max // 2:
                if time.monotonic() > stuck_at:
                    return False
                await asyncio.sleep(0.02)
            await asyncio.sleep(0)
        return True

    def send(self, client: Client, message: Message) -> None:
        """Send one message to one client."""
        self._deliver(client, text_frame(protocol.encode(message)), f"own {time.monotonic_ns()}")

    # Delivery

    def _deliver(self, client: Client, frame: bytes, key: str) -> None:
        socket = client.socket
        if not socket.open:
            return
        if client.queue is None:
            socket.write_frame(frame)
            self.delivered += 1
            if socket.waiting_bytes > self.settings.socket_bytes_max:
                client.queue = OrderedDict()
                client.moved_at = time.monotonic()
                self._queued.add(client)
                self._schedule_drain()
            return
        if key in client.queue:  # the newer one goes to the end: order by number is kept
            del client.queue[key]
            self.conflated += 1
        client.queue[key] = frame
        if len(client.queue) > self.settings.queue_messages_max:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        self.dropped_slow += 1
        client.queue = None
        client.socket.close_now(4413, protocol.CLOSE_CODES[4413])
        self.leave(client)

    def _schedule_drain(self) -> None:
        if self._drain_timer is None and self._queued:
            self._drain_timer = asyncio.get_running_loop().call_later(0.05, self.drain)

    def drain(self, now: float | None = None) -> None:
        """Write queued messages to the sockets that accept them; close a client that has read nothing for too long.

        ``now``: seconds on the monotonic clock, None for its own.
        """
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        now = time.monotonic() if now is None else now
        limit = self.settings.socket_bytes_max
        for client in list(self._queued):
            socket, queue = client.socket, client.queue
            if not socket.open or queue is None:
                self._queued.discard(client)
                continue
            while queue and socket.waiting_bytes <= limit // 2:
                _, frame = queue.popitem(last=False)
                socket.write_frame(frame)
                self.delivered += 1
                client.moved_at = now
            if not queue and socket.waiting_bytes <= limit // 2:
                client.queue = None
                self._queued.discard(client)
            elif now - client.moved_at > self.settings.stalled_s_max:
                self._drop(client)
        self._schedule_drain()
