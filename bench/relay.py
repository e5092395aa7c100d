"""How many clients one relay serves, how fast, and what a slow one costs the others.

    python bench/relay.py [--clients 2000] [--messages 60] [--rounds 3]

Real Redis, the real relay process, and for comparison a plain ``websockets`` server that awaits ``gather`` over its
clients (no compression, one JSON encoding a tier), in the same run, with the same signals and the same clients:

- deliveries per second of server CPU time at ``--clients`` connections, both servers;
- p99 from publishing to the last byte in the client, 1,000 connections, 10 signals/s (10,000 deliveries/s);
- the same with 1 % of the connections not reading, in alternating rounds, median over the rounds;
- resident memory per connection.

The clients are raw sockets in another process that counts frames: cheap, so that the server is what is measured. Last
line: one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import redis  # noqa: E402

from cli.local.servers import RedisServer  # noqa: E402
from connectors.redis import keys as redis_keys  # noqa: E402
from models.messages import Contribution, ProfileDecision, Signal, encode  # noqa: E402
from relay.users import open_store  # noqa: E402

TIERS = ("free", "premium", "dynamic")
MARK = b"sent_ns="


def make_signal(number: int) -> Signal:
    """A signal of usual size that carries its own sending time (as its symbol, which every tier sees)."""
    now_ms, stamp = int(time.time() * 1e3), f"sent_ns={time.time_ns():020d}"
    profile = ProfileDecision(action="buy", confidence=0.7, time_horizon="3d", target_price=110.0, stop_loss=95.0)
    names = ["rsi_14", "macd", "macd_signal", "bb_position", "stoch_k", "adx", "momentum_1", "momentum_3", "atr_14"]
    return Signal(
        signal_id=f"bench-{now_ms}-{number}", symbol=stamp, timeframe="1m", action="buy", confidence=0.7,
        entry_price=100.0, target_price=110.0, stop_loss=95.0, time_horizon="3d", created_ms=now_ms,
        emitted_ms=now_ms, expires_ms=now_ms + 3_600_000, reasoning="RSI indicates oversold conditions. " * 3,
        contributions=[Contribution(feature=name, value=1.5, contribution=0.1) for name in names[:6]],
        model_votes={"xgboost_swing": ("buy", 0.8), "lightgbm_day": ("buy", 0.7), "neural_net": ("hold", 0.5)},
        features_used=dict.fromkeys(names, 1.2345678), bundle="bench", risk_profiles={"moderate": profile},
    )  # fmt: skip


# The server to compare with: run as `python bench/relay.py --gather REDIS_URL`


async def gather_server(redis_url: str) -> None:
    """What one writes first: encode once a tier, await gather over everyone."""
    from redis.asyncio import Redis
    from websockets.asyncio.server import serve

    from relay import protocol
    from relay.state import State

    clients: dict[str, set[Any]] = {tier: set() for tier in TIERS}

    async def handle(socket: Any) -> None:
        tier = json.loads(await socket.recv())["token"]
        clients[tier].add(socket)
        try:
            await socket.wait_closed()
        finally:
            clients[tier].discard(socket)

    async with serve(handle, "127.0.0.1", 0, compression=None, max_size=16_384) as server:
        print("listening", next(iter(server.sockets)).getsockname()[1], flush=True)
        state, connection, number = State(), Redis.from_url(redis_url), "$"
        while True:
            reply = await connection.xread({redis_keys.SIGNALS_STREAM: number}, count=500, block=1_000)
            for entry, fields in reply[0][1] if reply else []:
                number = entry.decode()
                event = state.apply(number, fields[b"id"].decode(), fields[b"kind"].decode(), fields[b"data"])
                assert event is not None
                sends = []
                for tier, members in clients.items():
                    message = protocol.project(event, tier, "moderate", state, lambda *_: "/charts/x.png")
                    assert message is not None
                    text = protocol.encode(message).decode()
                    sends += [socket.send(text) for socket in members]
                await asyncio.gather(*sends, return_exceptions=True)


# Clients: run as `python bench/relay.py --swarm PORT COUNT TOKENS`, commanded by lines on standard input


class Frames(asyncio.Protocol):
    """One raw client that counts the frames with a mark and notes how long they took."""

    def __init__(self, hello: bytes, took_ns: list[int]) -> None:
        self.hello, self.took_ns, self.buffer, self.upgraded, self.marked = hello, took_ns, bytearray(), False, 0
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        transport.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Take whole frames from what came."""
        self.buffer += data
        if not self.upgraded:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            del self.buffer[: end + 4]
            self.upgraded = True
            self.transport.write(b"\x81" + _masked_length(len(self.hello)) + b"\0\0\0\0" + self.hello)
            self.ready.set_result(None)
        now = time.time_ns()
        at = 0
        while len(self.buffer) - at >= 2:
            length, head = self.buffer[at + 1] & 127, 2
            if length == 126:
                length, head = int.from_bytes(self.buffer[at + 2 : at + 4], "big"), 4
            elif length == 127:
                length, head = int.from_bytes(self.buffer[at + 2 : at + 10], "big"), 10
            if len(self.buffer) - at < head + length:
                break
            opcode = self.buffer[at] & 15
            if opcode == 9:  # answer pings, or the keepalive of both servers would end the connection
                payload = bytes(self.buffer[at + head : at + head + length])
                self.transport.write(b"\x8a" + bytes((0x80 | length,)) + b"\0\0\0\0" + payload)
            elif (mark := self.buffer.find(MARK, at, at + head + length)) >= 0:
                self.took_ns.append(now - int(self.buffer[mark + len(MARK) : mark + len(MARK) + 20]))
                self.marked += 1
            at += head + length
        del self.buffer[:at]


def _masked_length(length: int) -> bytes:
    return bytes((0x80 | length,)) if length < 126 else b"\xfe" + length.to_bytes(2, "big")


async def swarm(port: int, count: int, tokens: list[str]) -> None:
    """Hold ``count`` connections; commands: ``reset``, ``stall N``, ``resume``, ``report``."""
    took_ns: list[int] = []
    loop = asyncio.get_running_loop()
    members: list[Frames] = []
    for start in range(0, count, 50):
        batch = []
        for i in range(start, min(start + 50, count)):
            hello = json.dumps({"type": "hello", "token": tokens[i % len(tokens)], "all": True}).encode()
            _, member = await loop.create_connection(lambda hello=hello: Frames(hello, took_ns), "127.0.0.1", port)
            batch.append(member)
        await asyncio.gather(*(member.ready for member in batch))
        members += batch
    print("connected", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    stalled: list[Frames] = []
    while line := (await reader.readline()).decode().split():
        if line[0] == "reset":
            took_ns.clear()
            for member in members:
                member.marked = 0
        elif line[0] == "stall":
            stalled = members[: int(line[1])]
            for member in stalled:
                member.transport.pause_reading()
        elif line[0] == "report":
            still = sum(not member.transport.is_closing() for member in members)
            ordered = sorted(took_ns)
            p99 = ordered[int(len(ordered) * 0.99)] / 1e6 if ordered else 0.0
            p50 = ordered[len(ordered) // 2] / 1e6 if ordered else 0.0
            told = {"received": sum(m.marked for m in members), "p99_ms": p99, "p50_ms": p50, "open": still}
            print(json.dumps(told), flush=True)
        elif line[0] == "end":
            return


class Swarm:
    """The client process."""

    def __init__(self, port: int, count: int, tokens: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--swarm", str(port), str(count), ",".join(tokens)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "connected", "the clients could not connect"

    def tell(self, command: str) -> None:
        """Give the clients a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """What was received since the last reset."""
        assert self.process.stdout is not None
        self.tell("report")
        return json.loads(self.process.stdout.readline())

    def wait_for(self, received: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """The report once so many frames were received, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while (told := self.report())["received"] < received and time.monotonic() < deadline:
            time.sleep(0.1)
        return told

    def end(self) -> None:
        """Close all connections."""
        self.tell("end")
        self.process.wait(20)


def start_relay(redis_url: str, folder: Path) -> tuple[subprocess.Popen[str], int]:
    limits = {
        "REDIS_URL": redis_url, "USERS_DSN": f"sqlite://{folder}/users.db", "CLIENTS_PER_USER_MAX": "100000",
        "CLIENTS_PER_ADDRESS_MAX": "100000", "CONNECTS_PER_S": "100000", "CONNECTS_BURST": "100000",
        "HELLO_TIMEOUT_S": "30",
    }  # fmt: skip
    environment = os.environ | {f"SIGNALS_RELAY_{name}": value for name, value in limits.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "relay"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().rpartition(":")[2])


def start_gather(redis_url: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--gather", redis_url], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().split()[1])


def publish(client: redis.Redis, messages: int, per_s: float) -> None:
    """Publish signals at a steady rate."""
    start = time.monotonic()
    for n in range(messages):
        signal = make_signal(n)
        client.xadd(redis_keys.SIGNALS_STREAM, {"id": signal.signal_id, "kind": "signal", "data": encode(signal)})  # type: ignore[arg-type]
        time.sleep(max(0.0, start + (n + 1) / per_s - time.monotonic()))


def per_cpu_second(
    process: subprocess.Popen[str], port: int, client: redis.Redis, clients: int, messages: int, tokens: list[str]
) -> tuple[float, float]:
    """Deliveries per second of the server's CPU, and its resident KiB per connection."""
    held = psutil.Process(process.pid)
    publish(client, 3, 10)  # warm
    before_kib = held.memory_info().rss / 1024
    crowd = Swarm(port, clients, tokens)
    time.sleep(1.0)
    kib = (held.memory_info().rss / 1024 - before_kib) / clients
    crowd.tell("reset")
    times = held.cpu_times()
    publish(client, messages, 10)
    told = crowd.wait_for(clients * messages)
    after = held.cpu_times()
    spent = after.user + after.system - times.user - times.system
    assert told["received"] == clients * messages, f"lost deliveries: {told} of {clients * messages}"
    crowd.end()
    return told["received"] / spent, kib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--messages", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gather", help=argparse.SUPPRESS)
    parser.add_argument("--swarm", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.gather:
        asyncio.run(gather_server(options.gather))
        return
    if options.swarm:
        asyncio.run(swarm(int(options.swarm[0]), int(options.swarm[1]), options.swarm[2].split(",")))
        return

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Py {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        client = redis.Redis.from_url(server.url)
        store = open_store(f"sqlite://{folder}/users.db")
        tokens = []
        for tier in TIERS:
            store.add(tier, tier=tier)
            tokens.append(store.issue_token(tier))

        gather, port = start_gather(server.url)
        try:
            gather_rate, gather_kib = per_cpu_second(
                gather, port, client, options.clients, options.messages, list(TIERS)
            )
        finally:
            gather.terminate()
            gather.wait(20)
        print(f"gather server: {gather_rate:,.0f} deliveries per CPU second, {gather_kib:.0f} KiB per connection")
        client.flushall()

        relay, port = start_relay(server.url, Path(folder))
        try:
            rate, kib = per_cpu_second(relay, port, client, options.clients, options.messages, tokens)
            print(f"relay:         {rate:,.0f} deliveries per CPU second, {kib:.0f} KiB per connection")
            calm, stalled, open_after = [], [], 0
            for _ in range(options.rounds):
                for stall in (0, 10):
                    crowd = Swarm(port, 1_000, tokens)
                    time.sleep(0.5)
                    crowd.tell(f"stall {stall}")
                    publish(client, 400, 40)  # before the measured part: fills what the stalled ones can hold
                    crowd.wait_for(400 * (1_000 - stall))
                    crowd.tell("reset")
                    publish(client, 100, 10)
                    told = crowd.wait_for(100 * (1_000 - stall))
                    (stalled if stall else calm).append(told["p99_ms"])
                    open_after = told["open"]
                    crowd.end()
                print(
                    f"1,000 clients, p99: {calm[-1]:.1f} ms; with 10 stalled: {stalled[-1]:.1f} ms ({open_after} open)"
                )
        finally:
            relay.terminate()
            relay.wait(20)
    p99, with_stalled = statistics.median(calm), statistics.median(stalled)
    print(
        json.dumps({
            "clients": options.clients,
            "x_gather": round(rate / gather_rate, 2),
            "p99_ms_1000": round(p99, 1),
            "stalled_shift_pct": round(100 * (with_stalled - p99) / p99, 1),
            "kib_per_client": round(kib, 1),
        })
    )  # fmt: skip


if __name__ == "__main__":
    main()
