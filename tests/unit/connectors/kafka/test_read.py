"""Reading a topic to its end: the whole of it, or an error; never a part."""

import socket

import pytest

from connectors.kafka.bundle_changes import records
from connectors.kafka.read import read_to_end


@pytest.fixture
def mute_broker():
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_broker_that_does_not_answer_is_an_error_and_no_empty_topic(mute_broker):
    with pytest.raises(ConnectionError, match=mute_broker):
        list(read_to_end(mute_broker, "rollout", timeout_s=0.2))
    with pytest.raises(ConnectionError, match=mute_broker):
        records(mute_broker, "rollout", timeout_s=0.2)
