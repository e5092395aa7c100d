"""Spare the frames the pauses of Python's garbage collector, once an operator is ready."""

from __future__ import annotations

import gc

#: New containers between two looks at the young ones. A frame makes a list a bar and drops them all together: looking
#: before that finds nothing.
YOUNG = 50_000


def settle() -> None:
    """Keep what is loaded by now out of every later collection, and look at new objects less often.

    Modules, models and compiled code are hundreds of thousands of objects that live as long as the process; walking
    them takes a tenth of a second in which no frame moves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
