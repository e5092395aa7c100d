"""An option chain reduced to one OptionSummary of its underlying. Pure.

Volumes and open interest are sums over the chain, in contracts (None if no contract says any: unknown is not zero).
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
    priced = [c for c in contracts if c.implied_volatility is not None and 0 < c.implied_volatility < 20]
    near = [c.implied_volatility for c in priced if c.delta is not None and abs(abs(c.delta) - 0.5) <= 0.1]
    whole = [c.implied_volatility for c in priced]
    near_known, whole_known = [v for v in near if v is not None], [v for v in whole if v is not None]
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
        implied_volatility=fmean(near_known) if near_known else (median(whole_known) if whole_known else None),
        contracts=len(contracts),
    )
