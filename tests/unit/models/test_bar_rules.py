"""The table of bar rules against the five checkers: each refuses a bar exactly when it breaks a rule it applies."""

import random
from collections.abc import Callable
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from connectors.files.bars import read_bars
from connectors.venues.base import check_bar
from models import bar_rules
from models.bar_rules import CHECKERS, FUTURE_TOLERANCE_MS, PRICE_MAX, RULES, SIZE_MAX, broken_rules
from models.jit import njit_ieee
from models.messages import Bar
from udfs.frames.groups import group_of
from udfs.frames.reader import _matrix, _suspects, explain
from udfs.kernel.bar_sequence import is_valid

DOCS = Path(__file__).parents[3] / "docs"
START, END = 1_700_000_040_000, 1_700_000_100_000
NOW = END + 3_600_000
SOUND = Bar(symbol="AAPL", timeframe="1m", start_ms=START, end_ms=END, open=10, high=12, low=9, close=11, volume=5)
LATER = NOW + 10 * 86_400_000

#: For every rule the changes of a sound bar that break it and no other.
BREAKS: dict[str, list[dict[str, object]]] = {
    "symbol_given": [{"symbol": ""}],
    "symbol_spelling": [{"symbol": "aapl"}, {"symbol": "A" * 41}, {"symbol": "A B"}],
    "timeframe": [{"timeframe": "7m"}],
    "price": [{"low": -1.0}, {"low": 0.0}, {"high": inf}, {"open": nan}, {"close": nan}, {"low": nan}],
    "volume": [{"volume": -1.0}, {"volume": inf}],
    "volume_null": [{"volume": nan}],
    "low_below_high": [{"low": 12.0, "high": 9.0}],
    "open_inside": [{"open": 8.0}, {"open": 13.0}],
    "close_inside": [{"close": 8.0}, {"close": 13.0}],
    "end_after_start": [{"end_ms": START}, {"end_ms": START - 1}],
    "start": [{"start_ms": -60_000, "end_ms": 0}],
    "length": [{"end_ms": END + 1}],
    "future_of_arrival": [{"end_ms": END, "ingestion_timestamp_ms": END - FUTURE_TOLERANCE_MS - 1}],
    "future_of_clock": [{"start_ms": LATER, "end_ms": LATER + 60_000}],
    "revision": [{"revision": -1}],
    "price_bound": [{"high": PRICE_MAX}],
    "size_bound": [{"volume": SIZE_MAX}],
}
SINGLE = [(name, change) for name, changes in BREAKS.items() for change in changes]
#: Sound bars at the edges of the rules.
EDGES: list[dict[str, object]] = [
    {},
    {"open": 9.0, "close": 12.0},
    {"open": 9.0, "high": 9.0, "low": 9.0, "close": 9.0, "volume": 0.0},
    {"symbol": "BRK.B/USD:1_^=-", "revision": 3},
    {"start_ms": END - 1},
    {"ingestion_timestamp_ms": END - FUTURE_TOLERANCE_MS},
    {"high": PRICE_MAX * 0.99, "volume": SIZE_MAX * 0.99},
]


@njit_ieee
def valid_row(row):
    """``is_valid``, which only compiled code calls."""
    return is_valid(row)


def by_explain(bar: Bar) -> bool:
    return explain(bar, NOW, group_of(bar.symbol, 8), 8) is not None


def by_suspects(bar: Bar) -> bool:
    return bool(_suspects(_matrix([bar]), NOW)[0])


def by_compiled(bar: Bar) -> bool:
    return not valid_row(np.append(_matrix([bar])[0], 0.0))


def by_venue(bar: Bar) -> bool:
    try:
        check_bar(bar.open, bar.high, bar.low, bar.close, bar.volume)
    except ValueError:
        return True
    return False


def file_refuses(folder: Path) -> Callable[[Bar], bool]:
    names = ("symbol", "timeframe", "start_ms", "end_ms", "open", "high", "low", "close", "volume", "revision")

    def refuses(bar: Bar) -> bool:
        values = (getattr(bar, name) for name in names)
        row = ["" if value is None or value != value else str(value) for value in values]
        path = folder / "bars.csv"
        path.write_text(",".join(names) + "\n" + ",".join(row) + "\n")
        try:
            bars, _, rejects = read_bars(path)
        except ValueError:  # an unknown timeframe is the whole file's
            return True
        assert len(bars) + len(rejects) == 1
        return bool(rejects)

    return refuses


@pytest.fixture
def checkers(tmp_path: Path) -> dict[str, Callable[[Bar], bool]]:
    """The checkers of the table, each as whether it refuses a bar."""
    return {
        "explain": by_explain,
        "suspects": by_suspects,
        "compiled": by_compiled,
        "venue": by_venue,
        "file": file_refuses(tmp_path),
    }


def refused_by(checkers: dict[str, Callable[[Bar], bool]], bar: Bar) -> set[str]:
    return {name for name, refuses in checkers.items() if refuses(bar)}


def expected(bar: Bar) -> set[str]:
    broken = list(broken_rules(bar, NOW))
    return {checker for checker in CHECKERS if any(rule.applies(checker) for rule in broken)}


def test_every_rule_has_a_name_of_its_own_a_breach_and_known_checkers(checkers):
    assert [rule.name for rule in RULES] == list(BREAKS)
    assert set(checkers) == set(CHECKERS)
    for rule in RULES:
        assert set(rule.skipped) < set(CHECKERS), f"{rule.name} is applied by a checker at least"
        assert all(rule.skipped.values()), f"{rule.name} is skipped for a reason"


@pytest.mark.parametrize(("name", "change"), SINGLE, ids=str)
def test_a_bar_that_breaks_one_rule_is_refused_by_the_checkers_that_apply_it(checkers, name, change):
    bar = replace(SOUND, **change)
    assert [rule.name for rule in broken_rules(bar, NOW)] == [name]
    (rule,) = (rule for rule in RULES if rule.name == name)
    assert refused_by(checkers, bar) == {checker for checker in CHECKERS if rule.applies(checker)}
    verdict = rule.judge(bar, NOW)
    assert verdict is not None
    assert all(verdict)
    if rule.applies("explain"):
        assert explain(bar, NOW, group_of(bar.symbol, 8), 8) == verdict


@pytest.mark.parametrize("change", EDGES, ids=str)
def test_a_sound_bar_is_refused_by_none(checkers, change):
    bar = replace(SOUND, **change)
    assert list(broken_rules(bar, NOW)) == []
    assert refused_by(checkers, bar) == set()


def test_a_missing_volume_is_refused_by_none(checkers):
    del checkers["venue"]  # an adapter's decoder demands a number
    assert refused_by(checkers, replace(SOUND, volume=None)) == set()


@pytest.mark.parametrize("seed", range(5))
def test_any_breaches_together_are_refused_by_whoever_applies_one_of_them(checkers, seed):
    rng = random.Random(seed)
    for _ in range(60):
        changed: dict[str, object] = {}
        for _, change in rng.sample(SINGLE, rng.randint(0, 4)):
            if not change.keys() & changed.keys():
                changed |= change
        bar = replace(SOUND, **changed)
        assert refused_by(checkers, bar) == expected(bar), changed


def test_the_page_is_the_table():
    assert (DOCS / "bar-rules.md").read_text() == bar_rules.page() + "\n", (
        "docs/bar-rules.md is old; renew it with `python -m models.bar_rules > docs/bar-rules.md`"
    )
