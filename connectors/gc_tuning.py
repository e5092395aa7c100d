"""Freeze start-up objects so that collections do not stall frames."""

from __future__ import annotations

import gc

#: New containers between two collections of the young generation. A frame makes a list per bar and drops them all
#: together: a collection before that frees nothing.
YOUNG = 50_000


def freeze_startup_objects() -> None:
    """Exclude what is loaded by now from every later collection, and collect new objects less often.

    Modules, models and compiled code are hundreds of thousands of objects that live as long as the process; walking
    them takes a tenth of a second in which no frame is processed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
