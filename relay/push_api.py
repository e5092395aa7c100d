"""A user's own notification targets and preferences over HTTP."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from relay.auth import Identity
from relay.http import read_json, reply, services
from relay.push.delivery import AddressError, check_address
from relay.push.preferences import Preferences
from relay.push.webpush import check_subscription
from relay.users import PushTarget

TARGETS_MAX = 10


class Keys(msgspec.Struct, frozen=True):
    """A browser's public key and secret."""

    p256dh: str
    auth: str


class WebPush(msgspec.Struct, frozen=True, tag_field="channel", tag="webpush"):
    """What ``PushSubscription.toJSON()`` gives."""

    endpoint: str
    keys: Keys


class Webhook(msgspec.Struct, frozen=True, tag_field="channel", tag="webhook", forbid_unknown_fields=True):
    """A URL to post to."""

    url: str


class Telegram(msgspec.Struct, frozen=True, tag_field="channel", tag="telegram", forbid_unknown_fields=True):
    """A chat that has started the bot."""

    chat_id: int


NewTarget = WebPush | Webhook | Telegram


def _shown(target: PushTarget) -> dict[str, Any]:
    """The target without its secrets."""
    address = target.address
    where = address.get("url") or address.get("endpoint") or address.get("chat_id")
    return {"target_id": target.target_id, "channel": target.channel, "address": where}


async def overview(request: Request, identity: Identity) -> Response:
    """Channels, targets, preferences and what could not be delivered."""
    held = services(request)
    targets = await run_in_threadpool(held.store.push_targets, identity.user.name)
    try:
        dead = await held.push.dead_letters(identity.user.name)
    except (RedisError, OSError):
        dead = []
    return reply({
        "webpush_key": held.push.vapid.public_key,
        "telegram": bool(held.settings.telegram_token.get_secret_value()),
        "targets": [_shown(target) for target in targets],
        "preferences": held.push.preferences(identity.user.name),
        "undelivered": dead,
    })  # fmt: skip


async def add(request: Request, identity: Identity) -> Response:
    """Add a target; a webhook's secret is in this answer and never shown again."""
    held, name = services(request), identity.user.name
    try:
        wanted = await read_json(request, NewTarget)
        address = msgspec.to_builtins(wanted)
        channel = address.pop("channel")
        if isinstance(wanted, Telegram) and not held.settings.telegram_token.get_secret_value():
            raise ValueError("telegram: this relay has no bot; set SIGNALS_RELAY_TELEGRAM_TOKEN")
        if isinstance(wanted, WebPush):
            check_subscription(address)
            await check_address(wanted.endpoint, held.settings.push_private_addresses)
        if isinstance(wanted, Webhook):
            await check_address(wanted.url, held.settings.push_private_addresses)
            address["secret"] = secrets.token_urlsafe(32)
    except (msgspec.DecodeError, AddressError, ValueError) as error:
        return reply({"error": str(error)}, 400)
    if len(await run_in_threadpool(held.store.push_targets, name)) >= TARGETS_MAX:
        return reply({"error": f"at most {TARGETS_MAX} targets; remove one first"}, 400)
    target = await run_in_threadpool(held.store.add_push_target, name, channel, address)
    await held.push.renew()
    return reply(_shown(target) | ({"secret": address["secret"]} if "secret" in address else {}), 201)


async def remove(request: Request, identity: Identity) -> Response:
    """Forget one of one's own targets."""
    held = services(request)
    removed = await run_in_threadpool(
        held.store.remove_push_target, identity.user.name, request.path_params["target_id"]
    )
    await held.push.renew()
    return reply({"removed": removed}, 200 if removed else 404)


async def prefer(request: Request, identity: Identity) -> Response:
    """Replace one's preferences."""
    held = services(request)
    try:
        wanted = await read_json(request, Preferences)
    except (msgspec.DecodeError, ValueError) as error:
        return reply({"error": str(error)}, 400)
    await run_in_threadpool(held.store.set_push_preferences, identity.user.name, msgspec.json.encode(wanted).decode())
    await held.push.renew()
    return reply(wanted)


async def test(request: Request, identity: Identity) -> Response:
    """Send a test note to one's own targets."""
    held = services(request)
    return reply({"targets": await held.push.test(identity.user.name)}, 202)
