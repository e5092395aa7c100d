"""How a message that could not be used becomes a :class:`models.messages.DeadLetter`."""

from __future__ import annotations

import base64

from models.messages import DeadLetter


def dead_letter(
    payload: bytes, reason: str, topic: str, field: str = "", partition: int = -1, offset: int = -1
) -> DeadLetter:
    """A dead letter for these bytes; partition and offset are -1 for what was never in Kafka.

    >>> dead_letter(b"{", "not JSON", "market-data-bars").payload
    '{'
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = None
    return DeadLetter(
        reason=reason,
        topic=topic,
        partition=partition,
        offset=offset,
        payload_base64=base64.b64encode(payload).decode(),
        payload=text,
        field=field,
    )
