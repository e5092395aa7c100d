"""ADWIN (Bifet and Gavaldà, 2007) for many columns at once: has a column's mean changed, and since when?

Rows are kept as buckets of 32, 64, 128, … rows (at most :data:`PER_SIZE` of a size), shared by all columns; each column
has its own start. Every fourth bucket, every cut of each column's window is tried, and the older part is dropped
where the means differ by more than chance allows at confidence ``delta``. Memory is O(log rows); 2 us a row
of 17 columns.

Values should lie within [0, 1].

>>> random = np.random.default_rng(0)
>>> window = Adwin(columns=2)
>>> _ = window.update(random.uniform(0.4, 0.6, (3_000, 2)))
>>> _ = window.update(np.column_stack([random.uniform(0.4, 0.6, 1_000), random.uniform(0.6, 0.8, 1_000)]))
>>> (window.changes > 0).tolist(), window.means.round(1).tolist()
([False, True], [0.5, 0.7])
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Rows of the smallest bucket.
BUCKET_ROWS = 32
#: Buckets between two looks for a change.
LOOK_BUCKETS = 4
#: Buckets of one size before the two oldest merge.
PER_SIZE = 5


class Adwin:
    """One adaptive window a column. NaN counts as the window's own mean (it says nothing)."""

    def __init__(self, columns: int, delta: float = 0.002) -> None:
        self.delta = delta
        self.changes = np.zeros(columns, dtype=np.int64)
        self._columns = columns
        self._pending = np.empty((0, columns))
        self._added = 0
        self._level: list[int] = []
        self._sums: list[Floats] = []
        self._squares: list[Floats] = []
        self._start = np.zeros(columns, dtype=np.int64)

    def update(self, rows: Floats) -> npt.NDArray[np.int64]:
        """Takes rows float64[n, columns]; how many changes each column showed in them."""
        before = self.changes.copy()
        rows = np.concatenate([self._pending, rows])
        whole = len(rows) - len(rows) % BUCKET_ROWS
        for first in range(0, whole, BUCKET_ROWS):
            self._add(rows[first : first + BUCKET_ROWS])
        self._pending = rows[whole:]
        return self.changes - before

    @property
    def means(self) -> Floats:
        """Each column's mean since its last change; NaN before the first bucket."""
        if not self._level:
            return np.full(self._columns, np.nan)
        counts, sums, _ = self._windows()
        return np.asarray(sums.sum(axis=0) / counts.sum(axis=0))

    def _add(self, bucket: Floats) -> None:
        absent = np.isnan(bucket)
        if absent.any():
            bucket = np.where(absent, np.where(np.isnan(self.means), 0.5, self.means), bucket)
        self._level.append(0)
        self._sums.append(bucket.sum(axis=0))
        self._squares.append((bucket * bucket).sum(axis=0))
        self._merge()
        self._added += 1
        if self._added % LOOK_BUCKETS == 0:
            self._cut()

    def _merge(self) -> None:
        level = 0
        while True:
            at = [index for index, value in enumerate(self._level) if value == level]
            if len(at) <= PER_SIZE:
                return
            older, newer = at[0], at[1]
            self._sums[older] = self._sums[older] + self._sums[newer]
            self._squares[older] = self._squares[older] + self._squares[newer]
            self._level[older] += 1
            for part in (self._level, self._sums, self._squares):
                del part[newer]
            self._start -= self._start > older
            level += 1

    def _windows(self) -> tuple[Floats, Floats, Floats]:
        """Counts, sums and squares, buckets x columns, zero before each column's start."""
        counts = np.array([float(BUCKET_ROWS << level) for level in self._level])
        inside = (np.arange(len(counts))[:, None] >= self._start).astype(np.float64)
        return counts[:, None] * inside, np.array(self._sums) * inside, np.array(self._squares) * inside

    def _cut(self) -> None:
        seen = np.zeros(self._columns, dtype=bool)
        while len(self._level) > 1:
            counts, sums, squares = self._windows()
            total, total_sum = counts.sum(axis=0), sums.sum(axis=0)
            variance = np.maximum(squares.sum(axis=0) / total - (total_sum / total) ** 2, 0.0)
            old, old_sum = np.cumsum(counts, axis=0)[:-1], np.cumsum(sums, axis=0)[:-1]
            new, new_sum = total - old, total_sum - old_sum
            possible = (old > 0) & (new > 0)
            with np.errstate(divide="ignore", invalid="ignore"):
                harmonic = 1.0 / old + 1.0 / new
                spread = np.log(2.0 * np.log(total) / self.delta)
                allowed = np.sqrt(2.0 * harmonic * variance * spread) + 2.0 / 3.0 * harmonic * spread
                differs = possible & (np.abs(old_sum / old - new_sum / new) > allowed)
            changed = differs.any(axis=0)
            if not changed.any():
                break
            # As in the paper: the oldest bucket goes, until no cut differs.
            self._start = self._start + changed
            seen |= changed
        self.changes = self.changes + seen
        oldest = int(self._start.min())
        if oldest:
            for part in (self._level, self._sums, self._squares):
                del part[:oldest]
            self._start = self._start - oldest
