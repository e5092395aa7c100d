"""News of the last hour and the last day, as known at the bar's end.

- ``news_volume_1h``, ``news_volume_24h``: articles created in the window that ends with the bar. Unit: articles.
- ``news_sentiment_1h``, ``news_sentiment_24h``: their mean sentiment, weighted by age in event time with a half-life of
  half the window. Unit: score, -1..1. Undefined while there is no scored article.

An article counts in the window by its creation, and from the moment it was known: the later of its last edit and its
arrival. An edit replaces the article from its own moment on; bars before it keep the older version. Missing ("m") until
a symbol's first article. The latest 32 articles are kept; sentiment to 1e-6. Source: the venues' news channels, scored
by ``connectors.ingest.sentiment``.
"""

from __future__ import annotations

from math import isnan

import numpy as np
import numpy.typing as npt

from models.bar_columns import END
from models.jit import inner
from udfs.features.base import MISSING, PREV_END, Cells, Constants, Marks, Output, Parameters, State

#: The articles, three 32-bit words each.
Words = npt.NDArray[np.uint32]

EVENTS = "news"
#: Raised with any change of a formula.
VERSION = 1
PARAMETERS: Parameters = {"hours": (1, 24), "articles_max": 32}
HOUR_MS = 3_600_000.0
CREATED, KNOWN, SCORE, IDENTITY = range(4)
COUNT, NEWEST = range(2)
#: Three 32-bit words an article: creation (31 bits of ms) and "is an edit"; identity (11 bits) and score; known (ms).
WRAP_MS = 1 << 31


def state(p: Parameters) -> State:
    """How many articles there are, when the newest was known, and the articles, 12 bytes each."""
    return State(rings={"count": (1, 0), "newest": (1, 0), "articles": ((3 * p["articles_max"] + 1) // 2, 0)})


def outputs(p: Parameters) -> tuple[Output, ...]:
    """A sentiment and a volume for each window."""
    made: list[Output] = []
    for h in p["hours"]:
        made.append(
            Output(f"news_sentiment_{h}h", "score", 1, f"mean sentiment of {h} h, half-life {h / 2:g} h", -1, 1)
        )
    for h in p["hours"]:
        made.append(Output(f"news_volume_{h}h", "articles", 1, f"articles of {h} h", 0, p["articles_max"]))
    return tuple(made)


def constants(p: Parameters) -> Constants:
    """What :func:`step` unpacks."""
    return (p["articles_max"], tuple(float(h) for h in p["hours"]))


@inner
def _drop(words: Words, at: int, count: int) -> None:
    for k in range(3 * at, 3 * (count - 1)):
        words[k] = words[k + 3]


@inner
def _age(now: float, word: np.int64) -> np.int64:
    """``now`` minus the moment in a 31-bit word, at most 12 days either way."""
    away = (np.int64(now) - np.int64(word & 0x7FFFFFFF)) & 0x7FFFFFFF
    return away if away < WRAP_MS // 2 else away - WRAP_MS


def receive(context: Cells, rings: Cells, event: Cells, constants: Constants) -> None:
    """Store one version of an article; the same version again changes nothing."""
    size, hours = constants
    known = max(event[KNOWN], event[CREATED])
    words = rings[2:].view(np.uint32)
    count = int(rings[COUNT])
    if known - rings[NEWEST] > 10 * 24 * HOUR_MS and rings[NEWEST] > 0.0:
        count = 0
    rings[NEWEST] = max(rings[NEWEST], known)
    i = 0
    while i < count:
        if _age(rings[NEWEST], np.int64(words[3 * i])) > 10 * 24 * HOUR_MS:
            _drop(words, i, count)
            count -= 1
        else:
            i += 1
    rings[COUNT] = count
    if known - event[CREATED] >= hours[len(hours) - 1] * HOUR_MS:
        return
    created = np.int64(event[CREATED]) & 0x7FFFFFFF
    identity = np.int64(event[IDENTITY]) & 0x7FF
    score = np.int64(0)
    if not isnan(event[SCORE]):
        score = np.int64(np.round((min(max(event[SCORE], -1.0), 1.0) + 1.0) * 1e6)) + 1
    moment = np.int64(known) & 0x7FFFFFFF
    edit = np.int64(0)
    for i in range(count):
        if np.int64(words[3 * i]) & 0x7FFFFFFF == created and np.int64(words[3 * i + 1]) >> 21 == identity:
            if np.int64(words[3 * i + 2]) == moment:
                return
            if _age(known, np.int64(words[3 * i + 2])) > 0:
                edit = np.int64(1) << 31
            else:
                words[3 * i] = np.int64(words[3 * i]) | (np.int64(1) << 31)
    if count == size:
        oldest = 0
        for i in range(1, count):
            if _age(known, np.int64(words[3 * i])) > _age(known, np.int64(words[3 * oldest])):
                oldest = i
        if _age(known, created) >= _age(known, np.int64(words[3 * oldest])):
            return
        _drop(words, oldest, count)
        count -= 1
    words[3 * count] = created | edit
    words[3 * count + 1] = (identity << 21) | score
    words[3 * count + 2] = moment
    rings[COUNT] = count + 1


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
    _, hours = constants
    windows = len(hours)
    if rings[NEWEST] == 0.0:
        for j in range(2 * windows):
            quality[j] = MISSING
        return
    end = bar[END]
    words = rings[2:].view(np.uint32)
    count = int(rings[COUNT])
    if end - max(context[PREV_END], rings[NEWEST]) > 10 * 24 * HOUR_MS:
        count = 0
    i = 0
    while i < count:
        known = _age(end, np.int64(words[3 * i + 2]))
        if known >= 0 and _age(end, np.int64(words[3 * i])) >= hours[windows - 1] * HOUR_MS:
            _drop(words, i, count)
            count -= 1
            continue
        if known >= 0 and np.int64(words[3 * i]) >> 31 == 1:
            words[3 * i] = np.int64(words[3 * i]) & 0x7FFFFFFF
            j = 0
            while j < count:
                same = np.int64(words[3 * j]) & 0x7FFFFFFF == np.int64(words[3 * i])
                same = same and np.int64(words[3 * j + 1]) >> 21 == np.int64(words[3 * i + 1]) >> 21
                if j != i and same and _age(end, np.int64(words[3 * j + 2])) > known:
                    _drop(words, j, count)
                    count -= 1
                    if j < i:
                        i -= 1
                else:
                    j += 1
        i += 1
    rings[COUNT] = count
    for k in range(windows):
        volume = 0
        weights = 0.0
        total = 0.0
        for i in range(count):
            age = _age(end, np.int64(words[3 * i]))
            if _age(end, np.int64(words[3 * i + 2])) < 0 or age < 0 or age >= hours[k] * HOUR_MS:
                continue
            volume += 1
            score = np.int64(words[3 * i + 1]) & 0x1FFFFF
            if score > 0:
                weight = 0.5 ** (age / (hours[k] * HOUR_MS / 2.0))
                weights += weight
                total += weight * ((score - 1) * 1e-6 - 1.0)
        out[windows + k] = volume
        if weights > 0.0:
            out[k] = total / weights
