"""How bytes cross between the JVM and Python, in the one way that is fast in each execution mode.

In thread mode a byte array crosses as one copy. In process mode Flink's coder walks a byte array of a DataStream byte
by byte in Python, while text crosses in one piece: there frames travel as base64 and JSON as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pybase64
from pyflink.common import Row, TypeInformation, Types
from pyflink.table import DataTypes
from pyflink.table.types import DataType

from udfs.frames.output_batch import OutputBatch


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class JvmEncoding:
    """One execution mode's encoding; ``wrap`` and ``unwrap`` are for frames, ``wrap_json`` for JSON payloads."""

    frame_type: TypeInformation
    frame_data_type: DataType
    payload_type: TypeInformation
    wrap: Callable[[bytes], Any]
    unwrap: Callable[[Any], bytes]
    wrap_json: Callable[[bytes], Any]
    #: The payload as SQL bytes, given the name of the unnested column.
    sql_payload: str

    @property
    def output_type(self) -> TypeInformation:
        """What an operator that fills an output batch yields: topic, event time (ms) and payloads by key."""
        payloads = Types.MAP(Types.STRING(), self.payload_type)
        return Types.ROW_NAMED(["topic", "event_ms", "payloads"], [Types.STRING(), Types.LONG(), payloads])

    def rows(self, batch: OutputBatch) -> Iterator[Row]:
        """The output batch as rows of :attr:`output_type`."""
        for topic, event_ms, payloads in batch.segments():
            if self.wrap_json is not _same:
                payloads = {key: self.wrap_json(payload) for key, payload in payloads.items()}
            yield Row(topic, event_ms, payloads)


def jvm_encoding(execution_mode: str) -> JvmEncoding:
    """The encoding of an execution mode, ``thread`` or ``process``."""
    if execution_mode == "thread":
        array = Types.PRIMITIVE_ARRAY(Types.BYTE())
        return JvmEncoding(array, DataTypes.BYTES(), array, _same, _same, _same, "payload")
    return JvmEncoding(
        Types.STRING(),
        DataTypes.STRING(),
        Types.STRING(),
        pybase64.b64encode_as_string,
        pybase64.b64decode,
        bytes.decode,
        "ENCODE(payload, 'UTF-8')",
    )
