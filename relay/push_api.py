"""HTTP handlers for a user's own notification targets and preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from relay.auth import Identity
from relay.http import read_json, reply, services_of
from relay.push.channels import target_type
from relay.push.channels.base import Channel
from relay.push.preferences import Preferences
from relay.users import PushTarget

TARGETS_MAX = 10


def _shown(target: PushTarget, channels: Mapping[str, Channel]) -> dict[str, Any]:
    """The target without its secrets."""
    channel = channels.get(target.channel)
    address = channel.shown(target.address) if channel else "(this relay no longer has this channel)"
    return {"target_id": target.target_id, "channel": target.channel, "address": address}


async def overview(request: Request, identity: Identity) -> Response:
    """Channels, targets, preferences and what could not be delivered."""
    services = services_of(request)
    channels = services.push.channels
    targets = await run_in_threadpool(services.store.push_targets, identity.user.name)
    try:
        dead = await services.push.dead_letters(identity.user.name)
    except (RedisError, OSError):
        dead = []
    answer: dict[str, Any] = {
        "channels": [channel.describe() for channel in channels.values()],
        "targets": [_shown(target, channels) for target in targets],
        "preferences": services.push.preferences(identity.user.name),
        "undelivered": dead,
    }
    for channel in channels.values():
        answer |= channel.facts()
    return reply(answer)


async def add(request: Request, identity: Identity) -> Response:
    """Add a target; what its channel shows once (a secret) is in this answer and never shown again."""
    services, name = services_of(request), identity.user.name
    channels = services.push.channels
    try:
        wanted = await read_json(request, target_type(channels))
        channel = wanted.__struct_config__.tag
        address, once = await channels[channel].accept(wanted)
    except (msgspec.DecodeError, ValueError) as error:
        return reply({"error": str(error)}, 400)
    if len(await run_in_threadpool(services.store.push_targets, name)) >= TARGETS_MAX:
        return reply({"error": f"at most {TARGETS_MAX} targets; remove one first"}, 400)
    target = await run_in_threadpool(services.store.add_push_target, name, channel, address)
    await services.push.renew()
    return reply(_shown(target, channels) | once, 201)


async def remove(request: Request, identity: Identity) -> Response:
    """Remove one of the user's own targets."""
    services = services_of(request)
    removed = await run_in_threadpool(
        services.store.remove_push_target, identity.user.name, request.path_params["target_id"]
    )
    await services.push.renew()
    return reply({"removed": removed}, 200 if removed else 404)


async def prefer(request: Request, identity: Identity) -> Response:
    """Replace the user's preferences."""
    services = services_of(request)
    try:
        wanted = await read_json(request, Preferences)
    except (msgspec.DecodeError, ValueError) as error:
        return reply({"error": str(error)}, 400)
    await run_in_threadpool(
        services.store.set_push_preferences, identity.user.name, msgspec.json.encode(wanted).decode()
    )
    await services.push.renew()
    return reply(wanted)


async def test(request: Request, identity: Identity) -> Response:
    """Send a test note to the user's own targets."""
    services = services_of(request)
    return reply({"targets": await services.push.test(identity.user.name)}, 202)
