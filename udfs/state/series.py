"""Each series' state of an operator keyed by symbol group: a matrix in memory over a map in Flink's state.

One record per symbol and timeframe, written through in the call that changes it; the matrix is a cache that fills again
from state, a group at a time, after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.state.layout import require_groups

#: Symbol and timeframe.
Series = tuple[str, str]


class SeriesStates:
    """Rows of :attr:`matrix` (float64) by symbol group and series.

    ``records`` is the keyed ``MapState`` (text -> bytes) of the group in hand: the current key when :meth:`of_group` or
    :meth:`write` is called. ``fresh(n)`` makes n new rows; ``encode`` and ``decode`` turn a row into a record and back.
    ``restored(group, series, migrated)`` is called once per group that had state, with the number of its series and of
    those whose record had another layout than ``encode`` writes.
    """

    def __init__(
        self,
        records: Any,
        fresh: Callable[[int], NDArray[np.float64]],
        encode: Callable[[NDArray[np.float64]], bytes],
        decode: Callable[[bytes], NDArray[np.float64]],
        restored: Callable[[int, int, int], None] | None = None,
    ) -> None:
        self._records, self._fresh, self._encode, self._decode = records, fresh, encode, decode
        self._restored = restored
        self._groups: dict[int, dict[Series, int]] = {}
        self._used = 0
        self.matrix = fresh(256)

    def of_group(self, group: int) -> dict[Series, int]:
        """The rows of every series of the group that has any state."""
        rows = self._groups.get(group)
        if rows is None:
            rows = self._groups[group] = {}
            migrated = 0
            for key, record in self._records.items():
                symbol, _, timeframe = key.partition("\x1f")
                row = self.row(group, (symbol, timeframe))  # before the matrix is named: it may grow
                self.matrix[row] = self._decode(record)
                migrated += bytes(record) != self._encode(self.matrix[row])
            if rows and self._restored is not None:
                self._restored(group, len(rows), migrated)
        return rows

    def row(self, group: int, series: Series) -> int:
        """The row of a series, a fresh one if it has none; :meth:`of_group` first."""
        rows = self._groups[group]
        row = rows.get(series)
        if row is None:
            row = rows[series] = self._used
            self._used += 1
            if row == len(self.matrix):
                self.matrix = np.concatenate([self.matrix, self._fresh(len(self.matrix))])
        return row

    def write(self, series: Series, row: int) -> None:
        """Keep a row in Flink's state."""
        self._records.put("\x1f".join(series), self._encode(self.matrix[row]))


class GroupsState:
    """The number of symbol groups, kept with the state that was cut by it; ``stored`` is the keyed ``ValueState``."""

    def __init__(self, stored: Any, groups: int) -> None:
        self._stored, self._groups, self._known = stored, groups, set[int]()

    def require(self, group: int) -> None:
        """Refuse state of another number of groups; ``group`` is the current key."""
        if group not in self._known:
            stored = self._stored.value()
            if (kept := require_groups(stored, self._groups)) != stored:
                self._stored.update(kept)
            self._known.add(group)
