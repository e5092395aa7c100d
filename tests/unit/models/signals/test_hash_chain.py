"""Tampering with a record of signals, and what the check says to it."""

import random

import msgspec
import pytest

from models.messages import Signal, decode, encode
from models.signals.hash_chain import record_hash, seal, verify


def chain(n=30, symbols=("A", "B", "C"), seed=1):
    """A sound record of n signals of several symbols."""
    rng, last, out = random.Random(seed), {}, []
    for i in range(n):
        symbol = rng.choice(symbols)
        plain = Signal(
            signal_id=f"{i:04x}-0", symbol=symbol, timeframe="1d", action=rng.choice(["buy", "sell"]), confidence=0.7,
            entry_price=100.0 + i, target_price=110.0, stop_loss=95.0, time_horizon="3d", created_ms=1000 * i,
            emitted_ms=rng.randrange(10**9), expires_ms=1000 * i + 500, reasoning="",
        )  # fmt: skip
        sealed = seal(plain, last.get(symbol, ""))
        last[symbol] = record_hash(sealed)
        out.append(sealed)
    return out


def kinds(signals, heads=None):
    return [problem.what for problem in verify(signals, heads).problems]


def test_a_sound_record_has_no_problems_and_a_head_for_each_symbol():
    report = verify(chain())
    assert (report.signals, report.repeats, report.problems) == (30, 0, [])
    assert set(report.heads) == {"A", "B", "C"}


def test_the_hash_is_that_of_the_wire():
    whole = msgspec.structs.replace(chain()[3], entry_price=100)  # an int in memory is a float once read back
    assert record_hash(whole) == record_hash(decode(encode(whole), Signal))


def test_wall_clock_and_repeats_do_not_matter():
    signals = chain()
    again = [msgspec.structs.replace(signal, emitted_ms=7) for signal in signals]
    report = verify([*signals, *again])
    assert (report.signals, report.repeats, report.problems) == (30, 30, [])
    assert report.heads == verify(again).heads


@pytest.mark.parametrize("at", range(27))
def test_any_one_removed_is_noticed(at):
    signals = chain()
    follows = any(later.symbol == signals[at].symbol for later in signals[at + 1 :])
    first = all(earlier.symbol != signals[at].symbol for earlier in signals[:at])
    wanted = [] if not follows else ["removed"] if first else ["removed or altered"]
    assert kinds(signals[:at] + signals[at + 1 :]) == wanted
    assert follows or at >= 24


def test_a_cut_off_end_is_noticed_against_a_kept_head():
    signals = chain()
    heads = verify(signals).heads
    assert kinds(signals[:-1]) == []
    assert kinds(signals[:-1], heads) == ["truncated"]
    more = chain(31)
    assert more[:-1] == signals
    assert kinds(more, heads) == []


@pytest.mark.parametrize(
    "change",
    [{"entry_price": 1.0}, {"action": "hold"}, {"created_ms": 5}, {"confidence": 0.71}, {"reasoning": "x"}],
)
def test_any_changed_field_is_noticed(change):
    signals = chain()
    at = next(i for i, s in enumerate(signals) if any(t.symbol == s.symbol for t in signals[i + 1 :]))
    altered = list(signals)
    altered[at] = msgspec.structs.replace(signals[at], **change)
    assert "removed or altered" in kinds(altered)
    assert kinds([*signals, altered[at]]) == ["altered"]


def test_one_slipped_in_with_an_older_time_is_noticed_even_if_it_is_linked():
    signals = chain(symbols=("A",))
    late = msgspec.structs.replace(signals[3], signal_id="ffff-0", previous=record_hash(signals[-1]))
    problems = verify([*signals, late]).problems
    assert [problem.what for problem in problems] == ["back-dated"]
    assert "created_ms 3000 is before 29000" in problems[0].detail


def test_a_chain_that_begins_anew_is_told_apart_from_a_hole():
    signals = chain(symbols=("A",))
    assert kinds([*signals, msgspec.structs.replace(signals[-1], signal_id="e-0", previous="")]) == ["restarted"]
