"""Where a frame's time goes, as the running job reports it to Flink: its histogram ``latency_seconds`` by stage."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from urllib.parse import quote

from bench.cluster import rest_at
from udfs.operators.metrics import BOUNDS_S

#: Flink refreshes the metrics of its REST interface every ten seconds.
_RENEWED_S = 11.0
_NAME = re.compile(r"\.stage\.(\w+)\.(?:le\.(\d+_\d+|[^.]*Inf)\.)?latency_seconds_(bucket|count|sum_ms)$")

#: The stages that do not depend on when a bar ended: the benchmarks' bars are from 2023.
_TOLD = ("framed", "features", "scored", "decided")

#: Counters by (stage, "count" | "sum_ms" | a bucket's bound).
Counters = dict[tuple[str, str], float]


def read_stages(rest_port: int) -> Counters:
    """The counters now; waits until the REST interface has refreshed them."""
    time.sleep(_RENEWED_S)
    found: Counters = {}
    address = f"127.0.0.1:{rest_port}"
    (job,) = rest_at(address, "/jobs")["jobs"]
    for vertex in rest_at(address, f"/jobs/{job['id']}")["vertices"]:
        where = f"/jobs/{job['id']}/vertices/{vertex['id']}/metrics"
        names = {one["id"]: match for one in rest_at(address, where) if (match := _NAME.search(one["id"]))}
        for asked in _TOLD:  # one at a time: Flink answers 404 to an address of more than 4 KiB
            of_stage = [name for name, match in names.items() if match[1] == asked]
            for one in rest_at(address, f"{where}?get={quote(','.join(of_stage))}") if of_stage else ():
                stage, bound, kind = names[one["id"]].groups()
                found[stage, bound.replace("_", ".") if bound else kind] = float(one["value"])
    return found


def between(before: Counters, after: Counters) -> dict[str, dict[str, float | None]]:
    """Of each stage: frames, mean, and the bucket's bound (ms) that 99 and 99.9 % of the frames are within.

    >>> counts = {("framed", "count"): 100, ("framed", "sum_ms"): 900, ("framed", "0.01"): 98, ("framed", "0.02"): 100}
    >>> between({}, counts)
    {'framed': {'frames': 100, 'mean_ms': 9.0, 'p99_within_ms': 20.0, 'p999_within_ms': 20.0}}
    """
    new: dict[str, dict[str, float]] = defaultdict(dict)
    for (stage, what), value in after.items():
        new[stage][what] = value - before.get((stage, what), 0.0)
    told: dict[str, dict[str, float | None]] = {}
    for stage in _TOLD:
        counters = new.get(stage, {})
        if not (count := counters.get("count", 0)):
            continue
        told[stage] = {"frames": int(count), "mean_ms": round(counters["sum_ms"] / count, 1)}
        for name, share in (("p99_within_ms", 0.99), ("p999_within_ms", 0.999)):
            within = (b * 1000 for b in BOUNDS_S if counters.get(str(b), 0) >= share * count)
            told[stage][name] = next(within, None)
    return told
