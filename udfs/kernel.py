"""The frame kernel: every feature of every bar of a frame, in one compiled call.

The families of ``udfs/features`` are composed into one numba function: a small module is generated that calls each
family's step with its constants and its slices of the state, and is compiled once per machine (the compiled code is
kept under :func:`udfs.compiled.cache_folder`, in a folder named by a hash over all sources it was made from). The same
function serves the Flink operator, the batch builder and the tests, so values cannot differ, wherever frames are cut.

>>> import numpy as np
>>> kernel = Kernel(FeatureConfig(families=("momentum",)))
>>> states = kernel.new_states(1)
>>> bars = np.array([[0, 60e3, 1, 1, 1, 1, 5, 0, 0], [60e3, 120e3, 1, 2, 1, 2, 5, 0, 0]])
>>> verdicts, out, quality = kernel.compute(states, np.zeros(2, np.int64), bars)
>>> verdicts.tolist(), out[1, kernel.column_of("momentum_1")].item(), bytes(quality[1])
([0, 0], 1.0, b'.www')
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from udfs import catalogue, compiled, gate
from udfs.catalogue import BAR_COLUMNS, CALENDARS, CONTEXT, FeatureConfig, Output
from udfs.gate import DUPLICATE, INVALID, LATE, OK, REVISED

__all__ = [
    "BAR_COLUMNS",
    "CALENDARS",
    "DUPLICATE",
    "INVALID",
    "LATE",
    "OK",
    "REVISED",
    "VERDICTS",
    "FeatureConfig",
    "Kernel",
    "Output",
]

#: What a verdict means, for messages and metrics.
VERDICTS = {
    OK: "ok",
    REVISED: "revised: the last bar again with a higher revision, recomputed",
    DUPLICATE: "duplicate: the last bar again without a higher revision, ignored",
    LATE: "late: older than the symbol's last bar, ignored",
    INVALID: "invalid: a price that is not positive and finite, high < low, or no length; ignored",
}

Floats = npt.NDArray[np.float64]

_MAGIC = b"SPK1"
_ENTRY = struct.Struct("<IIHH")  # family name, its layout, scalars, rings


class Kernel:
    """The composed families of one :class:`FeatureConfig`.

    ``names`` are the outputs in column order, ``outputs`` their descriptions, ``feature_set_hash`` 16 hex digits over
    the configuration and the names. A symbol's state in one timeframe is a row of ``state_size`` float64 cells (what
    one revision needs included); ``layout_hash`` names its layout.
    """

    def __init__(self, config: FeatureConfig | None = None) -> None:
        self.config = config or FeatureConfig()
        self._families = catalogue.chosen(self.config)
        self._parameters = {name: catalogue.parameters_of(name, self.config) for name in self._families}
        by_family = {name: m.outputs(self._parameters[name]) for name, m in self._families.items()}
        self.outputs: tuple[Output, ...] = tuple(o for outs in by_family.values() for o in outs)
        self.family_of: dict[str, str] = {o.name: name for name, outs in by_family.items() for o in outs}
        self.names: tuple[str, ...] = tuple(o.name for o in self.outputs)
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ValueError(f"two features have the same name: {', '.join(twice)}")
        self._columns = {name: i for i, name in enumerate(self.names)}
        self.feature_set_hash = self.config.hash
        self._lay_out()
        self._module = _load(self._source(by_family))
        self._run = self._module.run

    def _lay_out(self) -> None:
        """Scalars of the context and of every family, the same again for the undo, births, rings."""
        states = {name: m.state(self._parameters[name]) for name, m in self._families.items()}
        self._states = states
        self._scalars_at: dict[str, tuple[int, int]] = {}
        at = len(CONTEXT)
        for name, state in states.items():
            self._scalars_at[name] = (at, at + len(state.scalars))
            at += len(state.scalars)
        self.scalars = at
        self._born_at = {name: 2 * self.scalars + i for i, name in enumerate(states)}
        at = 2 * self.scalars + len(states)
        self._rings_at: dict[str, tuple[int, int]] = {}
        for name, state in states.items():
            cells = sum(slots for slots, _ in state.rings.values())
            self._rings_at[name] = (at, at + cells)
            at += cells
        self.state_size = at
        entries = [_ENTRY.pack(zlib.crc32(b"context"), _layout_of(CONTEXT, {}), len(CONTEXT), 0)]
        for name, state in states.items():
            (a, b), (c, d) = self._scalars_at[name], self._rings_at[name]
            layout = _layout_of((*state.scalars, *map(str, state.rings.values())), self._parameters[name])
            entries.append(_ENTRY.pack(zlib.crc32(name.encode()), layout, b - a, d - c))
        table = b"".join(entries)
        self.layout_hash = hashlib.sha256(table).hexdigest()[:16]
        self._header = _MAGIC + struct.pack("<HH", len(entries), 0) + table

    def _source(self, by_family: dict[str, tuple[Output, ...]]) -> str:
        """The generated module: the frame loop with every offset and constant as a literal."""
        config = self.config
        longest = max(o.first for o in self.outputs)
        lines = [
            '"""Generated by udfs.kernel: one frame loop over the chosen families."""',
            "import numpy as np",
            "from udfs import gate",
            "from udfs.compiled import njit",
            *(f"from udfs.features import {name}" for name in self._families),
            *(f"step_{name} = njit({name}.step)" for name in self._families),
            *(f"FIRST_{n} = np.array({[o.first for o in outs]}, np.int64)" for n, outs in by_family.items()),
            "",
            "@njit(cache=True, nogil=True)",
            "def run(states, rows, bars, out, quality, verdicts):",
            "    for i in range(rows.shape[0]):",
            "        state, bar = states[rows[i]], bars[i]",
            f"        verdict = gate.open_bar(state, {self.scalars}, bar, {CALENDARS[config.calendar]!r}, "
            f"{float(config.jump_limit)!r})",
            "        verdicts[i] = verdict",
            "        out[i, :] = np.nan",
            "        if verdict >= gate.DUPLICATE:",
            f"            quality[i, :] = {catalogue.STALE}",
            "            continue",
            f"        quality[i, :] = {catalogue.SOUND}",
            f"        count, x = int(state[{catalogue.COUNT}]), state[:{len(CONTEXT)}]",
            f"        since = count - int(state[{catalogue.BREAK_COUNT}])",
            f"        broken = state[{catalogue.BREAK_COUNT}] > 0.0 and since < {longest}",
        ]
        at = 0
        for name, outs in by_family.items():
            (a, b), (c, d) = self._scalars_at[name], self._rings_at[name]
            constants = self._families[name].constants(self._parameters[name])
            cells = f"{at}:{at + len(outs)}"
            lines += [
                f"        n = count - int(state[{self._born_at[name]}])",
                f"        step_{name}(n, bar, x, state[{a}:{b}], state[{c}:{d}], out[i, {cells}], "
                f"quality[i, {cells}], {constants!r})",
                f"        gate.mask(n, since, broken, out[i, {cells}], quality[i, {cells}], FIRST_{name})",
            ]
            at += len(outs)
        lines += ["        gate.close_bar(state, bar)", ""]
        return "\n".join(lines)

    def column_of(self, name: str) -> int:
        """The column of a feature; an unknown name says what there is."""
        if name not in self._columns:
            raise KeyError(f"feature {name!r} is not computed; there are: {', '.join(self.names)}")
        return self._columns[name]

    def new_states(self, n: int) -> Floats:
        """``n`` cold states, ``float64[n, state_size]``."""
        return np.zeros((n, self.state_size))

    def run(
        self,
        states: Floats,
        rows: npt.NDArray[np.int64],
        bars: Floats,
        out: Floats,
        quality: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.int8]:
        """Update ``states[rows[i]]`` with ``bars[i]`` in order, and write its features to ``out[i]``.

        ``bars`` is ``float64[n, len(BAR_COLUMNS)]`` (columns after ``revision`` may be left out: 0); ``out``
        ``float64[n, len(names)]`` and ``quality`` ``uint8[n, len(names)]`` (ASCII codes of
        ``models.messages.QUALITY``) are filled. Returns the verdicts, ``int8[n]``; a row that is not OK or REVISED left
        the state as it was and is all NaN, quality "s".
        """
        if bars.shape[1] < len(BAR_COLUMNS):
            bars = np.hstack([bars, np.zeros((len(bars), len(BAR_COLUMNS) - bars.shape[1]))])
        verdicts = np.empty(len(rows), np.int8)
        self._run(states, rows, bars, out, quality, verdicts)
        return verdicts

    def compute(
        self, states: Floats, rows: npt.NDArray[np.int64], bars: Floats
    ) -> tuple[npt.NDArray[np.int8], Floats, npt.NDArray[np.uint8]]:
        """:meth:`run` into new arrays: verdicts, values, quality."""
        out = np.empty((len(rows), len(self.names)))
        quality = np.empty((len(rows), len(self.names)), np.uint8)
        return self.run(states, rows, np.ascontiguousarray(bars, np.float64), out, quality), out, quality

    def encode_state(self, row: Floats) -> bytes:
        """One state as bytes, its layout in front."""
        return self._header + row.tobytes()

    def decode_state(self, data: bytes) -> Floats:
        """The state in ``data``, ``float64[state_size]``.

        Bytes of another layout are carried over family by family: a family whose layout is unchanged keeps its state,
        a new or changed one starts cold, one that is gone is dropped.
        """
        if data.startswith(self._header):
            return np.frombuffer(data, np.float64, self.state_size, len(self._header)).copy()
        return self._migrate(data)

    def _migrate(self, data: bytes) -> Floats:
        if data[:4] != _MAGIC:
            raise ValueError(f"not a kernel state: it starts with {data[:4]!r}, expected {_MAGIC!r}")
        (count,) = struct.unpack_from("<H", data, 4)
        entries = [_ENTRY.unpack_from(data, 8 + i * _ENTRY.size) for i in range(count)]
        old = np.frombuffer(data, np.float64, -1, 8 + count * _ENTRY.size)
        new = np.zeros(self.state_size)
        scalars_old = sum(e[2] for e in entries)
        ours = [_ENTRY.unpack_from(self._header, 8 + i * _ENTRY.size) for i in range(len(self._states) + 1)]
        if entries[0] != ours[0]:
            return new
        context = len(CONTEXT)
        new[:context] = old[:context]
        new[self.scalars : self.scalars + context] = old[scalars_old : scalars_old + context]
        places: dict[tuple[int, int, int, int], tuple[int, int, int]] = {}
        at, ring = context, 2 * scalars_old + count - 1
        for i, entry in enumerate(entries[1:]):
            places[entry] = (at, 2 * scalars_old + i, ring)
            at, ring = at + entry[2], ring + entry[3]
        for name, entry in zip(self._states, ours[1:], strict=True):
            (a, b), (c, d), born = self._scalars_at[name], self._rings_at[name], self._born_at[name]
            if entry not in places:
                new[born] = new[catalogue.COUNT]
                continue
            scalars_at, born_at, rings_at = places[entry]
            new[a:b] = old[scalars_at : scalars_at + b - a]
            undo = scalars_old + scalars_at
            new[self.scalars + a : self.scalars + b] = old[undo : undo + b - a]
            new[born] = old[born_at]
            new[c:d] = old[rings_at : rings_at + d - c]
        return new


def _layout_of(fields: tuple[str, ...], parameters: dict[str, Any]) -> int:
    """A 32-bit name of a family's layout: its cells and every parameter that decides what they hold."""
    return zlib.crc32(json.dumps([fields, parameters], sort_keys=True).encode())


def _load(source: str) -> ModuleType:
    """Import the generated module from the cache folder named by everything it is compiled from."""
    import numba

    digest = hashlib.sha256(source.encode())
    parts = [numba.__version__, np.__version__, sys.version]
    for module in (catalogue, compiled, gate, *catalogue.families().values()):
        parts.append(inspect.getsource(module))
    for part in parts:
        digest.update(part.encode())
    name = f"kernel_{digest.hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    folder = compiled.cache_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text() != source:
        fresh = Path(f"{path}.{id(source)}.new")
        fresh.write_text(source)
        fresh.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
