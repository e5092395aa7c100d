"""A hub and clients of the relay in this process, without sockets."""

import json
from typing import Any

from relay.hub import Client, Hub
from relay.settings import RelaySettings
from relay.state import State
from relay.users import User
from relay.wire import payload


class Pipe:
    """A client's socket: keeps what is written; ``taking`` false lets it wait, as a reader that has stopped would."""

    def __init__(self) -> None:
        self.open, self.taking = True, True
        self.frames: list[bytes] = []
        self.waiting: list[bytes] = []
        self.closed: tuple[int, str] | None = None

    @property
    def waiting_bytes(self) -> int:
        return sum(map(len, self.waiting))

    def write_frame(self, frame: bytes) -> None:
        assert self.open
        (self.frames if self.taking else self.waiting).append(frame)

    def take(self) -> None:
        """Read what has waited."""
        self.frames += self.waiting
        self.waiting.clear()

    def close_now(self, code: int, reason: str) -> None:
        self.open, self.closed = False, (code, reason)

    def messages(self) -> list[Any]:
        """Everything received since the last call."""
        received = [json.loads(payload(frame)) for frame in self.frames]
        self.frames.clear()
        return received


def make_hub(**settings: Any) -> Hub:
    """A hub that nothing has happened in."""
    return Hub(State(), RelaySettings(**settings), lambda signal_id, profile: f"/charts/{signal_id}.png")


def joined(hub: Hub, tier: str = "dynamic", risk_profile: str = "moderate", *symbols: str) -> tuple[Client, Pipe]:
    """A client of this tier that follows the symbols, or everything."""
    pipe = Pipe()
    client = Client(pipe, User(name=f"{tier} user", tier=tier, risk_profile=risk_profile), "127.0.0.1", None)
    hub.join(client)
    hub.follow(client, symbols, (), not symbols)
    return client, pipe
