"""A channel is one file: the shipped ones, and one that a test adds, through the API to its receiver."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.app import create_app
from relay.push import channels
from relay.push.channels.base import Context
from relay.push.dispatcher import Dispatcher
from relay.services import Services
from relay.settings import RelaySettings
from relay.state import Event
from relay.users import open_store
from tests.support.push import Clock, MemoryJournal, Receiver, receiving

PIGEON = '''
"""A channel of a test."""

import msgspec
from pydantic_settings import SettingsConfigDict

from relay.push.channels.base import Channel as BaseChannel
from relay.push.channels.base import ChannelSettings, Description, Field
from relay.push.delivery import check_address, judge


class Target(msgspec.Struct, frozen=True, tag_field="channel", tag="pigeon", forbid_unknown_fields=True):
    loft: str
    ring: int


class Settings(ChannelSettings):
    model_config = SettingsConfigDict(env_prefix="SIGNALS_RELAY_PIGEON_")
    breed: str = "homer"


class Channel(BaseChannel):
    Target = Target
    Settings = Settings

    def describe(self):
        fields = [Field("loft", "Loft", "url"), Field("ring", "Ring number", "integer")]
        return Description(channel="pigeon", title="Pigeon", button="Add pigeon", fields=fields)

    async def accept(self, target):
        if target.ring < 1:
            raise ValueError(f"ring: {target.ring} is not a ring number; give 1 or more")
        await check_address(target.loft, self.context.private_addresses)
        return {"loft": target.loft, "ring": target.ring}, {"secret": "coo"}

    def shown(self, address):
        return f"ring {address['ring']}"

    async def deliver(self, address, note, receipt):
        body = {"breed": Settings().breed, "ring": address["ring"], "text": note.title}
        return judge(await self.context.client.post(address["loft"], json=body))
'''


@pytest.fixture
def pigeon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of channels with one more file in it."""
    (tmp_path / "pigeon.py").write_text(PIGEON)
    monkeypatch.setattr(channels, "__path__", [*channels.__path__, str(tmp_path)])
    monkeypatch.setenv("SIGNALS_RELAY_PIGEON_BREED", "roller")
    yield
    sys.modules.pop("relay.push.channels.pigeon", None)


class Api:
    """The relay's HTTP API in this process, signed in as *ann*."""

    def __init__(self, folder: Path) -> None:
        dsn = f"sqlite://{folder}/users.db"
        self.settings = RelaySettings(users_dsn=dsn, push_private_addresses=True)
        self.store = open_store(dsn)
        self.store.add("ann", tier="dynamic")
        self.token = self.store.issue_token("ann")

    async def __aenter__(self) -> "Api":
        app = create_app(self.settings)
        services = Services(self.settings, self.store)
        await services.push.stop()
        clock = Clock()
        self.push = services.push = Dispatcher(
            self.settings, self.store, services.hub, MemoryJournal(), sleep=clock.sleep, now=clock.now
        )
        app.state.services = services
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1",
            headers={"Authorization": f"Bearer {self.token}"},
        )  # fmt: skip
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()
        await self.push.stop()
        self.store.close()

    async def add(self, **target: Any) -> tuple[int, Any]:
        answer = await self.http.post("/api/push/targets", json=target)
        return answer.status_code, answer.json()

    async def overview(self) -> Any:
        return (await self.http.get("/api/push")).json()


def test_a_channel_is_one_file(pigeon: None, tmp_path: Path, make_signal: Any) -> None:
    async def run() -> None:
        async with receiving() as receiver, Api(tmp_path) as api:
            described = {one["channel"]: one for one in (await api.overview())["channels"]}
            assert described["pigeon"]["button"] == "Add pigeon"
            assert [field["name"] for field in described["pigeon"]["fields"]] == ["loft", "ring"]
            assert await api.add(channel="pigeon", loft=receiver.url, ring=0) == (
                400, {"error": "ring: 0 is not a ring number; give 1 or more"},
            )  # fmt: skip
            status, made = await api.add(channel="pigeon", loft=receiver.url + "/loft", ring=7)
            assert (status, made["channel"], made["address"], made["secret"]) == (201, "pigeon", "ring 7", "coo")
            assert [target["address"] for target in (await api.overview())["targets"]] == ["ring 7"]
            signal = make_signal()
            api.push.notify(Event(number="1-0", kind="signal", symbol="AAPL", signal_id="s1", signal=signal))
            assert await receiver.json() == {"breed": "roller", "ring": 7, "text": "BUY AAPL (72%)"}
            await api.push.drained()
            assert api.push.counts["delivered"] == 1
            removed = await api.http.delete(f"/api/push/targets/{made['target_id']}")
            assert removed.json() == {"removed": True}

    asyncio.run(run())


def test_a_stored_target_of_a_channel_that_is_gone_is_shown_and_can_be_removed(tmp_path: Path) -> None:
    async def run() -> None:
        async with Api(tmp_path) as api:
            target = api.store.add_push_target("ann", "pigeon", {"loft": "x", "ring": 7})
            assert [one["channel"] for one in (await api.overview())["targets"]] == ["pigeon"]
            status, refused = await api.add(channel="pigeon", loft="x", ring=7)
            assert (status, "pigeon" in refused["error"]) == (400, True)
            assert (await api.http.delete(f"/api/push/targets/{target.target_id}")).status_code == 200

    asyncio.run(run())


STORED = {
    "webhook": ({"url": "https://example.com/x", "secret": "SECRET"}, "https://example.com/x"),
    "telegram": ({"chat_id": 42}, 42),
    "webpush": ({"endpoint": "https://push.example/1", "keys": {"p256dh": "SECRET", "auth": "SECRET"}}, "https://push.example/1"),
}  # fmt: skip


def test_stored_targets_still_load_and_show_no_secret(tmp_path: Path) -> None:
    async def run() -> None:
        async with Api(tmp_path) as api:
            for name, (address, _) in STORED.items():
                api.store.add_push_target("ann", name, address)
            shown = await api.overview()
            assert {one["channel"]: one["address"] for one in shown["targets"]} == {
                name: shown for name, (_, shown) in STORED.items()
            }
            assert "SECRET" not in str(shown)
            assert shown["telegram"] is False
            assert len(shown["webpush_key"]) == 87

    asyncio.run(run())


def test_what_is_wrong_with_a_target_is_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with Api(tmp_path) as api:
            for target, word in (
                ({"channel": "telegram", "chat_id": 1}, "SIGNALS_RELAY_TELEGRAM_TOKEN"),
                ({"channel": "webhook", "url": "ftp://example.com"}, "https://"),
                ({"channel": "webhook", "url": "https://user:pw@example.com"}, "signature"),
                ({"channel": "webhook", "url": "https://example.com", "more": 1}, "more"),
                ({"channel": "webpush", "endpoint": "https://x.org", "keys": {"p256dh": "a", "auth": "b"}}, "p256dh"),
                ({"channel": "webpush", "endpoint": "https://x.org"}, "keys"),
            ):  # fmt: skip
                status, shown = await api.add(**target)
                assert (status, word in shown["error"]) == (400, True), (target, shown)

    asyncio.run(run())


def test_a_telegram_revision_edits_the_message_that_was_sent(monkeypatch: pytest.MonkeyPatch, make_signal: Any) -> None:
    from relay.push.note import Note

    async def run(receiver: Receiver) -> None:
        monkeypatch.setenv("SIGNALS_RELAY_TELEGRAM_HOST", receiver.url)
        monkeypatch.setenv("SIGNALS_RELAY_TELEGRAM_TOKEN", "123:BOT")
        async with httpx.AsyncClient(trust_env=False) as client:
            channel = channels.open_all(Context(client, lambda name, fresh: fresh))["telegram"]
            note = Note(note_id="n", collapse="c", title="T", body="B", silent=True, message={})
            receiver.answers = [
                (200, {}, b'{"result": {"message_id": 7}}'), (429, {}, b'{"parameters": {"retry_after": 3}}'),
                (403, {}, b"{}"), (404, {}, b"{}"),
            ]  # fmt: skip
            shown = [await channel.deliver({"chat_id": 42}, note, receipt) for receipt in ("", "7", "", "")]
            paths = [receiver.received.get_nowait()[0] for _ in range(4)]
            assert [path.rpartition("/")[2] for path in paths[:2]] == ["sendMessage", "editMessageText"]
            assert (shown[0].receipt, shown[1].wait_s) == ("7", 3.0)
            assert [one.result for one in shown] == ["delivered", "retry", "gone", "refused"]

    async def serve() -> None:
        async with receiving() as receiver:
            await run(receiver)

    asyncio.run(serve())
