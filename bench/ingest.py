"""How fast frames are parsed, compared with the vendors' own Python SDKs, and how fast they reach Kafka.

    python bench/ingest.py [--messages 200000] [--no-sdk] [--no-kafka]

Each parser runs pinned to one core on the same messages as the SDK, in turns in the same run, best of five rounds each
by CPU time: 85 % trades, 10 % quotes (tickers on Binance), 5 % bars. Ours runs as in ``signals ingest``, with
``freeze_startup_objects``. The time that the SDK spends on a frame is measured: alpaca-py unpacks MessagePack (its own
wire) and builds its models, massive decodes JSON and builds its models, python-binance decodes JSON to a dict and
nothing more. The SDKs are installed into a separate virtual environment (``.run/sdk``), never into the project's.

End to end: a process on the other core sends frames over a real WebSocket; one process on one core receives, parses,
drops duplicates, looks for gaps and publishes to a real Kafka broker, until the last is delivered.

The last line is one JSON object: ``x_sdk`` by venue, ``msgs_per_s`` of each parser, ``end_to_end_msgs_per_s``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SDKS = {"alpaca": "alpaca-py==0.44.0", "polygon": "massive==2.9.1", "binance": "python-binance==1.0.37"}
NOW_MS = 1_700_000_000_000
#: Frames handed to the parser at once, as a busy socket delivers them.
BATCH = 100

SDK_SIDE = """
import json, logging, os, sys, time
venue, path, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.sched_setaffinity(0, {int(sys.argv[4])})
frames = open(path, "rb").read().splitlines()
if venue == "alpaca":
    import datetime, msgpack
    from alpaca.data.live.websocket import DataStream
    stream = DataStream("wss://x", "k", "s")
    def stamp(item):
        if "t" in item:
            item["t"] = msgpack.Timestamp.from_datetime(datetime.datetime.fromisoformat(item["t"]))
        return item
    frames = [msgpack.packb([stamp(item) for item in json.loads(frame)]) for frame in frames]
    def one(frame):
        return len([stream._cast(item) for item in msgpack.unpackb(frame)])
elif venue == "polygon":
    from massive.websocket.models import parse, Market
    log = logging.getLogger("x")
    def one(frame):
        return len(parse(json.loads(frame), log, Market.Stocks))
else:
    from binance.ws.reconnecting_websocket import ReconnectingWebsocket
    socket = ReconnectingWebsocket.__new__(ReconnectingWebsocket)
    frames = [frame.decode() for frame in frames]
    def one(frame):
        socket.json_loads(frame)
        return 1
best = 0
for _ in range(rounds):
    start = time.process_time()
    count = 0
    for frame in frames:
        count += one(frame)
    best = max(best, count / (time.process_time() - start))
print(best)
"""


def frames_of(venue: str, count: int) -> list[bytes]:
    """Frames with ``count`` messages: arrays of ten at Alpaca and Polygon, one each at Binance."""
    import itertools

    from models.messages import Message, Quote
    from simulators import alpaca, binance, data, polygon

    sim = {"alpaca": alpaca.AlpacaSimulator, "polygon": polygon.PolygonSimulator, "binance": binance.BinanceSimulator}
    source, candles = data.trades("AAPL"), itertools.cycle(itertools.islice(data.minutes("AAPL"), 2000))
    messages: list[Message] = []
    for at in range(count):
        if at % 20 == 0:
            messages.append(next(candles))
        elif at % 10 == 1:
            price = 100 + at % 50
            messages.append(
                Quote(
                    symbol="AAPL",
                    timestamp_ms=data.START_MS + at,
                    bid_price=price,
                    bid_size=300.0,
                    ask_price=price + 0.01,
                    ask_size=200.0,
                    last_price=price,
                )
            )
        else:
            messages.append(next(source))
    encode = sim[venue]().encode
    size = 1 if venue == "binance" else 10
    return [text.encode() for at in range(0, count, size) for text in encode(messages[at : at + size])]


def ours(venue: str, frames: list[bytes], rounds: int) -> float:
    """Messages per second through the parser, best of several rounds."""
    from connectors.gc_tuning import freeze_startup_objects
    from connectors.venues import load

    adapter, best = load(venue), 0.0
    freeze_startup_objects()
    for _ in range(rounds):
        start, count = time.process_time(), 0
        for at in range(0, len(frames), BATCH):
            parsed = adapter.parse_many(frames[at : at + BATCH], NOW_MS)
            count += len(parsed.messages)
            assert not parsed.rejects, parsed.rejects[0]
        best = max(best, count / (time.process_time() - start))
    return best


def sdk_python() -> Path:
    """The interpreter of the SDKs' own virtual environment, created if needed."""
    folder = ROOT / ".run" / "sdk"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *SDKS.values()], check=True)
        (folder / "ready").touch()
    return python


def theirs(venue: str, frames: list[bytes], rounds: int, core: int) -> float:
    """Messages per second through the vendor's SDK."""
    path = ROOT / ".run" / f"frames-{venue}.jsonl"
    path.write_bytes(b"\n".join(frames))
    done = subprocess.run(
        [str(sdk_python()), "-c", SDK_SIDE, venue, str(path), str(rounds), str(core)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    path.unlink()
    return float(done.stdout.split()[-1])


async def _serve(count: int) -> None:
    """Send ``count`` Binance trades to the first subscriber as fast as it takes them."""
    from websockets.asyncio.server import ServerConnection, serve

    frames = [frame.decode() for frame in frames_of("binance", count)]

    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"result":null,"id":1}')
        for frame in frames:
            await socket.send(frame)
        await socket.wait_closed()

    async with serve(handle, "127.0.0.1", 0, ping_interval=None, compression=None, write_limit=2**20) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.sleep(3600)


def end_to_end(count: int, core: int, other: int) -> float:
    """Messages per second from the socket to delivered in Kafka, one process on one core."""
    from cli.local.servers import Broker
    from connectors.ingest import supervisor
    from connectors.kafka.publisher import Publisher
    from connectors.settings.ingest import load
    from models.messages import Message

    class Counted(Publisher):
        count, first = 0, 0.0

        def publish(self, message: Message, topic: str | None = None) -> None:
            if message.__class__.__name__ != "Status":
                self.first = self.first or time.perf_counter()
                self.count += 1
            super().publish(message, topic)

    with Broker() as broker:
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(count), "--core", str(other)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            os.sched_setaffinity(0, {core})
            venue: dict[str, Any] = {"host": f"ws://127.0.0.1:{port}", "symbols": ["AAPL"], "stale_s": {}}
            settings = load(None, venues=["binance"], binance=venue | {"publish_forming": True})
            sink = Counted(broker.bootstrap)

            async def go() -> float:
                stop = asyncio.Event()
                task = asyncio.create_task(supervisor.run(settings, stop, sink))
                held = 0
                while sink.count == 0 or sink.count != held:  # repeated bars are dropped: wait until nothing more comes
                    held = sink.count
                    await asyncio.sleep(1.0)
                    last = time.perf_counter()
                sink.flush()
                took = last - 1.0 - sink.first
                stop.set()
                await task
                return took

            took = asyncio.run(go())
            return count / took
        finally:
            server.terminate()
            server.wait()
            os.sched_setaffinity(0, {core, other})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-sdk", action="store_true")
    parser.add_argument("--no-kafka", action="store_true")
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        os.sched_setaffinity(0, {options.core})
        asyncio.run(_serve(options.serve))
        return
    cores = sorted(os.sched_getaffinity(0))
    core, other = cores[0], cores[-1]
    (ROOT / ".run").mkdir(exist_ok=True)
    print(f"{platform.platform()}, Python {platform.python_version()}, {len(cores)} cores, one used for each figure")
    result: dict[str, Any] = {"x_sdk": {}, "msgs_per_s": {}, "sdk_msgs_per_s": {}}
    if not options.no_kafka:
        result["end_to_end_msgs_per_s"] = round(end_to_end(options.messages, core, other))
        print(f"end to end: {result['end_to_end_msgs_per_s']:,} messages/s from socket to Kafka")
    for venue, sdk in SDKS.items():
        frames = frames_of(venue, options.messages)
        os.sched_setaffinity(0, {core})
        rate = ours(venue, frames, options.rounds)
        os.sched_setaffinity(0, set(cores))
        result["msgs_per_s"][venue] = round(rate)
        line = f"{venue}: {rate:,.0f} messages/s"
        if not options.no_sdk:
            try:
                sdk_rate = theirs(venue, frames, options.rounds, core)
            except subprocess.CalledProcessError as error:
                print(f"{sdk} does not run here: {(error.stderr or str(error)).strip().splitlines()[-1]}")
            else:
                result["sdk_msgs_per_s"][venue] = round(sdk_rate)
                result["x_sdk"][venue] = round(rate / sdk_rate, 2)
                line += f", {sdk} {sdk_rate:,.0f}: {rate / sdk_rate:.2f} x"
        print(line, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
