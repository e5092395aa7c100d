"""What each record in a job's state begins with: its kind and the version of its layout.

Three letters and a digit, ``SPD1``. A record is read by the version it names, so a savepoint is either understood or
refused by name, never taken for something else. Version 0 is a record without such a head, as the first jobs wrote it.

To change a layout: raise its version, define in ``earlier`` how the version before it becomes the new one, and store a
savepoint of the new layout (``tests/fixtures/savepoints/make.py``); docs/upgrades.md has the steps.
(The kernel's records, ``SPK1``, also list their families: :meth:`udfs.kernel.compiler.Kernel.decode_state`.)

>>> layout = Layout("the numbers", b"SPN", 2, size=2, earlier={1: lambda payload: payload + b"0"})
>>> layout.write(b"ab"), layout.read(b"SPN2ab"), layout.read(b"SPN1a")
(b'SPN2ab', b'ab', b'a0')
>>> layout.read(b"SPN3abc")
Traceback (most recent call last):
udfs.state.layout.StateLayoutError: state holds the numbers in layout 3, this program reads 1, 2: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

#: What to do with state that cannot be read.
REMEDY = (
    "start the program that took this savepoint, or begin without it from the log (docs/upgrades.md says what is lost)"
)


class StateLayoutError(ValueError):
    """State that this program cannot read; the message names what, both versions and the remedy."""


class Layout:
    """The layout of one kind of record.

    ``name`` is for people; ``head`` three bytes of its own; ``version`` the one written (1 to 9); ``size`` bytes of
    payload (None: any number); ``earlier`` turns the payload of an earlier version into that of this one.
    """

    def __init__(
        self,
        name: str,
        head: bytes,
        version: int,
        size: int | None = None,
        earlier: Mapping[int, Callable[[bytes], bytes]] | None = None,
    ) -> None:
        self.name, self.head, self.version, self.size, self.earlier = name, head, version, size, earlier or {}
        self._full_head = head + str(version).encode()

    def write(self, payload: bytes) -> bytes:
        """A record."""
        return self._full_head + payload

    def read(self, record: bytes) -> bytes:
        """A record's payload in the present version; StateLayoutError where that cannot be had."""
        if record[:4] == self._full_head:
            payload = record[4:]
        else:
            version = record[3:4].decode("latin-1") if record[:3] == self.head else "0"
            convert = self.earlier.get(int(version)) if version.isdigit() else None
            if convert is None:
                known = ", ".join(map(str, sorted([*self.earlier, self.version])))
                raise StateLayoutError(
                    f"state holds {self.name} in layout {version}, this program reads {known}: {REMEDY}"
                )
            payload = convert(record[4:] if version != "0" else record)
        if self.size is not None and len(payload) != self.size:
            raise StateLayoutError(
                f"state holds {self.name} in {len(payload)} bytes, this program's layout has {self.size}: {REMEDY}"
            )
        return payload


def as_it_is(payload: bytes) -> bytes:
    """The conversion where two versions differ in their head alone."""
    return payload


def require_groups(stored: str | None, groups: int) -> str:
    """The number of symbol groups as kept in state; StateLayoutError where state was written with another.

    >>> require_groups(None, 8), require_groups("8", 8)
    ('8', '8')
    >>> require_groups("8", 4)
    Traceback (most recent call last):
    udfs.state.layout.StateLayoutError: groups: the state was written with --groups 8, not 4: start with --groups 8, ...
    """
    if stored is not None and stored != str(groups):
        raise StateLayoutError(
            f"groups: the state was written with --groups {stored}, not {groups}: start with --groups {stored}, or "
            "begin without the savepoint from the log (docs/upgrades.md says what is lost)"
        )
    return str(groups)
