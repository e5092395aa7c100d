"""The frame kernel: every feature of every bar of a frame, in one compiled call.

The families of ``udfs/features`` are composed into one numba function: a small module is generated that calls each
family's step with its constants and its slices of the state, and is compiled once per machine (the compiled code is
kept under :func:`models.jit.kernel_folder`, in a folder named by a hash over all sources it was made from).
The same function serves the Flink operator, the batch builder and the tests, so values cannot differ, wherever frames
are cut.

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
import os
import struct
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from models import bar_columns, jit
from models.bar_columns import BAR_COLUMNS, CALENDARS
from models.trade.calendar import calendar
from udfs.features import base
from udfs.features.base import CONTEXT, Output
from udfs.kernel import bar_sequence, catalogue
from udfs.kernel.bar_sequence import DUPLICATE, INVALID, LATE, OK, REVISED
from udfs.kernel.catalogue import FeatureConfig
from udfs.state.layout import REMEDY, Layout, StateLayoutError

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

LAYOUT = Layout("features", b"SPK", 1)
_ENTRY = struct.Struct("<QHH")  # name of a family's layout, its scalars, its rings' cells
#: Context cells that are not restored by a revision: those before ``count``.
_FIXED = base.COUNT


class Kernel:
    """The composed families of one :class:`FeatureConfig`.

    ``names`` are the outputs in column order, ``outputs`` their descriptions, ``feature_set_hash`` 16 hex digits over
    the configuration and the names; ``feature_set`` is what bundles are checked against.
    A symbol's state in one timeframe
    is a row of ``state_size`` float64 cells (what one revision needs included); ``layout_hash`` names its layout.
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
        self.feature_set = catalogue.feature_set(self.config)
        self.feature_set_hash = self.feature_set.hash
        #: The hash and the outputs of each family.
        self.families = {
            name: [self.feature_set.families[name], [output.name for output in outs]]
            for name, outs in by_family.items()
        }
        self._lay_out()
        self._module = _load(self._source(by_family))
        self._run = self._module.run
        sessions = calendar("XNYS")
        self._opens, self._closes = sessions.open_ms, sessions.close_ms

    def _lay_out(self) -> None:
        """Context, scalars of every family, the undo of both, births, rings."""
        states = {name: m.state(self._parameters[name]) for name, m in self._families.items()}
        self._states = states
        self._scalars_at: dict[str, tuple[int, int]] = {}
        exponents = [*base.CONTEXT_EXPONENTS]
        for name, state in states.items():
            self._scalars_at[name] = (len(exponents), len(exponents) + len(state.scalars))
            exponents += state.scalars.values()
        self._undo = len(exponents) - _FIXED
        exponents += [0.0] * self._undo
        self._born_at = {name: len(exponents) + i for i, name in enumerate(states)}
        exponents += [0.0] * len(states)
        self._rings_at: dict[str, tuple[int, int]] = {}
        for name, state in states.items():
            at = len(exponents)
            for slots, exponent in state.rings.values():
                exponents += [exponent] * slots
            self._rings_at[name] = (at, len(exponents))
        self.state_size = len(exponents)
        self._exponents = exponents
        entries = [_ENTRY.pack(_name_of("context", CONTEXT, {}), len(CONTEXT), 0)]
        for name, state in states.items():
            (a, b), (c, d) = self._scalars_at[name], self._rings_at[name]
            fields = (*state.scalars, *map(str, state.rings.values()))
            entries.append(_ENTRY.pack(_name_of(name, fields, self._parameters[name]), b - a, d - c))
        table = b"".join(entries)
        self.layout_hash = hashlib.sha256(table).hexdigest()[:16]
        self._header = LAYOUT.write(b"") + struct.pack("<HH", len(entries), len(table)) + table

    def _source(self, by_family: dict[str, tuple[Output, ...]]) -> str:
        """The generated module: the frame loop with every offset and constant as a literal."""
        config = self.config
        longest = max(o.first for o in self.outputs)
        span = f"{self._undo}, {_FIXED}"
        constants = {name: m.constants(self._parameters[name]) for name, m in self._families.items()}
        lines = [
            '"""Generated by udfs.kernel.compiler: one frame loop over the chosen families."""',
            "import numpy as np",
            "from udfs.kernel import bar_sequence",
            "from models.jit import njit_ieee",
            "from models.jit import inner",
            *(f"from udfs.features import {name}" for name in self._families),
            *(f"step_{name} = inner({name}.step)" for name in self._families),
            *(f"rescale_{n} = inner({n}.rescale)" for n, m in self._families.items() if hasattr(m, "rescale")),
            *(f"receive_{n} = inner({n}.receive)" for n, m in self._families.items() if hasattr(m, "receive")),
            *(f"FIRST_{n} = np.array({[o.first for o in outs]}, np.int64)" for n, outs in by_family.items()),
            f"EXPONENTS = np.array({self._exponents}, np.float64)",
            "",
            "@inner",
            "def split(state):",
            f"    ratio = state[{base.SPLIT_RATIO}]",
            "    bar_sequence.apply_split(state, EXPONENTS)",
        ]
        for name, module in self._families.items():
            if hasattr(module, "rescale"):
                c, d = self._rings_at[name]
                lines.append(f"    rescale_{name}(state[{c}:{d}], ratio, {constants[name]!r})")
        lines += [
            "",
            "@njit_ieee(cache=True, nogil=True)",
            "def run(states, rows, bars, out, quality, verdicts, opens, closes):",
            "    for i in range(rows.shape[0]):",
            "        state, bar = states[rows[i]], bars[i]",
            f"        verdict = bar_sequence.open_bar(state, {span}, bar)",
            "        verdicts[i] = verdict",
            "        out[i, :] = np.nan",
            "        if verdict >= bar_sequence.DUPLICATE:",
            f"            quality[i, :] = {base.STALE}",
            "            continue",
            f"        if verdict == bar_sequence.OK and 0.0 < state[{base.SPLIT_AT}] <= bar[{bar_columns.START}]:",
            "            split(state)",
            f"        bar_sequence.count_bar(state, {span}, bar, verdict, {CALENDARS[config.calendar]!r}, "
            f"{float(config.gap_sessions)!r}, {float(config.jump_limit)!r}, opens, closes)",
            f"        quality[i, :] = {base.SOUND}",
            f"        count, x = int(state[{base.COUNT}]), state[:{len(CONTEXT)}]",
            f"        since = count - int(state[{base.BREAK_COUNT}])",
            f"        broken = state[{base.BREAK_COUNT}] > 0.0 and since < {longest}",
        ]
        at = 0
        for name, outs in by_family.items():
            (a, b), (c, d) = self._scalars_at[name], self._rings_at[name]
            cells = f"{at}:{at + len(outs)}"
            lines += [
                f"        n = count - int(state[{self._born_at[name]}])",
                f"        step_{name}(n, bar, x, state[{a}:{b}], state[{c}:{d}], out[i, {cells}], "
                f"quality[i, {cells}], {constants[name]!r})",
                f"        bar_sequence.mask(n, since, broken, out[i, {cells}], quality[i, {cells}], FIRST_{name})",
            ]
            at += len(outs)
        lines += ["        bar_sequence.close_bar(state, bar)", ""]
        self.event_kinds: dict[str, str] = {}
        for name, module in self._families.items():
            if hasattr(module, "receive"):
                c, d = self._rings_at[name]
                self.event_kinds[module.EVENTS] = f"receive_many_{name}"
                lines += [
                    "@njit_ieee(cache=True, nogil=True)",
                    f"def receive_many_{name}(states, rows, events):",
                    "    for i in range(rows.shape[0]):",
                    "        state = states[rows[i]]",
                    f"        receive_{name}(state[:{len(CONTEXT)}], state[{c}:{d}], events[i], {constants[name]!r})",
                    "",
                ]
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
        if not (bars.flags.c_contiguous and bars.flags.writeable and bars.dtype == np.float64):
            bars = np.array(bars, np.float64, order="C")  # another layout would be compiled anew
        verdicts = np.empty(len(rows), np.int8)
        self._run(states, np.asarray(rows, np.int64), bars, out, quality, verdicts, self._opens, self._closes)
        return verdicts

    def news(self, states: Floats, rows: npt.NDArray[np.int64], events: Floats) -> None:
        """Give ``events[i]`` (``udfs.steps.side_inputs.NEWS_COLUMNS``) to ``states[rows[i]]``; no family: no effect.

        A bar uses what was known at its end, so it does not matter whether an article comes before or after the bars
        that cannot know it.
        """
        self._receive("news", states, rows, events)

    def options(self, states: Floats, rows: npt.NDArray[np.int64], events: Floats) -> None:
        """Give option summaries ``events[i]`` (``udfs.steps.side_inputs.OPTION_COLUMNS``) to ``states[rows[i]]``."""
        self._receive("options", states, rows, events)

    def _receive(self, kind: str, states: Floats, rows: npt.NDArray[np.int64], events: Floats) -> None:
        name = self.event_kinds.get(kind)
        if name is not None and len(rows):
            getattr(self._module, name)(states, rows, np.ascontiguousarray(events, np.float64))

    def split(self, states: Floats, rows: npt.NDArray[np.int64], events: Floats) -> npt.NDArray[np.int8]:
        """Announce splits ``events[i]`` (``udfs.steps.side_inputs.SPLIT_COLUMNS``) to ``states[rows[i]]``.

        Applied with the first bar that starts at or after the effective time: every price in the state is divided by
        the ratio, every volume multiplied. Verdicts: OK; DUPLICATE; INVALID (ratio not positive); LATE: bars at the new
        prices were seen already, so the series is marked broken and features are masked until they have refilled.
        """
        found = [
            bar_sequence.announce_split(states[row], float(e[0]), float(e[1]))
            for row, e in zip(rows, events, strict=True)
        ]
        return np.array(found, np.int8)

    def compute(
        self, states: Floats, rows: npt.NDArray[np.int64], bars: Floats
    ) -> tuple[npt.NDArray[np.int8], Floats, npt.NDArray[np.uint8]]:
        """:meth:`run` into new arrays: verdicts, values, quality."""
        out = np.empty((len(rows), len(self.names)))
        quality = np.empty((len(rows), len(self.names)), np.uint8)
        return self.run(states, rows, bars, out, quality), out, quality

    def encode_state(self, row: Floats) -> bytes:
        """One state as bytes, its layout in front."""
        return self._header + row.tobytes()

    def decode_state(self, data: bytes) -> Floats:
        """The state in ``data``, ``float64[state_size]``.

        Bytes of another layout are carried over family by family: a family whose layout is unchanged keeps its state,
        a new or changed one starts cold, one that is gone is dropped. StateLayoutError where it cannot be read.
        """
        if data.startswith(self._header) and len(data) == len(self._header) + 8 * self.state_size:
            return np.frombuffer(data, np.float64, self.state_size, len(self._header)).copy()
        return self._migrate(data)

    def _migrate(self, data: bytes) -> Floats:
        LAYOUT.read(data)
        (count,) = struct.unpack_from("<H", data, 4)
        entries = [_ENTRY.unpack_from(data, 8 + i * _ENTRY.size) for i in range(count)]
        ours = [_ENTRY.unpack_from(self._header, 8 + i * _ENTRY.size) for i in range(len(self._states) + 1)]
        cells = 2 * sum(entry[1] for entry in entries) - _FIXED + count - 1 + sum(entry[2] for entry in entries)
        if len(data) != (whole := 8 + count * _ENTRY.size + 8 * cells):
            raise StateLayoutError(f"state holds features in {len(data)} bytes, by its own table {whole}: {REMEDY}")
        old = np.frombuffer(data, np.float64, -1, 8 + count * _ENTRY.size)
        new = np.zeros(self.state_size)
        if entries[0] != ours[0]:
            raise StateLayoutError(
                "state holds features over other context cells than this program keeps of a series "
                f"({', '.join(CONTEXT)}): {REMEDY}"
            )
        context, scalars = len(CONTEXT), sum(entry[1] for entry in entries)
        undo = scalars - _FIXED
        new[:context] = old[:context]
        new[_FIXED + self._undo : context + self._undo] = old[_FIXED + undo : context + undo]
        places: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        at, ring = context, scalars + undo + count - 1
        for i, entry in enumerate(entries[1:]):
            places[entry] = (at, scalars + undo + i, ring)
            at, ring = at + entry[1], ring + entry[2]
        for name, entry in zip(self._states, ours[1:], strict=True):
            (a, b), (c, d), born = self._scalars_at[name], self._rings_at[name], self._born_at[name]
            if entry not in places:
                new[born] = new[base.COUNT]
                continue
            scalars_at, born_at, rings_at = places[entry]
            new[a:b] = old[scalars_at : scalars_at + b - a]
            new[a + self._undo : b + self._undo] = old[scalars_at + undo : scalars_at + undo + b - a]
            new[born] = old[born_at]
            new[c:d] = old[rings_at : rings_at + d - c]
        return new


def _name_of(name: str, fields: tuple[str, ...], parameters: dict[str, Any]) -> int:
    """A 64-bit name of a family's layout: its name, its cells and every parameter that decides what they hold."""
    text = json.dumps([name, fields, parameters], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


#: Parallel operators of one process load the same module: the second must not meet it half loaded.
_loading = threading.Lock()


def _load(source: str) -> ModuleType:
    """Import the generated module from the cache folder named by everything it is compiled from."""
    with _loading:
        return _load_alone(source)


def _load_alone(source: str) -> ModuleType:
    digest = hashlib.sha256(source.encode())
    parts = [jit.numba.__version__, np.__version__, sys.version]
    for module in (bar_columns, jit, base, bar_sequence, *catalogue.families().values()):
        parts.append(inspect.getsource(module))
    for part in parts:
        digest.update(part.encode())
    name = f"kernel_{digest.hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    folder = jit.kernel_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text() != source:
        fresh = Path(f"{path}.{os.getpid()}.new")
        fresh.write_text(source)
        fresh.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
