import asyncio
import logging
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import tornado
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import (
    WebSocketHandler,
    WebSocketProtocol,
    WebSocketProtocol13,
    websocket_connect,
)

from web.frames import CHUNK_BYTES, MAX_MESSAGES_AT_ONCE, ChunkedProtocol, text_frame

PATIENCE_S = 10.0
MAX_MESSAGE_BYTES = 3 * CHUNK_BYTES
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Chunked(WebSocketHandler):
    """Is read as our sockets are."""

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        protocol = super().get_websocket_protocol()
        assert isinstance(protocol, WebSocketProtocol13)
        return ChunkedProtocol(self, False, protocol.params)


class Echo(Chunked):
    """Sends everything back."""

    async def on_message(self, message: str | bytes) -> None:
        await asyncio.sleep(0)  # the next message waits for this one
        self.answer(message)

    def answer(self, message: str | bytes) -> None:
        if isinstance(message, str):
            assert self.ws_connection is not None
            assert self.ws_connection.stream is not None
            self.ws_connection.stream.write(text_frame(message.encode()))
        else:
            self.write_message(message, binary=True)


class EchoAtOnce(Echo):
    """The same without waiting."""

    def on_message(self, message: str | bytes) -> None:  # type: ignore[override]
        self.answer(message)


class CompressedEcho(Chunked):
    """What its client sends is compressed."""

    def get_compression_options(self) -> dict[str, Any] | None:
        return {}

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class Held(Chunked):
    """Handles nothing until it may."""

    opened: "asyncio.Queue[Held]"

    def open(self) -> None:
        self.may_go_on = asyncio.Event()
        self.heard: list[str] = []
        self.opened.put_nowait(self)

    async def on_message(self, message: str | bytes) -> None:
        await self.may_go_on.wait()
        assert isinstance(message, str)
        self.heard.append(message[:10])
        if message == "last":
            self.write_message(message)


@asynccontextmanager
async def connected(
    handler: type[WebSocketHandler] = Echo,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = HTTPServer(Application([("/", handler)], websocket_max_message_size=MAX_MESSAGE_BYTES))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
    try:
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.close()
        server.stop()
        await server.close_all_connections()


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A frame as a client sends it."""
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 2**16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    mask = b"\x01\x02\x03\x04"
    repeated = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(
        size, "big"
    )
    return head + mask + masked


async def receive(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame: its opcode and payload."""
    async with asyncio.timeout(PATIENCE_S):
        first, size = await reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await reader.readexactly(8))
        return first & 0x0F, await reader.readexactly(size)


sizes = st.one_of(
    st.integers(0, 300),
    st.sampled_from([125, 126, 127, 65_535, 65_536, CHUNK_BYTES - 8, CHUNK_BYTES, 2 * CHUNK_BYTES]),
)
said = st.lists(
    st.tuples(st.sampled_from(["text", "binary", "ping", "fragmented"]), sizes), max_size=12
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    said=said,
    seed=st.integers(0, 2**32),
    cuts=st.integers(0, 20),
    handler=st.sampled_from([Echo, EchoAtOnce]),
)
async def test_whatever_is_sent_in_whatever_pieces_arrives_whole_and_in_order(
    said: list[tuple[str, int]], seed: int, cuts: int, handler: type[Echo]
) -> None:
    chance = random.Random(seed)
    sent, expected = b"", []
    for kind, size in said:
        payload = bytes(chance.choices(b"abcdefgh", k=min(size, 125) if kind == "ping" else size))
        if kind == "ping":
            sent += frame(PING, payload)
            continue  # Tornado may answer only the newest of several
        if kind == "fragmented":
            half = size // 2
            sent += frame(TEXT, payload[:half], fin=False) + frame(PING, b"between")
            sent += frame(0, payload[half:])
        else:
            sent += frame(BINARY if kind == "binary" else TEXT, payload)
        expected.append((BINARY if kind == "binary" else TEXT, payload))
    ends = sorted(chance.sample(range(len(sent) + 1), min(cuts, len(sent) + 1)))

    async with connected(handler) as (reader, writer):
        for start, end in zip([0, *ends], [*ends, len(sent)], strict=True):
            writer.write(sent[start:end])
            await writer.drain()
            await asyncio.sleep(0)
        received: list[tuple[int, bytes]] = []
        while len(received) < len(expected):
            opcode, payload = await receive(reader)
            if opcode != PONG:
                received.append((opcode, payload))

    assert received == expected


@pytest.mark.parametrize("handler", [Echo, EchoAtOnce])
async def test_frames_may_come_byte_by_byte(handler: type[Echo]) -> None:
    sent = frame(TEXT, b"") + frame(TEXT, b"one") + frame(PING, b"there?") + frame(TEXT, b"x" * 200)
    sent += frame(TEXT, b"in two ", fin=False) + frame(PING, b"between") + frame(0, b"halves")
    sent += frame(BINARY, b"two") + frame(CLOSE, struct.pack("!H", 1000))

    async with connected(handler) as (reader, writer):
        for at in range(len(sent)):
            writer.write(sent[at : at + 1])
            await asyncio.sleep(0.0005)
        received = [await receive(reader) for _ in range(8)]

    assert received == [
        (TEXT, b""),
        (TEXT, b"one"),
        (PONG, b"there?"),
        (TEXT, b"x" * 200),
        (PONG, b"between"),
        (TEXT, b"in two halves"),
        (BINARY, b"two"),
        (CLOSE, struct.pack("!H", 1000)),
    ]


@pytest.mark.parametrize("handler", [Echo, EchoAtOnce])
async def test_more_messages_than_are_handled_at_once_arrive_in_order(handler: type[Echo]) -> None:
    texts = [b"%d" % number for number in range(10 * MAX_MESSAGES_AT_ONCE)]

    async with connected(handler) as (reader, writer):
        writer.write(b"".join(frame(TEXT, text) for text in texts))
        received = [await receive(reader) for _ in texts]

    assert received == [(TEXT, text) for text in texts]


async def test_what_was_sent_before_the_client_left_is_still_handled() -> None:
    Held.opened = asyncio.Queue()
    async with connected(Held) as (_, writer):
        handler = await Held.opened.get()
        writer.write(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(CLOSE, b""))
        writer.write_eof()
        await asyncio.sleep(0.05)
        handler.may_go_on.set()
        async with asyncio.timeout(PATIENCE_S):
            while len(handler.heard) < 2:
                await asyncio.sleep(0.001)

    assert handler.heard == ["1", "2"]


async def test_a_client_is_read_no_faster_than_its_messages_are_handled() -> None:
    Held.opened = asyncio.Queue()
    texts = [b"%09d " % number + b"x" * 50_000 for number in range(400)] + [b"last"]
    async with connected(Held) as (reader, writer):
        handler = await Held.opened.get()
        protocol = handler.ws_connection
        assert isinstance(protocol, ChunkedProtocol)
        writer.write(b"".join(frame(TEXT, text) for text in texts))

        async with asyncio.timeout(PATIENCE_S):
            while not protocol._is_paused:
                await asyncio.sleep(0.001)
        kept_bytes = len(protocol._arrived) + protocol._behind_bytes
        handler.may_go_on.set()
        answer = await receive(reader)

    assert kept_bytes <= 4 * CHUNK_BYTES
    assert answer == (TEXT, b"last")
    assert handler.heard == [text[:10].decode() for text in texts]


async def test_compressed_messages_are_left_to_tornado() -> None:
    server = HTTPServer(Application([("/", CompressedEcho)]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    url = f"ws://127.0.0.1:{sockets[0].getsockname()[1]}/"
    client = await websocket_connect(url, compression_options={})

    for text in ("one", "two " * 1000, ""):
        await client.write_message(text)

        assert await client.read_message() == text

    client.close()
    server.stop()
    await server.close_all_connections()


async def test_a_handler_that_fails_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(EchoAtOnce):
        def answer(self, message: str | bytes) -> None:
            raise ValueError("as asked")

    async with connected(Failing) as (reader, writer):
        with caplog.at_level(logging.CRITICAL, logger="tornado.application"):
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))

            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 10 * MAX_MESSAGE_BYTES])
async def test_a_message_that_is_too_big_closes_with_1009(size: int) -> None:
    async with connected() as (reader, writer):
        writer.write(frame(TEXT, b"x" * size)[:100])

        opcode, payload = await receive(reader)

    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1009))


async def test_text_that_is_not_utf8_ends_the_connection() -> None:
    async with connected() as (reader, writer):
        writer.write(frame(TEXT, b"\xff\xfe"))

        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""


async def test_a_close_is_answered_and_nothing_after_it_is_handled() -> None:
    async with connected() as (reader, writer):
        writer.write(frame(CLOSE, struct.pack("!H", 1000)) + frame(TEXT, b"too late"))

        opcode, payload = await receive(reader)
        async with asyncio.timeout(PATIENCE_S):
            rest = await reader.read()

    assert (opcode, payload, rest) == (CLOSE, struct.pack("!H", 1000), b"")


def test_this_is_a_tornado_whose_insides_are_known() -> None:
    assert tornado.version_info[:2] == (6, 6), "run these tests, read its websocket.py, then say so"
