"""The rules of a sound bar, each once: what it requires, how a bar breaks it, and which checkers apply it.

Five checkers look at bars, each where another thing is known: a venue's adapter sees five numbers, a file's reader sees
columns, the jobs' frame reader sees whole bars and the matrix of their numbers, compiled code sees one row of that
matrix. :data:`RULES` states which rules each of them applies, and why it does not apply the others.
``tests/unit/models/test_bar_rules.py`` holds the checkers to this table, and ``docs/bar-rules.md`` is printed from it:
``python -m models.bar_rules > docs/bar-rules.md``.

>>> sound = Bar(symbol="A", timeframe="1m", start_ms=0, end_ms=60_000, open=1, high=2, low=1, close=1, volume=0)
>>> list(broken_rules(sound, received_ms=60_000))
[]
>>> from msgspec.structs import replace
>>> [rule.name for rule in broken_rules(replace(sound, open=3.0, revision=-1), received_ms=60_000)]
['open_inside', 'revision']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from math import inf, isfinite, isnan

from models.messages import TIMEFRAME_MS, Bar

#: How far a bar's end may lie after the moment it was received (venue clocks drift; a wrong unit is far off).
FUTURE_TOLERANCE_MS = 5 * 60_000
#: Prices and sizes at or above these are a wrong unit.
PRICE_MAX, SIZE_MAX = 1e10, 1e15

_SYMBOL = re.compile(r"[A-Z0-9./:_^=-]{1,40}")
_PRICES = ("open", "high", "low", "close")

#: The checkers, by their short name in the table.
CHECKERS: dict[str, str] = {
    "explain": "udfs.frames.reader.explain",
    "suspects": "udfs.frames.reader._suspects",
    "compiled": "udfs.kernel.bar_sequence.is_valid",
    "venue": "connectors.venues.base.check_bar",
    "file": "connectors.files.bars._checked",
}

#: How a bar breaks a rule, as (field, reason); None where it does not. The number is when the bar was received, in ms.
Breach = tuple[str, str] | None
Judge = Callable[[Bar, float], Breach]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    ``field`` names the field or fields it is about, ``says`` what a sound bar meets, ``judge`` how a bar breaks it.
    ``skipped`` maps a checker that does not apply the rule to the reason; the other checkers of :data:`CHECKERS` do.
    """

    name: str
    field: str
    says: str
    judge: Judge
    skipped: Mapping[str, str] = dataclass_field(default_factory=dict)

    def applies(self, checker: str) -> bool:
        """Whether this checker of :data:`CHECKERS` applies the rule."""
        return checker not in self.skipped


def broken_rules(bar: Bar, received_ms: float) -> Iterator[Rule]:
    """The rules that a bar breaks, in the order of :data:`RULES`; ``received_ms`` is when it was received."""
    return (rule for rule in RULES if rule.judge(bar, received_ms))


def first_broken(bar: Bar, received_ms: float, checker: str) -> Breach:
    """The first rule of a checker that a bar breaks, as (field, reason); None where it breaks none."""
    for rule in RULES:
        if rule.applies(checker) and (breach := rule.judge(bar, received_ms)):
            return breach
    return None


def _symbol_given(bar: Bar, _: float) -> Breach:
    return None if bar.symbol.strip() else _bad_symbol(bar)


def _symbol_spelling(bar: Bar, _: float) -> Breach:
    return None if not bar.symbol.strip() or _SYMBOL.fullmatch(bar.symbol) else _bad_symbol(bar)


def _bad_symbol(bar: Bar) -> Breach:
    return "symbol", f"symbol {bar.symbol!r} is not an upper-case name of 1 to 40 letters, digits and ./:_-^="


def _timeframe(bar: Bar, _: float) -> Breach:
    if bar.timeframe in TIMEFRAME_MS:
        return None
    return "timeframe", f"timeframe {bar.timeframe!r} is not one of {', '.join(TIMEFRAME_MS)}"


def _price(bar: Bar, _: float) -> Breach:
    for name in _PRICES:
        price = getattr(bar, name)
        if not (isfinite(price) and price > 0):
            return name, f"{name} {price} is not a positive price"
    return None


def _volume(bar: Bar, _: float) -> Breach:
    if bar.volume is None or isnan(bar.volume) or 0 <= bar.volume < inf:
        return None
    return "volume", f"volume {bar.volume} is negative or not finite"


def _volume_null(bar: Bar, _: float) -> Breach:
    if bar.volume is None or not isnan(bar.volume):
        return None
    return "volume", f"volume {bar.volume} is negative or not finite"


def _low_below_high(bar: Bar, _: float) -> Breach:
    return ("low", f"low {bar.low} is above high {bar.high}") if bar.low > bar.high else None


def _inside(name: str) -> Judge:
    def judge(bar: Bar, _: float) -> Breach:
        price = getattr(bar, name)
        # Between the two whichever is greater: that low is below high is a rule of its own.
        if price < min(bar.low, bar.high) or price > max(bar.low, bar.high):
            return name, f"{name} {price} lies outside low {bar.low} .. high {bar.high}"
        return None

    return judge


def _end_after_start(bar: Bar, _: float) -> Breach:
    return _bad_times(bar) if bar.end_ms <= bar.start_ms else None


def _start(bar: Bar, _: float) -> Breach:
    return _bad_times(bar) if bar.start_ms < 0 else None


def _bad_times(bar: Bar) -> Breach:
    return "end_ms", f"end_ms {bar.end_ms} is not after start_ms {bar.start_ms}, or start_ms is negative"


def _length(bar: Bar, _: float) -> Breach:
    length = bar.end_ms - bar.start_ms
    if length <= TIMEFRAME_MS.get(bar.timeframe, inf):
        return None
    return "end_ms", f"the bar lasts {length} ms, longer than its timeframe {bar.timeframe}"


def _future_of_arrival(bar: Bar, _: float) -> Breach:
    return _too_late(bar, bar.ingestion_timestamp_ms) if bar.ingestion_timestamp_ms else None


def _future_of_clock(bar: Bar, received_ms: float) -> Breach:
    return None if bar.ingestion_timestamp_ms else _too_late(bar, received_ms)


def _too_late(bar: Bar, arrival_ms: float) -> Breach:
    if bar.end_ms <= arrival_ms + FUTURE_TOLERANCE_MS:
        return None
    return "end_ms", f"end_ms {bar.end_ms} is in the future of its arrival: is it in milliseconds?"


def _revision(bar: Bar, _: float) -> Breach:
    return ("revision", f"revision {bar.revision} is negative") if bar.revision < 0 else None


def _price_bound(bar: Bar, _: float) -> Breach:
    for name in _PRICES:
        if PRICE_MAX <= getattr(bar, name) < inf:
            return name, f"{name} {getattr(bar, name)} is not below {PRICE_MAX:g}: is it in another unit?"
    return None


def _size_bound(bar: Bar, _: float) -> Breach:
    if bar.volume is None or not SIZE_MAX <= bar.volume < inf:
        return None
    return "volume", f"volume {bar.volume} is not below {SIZE_MAX:g}: is it in another unit?"


_NO_NAMES = "a row of the matrix has numbers alone; explain sees the first bar of each series and length"
_READ_BEFORE = "a row of the matrix has numbers alone; the frame reader refused such bars before"
_FIVE_NUMBERS = "is given the five numbers alone; the adapter names the bar and checks its times itself"
_END_IS_MADE = "a file's bar ends its timeframe after its start, so that this cannot happen"
_LEFT_TO_READER = "left to the frame reader, which refuses the bar once it is published"
_VENUES_SAMPLES = "vendors' own samples hold such bars; whoever computes on bars decides"
_VENUES_UNITS = "only an adapter knows the unit that a venue sends; a topic or a file may hold any instrument"

#: Every rule, in the order in which ``explain`` judges.
RULES: tuple[Rule, ...] = (
    Rule(
        "symbol_given", "symbol", "not empty", _symbol_given,
        {"suspects": _NO_NAMES, "compiled": _READ_BEFORE, "venue": _FIVE_NUMBERS},
    ),
    Rule(
        "symbol_spelling", "symbol", "1 to 40 upper-case letters, digits and ./:_-^=", _symbol_spelling,
        {"suspects": _NO_NAMES, "compiled": _READ_BEFORE, "venue": _FIVE_NUMBERS,
         "file": "turns a name into upper case; the rest is left to the frame reader"},
    ),
    Rule(
        "timeframe", "timeframe", f"one of {', '.join(TIMEFRAME_MS)}", _timeframe,
        {"suspects": _NO_NAMES, "compiled": _READ_BEFORE, "venue": _FIVE_NUMBERS},
    ),
    Rule("price", ", ".join(_PRICES), "positive and finite", _price),
    Rule("volume", "volume", "missing, or finite and not negative", _volume),
    Rule(
        "volume_null", "volume", "null where it is missing, never NaN", _volume_null,
        {"suspects": "a matrix writes null as NaN", "compiled": "a matrix writes null as NaN",
         "file": "an empty cell reads as NaN"},
    ),
    Rule("low_below_high", "low", "not above high", _low_below_high),
    Rule("open_inside", "open", "between low and high", _inside("open"), {"venue": _VENUES_SAMPLES}),
    Rule("close_inside", "close", "between low and high", _inside("close"), {"venue": _VENUES_SAMPLES}),
    Rule(
        "end_after_start", "end_ms", "after start_ms", _end_after_start,
        {"venue": _FIVE_NUMBERS, "file": _END_IS_MADE},
    ),
    Rule(
        "start", "start_ms", "not negative", _start,
        {"compiled": "needs a positive length alone; the frame reader refused such bars before",
         "venue": _FIVE_NUMBERS, "file": _LEFT_TO_READER},
    ),
    Rule(
        "length", "end_ms", "at most the timeframe's length after start_ms", _length,
        {"suspects": _NO_NAMES, "compiled": _READ_BEFORE, "venue": _FIVE_NUMBERS, "file": _END_IS_MADE},
    ),
    Rule(
        "future_of_arrival", "end_ms", f"at most {FUTURE_TOLERANCE_MS // 60_000} minutes after the recorded arrival",
        _future_of_arrival,
        {"suspects": "the matrix has no arrival; the frame reader compares the two separately",
         "compiled": "knows no clock, so that a replay gives the same verdict", "venue": _FIVE_NUMBERS,
         "file": "a file's bar has no arrival"},
    ),
    Rule(
        "future_of_clock", "end_ms",
        f"where no arrival is recorded, at most {FUTURE_TOLERANCE_MS // 60_000} minutes after the reader's clock",
        _future_of_clock,
        {"compiled": "knows no clock, so that a replay gives the same verdict", "venue": _FIVE_NUMBERS,
         "file": _LEFT_TO_READER},
    ),
    Rule(
        "revision", "revision", "not negative", _revision,
        {"compiled": "compares it to the revision before; the frame reader refused a negative one",
         "venue": "is given the five numbers alone; the adapter sets the revision, 0 or 1", "file": _LEFT_TO_READER},
    ),
    Rule(
        "price_bound", ", ".join(_PRICES), f"below {PRICE_MAX:g}", _price_bound,
        dict.fromkeys(("explain", "suspects", "compiled", "file"), _VENUES_UNITS),
    ),
    Rule(
        "size_bound", "volume", f"below {SIZE_MAX:g}", _size_bound,
        dict.fromkeys(("explain", "suspects", "compiled", "file"), _VENUES_UNITS),
    ),
)  # fmt: skip


def page() -> str:
    """The table as a page of Markdown."""
    lines = [
        "# Rules of a sound bar",
        "",
        "Printed from `models/bar_rules.py` (`python -m models.bar_rules > docs/bar-rules.md`). A bar that breaks a",
        "rule is refused where the rule is applied: ingestion and the jobs put it whole on `dead-letter` with field",
        "and reason, a file's reader lists its line.",
        "",
        "The checkers:",
        "",
        *(f"- {name}: `{where}`" for name, where in CHECKERS.items()),
        "",
        "`suspects` sieves a whole frame: `explain` judges what it marks, so it also marks a bar that ends after the",
        "reader's clock but within the tolerance. `explain` also demands that the Kafka key is the symbol.",
        "",
        "| rule | field | a sound bar's is | " + " | ".join(CHECKERS) + " |",
        "|---" * (3 + len(CHECKERS)) + "|",
    ]
    notes: list[str] = []
    for rule in RULES:
        marks = []
        for checker in CHECKERS:
            if rule.applies(checker):
                marks.append("yes")
                continue
            if rule.skipped[checker] not in notes:
                notes.append(rule.skipped[checker])
            marks.append(f"no ({notes.index(rule.skipped[checker]) + 1})")
        lines.append(f"| {rule.name} | {rule.field} | {rule.says} | {' | '.join(marks)} |")
    lines += ["", "Why a checker does not apply a rule:", ""]
    lines += [f"{number}. {note}" for number, note in enumerate(notes, start=1)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
