"""Sends bars through a real Kafka broker and the signals job and compares topic ``features`` with the batch matrix."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from models.messages import Bar, FeatureRow, decode

#: Bars of one set to send through Flink.
FLINK_BARS_MAX = 40_000
_FIELDS = ["symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume", "revision"]


@dataclass(frozen=True)
class Answer:
    """Rows compared, rows that differ in any bit, and rows of the batch missing on the topic."""

    compared: int
    different: int
    missing: int
    first_difference: str = ""


def through_flink(
    table: pd.DataFrame, execution_mode: str = "thread", frame_offsets: int = 1000, bundle: str = ""
) -> Answer:
    """Replay the bars to their end with ``jobs.signals`` and compare every row of ``features`` with the batch matrix.

    Starts and ends a broker of its own. RuntimeError with the job's last lines if the job fails.
    """
    from cli.local.servers import Broker, forget_sign_in
    from connectors.kafka.publisher import Publisher

    forget_sign_in()
    with tempfile.TemporaryDirectory(prefix="signals-parity-") as folder, Broker(Path(folder) / "kafka") as broker:
        publisher = Publisher(broker.bootstrap, client={"log_level": 0})
        for values in zip(*(table[field].tolist() for field in _FIELDS), strict=True):
            row = dict(zip(_FIELDS, values, strict=True))
            if row["volume"] != row["volume"]:
                row["volume"] = None
            publisher.publish(Bar(**row))
        publisher.flush()
        del publisher
        root = Path(__file__).resolve().parents[2]
        log = Path(folder) / "job.log"
        with log.open("wb") as output:
            code = subprocess.run(
                [sys.executable, "-m", "jobs.signals", "--kafka", broker.bootstrap, "--replay",
                 "--execution-mode", execution_mode, "--frame-offsets", str(frame_offsets),
                 *(["--bundle", bundle] if bundle else [])],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
                check=False,
            ).returncode  # fmt: skip
        if code:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"the signals job ended with {code}:\n{tail}")
        return compare(table, read_features(broker.bootstrap))


def read_features(bootstrap: str, topic: str = "features") -> list[FeatureRow]:
    """Every row on the topic, to its end."""
    from connectors.kafka.read import read_to_end

    return [decode(value, FeatureRow) for *_, value in read_to_end(bootstrap, topic)]


def compare(table: pd.DataFrame, found: list[FeatureRow]) -> Answer:
    """Compare the topic's rows, in each symbol's order, with the batch matrix: every bit, every quality code."""
    from udfs.kernel.compiler import DUPLICATE, Kernel
    from udfs.offline.batch import bars_matrix, compute, series_of

    kernel = Kernel()
    rows, names = series_of(table)
    verdicts, out, quality = compute(kernel, rows, bars_matrix(table))
    expected: dict[tuple[str, str, int, int], int] = {}
    for i in np.flatnonzero(verdicts < DUPLICATE):
        symbol, timeframe = names[rows[i]]
        expected[symbol, timeframe, int(table["start_ms"].iloc[i]), int(table["revision"].iloc[i])] = int(i)
    compared = different = 0
    first = ""
    for row in found:
        i_or_none = expected.pop((row.symbol, row.timeframe, row.start_ms, row.revision), None)
        values = np.array([np.nan if v is None else v for v in row.values], float)
        compared += 1
        if i_or_none is not None and row.feature_set_hash == kernel.feature_set_hash:
            mine = out[i_or_none]
            same = (values.view(np.int64) == mine.view(np.int64)) | (np.isnan(values) & np.isnan(mine))
            if same.all() and row.quality == quality[i_or_none].tobytes().decode():
                continue
            where = kernel.names[int(np.argmin(same))]
            first = first or f"{row.symbol} at {row.start_ms}: {where}, quality {row.quality}"
        else:
            first = first or f"{row.symbol} at {row.start_ms}: a row missing in the batch, or of another feature set"
        different += 1
    return Answer(compared, different, len(expected), first)
