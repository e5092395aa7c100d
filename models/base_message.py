"""What every market-data message carries."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every market-data message carries.

    ``source`` names the venue or feed; ``ingestion_timestamp_ms`` is wall-clock arrival, recorded and never decided
    on; ``backfilled`` marks what came from history after a gap.
    """

    symbol: str
    source: str = ""
    ingestion_timestamp_ms: int | None = None
    backfilled: bool = False
