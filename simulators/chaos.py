"""Random faults at random times against a running ingestion; then every event is accounted for.

    python -m simulators.chaos --minutes 30 --seed 7

Promise checked: each trade, each minute bar and (where the venue has a history of them) each quote of the truth is
published exactly once, or was declared as a gap that was then filled. The seed is printed first; the last lines are the
accounts, one a venue.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from models.events import Disconnected, GapDeclared, GapFilled, GapUnfilled
from models.messages import Bar, Quote, Trade
from simulators.alpaca import AlpacaSimulator
from simulators.base import Simulator
from simulators.binance import BinanceSimulator
from simulators.data import START_MS, minutes, trades
from simulators.harness import Collected, ingesting, settings, until
from simulators.polygon import PolygonSimulator

VENUES: dict[str, type[Simulator]] = {
    "alpaca": AlpacaSimulator,
    "polygon": PolygonSimulator,
    "binance": BinanceSimulator,
}
#: Fault and how much of it.
_MENU: list[tuple[str, float]] = [
    ("drop", 1), ("cut", 1), ("mute", 1.2), ("freeze", 1), ("duplicates", 20), ("late", 10), ("out_of_order", 5),
    ("wrong_units", 2), ("garbage", 2), ("oversize", 200_000), ("http_429", 1), ("http_500", 1),
]  # fmt: skip
_SPECIAL: dict[str, list[tuple[str, float]]] = {
    "alpaca": [("connection_limit", 2)],
    "polygon": [("connection_limit", 1)],
    "binance": [("shutdown", 0.3)],
}
#: Venues whose quotes can be fetched again.
_QUOTED = ("alpaca", "polygon")
_SYMBOLS = ("AAPL", "MSFT")


async def _inject(
    venue: str, simulator: Simulator, end: float, limit: int | None, rng: random.Random, done: Counter[str]
) -> None:
    while time.monotonic() < end and (limit is None or done.total() < limit):
        await asyncio.sleep(rng.uniform(0.3, 2.0))
        name, amount = rng.choice(_MENU + _SPECIAL[venue])
        done[name] += 1
        await simulator.fault(name, amount)


async def one(venue: str, seed: int, *, seconds: float = math.inf, limit: int | None = None) -> dict[str, Any]:
    """Inject faults into one venue for some seconds or until ``limit`` faults were made, whichever comes first.

    Returns the account of what became of its events; raises AssertionError if one is missing. The seed fixes the
    order of the faults.
    """
    rng = random.Random(f"{seed}-{venue}")
    faults: Counter[str] = Counter()
    async with VENUES[venue](rng) as simulator:
        config = settings(
            simulator,
            venue,
            symbols=list(_SYMBOLS),
            stale_s={"trades": 0.8},
            frame_bytes_max=100_000,
            ping_interval_s=0.5,
            ping_timeout_s=0.5,
            cool_down_s=0.3,
            margin_ms=30_000,
            channels=["trades", "bars", "quotes"] if venue in _QUOTED else ["trades", "bars"],
        )
        async with ingesting(config) as running:
            sink = running.sink
            await until(lambda: any("trades" in s.channels for s in simulator.sessions))
            sources = {name: trades(name, real=name) for name in _SYMBOLS}
            candles = {name: minutes(name, real=name) for name in _SYMBOLS}
            quotes = {name: _quotes(name) for name in _SYMBOLS if venue in _QUOTED}
            end = time.monotonic() + seconds
            for name in _SYMBOLS:  # a first event of each, so that what follows can be missed
                await simulator.feed([next(sources[name]), next(candles[name]), *_next(quotes, name)])
            await until(lambda: len(sink.trade_ids) == 2 and len(sink.bars) == 2 and len(_quoted(sink)) == len(quotes))
            chosen = random.Random(f"{seed}-{venue}-faults")
            injection = asyncio.create_task(_inject(venue, simulator, end, limit, chosen, faults))
            turn = 0
            while not injection.done():
                turn += 1
                for name in _SYMBOLS:
                    await simulator.feed([next(sources[name]) for _ in range(rng.randint(1, 6))])
                    await simulator.feed(_next(quotes, name))
                    if turn % 5 == 0:
                        await simulator.feed([bar for bar in [next(candles[name], None)] if bar])
                await asyncio.sleep(0.02)
            await injection
            # A silence runs its time out: cut short, a clock of 0.8 s cannot distinguish it from a quiet market.
            simulator.late_next = simulator.shuffle_next = simulator.duplicate_next = simulator.limit_next = 0
            await simulator.release()
            await _calm(simulator, sources, candles, quotes, sink)
            return _account(venue, simulator, sink, faults)


def _quotes(symbol: str) -> Iterator[Quote]:
    for number in itertools.count():
        bid = 100.0 + number % 50
        stamp = START_MS + 70 * number
        yield Quote(symbol=symbol, timestamp_ms=stamp, bid_price=bid, bid_size=300, ask_price=bid + 0.25, ask_size=200)


def _next(quotes: dict[str, Iterator[Quote]], name: str) -> list[Quote]:
    return [next(quotes[name])] if name in quotes else []


def _quoted(sink: Collected) -> list[tuple[str, int]]:
    return [(m.symbol, m.timestamp_ms) for m in sink.messages if isinstance(m, Quote)]


async def _calm(simulator: Simulator, sources: Any, candles: Any, quotes: Any, sink: Collected) -> None:
    """A quiet end: events go on until everything fed is published."""

    def fed(channel: str) -> int:
        return sum(len(held) for (name, _), held in simulator.history.items() if name == channel)

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for name in _SYMBOLS:
            await simulator.feed([next(sources[name]), *_next(quotes, name)])
            await simulator.feed([bar for bar in [next(candles[name], None)] if bar])
        await asyncio.sleep(0.2)
        trades_in, bars_in = len(set(_keys(sink))), len({(b.symbol, b.start_ms) for b in sink.bars})
        gaps_closed = len(sink.events(GapDeclared)) == len(sink.events(GapFilled, GapUnfilled))
        quotes_in = len(set(_quoted(sink)))
        if trades_in == fed("trades") and bars_in == fed("bars") and quotes_in == fed("quotes") and gaps_closed:
            return


def _keys(sink: Collected) -> list[tuple[str, str]]:
    return [(m.symbol, m.trade_id) for m in sink.messages if isinstance(m, Trade)]


def _account(venue: str, simulator: Simulator, sink: Collected, faults: Counter[str]) -> dict[str, Any]:
    """Compare what was published with the truth."""
    truth = {
        (symbol, m.trade_id)
        for (channel, symbol), held in simulator.history.items()
        if channel == "trades"
        for m in held
        if isinstance(m, Trade)
    }
    published = Counter(_keys(sink))
    doubled = [key for key, count in published.items() if count > 1]
    missing = truth - set(published)
    bars_truth = {
        (s, m.start_ms) for (c, s), held in simulator.history.items() if c == "bars" for m in held if isinstance(m, Bar)
    }
    bars = Counter((b.symbol, b.start_ms) for b in sink.bars)
    bars_doubled = [key for key, count in bars.items() if count > 1]
    bars_missing = bars_truth - set(bars)
    quotes_truth = {
        (symbol, m.timestamp_ms)
        for (channel, symbol), held in simulator.history.items()
        if channel == "quotes"
        for m in held
        if isinstance(m, Quote)
    }
    quotes = Counter(_quoted(sink))
    quotes_doubled = [key for key, count in quotes.items() if count > 1]
    quotes_missing = quotes_truth - set(quotes)
    gaps, filled = sink.events(GapDeclared), sink.events(GapFilled)
    account: dict[str, Any] = {
        "venue": venue,
        "trades": len(truth),
        "bars": len(bars_truth),
        "quotes": len(quotes_truth),
        "backfilled": sum(m.backfilled for m in sink.messages),
        "doubled": len(doubled) + len(bars_doubled) + len(quotes_doubled),
        "missing": len(missing) + len(bars_missing) + len(quotes_missing),
        "gaps": len(gaps),
        "gaps_filled": len(filled),
        "gaps_unfilled": len(sink.events(GapUnfilled)),
        "reconnects": len(sink.events(Disconnected)),
        "dead_letters": len(sink.letters),
        "faults": dict(faults),
    }
    assert not doubled, f"{venue}: published twice: {sorted(doubled)[:5]} of {len(doubled)}: {account}"
    assert not bars_doubled, f"{venue}: bars published twice: {sorted(bars_doubled)[:5]}: {account}"
    assert set(published) <= truth, f"{venue}: published what never was: {sorted(set(published) - truth)[:5]}"
    assert not missing, f"{venue}: never published: {sorted(missing)[:5]} of {len(missing)}: {account}"
    assert not quotes_doubled, f"{venue}: quotes published twice: {sorted(quotes_doubled)[:5]}: {account}"
    assert not quotes_missing, f"{venue}: quotes never published: {sorted(quotes_missing)[:5]}: {account}"
    assert not bars_missing, f"{venue}: bars never published: {sorted(bars_missing)[:5]}: {account}"
    assert len(filled) + account["gaps_unfilled"] == len(gaps), f"{venue}: a declared gap was forgotten: {account}"
    return account


async def all_venues(seed: int, *, seconds: float = math.inf, limit: int | None = None) -> list[dict[str, Any]]:
    """Inject faults into every venue at once; the bounds are those of :func:`one`."""
    return list(await asyncio.gather(*(one(venue, seed, seconds=seconds, limit=limit) for venue in VENUES)))


def main() -> None:
    """Run for ``--minutes``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}", flush=True)
    for account in asyncio.run(all_venues(seed, seconds=options.minutes * 60)):
        print(json.dumps(account))


if __name__ == "__main__":
    main()
