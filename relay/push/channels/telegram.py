"""Telegram bot messages. A signal's revisions and its end change the message that was sent first.

The bot API requires its token in the path; so the HTTP client's own log is off and errors never quote the address.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from relay.push.channels.base import Channel as BaseChannel
from relay.push.channels.base import ChannelSettings, Context, Description, Field, Fields
from relay.push.delivery import Attempt, judge
from relay.push.note import Note


class Target(msgspec.Struct, frozen=True, tag_field="channel", tag="telegram", forbid_unknown_fields=True):
    """A chat that has started the bot."""

    chat_id: int


class Settings(ChannelSettings):
    """``SIGNALS_RELAY_TELEGRAM_HOST`` and ``SIGNALS_RELAY_TELEGRAM_TOKEN``; without a token there is no bot."""

    model_config = SettingsConfigDict(env_prefix="SIGNALS_RELAY_TELEGRAM_")

    #: Base of the bot API; tests put a local receiver here.
    host: str = "https://api.telegram.org"
    token: SecretStr = SecretStr("")


class Channel(BaseChannel):
    """Messages of the relay's bot."""

    Target = Target
    Settings = Settings

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = Settings()
        self._host, self._token = settings.host, settings.token.get_secret_value()

    def describe(self) -> Description:
        """A form for the chat's number, if there is a bot."""
        field = Field("chat_id", "Telegram chat id (after starting the bot)", "integer", "123456789")
        return Description(
            channel="telegram", title="Telegram", button="Add chat", fields=[field], available=bool(self._token)
        )

    def facts(self) -> Fields:
        """``telegram``: whether there is a bot."""
        return {"telegram": bool(self._token)}

    async def accept(self, target: Any) -> tuple[Fields, Fields]:
        """Raises ValueError if there is no bot."""
        if not self._token:
            raise ValueError("telegram: this relay has no bot; set SIGNALS_RELAY_TELEGRAM_TOKEN")
        return await super().accept(target)

    def shown(self, address: Fields) -> str | int:
        """The chat's number."""
        return int(address["chat_id"])

    async def deliver(self, address: Fields, note: Note, receipt: str) -> Attempt:
        """Send, or edit the message whose id is ``receipt``; the new receipt is the message's id."""
        text = f"{note.title}\n{note.body}"
        fields: dict[str, object] = {"chat_id": address["chat_id"], "text": text[:4_000]}
        if receipt:
            method, fields["message_id"] = "editMessageText", int(receipt)
        else:
            method, fields["disable_notification"] = "sendMessage", note.silent
        response = await self.context.client.post(f"{self._host}/bot{self._token}/{method}", json=fields)
        if receipt and response.status_code == 400:  # the earlier message is gone, or has this text already
            return await self.deliver(address, note, "")
        attempt = judge(response)
        if attempt.result == "gone":  # 404 is a wrong bot token here, not a chat that ended
            return Attempt("refused", attempt.reason)
        if response.status_code == 403:
            return Attempt("gone", "the user has blocked the bot")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            answer = response.json()
            if attempt.result == "delivered":
                return Attempt("delivered", receipt=str(answer["result"]["message_id"]))
            if attempt.result == "retry":
                return Attempt("retry", attempt.reason, float(answer["parameters"]["retry_after"]))
        return attempt
