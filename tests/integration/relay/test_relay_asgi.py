"""The app under a plain ASGI server, without the relay's own transport."""

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from connectors.redis import keys as redis_keys
from models.messages import encode
from relay.app import create_app
from relay.settings import RelaySettings
from relay.users import open_store

pytestmark = pytest.mark.integration


@pytest.fixture
def served(redis_url, tmp_path):
    dsn = f"sqlite://{tmp_path}/u.db"
    store = open_store(dsn)
    store.add("ann", "premium")
    app = create_app(RelaySettings(redis_url=redis_url, users_dsn=dsn))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client, store.issue_token("ann")


def test_it_speaks_the_same_protocol(served, redis_server, make_signal):
    import redis

    client, token = served
    headers = {"host": "127.0.0.1"}
    with client.websocket_connect("/ws", headers=headers) as socket:
        socket.send_json({"type": "hello", "token": token, "all": True})
        assert [socket.receive_json()["type"] for _ in range(3)] == ["welcome", "snapshot", "system"]
        fields = {"id": "s1", "kind": "signal", "data": encode(make_signal("s1"))}
        redis.Redis.from_url(redis_server.url).xadd(redis_keys.SIGNALS_STREAM, fields)
        message = socket.receive_json()
        while message["type"] != "trading_signal":  # the data mode may change first
            message = socket.receive_json()
        assert message["data"]["signal_id"] == "s1"
    with client.websocket_connect("/ws", headers=headers) as socket:
        socket.send_json({"type": "hello", "token": "sp_wrong"})
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 4401
    assert client.get("/api/me", headers={"Authorization": f"Bearer {token}"}).json()["tier"] == "premium"
