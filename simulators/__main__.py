"""Start every simulated venue as one process: ``python -m simulators [--events-per-s 50] [--bars FILE ...]``.

Prints one JSON line when ready, ``{"alpaca": {"ws": .., "rest": ..}, .., "settings": "FILE"}``: the file is a settings
file for ``signals ingest --config FILE``. Then it replays real data: daily prices as trades with contiguous ids and as
minute bars, or minute bars from TSV files. Faults on command: GET ``{rest}/control?fault=drop&amount=1``.

With ``--days-from 2010-01-01`` real trading days are replayed instead, four trades a day at that day's own times (at
Alpaca also a story after a day that moved far), all venues in step, once every venue has a subscriber. A last line
``{"days": .., "trades": .., "bars": ..}`` is printed once all is sent (``bars``: complete days of all symbols but the
last, which nothing closes).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from models.messages import Message
from simulators.alpaca import AlpacaSimulator
from simulators.base import Simulator
from simulators.binance import BinanceSimulator
from simulators.data import minute_file, minutes, story, trades, trading_days
from simulators.polygon import PolygonSimulator

SYMBOLS = {"alpaca": ["AAPL", "MSFT"], "polygon": ["GOOG", "IBM"], "binance_us": ["BTCUSDT", "ETHUSDT"]}
_REAL = {"BTCUSDT": "AAPL", "ETHUSDT": "MSFT"}
#: Symbols of a replay of days: at Binance shares against USDT, as it once listed them.
DAY_SYMBOLS = {"alpaca": ["AAPL", "MSFT"], "polygon": ["GOOG", "IBM"], "binance_us": ["AAPLUSDT", "IBMUSDT"]}


def _now(message: Message, at_ms: int) -> Message:
    """A real price at the present time: a live venue has no other."""
    return msgspec.structs.replace(message, timestamp_ms=at_ms)


async def _replay(
    simulator: Simulator, symbols: list[str], per_s: float, bars: dict[str, Path], stop: asyncio.Event
) -> None:
    sources: dict[str, Iterator[Message]] = {name: trades(name, real=_REAL.get(name, name)) for name in symbols}
    candles: dict[str, Iterator[Message]] = {
        name: itertools.chain.from_iterable(
            minute_file(bars[name], name) if name in bars else minutes(name, _REAL.get(name, name)) for _ in (0,)
        )
        for name in symbols
    }
    while not stop.is_set():
        at = time.time_ns() // 1_000_000
        for name in symbols:
            await simulator.feed([_now(next(sources[name]), at)])
            if (bar := next(candles[name], None)) is not None:
                await simulator.feed([bar])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * len(symbols) / per_s):
                await stop.wait()


async def _replay_days(venues: dict[str, Simulator], since: str, days_per_s: float, stop: asyncio.Event) -> None:
    """Real days in step at all venues: no venue is more than a quarter of a day ahead of another."""
    wanted = [(venue, "trades") for venue in venues.values()] + [(venues["alpaca"], "news")]
    while not stop.is_set() and not all(any(name in s.channels for s in venue.sessions) for venue, name in wanted):
        await asyncio.sleep(0.05)
    sources = [
        (venue, trading_days(symbol, symbol.removesuffix("USDT"), since))
        for name, venue in venues.items()
        for symbol in DAY_SYMBOLS[name]
    ]
    closes: dict[str, float] = {}
    sent = days = 0
    began = time.monotonic()
    while not stop.is_set():
        today = [(venue, day) for venue, source in sources if (day := next(source, None)) is not None]
        if not today:
            break
        for quarter in range(4):
            for venue, day in today:
                await venue.feed(day[quarter])
                sent += len(day[quarter])
        for venue, day in today:
            close = day[-1][-1]
            if venue is venues["alpaca"] and (news := story(day, closes.get(close.symbol))) is not None:
                await venue.feed([news])
            closes[close.symbol] = close.price
        days += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, days / days_per_s - (time.monotonic() - began))):
                await stop.wait()
    print(json.dumps({"days": days, "trades": sent, "bars": sent // 4 - len(sources)}), flush=True)
    await stop.wait()


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bars = dict(entry.split("=", 1) for entry in options.bars)
    async with AlpacaSimulator() as alpaca, PolygonSimulator() as polygon, BinanceSimulator() as binance:
        venues: dict[str, Simulator] = {"alpaca": alpaca, "polygon": polygon, "binance_us": binance}
        listed = DAY_SYMBOLS if options.days_from else SYMBOLS
        lines = [f"venues = {json.dumps(list(venues))}"]
        for name, simulator in venues.items():
            lines += [f"[{name}]", f'host = "{simulator.ws}"', f'rest = "{simulator.rest}"', 'calendar = "24/7"']
            lines.append(f"symbols = {json.dumps(listed[name])}")
            lines.append(f"channels = {json.dumps(['trades'] if options.days_from else ['trades', 'bars'])}")
            lines += ['key = "key"'] if name != "binance_us" else []
            lines += ['secret = "secret"'] if name == "alpaca" else []
            lines += ['news = ["*"]'] if name == "alpaca" and options.days_from else []
        with tempfile.NamedTemporaryFile("w", prefix="simulated-", suffix=".toml") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            ready = {name: {"ws": s.ws, "rest": s.rest} for name, s in venues.items()} | {"settings": file.name}
            print(json.dumps(ready), flush=True)
            if options.days_from:
                await _replay_days(venues, options.days_from, options.events_per_s / 24, stop)
                return
            files = {name: Path(path) for name, path in bars.items()}
            await asyncio.gather(
                *(_replay(s, SYMBOLS[name], options.events_per_s, files, stop) for name, s in venues.items())
            )


def main() -> None:
    """Parse the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events-per-s", type=float, default=50, help="events a second and venue (of days: of all)")
    parser.add_argument("--bars", nargs="*", default=[], metavar="SYMBOL=FILE", help="minute bars to replay (TSV)")
    parser.add_argument("--days-from", metavar="DATE", help="replay real trading days since this one instead")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
