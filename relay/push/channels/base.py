"""What a push channel declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import httpx
import msgspec

from relay.push.delivery import Attempt
from relay.push.note import Note
from relay.secret_settings import SecretSettings

#: JSON fields: a stored target, or what is shown of it.
Fields = dict[str, Any]


class Context(msgspec.Struct, frozen=True):
    """What a channel is opened with.

    ``secret(name, fresh)`` gives the relay's stored secret of that name, ``fresh`` if there was none.
    ``private_addresses``: whether deliveries may go to loopback and private networks.
    """

    client: httpx.AsyncClient
    secret: Callable[[str, str], str]
    private_addresses: bool = False


class Field(msgspec.Struct, frozen=True):
    """One input of the form that adds a target; ``name`` is the field of ``Target`` that it fills."""

    name: str
    label: str
    type: Literal["text", "url", "integer"] = "text"
    placeholder: str = ""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """How the page offers the channel: a form of ``fields``, or without any the browser's own subscription.

    ``server_key`` is the public key that a browser subscribes with. A channel that is not ``available`` is not offered.
    """

    channel: str
    title: str
    button: str
    fields: list[Field] = msgspec.field(default_factory=list)
    server_key: str = ""
    available: bool = True


class ChannelSettings(SecretSettings):
    """Settings of one channel: a subclass sets ``env_prefix``."""


class Channel(ABC):
    """One way to reach a user outside the page. What is stored of a target is its *address*, a JSON object."""

    #: What a user gives to add a target: a struct with ``tag_field="channel"`` and the channel's name as its tag.
    Target: ClassVar[type[msgspec.Struct]]
    #: The channel's own settings.
    Settings: ClassVar[type[ChannelSettings]] = ChannelSettings

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def describe(self) -> Description:
        """How the page offers the channel."""

    def facts(self) -> Fields:
        """Fields of its own in the answer of ``GET /api/push``."""
        return {}

    async def accept(self, target: Any) -> tuple[Fields, Fields]:
        """The address to store for a new target, and what to show its user this once.

        Raises ValueError naming the field, and the remedy, for a target that cannot be delivered to.
        """
        address: Fields = msgspec.to_builtins(target)
        del address["channel"]
        return address, {}

    @abstractmethod
    def shown(self, address: Fields) -> str | int:
        """What its user may see of a stored address: nothing that is secret."""

    @abstractmethod
    async def deliver(self, address: Fields, note: Note, receipt: str) -> Attempt:
        """Send the note once and return the result; the channel decides whether to retry.

        ``receipt`` is that of the delivery which this note replaces, or empty. Raises AddressError for an address
        that must not be called; an ``httpx.HTTPError`` counts as no answer and is retried.
        """
