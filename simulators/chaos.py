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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from models.events import Disconnected, GapDeclared, GapFilled, GapUnfilled
from models.messages import Bar, Message, Quote, Trade
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
            await until(
                lambda: (
                    len(sink.trade_ids) == 2
                    and len(sink.bars) == 2
                    and len(_keys(sink.messages, "quotes")) == len(quotes)
                )
            )
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


#: Message type of each channel, and the field that distinguishes two messages of a symbol.
_IDS: dict[str, tuple[type[Message], str]] = {
    "trades": (Trade, "trade_id"), "bars": (Bar, "start_ms"), "quotes": (Quote, "timestamp_ms"),
}  # fmt: skip
#: Symbol, and that field.
Key = tuple[str, str | int]


def _keys(messages: Iterable[Message], channel: str) -> list[Key]:
    kind, name = _IDS[channel]
    return [(message.symbol, getattr(message, name)) for message in messages if isinstance(message, kind)]


@dataclass(frozen=True)
class _Comparison:
    """Keys of one channel: all that the venue had, and those published twice, never, or without being there."""

    truth: set[Key]
    doubled: list[Key]
    missing: set[Key]
    invented: set[Key]


def _compare(simulator: Simulator, sink: Collected, channel: str) -> _Comparison:
    sent = (message for (name, _), held in simulator.history.items() if name == channel for message in held)
    truth, published = set(_keys(sent, channel)), Counter(_keys(sink.messages, channel))
    doubled = [key for key, count in published.items() if count > 1]
    return _Comparison(truth, doubled, truth - set(published), set(published) - truth)


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
        all_in = all(len(set(_keys(sink.messages, channel))) == fed(channel) for channel in _IDS)
        if all_in and len(sink.events(GapDeclared)) == len(sink.events(GapFilled, GapUnfilled)):
            return


def _account(venue: str, simulator: Simulator, sink: Collected, faults: Counter[str]) -> dict[str, Any]:
    """Compare what was published with the truth."""
    found = {channel: _compare(simulator, sink, channel) for channel in _IDS}
    gaps, filled = sink.events(GapDeclared), sink.events(GapFilled)
    account: dict[str, Any] = {
        "venue": venue,
        **{channel: len(one.truth) for channel, one in found.items()},
        "backfilled": sum(m.backfilled for m in sink.messages),
        "doubled": sum(len(one.doubled) for one in found.values()),
        "missing": sum(len(one.missing) for one in found.values()),
        "gaps": len(gaps),
        "gaps_filled": len(filled),
        "gaps_unfilled": len(sink.events(GapUnfilled)),
        "reconnects": len(sink.events(Disconnected)),
        "dead_letters": len(sink.letters),
        "faults": dict(faults),
    }
    invented = sorted(found["trades"].invented)
    assert not invented, f"{venue}: published what never was: {invented[:5]}"
    for channel, one in found.items():
        doubled, missing = sorted(one.doubled), sorted(one.missing)
        assert not doubled, f"{venue}: {channel} published twice: {doubled[:5]} of {len(doubled)}: {account}"
        assert not missing, f"{venue}: {channel} never published: {missing[:5]} of {len(missing)}: {account}"
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
