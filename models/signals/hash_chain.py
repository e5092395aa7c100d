"""The signals' record as a hash chain per symbol: proof that none was removed, altered or back-dated.

Each signal carries ``previous``, the hash of the symbol's signal before it (empty for the first). A signal's hash
covers all its fields, ``previous`` included, but not ``emitted_ms``: a replay builds the same chain. Whoever keeps a
symbol's last hash (the *head*) can later prove that everything up to it is still there and unchanged; a record cut off
at its end shows only against a head that was kept.

>>> signal = Signal(signal_id="a-0", symbol="A", timeframe="1d", action="buy", confidence=0.7, entry_price=1.0,
...                 target_price=2.0, stop_loss=0.5, time_horizon="3d", created_ms=1, emitted_ms=5, expires_ms=9,
...                 reasoning="")
>>> first = seal(signal, "")
>>> second = seal(msgspec.structs.replace(signal, signal_id="b-0", created_ms=2), record_hash(first))
>>> altered = msgspec.structs.replace(first, entry_price=1.1)
>>> verify([first, second]).problems, verify([second]).problems[0].what, verify([altered, second]).problems[0].what
([], 'removed', 'removed or altered')
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from models.messages import Signal, decode, encode


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with the record at one signal, and a sentence that explains how it shows.

    ``what``: ``removed``, ``altered`` (both forms are there), ``removed or altered`` (what stood before it),
    ``back-dated``, ``restarted`` or ``truncated``.
    """

    symbol: str
    signal_id: str
    what: str
    detail: str


class Report(msgspec.Struct, frozen=True):
    """The result of :func:`verify`: distinct signals read, repeats dropped, the last hash of each symbol, problems."""

    signals: int
    repeats: int
    heads: dict[str, str]
    problems: list[Problem]


def record_hash(signal: Signal) -> str:
    """The signal's hash, 32 hex digits, over everything but the wall clock, as the wire holds it."""
    timeless = decode(encode(msgspec.structs.replace(signal, emitted_ms=0)), Signal)
    return hashlib.blake2b(encode(timeless), digest_size=16).hexdigest()


def seal(signal: Signal, previous: str) -> Signal:
    """The signal linked to the symbol's record before it, whose hash is ``previous`` ("" for the first)."""
    return msgspec.structs.replace(signal, previous=previous)


def verify(signals: Iterable[Signal], heads: Mapping[str, str] | None = None) -> Report:
    """Check signals in the order of the log; ``heads`` are hashes kept from an earlier check, by symbol.

    A repeat (the same signal again, as an at-least-once sink may write after a failure) is dropped when its hash is
    the same, else reported as altered.
    """
    seen: dict[str, str] = {}
    hashes: dict[str, set[str]] = {}
    last: dict[str, str] = {}
    newest: dict[tuple[str, str], int] = {}
    problems: list[Problem] = []
    repeats = 0
    for signal in signals:
        own, symbol = record_hash(signal), signal.symbol
        if signal.signal_id in seen:
            repeats += 1
            if seen[signal.signal_id] != own:
                problems.append(
                    Problem(symbol, signal.signal_id, "altered", "the same id appears again with other content")
                )
            continue
        seen[signal.signal_id] = own
        expected = last.get(symbol, "")
        if signal.previous != expected:
            problems.append(_broken_link(signal, expected))
        series = (symbol, signal.timeframe)
        if signal.created_ms < newest.get(series, signal.created_ms):
            detail = f"created_ms {signal.created_ms} is before {newest[series]} of the signal before it"
            problems.append(Problem(symbol, signal.signal_id, "back-dated", detail))
        newest[series] = max(signal.created_ms, newest.get(series, signal.created_ms))
        last[symbol] = own
        hashes.setdefault(symbol, set()).add(own)
    for symbol, head in sorted((heads or {}).items()):
        if head not in hashes.get(symbol, set()):
            detail = f"the head {head} kept for {symbol} is not in the record: its end was cut off or rewritten"
            problems.append(Problem(symbol, "", "truncated", detail))
    return Report(len(seen), repeats, last, problems)


def _broken_link(signal: Signal, expected: str) -> Problem:
    if not signal.previous:
        what, detail = "restarted", f"the chain starts again after {expected}: the job lost its state, or hides records"
    elif not expected:
        what, detail = "removed", f"the record begins with a signal that follows {signal.previous}, which is not here"
    else:
        what, detail = "removed or altered", f"it follows {signal.previous}, but the record before it is {expected}"
    return Problem(signal.symbol, signal.signal_id, what, detail)
