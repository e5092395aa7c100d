"""Our packing of commands is redis-py's own, byte for byte."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import DataError
from redis._parsers import Encoder
from redis.connection import PythonRespSerializer

from connectors.redis.packer import Packer

PACKER = Packer()  # one for all, as a connection pool has it
THEIRS = PythonRespSerializer(6_000, Encoder("utf-8", "strict", False).encode)


@given(
    st.sampled_from(["HSET", "SCRIPT LOAD", "XINFO STREAM", "SET"]),
    st.lists(st.one_of(st.text(max_size=80), st.binary(max_size=80), st.floats(), st.integers()), max_size=30),
)
def test_a_command_is_packed_as_by_redis_py(name: str, arguments: list[Any]) -> None:
    assert b"".join(PACKER.pack(name, *arguments)) == b"".join(THEIRS.pack(name, *arguments))


def test_views_of_bytes_are_taken_and_other_types_refused() -> None:
    view = memoryview(b"ab")
    assert b"".join(PACKER.pack("SET", "k", view)) == b"".join(bytes(part) for part in THEIRS.pack("SET", "k", view))
    with pytest.raises(DataError, match="bool"):
        PACKER.pack("SET", "k", True)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.redis.packer._KEPT_MAX", 10)
    packer = Packer()
    for number in range(100):
        packer.pack("SET", f"key{number}", "x" * 65)
    assert len(packer._kept) == 10
