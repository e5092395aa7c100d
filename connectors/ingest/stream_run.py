"""A stream while it is ingested: its venue's settings, its ingest, its history and the gaps to fill."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from connectors.ingest.gaps import Gap
from connectors.ingest.stream_ingest import StreamIngest
from connectors.venues.base import Stream, VenueSettings
from connectors.venues.history import History

#: Seconds between two looks at connections, gaps and the producer's queue.
TICK_S = 0.1


@dataclass
class StreamRun:
    """A stream and what belongs to it; ``fatal`` is the venue's refusal that ended it, empty while there is none."""

    stream: Stream
    settings: VenueSettings
    ingest: StreamIngest
    history: History
    gaps: asyncio.Queue[Gap]
    fatal: str = ""
