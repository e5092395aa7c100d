"""Push channels: this folder is the list. A file here with a class ``Channel`` is a channel of the file's name.

:class:`relay.push.channels.base.Channel` is what the class declares. The API, the dispatcher, the settings and the
page take everything they need from it.

>>> names()
['telegram', 'webhook', 'webpush']
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Union

from relay.push.channels.base import Channel, Context


def names() -> list[str]:
    """Channels that exist, by name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def load(name: str) -> type[Channel]:
    """The class of a channel; ValueError names those that exist."""
    if name not in names():
        raise ValueError(f"channel {name!r} does not exist: use one of {', '.join(names())}")
    channel: type[Channel] = importlib.import_module(f"{__name__}.{name}").Channel
    return channel


def open_all(context: Context) -> dict[str, Channel]:
    """Every channel by name, with the settings of the environment; raises pydantic's ValidationError."""
    return {name: load(name)(context) for name in names()}


def check_settings() -> None:
    """Raise pydantic's ValidationError if a setting of a channel is not valid."""
    for name in names():
        load(name).Settings()


def target_type(channels: Mapping[str, Channel]) -> Any:
    """The union of what the channels accept as a new target, tagged by the field ``channel``."""
    return Union[tuple(channel.Target for channel in channels.values())]  # noqa: UP007 - made at run time
