"""What every handler of the relay needs, made once at start."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.concurrency import run_in_threadpool

from relay.auth import Authenticator
from relay.charts import ChartImages
from relay.follow import Follower
from relay.hub import Hub
from relay.limits import Slots, TokenBucket
from relay.links import ChartLinks
from relay.metrics import RelayMetrics
from relay.push.dispatcher import Dispatcher
from relay.push.journal import RedisJournal
from relay.settings import RelaySettings
from relay.state import State
from relay.traces import signal_traces
from relay.users import UserStore
from relay.watch import Watch

log = logging.getLogger("relay")


class Services:
    """What every handler needs, made once at start."""

    def __init__(self, settings: RelaySettings, store: UserStore) -> None:
        self.settings, self.store = settings, store
        self.auth = Authenticator(settings, store)
        self.links = ChartLinks(store.secret("chart-urls"), settings.chart_url_s)
        self.images = ChartImages(settings.charts_cached_max)
        self.hub = Hub(State(), settings, self.links.url)
        self.follower = Follower(settings.redis_url, self.hub)
        self.push = Dispatcher(settings, store, self.hub, RedisJournal(self.follower.redis))
        self.follower.mirror.listeners.append(self.push.on_event)
        self.metrics = RelayMetrics(self.follower, self.images, self.push)
        self.follower.mirror.listeners.append(self.metrics.on_event)
        if (traces := signal_traces()) is not None:
            self.follower.mirror.listeners.append(lambda event: traces.on_event(event, self.hub.state.mode != "replay"))
        self.traces = traces
        self.requests = TokenBucket(settings.requests_per_s, settings.requests_burst)
        self.connects = TokenBucket(settings.connects_per_s, settings.connects_burst)
        self.address_slots = Slots(settings.clients_per_address_max)
        self.user_slots = Slots(settings.clients_per_user_max)
        self.watch = Watch(settings)
        self.started_at = time.time()

    async def renew_users(self) -> None:
        """Close what has expired (every second) and apply changed tiers and profiles (every five)."""
        rounds = 0
        while True:
            await asyncio.sleep(1.0)
            now_ms = time.time() * 1_000
            for client in list(self.hub.clients):
                if client.expires_ms is not None and client.expires_ms <= now_ms:
                    client.socket.close_now(4401, "the sign-in has expired")
            rounds += 1
            if rounds % 5 or not self.hub.clients:
                continue
            try:
                users = {user.name: user for user in await run_in_threadpool(self.store.all)}
            except Exception as error:  # the store is unavailable: users keep their state until it answers
                log.warning("the user store does not answer: %s", type(error).__name__)
                continue
            for client in list(self.hub.clients):
                user = users.get(client.user.name)
                if user is None or not user.active:
                    client.socket.close_now(4403, "this user is disabled")
                elif user != client.user:
                    self.hub.update_user(client, user)
