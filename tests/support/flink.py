"""A dictionary as Flink's state: what an operator is opened with in unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from connectors.kafka.side_inputs import SideMessage


class MapState:
    """Keyed map state of the current key."""

    def __init__(self, flink: Flink, name: str) -> None:
        self._flink, self._name = flink, name

    @property
    def _own(self) -> dict[Any, Any]:
        return self._flink.state.setdefault((self._name, self._flink.key), {})

    def items(self) -> Iterator[tuple[Any, Any]]:
        return iter(list(self._own.items()))

    def get(self, key: Any) -> Any:
        return self._own.get(key)

    def put(self, key: Any, value: Any) -> None:
        self._own[key] = value

    def remove(self, key: Any) -> None:
        del self._own[key]


class ValueState:
    """Keyed value state of the current key."""

    def __init__(self, flink: Flink, name: str) -> None:
        self._flink, self._name = flink, name

    def value(self) -> Any:
        return self._flink.state.get((self._name, self._flink.key))

    def update(self, value: Any) -> None:
        self._flink.state[self._name, self._flink.key] = value


class Counter:
    """A counter that can be read."""

    def __init__(self) -> None:
        self.count = 0

    def inc(self, by: int = 1) -> None:
        self.count += by


class Metrics:
    """A metric group that keeps its counters by their full name."""

    def __init__(self, counters: dict[str, Counter], prefix: str = "") -> None:
        self.counters, self._prefix = counters, prefix

    def add_group(self, name: str, value: Any) -> Metrics:
        return Metrics(self.counters, f"{self._prefix}{name}={value}.")

    def counter(self, name: str) -> Counter:
        return self.counters.setdefault(self._prefix + name, Counter())

    def gauge(self, name: str, read: Any) -> None:
        self.counters.setdefault(self._prefix + name, Counter())


class Flink:
    """One operator instance's surroundings; ``state`` outlives it, as a checkpoint does.

    Serves as the runtime context, and as the context of each call.
    """

    def __init__(self, state: dict[Any, Any] | None = None, instance: int = 0) -> None:
        self.state = {} if state is None else state
        self.key: Any = None
        self.counters: dict[str, Counter] = {}
        self.timers: list[int] = []
        self.watermark = -(2**63)
        self._instance = instance

    def get_map_state(self, descriptor: Any) -> MapState:
        return MapState(self, descriptor.name)

    def get_state(self, descriptor: Any) -> ValueState:
        return ValueState(self, descriptor.name)

    def get_metrics_group(self) -> Metrics:
        return Metrics(self.counters)

    def get_index_of_this_subtask(self) -> int:
        return self._instance

    def get_current_key(self) -> Any:
        return self.key

    def get_broadcast_state(self, descriptor: Any) -> Any:
        return Broadcast(self.state.setdefault((descriptor.name, "broadcast"), {}))

    def timer_service(self) -> Flink:
        return self

    def current_watermark(self) -> int:
        return self.watermark

    def register_event_time_timer(self, at_ms: int) -> None:
        self.timers.append(at_ms)

    def process(self, operator: Any, rows: list[Any]) -> list[Any]:
        """List in, list out; the first field of a row is its key."""
        found = []
        for row in rows:
            self.key = row[0]
            found += list(operator.process_element(row, self))
        return found


class Broadcast:
    """Broadcast state."""

    def __init__(self, own: dict[Any, Any]) -> None:
        self._own = own

    def get(self, key: Any) -> Any:
        return self._own.get(key)

    def put(self, key: Any, value: Any) -> None:
        self._own[key] = value


class SideInputsInMemory:
    """Side inputs that lie in a list of (topic, offset, message) instead of on topics; more may be appended."""

    messages: ClassVar[list[tuple[str, int, Any]]] = []

    def __init__(self, bootstrap: str, kinds: Any) -> None:
        self._read = 0

    def catch_up(self) -> Iterator[SideMessage]:
        return self.poll()

    def poll(self) -> Iterator[SideMessage]:
        while self._read < len(self.messages):
            topic, offset, message = self.messages[self._read]
            self._read += 1
            yield SideMessage(f"{topic}:0", offset, message)

    def close(self) -> None:
        """Nothing is open."""
