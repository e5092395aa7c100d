"""redis-py packs commands with hiredis, byte for byte what it would pack itself."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import Encoder
from redis.connection import PythonRespSerializer

from connectors.redis.client import connect

PYTHON = PythonRespSerializer(6_000, Encoder("utf-8", "strict", False).encode)
POOL = connect("redis://127.0.0.1:1/0").connection_pool
CONNECTION = POOL.connection_class(**POOL.connection_kwargs)  # not connected: it packs all the same


def test_hiredis_is_used() -> None:
    assert type(CONNECTION._command_packer).__name__ == "HiredisRespSerializer"


@given(
    st.sampled_from(["HSET", "SCRIPT LOAD", "XINFO STREAM", "SET"]),
    st.lists(st.one_of(st.text(max_size=80), st.binary(max_size=80), st.floats(), st.integers()), max_size=30),
)
def test_a_command_is_packed_alike(name: str, arguments: list[Any]) -> None:
    assert b"".join(CONNECTION.pack_command(name, *arguments)) == b"".join(PYTHON.pack(name, *arguments))
