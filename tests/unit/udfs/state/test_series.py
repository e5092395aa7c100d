"""The matrix over keyed state: filled again after a restart, a group at a time, however many series there are."""

import numpy as np
import pytest

from udfs.state.layout import StateLayoutError
from udfs.state.series import GroupsState, SeriesStates


class KeyedMap:
    """A map per key, as Flink's keyed state gives it; ``key`` is the group in hand."""

    def __init__(self) -> None:
        self.maps: dict[int, dict[str, bytes]] = {}
        self.key = 0

    def items(self):
        return list(self.maps.get(self.key, {}).items())

    def put(self, key, value):
        self.maps.setdefault(self.key, {})[key] = value


def fresh(n):
    return np.zeros((n, 3))


def test_every_series_comes_back_after_a_restart_beyond_the_first_size_too():
    records = KeyedMap()
    states = SeriesStates(records, fresh, np.ndarray.tobytes, np.frombuffer)
    names = {
        group: [(f"S{group}-{i}", timeframe) for i in range(300) for timeframe in ("1m", "1d")] for group in (0, 5)
    }
    for group, series in names.items():
        records.key = group
        assert states.of_group(group) == {}
        for i, name in enumerate(series):
            row = states.row(group, name)
            assert (states.matrix[row] == 0.0).all()
            states.matrix[row] = (group, i, 0.5)
            states.write(name, row)
    again = SeriesStates(records, fresh, np.ndarray.tobytes, np.frombuffer)
    for group, series in names.items():
        records.key = group
        rows = again.of_group(group)
        assert sorted(rows) == sorted(series)
        assert [again.matrix[rows[name]].tolist() for name in series] == [[group, i, 0.5] for i in range(len(series))]
    assert len({row for group in names for row in again.of_group(group).values()}) == sum(map(len, names.values()))


class KeyedValue:
    """A value per key, as Flink's keyed state gives it; ``key`` is the group in hand."""

    def __init__(self) -> None:
        self.values: dict[int, str] = {}
        self.key = 0

    def value(self):
        return self.values.get(self.key)

    def update(self, value):
        self.values[self.key] = value


def test_state_of_another_number_of_groups_is_refused_with_the_remedy():
    stored = KeyedValue()
    groups = GroupsState(stored, 8)
    for stored.key in (0, 5):
        groups.require(stored.key)
    assert stored.values == {0: "8", 5: "8"}
    stored.key = 5
    GroupsState(stored, 8).require(5)
    with pytest.raises(
        StateLayoutError, match="written with --groups 8, not 4: start with --groups 8, or begin without"
    ):
        GroupsState(stored, 4).require(5)
