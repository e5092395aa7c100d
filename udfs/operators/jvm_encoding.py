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

from udfs.frames.output_batch import Outbox


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Carrier:
    """One execution mode's way; ``wrap`` and ``unwrap`` are for frames, ``wrap_json`` for JSON payloads."""

    frame_type: TypeInformation
    frame_data_type: DataType
    payload_type: TypeInformation
    wrap: Callable[[bytes], Any]
    unwrap: Callable[[Any], bytes]
    wrap_json: Callable[[bytes], Any]
    #: The payload as SQL bytes, given the name of the unnested column.
    sql_payload: str

    @property
    def outbox_type(self) -> TypeInformation:
        """What an operator that fills an outbox yields: topic, event time (ms) and payloads by key."""
        payloads = Types.MAP(Types.STRING(), self.payload_type)
        return Types.ROW_NAMED(["topic", "event_ms", "payloads"], [Types.STRING(), Types.LONG(), payloads])

    def rows(self, outbox: Outbox) -> Iterator[Row]:
        """The outbox as rows of :attr:`outbox_type`."""
        for topic, event_ms, payloads in outbox.segments():
            if self.wrap_json is not _same:
                payloads = {key: self.wrap_json(payload) for key, payload in payloads.items()}
            yield Row(topic, event_ms, payloads)


def carrier(execution_mode: str) -> Carrier:
    """The way of an execution mode, ``thread`` or ``process``."""
    if execution_mode == "thread":
        array = Types.PRIMITIVE_ARRAY(Types.BYTE())
        return Carrier(array, DataTypes.BYTES(), array, _same, _same, _same, "payload")
    return Carrier(
        Types.STRING(),
        DataTypes.STRING(),
        Types.STRING(),
        pybase64.b64encode_as_string,
        pybase64.b64decode,
        bytes.decode,
        "ENCODE(payload, 'UTF-8')",
    )
