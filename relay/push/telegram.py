"""Telegram bot messages. A signal's revisions and its end change the message that was sent first.

The bot API wants its token in the path; so the HTTP client's own log is silenced and errors never quote the address.
"""

from __future__ import annotations

import contextlib

import httpx

from relay.push.delivery import Attempt, judge
from relay.push.note import Note
from relay.users import PushTarget


async def deliver(
    client: httpx.AsyncClient, host: str, token: str, target: PushTarget, note: Note, earlier: str
) -> Attempt:
    """Send, or edit the ``earlier`` message (its id, as a string); the receipt is the message's id."""
    text = f"{note.title}\n{note.body}"
    fields: dict[str, object] = {"chat_id": target.address["chat_id"], "text": text[:4_000]}
    if earlier:
        method, fields["message_id"] = "editMessageText", int(earlier)
    else:
        method, fields["disable_notification"] = "sendMessage", note.silent
    response = await client.post(f"{host}/bot{token}/{method}", json=fields)
    if earlier and response.status_code == 400:  # the earlier message is gone, or says this already
        return await deliver(client, host, token, target, note, "")
    attempt = judge(response)
    if attempt.result == "gone":  # 404 is a wrong bot token here, not a chat that ended
        return Attempt("refused", attempt.reason)
    if response.status_code == 403:
        return Attempt("gone", "the user has blocked the bot")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = response.json()
        if attempt.result == "delivered":
            return Attempt("delivered", receipt=str(told["result"]["message_id"]))
        if attempt.result == "retry":
            return Attempt("retry", attempt.reason, float(told["parameters"]["retry_after"]))
    return attempt
