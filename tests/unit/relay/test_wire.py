"""Frames against the websockets library's own parser, and the outlet over plain ASGI."""

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocket
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from relay.wire import AsgiOutlet, payload, text_frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_frame_is_what_a_client_parses(length: int) -> None:
    text = b"x" * length
    reader = StreamReader()
    reader.feed_data(text_frame(text))
    reader.feed_eof()
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)
    frame: Frame = parsed.value.value
    assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, text)
    assert payload(text_frame(text)) == text


def test_the_outlet_over_asgi_sends_in_order_and_closes_behind_what_waits() -> None:
    async def run() -> None:
        sent: list[Any] = []
        taken = asyncio.Event()

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            await taken.wait()
            sent.append(message)

        websocket = WebSocket({"type": "websocket", "headers": []}, receive, send)
        outlet = AsgiOutlet(websocket)
        assert not outlet.open
        taken.set()
        await websocket.accept()
        taken.clear()
        assert outlet.open
        frames = [text_frame(b"one"), text_frame(b"two")]
        for frame in frames:
            outlet.write_frame(frame)
        assert outlet.waiting_bytes == sum(map(len, frames))
        outlet.close_now(4429, "enough")
        assert not outlet.open
        taken.set()
        await outlet.sent()
        assert outlet.waiting_bytes == 0
        assert [message.get("text", message.get("code")) for message in sent[1:]] == ["one", "two", 4429]

    asyncio.run(run())
