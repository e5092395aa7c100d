"""The state of each stream, reported to the relay's system page."""

from __future__ import annotations

import asyncio

from connectors.ingest.stream_run import StreamRun
from connectors.redis.client import connect
from connectors.redis.status import SystemStatus


async def report_venues(runs: list[StreamRun], url: str, stop: asyncio.Event) -> None:
    """Report each stream to the relay's system page, once per second."""
    client = connect(url)
    status = SystemStatus(client)
    try:
        while not stop.is_set():
            for run in runs:
                fields = run.ingest.report() | {"waiting_gaps": run.gaps.qsize()}
                await asyncio.to_thread(status.report, f"venue:{run.stream.name}", **fields)
            await asyncio.sleep(1)
    finally:
        client.close()
