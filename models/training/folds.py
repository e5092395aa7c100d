"""Walk-forward in time, purged and embargoed: what a model is tested on never overlaps what it was taught by.

A label looks into the future until its path ends, so a row may teach only if its path ended, plus an embargo, before
the tested rows begin.

>>> start = np.arange(10)
>>> train, test = walk_forward(start, start + 1, folds=2, embargo_ms=0)[0]
>>> start[train].tolist(), start[test].tolist()
([0, 1], [3, 4, 5])
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def teachable(exit_ms: Integers, before_ms: int, embargo_ms: int) -> Mask:
    """Rows whose label was known ``embargo_ms`` before ``before_ms``."""
    return exit_ms + embargo_ms < before_ms


def walk_forward(start_ms: Integers, exit_ms: Integers, folds: int, embargo_ms: int) -> list[tuple[Mask, Mask]]:
    """``folds`` pairs of (train, test) masks: test blocks of equal row counts in time order, training on all before.

    The first block of rows only teaches.
    """
    edges = np.quantile(start_ms, np.linspace(0, 1, folds + 2), method="higher")
    pairs = []
    for low, high in pairwise(edges[1:]):
        last = high == edges[-1]
        test = (start_ms >= low) & ((start_ms <= high) if last else (start_ms < high))
        pairs.append((teachable(exit_ms, int(low), embargo_ms), test))
    return pairs


def split_later(start_ms: Integers, exit_ms: Integers, share: float, embargo_ms: int) -> tuple[Mask, Mask]:
    """(earlier, later): the last ``share`` of the rows in time, and those before whose labels were known by then."""
    low = int(np.quantile(start_ms, 1 - share, method="higher"))
    return teachable(exit_ms, low, embargo_ms), start_ms >= low
