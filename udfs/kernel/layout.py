"""Where each family's cells lie in a state, and a state as bytes.

A state is a row of float64 cells: the context, every family's scalars, a copy of both behind them (what a revision goes
back to), the bar count at which each family began, and the rings. Its bytes begin with a table of families, so that
state of another layout is carried over family by family.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from types import ModuleType

import numpy as np
import numpy.typing as npt

from udfs.features.base import CONTEXT, CONTEXT_EXPONENTS, COUNT, Parameters
from udfs.state.layout import REMEDY, Layout, StateLayoutError

Floats = npt.NDArray[np.float64]

LAYOUT = Layout("features", b"SPK", 1)
_ENTRY = struct.Struct("<QHH")  # name of a family's layout, its scalars, its rings' cells
#: Context cells that are not restored by a revision: those before ``count``.
FIXED = COUNT


class StateLayout:
    """The layout of the chosen families with their parameters.

    ``size`` is the number of cells; ``scalars_at`` and ``rings_at`` the span of each family's cells, ``born_at`` the
    cell with the bar count at which it began; ``undo`` how many cells a revision restores; ``exponents`` how each cell
    scales with a split; ``hash`` names the layout.
    """

    def __init__(self, families: Mapping[str, ModuleType], parameters: Mapping[str, Parameters]) -> None:
        states = {name: m.state(parameters[name]) for name, m in families.items()}
        self._states = states
        self.scalars_at: dict[str, tuple[int, int]] = {}
        exponents = [*CONTEXT_EXPONENTS]
        for name, state in states.items():
            self.scalars_at[name] = (len(exponents), len(exponents) + len(state.scalars))
            exponents += state.scalars.values()
        self.undo = len(exponents) - FIXED
        exponents += [0.0] * self.undo
        self.born_at = {name: len(exponents) + i for i, name in enumerate(states)}
        exponents += [0.0] * len(states)
        self.rings_at: dict[str, tuple[int, int]] = {}
        for name, state in states.items():
            at = len(exponents)
            for slots, exponent in state.rings.values():
                exponents += [exponent] * slots
            self.rings_at[name] = (at, len(exponents))
        self.size = len(exponents)
        self.exponents = exponents
        entries = [_ENTRY.pack(_name_of("context", CONTEXT, {}), len(CONTEXT), 0)]
        for name, state in states.items():
            (a, b), (c, d) = self.scalars_at[name], self.rings_at[name]
            fields = (*state.scalars, *map(str, state.rings.values()))
            entries.append(_ENTRY.pack(_name_of(name, fields, parameters[name]), b - a, d - c))
        table = b"".join(entries)
        self.hash = hashlib.sha256(table).hexdigest()[:16]
        self._header = LAYOUT.write(b"") + struct.pack("<HH", len(entries), len(table)) + table

    def encode(self, row: Floats) -> bytes:
        """One state as bytes, its layout in front."""
        return self._header + row.tobytes()

    def decode(self, data: bytes) -> Floats:
        """The state in ``data``, ``float64[size]``.

        Bytes of another layout are carried over family by family: a family whose layout is unchanged keeps its state,
        a new or changed one starts cold, one that is gone is dropped. StateLayoutError where it cannot be read.
        """
        if data.startswith(self._header) and len(data) == len(self._header) + 8 * self.size:
            return np.frombuffer(data, np.float64, self.size, len(self._header)).copy()
        return self._migrate(data)

    def _migrate(self, data: bytes) -> Floats:
        LAYOUT.read(data)
        (count,) = struct.unpack_from("<H", data, 4)
        entries = [_ENTRY.unpack_from(data, 8 + i * _ENTRY.size) for i in range(count)]
        ours = [_ENTRY.unpack_from(self._header, 8 + i * _ENTRY.size) for i in range(len(self._states) + 1)]
        cells = 2 * sum(entry[1] for entry in entries) - FIXED + count - 1 + sum(entry[2] for entry in entries)
        if len(data) != (whole := 8 + count * _ENTRY.size + 8 * cells):
            raise StateLayoutError(f"state holds features in {len(data)} bytes, by its own table {whole}: {REMEDY}")
        old = np.frombuffer(data, np.float64, -1, 8 + count * _ENTRY.size)
        new = np.zeros(self.size)
        if entries[0] != ours[0]:
            raise StateLayoutError(
                "state holds features over other context cells than this program keeps of a series "
                f"({', '.join(CONTEXT)}): {REMEDY}"
            )
        context, scalars = len(CONTEXT), sum(entry[1] for entry in entries)
        undo = scalars - FIXED
        new[:context] = old[:context]
        new[FIXED + self.undo : context + self.undo] = old[FIXED + undo : context + undo]
        places: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        at, ring = context, scalars + undo + count - 1
        for i, entry in enumerate(entries[1:]):
            places[entry] = (at, scalars + undo + i, ring)
            at, ring = at + entry[1], ring + entry[2]
        for name, entry in zip(self._states, ours[1:], strict=True):
            (a, b), (c, d), born = self.scalars_at[name], self.rings_at[name], self.born_at[name]
            if entry not in places:
                new[born] = new[COUNT]
                continue
            scalars_at, born_at, rings_at = places[entry]
            new[a:b] = old[scalars_at : scalars_at + b - a]
            new[a + self.undo : b + self.undo] = old[scalars_at + undo : scalars_at + undo + b - a]
            new[born] = old[born_at]
            new[c:d] = old[rings_at : rings_at + d - c]
        return new


def _name_of(name: str, fields: tuple[str, ...], parameters: Parameters) -> int:
    """A 64-bit name of a family's layout: its name, its cells and every parameter that decides what they hold."""
    text = json.dumps([name, fields, parameters], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
