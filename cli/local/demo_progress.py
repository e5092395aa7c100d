"""Progress of a demo: bars are processed, then signals are tracked to their end, then it is over. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """Phase of a demo: what it waits for."""

    PROCESSING = "until every published bar has been processed"
    FOLLOWING = "until the outcomes job has tracked every signal"
    OVER = "for nothing"


@dataclass(frozen=True)
class Figures:
    """Counts so far: messages ``published`` and ``rejected`` on the way in, ``rows``, ``dead`` letters, ``signals``."""

    published: int
    rejected: int
    rows: int
    dead: int
    signals: int
    ended: int

    @property
    def lag(self) -> int:
        """Messages published that have become neither a row nor a dead letter."""
        return max(self.published + self.rejected - self.rows - self.dead, 0)

    def line(self) -> str:
        """One line for the terminal.

        >>> Figures(10, 0, 8, 1, 2, 1).line()
        'bars in 10   processed 8   signals out 2   ended 1   dead letters 1   lag 1 bars'
        """
        return (
            f"bars in {self.published:,}   processed {self.rows:,}   signals out {self.signals:,}   "
            f"ended {self.ended:,}   dead letters {self.dead:,}   lag {self.lag:,} bars"
        )


class Progress:
    """The phase of a demo; :meth:`step` returns the phases just completed."""

    def __init__(self) -> None:
        self.phase = Phase.PROCESSING

    def step(self, figures: Figures, all_published: bool, all_followed: Callable[[], bool]) -> list[Phase]:
        """Take new figures into account; ``all_followed`` queries the broker and is called only when needed.

        >>> progress = Progress()
        >>> len(progress.step(Figures(2, 0, 2, 0, 0, 0), True, lambda: False))
        2
        >>> progress.phase
        <Phase.OVER: 'for nothing'>
        """
        left: list[Phase] = []
        if self.phase is Phase.PROCESSING and all_published and figures.lag == 0:
            left.append(self.phase)
            self.phase = Phase.FOLLOWING
        if self.phase is Phase.FOLLOWING and (not figures.signals or all_followed()):
            left.append(self.phase)
            self.phase = Phase.OVER
        return left
