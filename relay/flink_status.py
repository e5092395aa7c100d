"""The state of Flink jobs, read from a cluster's REST API: backlog, watermark, checkpoints, restarts.

Works on any Flink: a cluster's JobManager (port 8081), or a local mini cluster by a job's ``--rest-port``. Flink renews
the metrics it answers with every 10 seconds.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec

#: Watermarks before this are not times: a replay's clock is the Kafka offset.
_EARLIEST_MS = 100_000_000_000
_LATEST_MS = 100_000_000_000_000
#: Number of ended jobs that are still reported, newest first.
_ENDED_MAX = 3


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One job. ``state`` is as Flink names it (``RUNNING``, ``RESTARTING``, ``FAILED``, ``FINISHED``, ...).

    ``records_behind``: records in the source's topics that were not read yet (null: the source does not report it).
    ``watermark_ms``: event time that every operator has reached (null: none yet, or the job runs on processing time).
    ``checkpoint_ms``: when the latest checkpoint was complete, by the JobManager's clock; ``now_ms`` is that clock.
    """

    name: str
    state: str
    started_ms: int
    now_ms: int
    records_behind: int | None = None
    watermark_ms: int | None = None
    checkpoint_ms: int | None = None
    checkpoint_took_ms: int | None = None
    checkpoint_bytes: int | None = None
    checkpoints_failed: int = 0
    last_failure_ms: int | None = None
    restarts: int = 0


class FlinkStatus:
    """Reads one cluster; blocks for at most ``timeout_s`` per request.

    >>> FlinkStatus("http://127.0.0.1:1").read()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ConnectionError: Flink does not answer at 127.0.0.1:1 (ConnectError): is the job running, ...
    """

    def __init__(self, url: str, timeout_s: float = 3.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"flink: {url!r} is not an address; use http://HOST:PORT, e.g. http://127.0.0.1:8081")
        self._where = parts.netloc.rpartition("@")[2]
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=timeout_s, trust_env=False)

    def read(self) -> list[JobStatus]:
        """Running jobs by name, then the last few that ended; raises ConnectionError naming the address."""
        try:
            overview = self._get("/jobs/overview")["jobs"]
            running = [job for job in overview if job["end-time"] < 0]
            ended = sorted((job for job in overview if job["end-time"] >= 0), key=lambda job: -job["end-time"])
            chosen = sorted(running, key=lambda job: str(job["name"])) + ended[:_ENDED_MAX]
            return [self._job(str(job["jid"])) for job in chosen]
        except httpx.HTTPError as error:
            raise ConnectionError(
                f"Flink does not answer at {self._where} ({type(error).__name__}): is the job running, and is this its "
                "REST address?"
            ) from None
        except (LookupError, TypeError, ValueError, AttributeError, msgspec.MsgspecError) as error:
            raise ConnectionError(f"what answers at {self._where} is not a Flink REST API: {error!r}") from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, path: str, **query: str) -> Any:
        answer = self._client.get(path, params=query)
        answer.raise_for_status()
        return msgspec.json.decode(answer.content)

    def _job(self, job_id: str) -> JobStatus:
        base = f"/jobs/{quote(job_id, safe='')}"
        job, checkpoints = self._get(base), self._get(f"{base}/checkpoints")
        latest = checkpoints.get("latest") or {}
        done, failed = latest.get("completed") or {}, latest.get("failed") or {}
        restarts = next((int(float(m["value"])) for m in self._get(f"{base}/metrics", get="numRestarts")), 0)
        behind: list[int] = []
        watermarks: list[int] = []
        for vertex in job["vertices"]:
            path = f"{base}/vertices/{vertex['id']}"
            watermarks += [int(mark["value"]) for mark in self._get(f"{path}/watermarks")]
            if str(vertex["name"]).startswith("Source:"):
                behind += self._pending(path)
        times = [mark for mark in watermarks if _EARLIEST_MS < mark < _LATEST_MS]
        return JobStatus(
            name=str(job["name"]),
            state=str(job["state"]),
            started_ms=int(job["start-time"]),
            now_ms=int(job["now"]),
            records_behind=sum(behind) if behind else None,
            watermark_ms=min(times) if times else None,
            checkpoint_ms=done.get("latest_ack_timestamp"),
            checkpoint_took_ms=done.get("end_to_end_duration"),
            checkpoint_bytes=done.get("state_size"),
            checkpoints_failed=int((checkpoints.get("counts") or {}).get("failed", 0)),
            last_failure_ms=failed.get("failure_timestamp"),
            restarts=restarts,
        )

    def _pending(self, vertex: str) -> list[int]:
        """Records that each source of a vertex has not read yet, over all its subtasks."""
        known = [str(metric["id"]) for metric in self._get(f"{vertex}/subtasks/metrics")]
        wanted = [name for name in known if name.endswith(".pendingRecords")]
        if not wanted:
            return []
        found = self._get(f"{vertex}/subtasks/metrics", get=",".join(wanted), agg="sum")
        return [int(metric["sum"]) for metric in found]
