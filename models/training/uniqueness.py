"""Sample weights: a label that shares its path with many others teaches less.

The uniqueness of a label is the mean, over the bars of its path, of 1 / (number of labels alive there)
(López de Prado, *Advances in Financial Machine Learning*, 4.4). In (0, 1].

>>> uniqueness(np.array([0, 1, 5]), np.array([2, 2, 6]), bars=8).round(3).tolist()
[0.75, 0.5, 1.0]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def uniqueness(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], bars: int) -> npt.NDArray[np.float64]:
    """One weight per label; its path covers bars ``first + 1 .. last`` (at least one) of one symbol."""
    last = np.maximum(last, first + 1)
    change = np.zeros(bars + 2)
    np.add.at(change, first + 1, 1.0)
    np.add.at(change, last + 1, -1.0)
    alive = np.cumsum(change)
    shares = np.concatenate([[0.0], np.cumsum(np.divide(1.0, alive, out=np.zeros_like(alive), where=alive > 0))])
    return np.asarray((shares[last + 1] - shares[first + 1]) / (last - first))
