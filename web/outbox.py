"""What is on its way to one client: at once where it reads, bounded where it does not."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import prometheus_client
from tornado.iostream import IOStream, StreamClosedError

from actors.protocol import Message, Piece
from web.frames import text_frame

CHUNK_BYTES = 64 * 1024  # given to the socket's stream at once; what waits behind can be joined
MAX_ANSWERS = 32  # times the bound, of what a client has asked for: a whole graph is one message
LAST_WORDS_S = 2.0  # for what waits, before a close frame follows it

WAITING_BYTES = prometheus_client.Gauge(
    "lorewire_outgoing_bytes", "Bytes that wait for clients to read"
)
SLOW_READERS = prometheus_client.Counter(
    "lorewire_slow_readers", "Connections closed because the client read too slowly"
)


@dataclass(slots=True)
class _Waiting:
    message: Message
    request_id: str | None
    size: int


class Outbox:
    """Messages to one WebSocket. Used on the event loop only.

    A client that reads gets a message by one call of the kernel, without the stream's buffer. For
    one that does not, messages wait here: pieces of a reply are joined, and go where the whole
    reply follows. Beyond `limit` bytes of what it did not ask for, `too_slow` is called once and
    everything is dropped.
    """

    __slots__ = (
        "_answers",
        "_drained",
        "_handed",
        "_handed_answers",
        "_is_closed",
        "_is_held",
        "_limit",
        "_pushed",
        "_stream",
        "_too_slow",
        "_waiting",
    )

    def __init__(self, stream: IOStream, *, limit: int, too_slow: Callable[[], None]) -> None:
        self._stream = stream
        self._limit = limit
        self._too_slow = too_slow
        self._waiting: deque[_Waiting] | None = None  # None: nothing does, as for most clients
        self._pushed = 0  # bytes that wait, of messages that were not asked for
        self._answers = 0  # and of those that were
        self._handed = 0  # of both, what the stream has taken and not yet written
        self._handed_answers = 0
        self._drained: asyncio.Future[None] | None = None
        self._is_closed = False
        self._is_held = False

    @property
    def waiting_bytes(self) -> int:
        """What the client has not read and the kernel has not taken."""
        return self._pushed + self._answers

    @property
    def is_full(self) -> bool:
        """Whether a client should read before it asks for more."""
        return self.waiting_bytes > self._limit // 2

    def send(self, message: Message, request_id: str | None = None) -> None:
        """Send a message; with the id where it answers a request of this client."""
        if self._is_closed:
            return
        if self._waiting is not None:
            self._wait(message, request_id)
            return
        frame = _frame(message, request_id)
        left = len(frame) if self._stream.writing() else self._write(frame)
        if left:
            self._hand_over(frame[-left:], left if request_id is not None else 0)

    def hold(self) -> None:
        """Let messages wait until `release`, in the same call of the loop: then they go together.

        To give the kernel something costs as much as all else about a message.
        """
        if self._waiting is None and not self._is_closed:
            self._waiting = deque()
            self._is_held = True

    def release(self) -> None:
        """Send what has come since `hold`."""
        if self._is_held:
            self._is_held = False
            self._go_on()

    async def drained(self) -> None:
        """Wait until the client has read most of what waits, or is gone."""
        while self.is_full:
            await self._progress()

    async def emptied(self) -> None:
        """Wait until nothing waits, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while self.waiting_bytes:
                    await self._progress()

    def close(self) -> None:
        """Drop what waits; nothing is sent any more."""
        self._is_closed = True
        WAITING_BYTES.dec(self.waiting_bytes)
        self._pushed = self._answers = self._handed = self._handed_answers = 0
        self._waiting = None
        self._wake()

    # -- what waits

    def _wait(self, message: Message, request_id: str | None) -> None:
        if self._waiting is None:
            self._waiting = deque()
        if isinstance(message, Piece):
            message = self._join(message, request_id)
        elif message.ends is not None:
            self._drop_pieces(message.ends)
        size = len(message.payload)
        self._waiting.append(_Waiting(message, request_id, size))
        self._count(size, request_id)
        if self._is_held:
            return  # it has not been offered to the client yet
        if self._pushed > self._limit or self._answers > MAX_ANSWERS * self._limit:
            SLOW_READERS.inc()
            self.close()
            self._too_slow()

    def _join(self, piece: Piece, request_id: str | None) -> Piece:
        """The piece with those right before it that wait, too."""
        assert self._waiting is not None
        last = self._waiting[-1] if self._waiting else None
        if (
            last is None
            or not isinstance(last.message, Piece)
            or last.message.turn_id != piece.turn_id
            or last.request_id != request_id
        ):
            return piece
        self._waiting.pop()
        self._count(-last.size, request_id)
        return last.message.joined(piece)

    def _drop_pieces(self, turn_id: object) -> None:
        """The whole reply says what its pieces would have said."""
        assert self._waiting is not None
        for one in list(self._waiting):
            if isinstance(one.message, Piece) and one.message.turn_id == turn_id:
                self._waiting.remove(one)
                self._count(-one.size, one.request_id)

    def _count(self, size: int, request_id: str | None) -> None:
        if request_id is None:
            self._pushed += size
        else:
            self._answers += size
        WAITING_BYTES.inc(size)

    # -- towards the socket

    def _write(self, frame: bytes) -> int:
        """Give a frame to the kernel; returns how many bytes it has not taken."""
        if self._stream.closed():
            return 0
        try:
            return len(frame) - self._stream.socket.send(frame)
        except BlockingIOError:
            return len(frame)
        except OSError as error:
            self._stream.close((type(error), error, error.__traceback__))
            return 0

    def _hand_over(self, data: bytes, answers: int) -> None:
        """Let the stream write what the kernel does not take now."""
        if self._waiting is None:
            self._waiting = deque()
        self._handed, self._handed_answers = len(data), answers
        self._pushed += len(data) - answers
        self._answers += answers
        WAITING_BYTES.inc(len(data))
        try:
            self._stream.write(data).add_done_callback(self._written)
        except StreamClosedError:
            self.close()

    def _written(self, written: "asyncio.Future[None]") -> None:
        if written.cancelled() or written.exception() is not None:
            self.close()  # the client is gone, and `on_close` tells
        if self._is_closed:
            return
        self._pushed -= self._handed - self._handed_answers
        self._answers -= self._handed_answers
        WAITING_BYTES.dec(self._handed)
        self._handed = self._handed_answers = 0
        self._go_on()
        if not self.is_full:
            self._wake()

    def _go_on(self) -> None:
        """Write as much of what waits as the kernel takes."""
        while self._waiting:
            frames, size, answers = [], 0, 0
            while self._waiting and size < CHUNK_BYTES:
                one = self._waiting.popleft()
                self._count(-one.size, one.request_id)
                frame = _frame(one.message, one.request_id)
                frames.append(frame)
                size += len(frame)
                answers += len(frame) if one.request_id is not None else 0
            data = b"".join(frames)
            left = self._write(data)
            if left:
                self._hand_over(data[-left:], min(left, answers))
                return
        self._waiting = None

    async def _progress(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def _wake(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.set_result(None)


def _frame(message: Message, request_id: str | None) -> bytes:
    if request_id is not None:
        return text_frame(message.payload_for(request_id))
    if message.frame is None:
        message.frame = text_frame(message.payload)
    return message.frame
