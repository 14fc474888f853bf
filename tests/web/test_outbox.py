"""What waits for a client that does not read: bounded, joined, and nobody else's trouble."""

import asyncio
import socket
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import orjson
import pytest
import pytest_asyncio
from tornado.iostream import IOStream

from actors.protocol import Message, Piece
from web.outbox import WAITING_BYTES, Outbox

LIMIT = 256 * 1024
SMALL_BUFFER = 4096  # bytes; the kernel doubles it and adds its own


class Line:
    """An outbox on one end of a real socket, and a client that reads when it is told to."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.stream = IOStream(ours)
        self.client = IOStream(theirs)
        self.times_too_slow = 0
        self.outbox = Outbox(self.stream, limit=LIMIT, too_slow=self._too_slow)

    async def read(self) -> dict[str, object]:
        """The next message, as the client sees it."""
        head = await self.client.read_bytes(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(await self.client.read_bytes(2 if size == 126 else 8), "big")
        message: dict[str, object] = orjson.loads(await self.client.read_bytes(size))
        return message

    def _too_slow(self) -> None:
        self.times_too_slow += 1


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    yield line
    line.outbox.close()
    line.stream.close()
    line.client.close()


def message(number: int, size: int = 1000) -> Message:
    return Message("pushed", {"number": number, "text": "x" * size})


def piece(turn_id: UUID, number: int) -> Piece:
    return Piece(turn_id, turn_id, f"piece {number} ", first=number, last=number)


def clog(line: Line) -> int:
    """Send until the kernel takes no more; returns how many messages that took."""
    number = 0
    while not line.outbox.waiting_bytes:
        line.outbox.send(message(number))
        number += 1
    return number


async def test_whatever_the_pace_of_the_reader_all_comes_once_and_in_order(line: Line) -> None:
    for number in range(150):
        line.outbox.send(message(number), None if number % 3 else f"request {number}")

    heard = [await line.read() for _ in range(150)]

    assert [one["data"]["number"] for one in heard] == list(range(150))  # type: ignore[index]
    assert [one.get("id") for one in heard[:4]] == ["request 0", None, None, "request 3"]
    await line.outbox.emptied()
    assert line.outbox.waiting_bytes == 0
    line.outbox.send(message(150))
    assert (await line.read())["data"]["number"] == 150  # type: ignore[index]


async def test_what_is_held_goes_together_and_in_order(line: Line) -> None:
    line.outbox.send(message(0))
    line.outbox.hold()
    line.outbox.send(message(1))
    line.outbox.send(message(2), "7")
    assert (await line.read())["data"]["number"] == 0  # type: ignore[index]
    with pytest.raises(BlockingIOError):
        line.client.socket.recv(1)

    line.outbox.release()
    line.outbox.send(message(3))

    numbers = [(await line.read())["data"]["number"] for _ in range(3)]  # type: ignore[index]
    assert numbers == [1, 2, 3]
    assert line.outbox.waiting_bytes == 0


async def test_what_is_held_waits_behind_what_a_slow_reader_has_not_read(line: Line) -> None:
    sent = clog(line)
    line.outbox.hold()
    line.outbox.send(message(sent))
    line.outbox.release()
    line.outbox.send(message(sent + 1))

    numbers = [(await line.read())["data"]["number"] for _ in range(sent + 2)]  # type: ignore[index]
    assert numbers == list(range(sent + 2))


async def test_what_is_held_may_be_larger_than_the_bound(line: Line) -> None:
    line.outbox.hold()
    line.outbox.send(message(1, size=2 * LIMIT))
    line.outbox.send(message(2))
    line.outbox.release()

    numbers = [(await line.read())["data"]["number"] for _ in range(2)]  # type: ignore[index]
    assert (numbers, line.times_too_slow) == ([1, 2], 0)


async def test_a_client_may_go_while_something_is_held(line: Line) -> None:
    line.outbox.hold()
    line.outbox.send(message(1))
    line.outbox.close()

    line.outbox.release()
    line.outbox.send(message(2))

    assert line.outbox.waiting_bytes == 0


async def test_pieces_that_wait_are_joined(line: Line) -> None:
    count = clog(line)
    turn_id = uuid4()

    for number in range(1, 501):
        line.outbox.send(piece(turn_id, number))

    for _ in range(count):
        await line.read()
    data = (await line.read())["data"]
    assert isinstance(data, dict)
    assert (data["first_sequence"], data["sequence"]) == (1, 500)
    assert data["message"] == "".join(f"piece {number} " for number in range(1, 501))


async def test_pieces_that_wait_go_where_the_whole_reply_follows(line: Line) -> None:
    count = clog(line)
    turn_id, other_id = uuid4(), uuid4()
    line.outbox.send(piece(turn_id, 1))
    line.outbox.send(piece(other_id, 1))

    line.outbox.send(Message("query_response", {"message": "all"}, ends=turn_id))

    for _ in range(count):
        await line.read()
    assert (await line.read())["data"]["turn_id"] == str(other_id)  # type: ignore[index]
    assert (await line.read())["data"] == {"message": "all"}


async def test_beyond_the_bound_everything_is_dropped_and_said_once(line: Line) -> None:
    before = WAITING_BYTES._value.get()
    clog(line)

    for number in range(2 * LIMIT // 1000):
        line.outbox.send(message(number))

    assert line.times_too_slow == 1
    assert line.outbox.waiting_bytes == 0
    assert WAITING_BYTES._value.get() == before


async def test_an_answer_may_be_larger_than_the_bound(line: Line) -> None:
    line.outbox.send(message(1, size=3 * LIMIT), "graph")
    line.outbox.send(message(2))

    assert line.outbox.is_full
    assert (await line.read())["id"] == "graph"
    assert (await line.read())["data"]["number"] == 2  # type: ignore[index]
    await line.outbox.drained()
    assert line.times_too_slow == 0


async def test_whoever_waits_for_a_reader_goes_on_when_it_reads_or_is_gone(line: Line) -> None:
    line.outbox.send(message(1, size=LIMIT), "large")
    waiting = asyncio.create_task(line.outbox.drained())
    await asyncio.sleep(0)
    assert not waiting.done()

    await line.read()
    await waiting

    line.outbox.send(message(1, size=LIMIT), "large")
    waiting = asyncio.create_task(line.outbox.drained())
    await asyncio.sleep(0)
    line.outbox.close()
    await waiting


async def test_a_client_that_is_gone_is_no_error(line: Line) -> None:
    line.client.close()

    for number in range(1000):
        line.outbox.send(message(number))
        await asyncio.sleep(0)

    assert line.times_too_slow == 0
    assert line.stream.closed()


@pytest.mark.parametrize("size", [0, 125, 126, 70_000])
async def test_frames_of_every_length(line: Line, size: int) -> None:
    line.outbox.send(message(1, size=size))

    assert len((await line.read())["data"]["text"]) == size  # type: ignore[index]
