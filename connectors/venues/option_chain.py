"""An option chain reduced to one OptionSummary of its underlying. Pure.

Volumes and open interest are sums over the chain, in contracts (None if no contract has any: unknown is not zero).
``put_call_ratio`` is put volume over call volume. ``implied_volatility`` is the mean over contracts near the money
(delta within 0.1 of +-0.5), or the median of the chain where no delta is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, median

import msgspec

from models.messages import OptionSummary


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One contract of a chain: ``kind`` is ``call`` or ``put``; IV annualised; ``updated_ms`` by the vendor."""

    kind: str
    volume: float | None = None
    open_interest: float | None = None
    implied_volatility: float | None = None
    delta: float | None = None
    event_ms: int | None = None
    updated_ms: int | None = None


def kind_of(occ: str) -> str:
    """``call`` or ``put`` from an OCC symbol, with or without Polygon's ``O:`` before it.

    >>> kind_of("AAPL240426C00162500"), kind_of("O:SPY251219P00650000")
    ('call', 'put')
    """
    letter = occ[-9:-8]
    if letter not in ("C", "P") or not occ[-8:].isdigit():
        raise ValueError(f"option symbol = {occ!r}: must end in C or P and eight digits of strike")
    return "call" if letter == "C" else "put"


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def representative_iv(contracts: Iterable[Contract]) -> float | None:
    """The chain's implied volatility: the mean near the money, else the median of all; None where none is known.

    A volatility outside 0 to 20 (2,000 % a year) is a vendor's failed fit and does not count.

    >>> representative_iv([Contract(kind="call", implied_volatility=0.3), Contract(kind="put", implied_volatility=25)])
    0.3
    """
    known = [(c.implied_volatility, c.delta) for c in contracts if c.implied_volatility is not None]
    sound = [(iv, delta) for iv, delta in known if 0 < iv < 20]
    near = [iv for iv, delta in sound if delta is not None and abs(abs(delta) - 0.5) <= 0.1]
    if near:
        return fmean(near)
    return median(iv for iv, _ in sound) if sound else None


def reduce_chain(underlying: str, contracts: list[Contract], source: str, now_ms: int) -> OptionSummary:
    """The summary of a chain.

    >>> chain = [Contract(kind="call", volume=10, implied_volatility=0.3), Contract(kind="put", volume=5)]
    >>> summary = reduce_chain("AAPL", chain, "polygon", now_ms=7)
    >>> summary.put_call_ratio, summary.implied_volatility, summary.call_open_interest
    (0.5, 0.3, None)
    """
    calls = [contract for contract in contracts if contract.kind == "call"]
    puts = [contract for contract in contracts if contract.kind == "put"]
    call_volume, put_volume = (_total(c.volume for c in side) for side in (calls, puts))
    return OptionSummary(
        symbol=underlying.upper(),
        source=source,
        ingestion_timestamp_ms=now_ms,
        timestamp_ms=max((c.event_ms for c in contracts if c.event_ms is not None), default=now_ms),
        updated_ms=max((c.updated_ms for c in contracts if c.updated_ms is not None), default=None),
        call_volume=call_volume,
        put_volume=put_volume,
        call_open_interest=_total(c.open_interest for c in calls),
        put_open_interest=_total(c.open_interest for c in puts),
        put_call_ratio=put_volume / call_volume if put_volume is not None and call_volume else None,
        implied_volatility=representative_iv(contracts),
        contracts=len(contracts),
    )
