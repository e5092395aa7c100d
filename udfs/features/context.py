"""Context of the bar itself.

- ``current_price``: the close. Unit: price.
- ``session``: where the bar starts in its market's day: 0 closed, 1 before the open (from 5.5 hours before), 2 regular,
  3 after the close (for 4 hours). Round the clock, and for bars of a day: 2.
- ``minutes_to_close``: from the bar's end to the next close; 0 for bars of a day; undefined where nothing closes.
- ``bar_age_ms``: how old the bar before was when this one began: 0 when they touch. Event time, so a replay repeats it.

Source: the exchange's calendar (``exchange_calendars``) for sessions.
"""

from __future__ import annotations

from models.bar_columns import CLOSE, START
from udfs.features.base import MINUTES_TO_CLOSE, PREV_END, SESSION, Cells, Constants, Marks, Output, Parameters, State

#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {}


def state(p: Parameters) -> State:
    """Nothing of its own."""
    return State()


def outputs(p: Parameters) -> tuple[Output, ...]:
    """Price, session, minutes and age."""
    return (
        Output("current_price", "price", 1, "close", 0),
        Output("session", "code", 1, "0 closed, 1 before, 2 regular, 3 after", 0, 3),
        Output("minutes_to_close", "minutes", 1, "from the bar's end to the next close", 0),
        Output("bar_age_ms", "ms", 2, "start - end of the bar before"),
    )


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return ()


def step(
    seen: int,
    bar: Cells,
    context: Cells,
    scalars: Cells,
    rings: Cells,
    out: Cells,
    quality: Marks,
    constants: Constants,
) -> None:
    """One bar."""
    out[0] = bar[CLOSE]
    out[1] = context[SESSION]
    out[2] = context[MINUTES_TO_CLOSE]
    out[3] = bar[START] - context[PREV_END]
