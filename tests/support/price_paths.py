"""Price paths worked out by hand, with the verdict each must get, for both sides."""

import numpy as np
import pytest

from models.trade.exits import ACTIVE, EXPIRED, HIT_STOP, HIT_TARGET

# A buy at 100, target 106, stop 97, made at t=0, expiring at t=50; bars are 10 long unless a pair says otherwise.
# Each bar: (open, high, low, close); verdict: (status, bar index, price).
BUY = {
    "target inside the first bar": ([(100, 106.5, 99, 105)], (HIT_TARGET, 0, 106)),
    "target touched exactly": ([(100, 106, 99, 105)], (HIT_TARGET, 0, 106)),
    "target missed by a cent": ([(100, 105.99, 99, 105)], (ACTIVE, 0, 105)),
    "stop inside the first bar": ([(100, 101, 96, 98)], (HIT_STOP, 0, 97)),
    "stop touched exactly": ([(100, 101, 97, 100)], (HIT_STOP, 0, 97)),
    "stop missed by a cent": ([(100, 101, 97.01, 98)], (ACTIVE, 0, 98)),
    "both inside one bar: stop": ([(100, 107, 96, 104)], (HIT_STOP, 0, 97)),
    "both touched exactly: stop": ([(100, 106, 97, 104)], (HIT_STOP, 0, 97)),
    "gap down through the stop: open": ([(95, 99, 94, 98)], (HIT_STOP, 0, 95)),
    "opens on the stop: open": ([(97, 99, 97, 98)], (HIT_STOP, 0, 97)),
    "gap up through the target: open": ([(108, 109, 107, 108.5)], (HIT_TARGET, 0, 108)),
    "opens on the target": ([(106, 107, 105, 106)], (HIT_TARGET, 0, 106)),
    "gap up, then falls to the stop: sold at the open": ([(108, 109, 90, 91)], (HIT_TARGET, 0, 108)),
    "gap down, then rises to the target: gone at the open": ([(95, 110, 94, 109)], (HIT_STOP, 0, 95)),
    "target in the third bar": ([(100, 102, 99, 101), (101, 103, 98, 99), (99, 107, 98, 106)], (HIT_TARGET, 2, 106)),
    "stop in the second bar, target in the third": (
        [(100, 102, 99, 101), (101, 101, 96.5, 97), (97, 108, 97, 107)],
        (HIT_STOP, 1, 97),
    ),
    "gap between bars through the stop": ([(100, 102, 99, 99), (96.2, 98, 96, 97)], (HIT_STOP, 1, 96.2)),
    "flat until expiry: its close": ([(100, 101, 99, 100)] * 4 + [(100, 101, 99, 100.5)], (EXPIRED, 4, 100.5)),
    "still open when the bars end": ([(100, 101, 99, 100)] * 4, (ACTIVE, 3, 100)),
    "target in the bar that expires": ([(100, 101, 99, 100)] * 4 + [(100, 106, 99, 101)], (HIT_TARGET, 4, 106)),
    "stop in the bar that expires": ([(100, 101, 99, 100)] * 4 + [(100, 101, 95, 99)], (HIT_STOP, 4, 97)),
    "target only after expiry": ([(100, 101, 99, 100)] * 5 + [(100, 120, 99, 119)], (EXPIRED, 4, 100)),
    "a hole over the expiry: the close before it": (
        [(100, 101, 99, 100), (100, 102, 99, 101.5), ("at", 60), (90, 120, 80, 85)],
        (EXPIRED, 1, 101.5),
    ),
    "no bar before expiry: the entry": ([("at", 50), (90, 120, 80, 85)], (EXPIRED, -1, 100)),
    "a bar across the expiry counts whole": ([("at", 45), (100, 101, 99, 100.25)], (EXPIRED, 0, 100.25)),
    "a target in a bar across the expiry counts": ([("at", 45), (100, 106, 99, 100.25)], (HIT_TARGET, 0, 106)),
    "no bars at all": ([], (ACTIVE, -1, 100)),
    "one price all day": ([(100, 100, 100, 100)], (ACTIVE, 0, 100)),
}

# A sell at 100, target 94, stop 103: worked by hand too, not mirrored by code.
SELL = {
    "target inside the first bar": ([(100, 101, 93, 95)], (HIT_TARGET, 0, 94)),
    "target touched exactly": ([(100, 101, 94, 95)], (HIT_TARGET, 0, 94)),
    "target missed by a cent": ([(100, 101, 94.01, 95)], (ACTIVE, 0, 95)),
    "stop inside the first bar": ([(100, 104, 99, 102)], (HIT_STOP, 0, 103)),
    "stop touched exactly": ([(100, 103, 99, 100)], (HIT_STOP, 0, 103)),
    "stop missed by a cent": ([(100, 102.99, 99, 102)], (ACTIVE, 0, 102)),
    "both inside one bar: stop": ([(100, 104, 93, 96)], (HIT_STOP, 0, 103)),
    "both touched exactly: stop": ([(100, 103, 94, 96)], (HIT_STOP, 0, 103)),
    "gap up through the stop: open": ([(105, 106, 101, 102)], (HIT_STOP, 0, 105)),
    "opens on the stop: open": ([(103, 103, 101, 102)], (HIT_STOP, 0, 103)),
    "gap down through the target: open": ([(92, 93, 91, 91.5)], (HIT_TARGET, 0, 92)),
    "opens on the target": ([(94, 95, 93, 94)], (HIT_TARGET, 0, 94)),
    "gap down, then rises to the stop: bought at the open": ([(92, 110, 91, 109)], (HIT_TARGET, 0, 92)),
    "gap up, then falls to the target: gone at the open": ([(105, 106, 90, 91)], (HIT_STOP, 0, 105)),
    "target in the third bar": ([(100, 101, 98, 99), (99, 102, 97, 101), (101, 102, 93, 94)], (HIT_TARGET, 2, 94)),
    "stop in the second bar, target in the third": (
        [(100, 101, 98, 99), (99, 103.5, 99, 103), (103, 103, 92, 93)],
        (HIT_STOP, 1, 103),
    ),
    "gap between bars through the stop": ([(100, 101, 98, 101), (103.8, 104, 102, 103)], (HIT_STOP, 1, 103.8)),
    "flat until expiry: its close": ([(100, 101, 99, 100)] * 4 + [(100, 101, 99, 99.5)], (EXPIRED, 4, 99.5)),
    "still open when the bars end": ([(100, 101, 99, 100)] * 4, (ACTIVE, 3, 100)),
    "target in the bar that expires": ([(100, 101, 99, 100)] * 4 + [(100, 101, 94, 99)], (HIT_TARGET, 4, 94)),
    "stop in the bar that expires": ([(100, 101, 99, 100)] * 4 + [(100, 105, 99, 101)], (HIT_STOP, 4, 103)),
    "target only after expiry": ([(100, 101, 99, 100)] * 5 + [(100, 101, 80, 81)], (EXPIRED, 4, 100)),
    "a hole over the expiry: the close before it": (
        [(100, 101, 99, 100), (100, 101, 98, 98.5), ("at", 60), (90, 120, 80, 85)],
        (EXPIRED, 1, 98.5),
    ),
    "no bar before expiry: the entry": ([("at", 50), (90, 120, 80, 85)], (EXPIRED, -1, 100)),
    "a bar across the expiry counts whole": ([("at", 45), (100, 101, 99, 99.75)], (EXPIRED, 0, 99.75)),
    "a target in a bar across the expiry counts": ([("at", 45), (100, 101, 94, 99.75)], (HIT_TARGET, 0, 94)),
    "no bars at all": ([], (ACTIVE, -1, 100)),
    "one price all day": ([(100, 100, 100, 100)], (ACTIVE, 0, 100)),
}


def columns(path):
    """Bars of a table row as arrays; ``("at", t)`` moves the next bar's start."""
    bars, at = [], 0
    for step in path:
        if step[0] == "at":
            at = step[1]
            continue
        bars.append((at, at + 10, *step))
        at += 10
    table = np.array(bars, float).reshape(-1, 6)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), *(table[:, i].copy() for i in range(2, 6))


CASES = [pytest.param(1, 106.0, 97.0, *case, id=f"buy: {name}") for name, case in BUY.items()]
CASES += [pytest.param(-1, 94.0, 103.0, *case, id=f"sell: {name}") for name, case in SELL.items()]
