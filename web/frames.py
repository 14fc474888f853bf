"""WebSocket frames where Tornado's own way costs too much: read in chunks, framed once.

What is overridden here is private to Tornado; `tests/web/test_frames.py` names the versions that it
was tested with.
"""

import asyncio

from tornado.iostream import StreamClosedError
from tornado.util import _websocket_mask
from tornado.websocket import WebSocketProtocol13

CHUNK_BYTES = 64 * 1024  # read at once where a client sends faster than it is read
MAX_MESSAGES_AT_ONCE = 64  # of one client; then other sockets get the loop

_TEXT = 0x1
_FIN_AND_TEXT = 0x80 | _TEXT
_MASKED = 0x80
_SIZE_FOLLOWS = 126  # in place of a size: the next two bytes have it
_HEADER_BYTES = 6  # with the mask, of a frame whose size is in its second byte


class ChunkedProtocol(WebSocketProtocol13):
    """Tornado's protocol, but a frame is cut from what has arrived.

    Tornado reads a frame in three or four awaited reads, and each goes through its stream and the
    event loop. Here the loop calls `_on_readable`, which reads the socket itself, and text messages
    that are there whole are handled in that call, while Tornado's coroutine goes on waiting for the
    next frame. Whatever else comes wakes it, and it reads and checks from what has arrived; until
    it waits again, nothing is handled but by it, so messages keep their order.
    """

    _arrived = b""  # read from the socket and not yet part of a frame
    _start = 0  # of what is left of it
    _behind: list[bytes] | None = None  # what has arrived after it
    _behind_bytes = 0
    _missing = 0  # bytes; with so many behind, the coroutine is woken
    _awakening: asyncio.Future[None] | None = None
    _is_between_frames = False  # the coroutine waits for the first byte of one
    _handled: asyncio.Future[None] | None = None  # a message before which none may be handled
    _is_paused = False  # the coroutine is behind, and the client has to wait

    async def _receive_frame_loop(self) -> None:
        if not self.stream.closed():
            self._read_the_socket()
        await super()._receive_frame_loop()

    def _read_the_socket(self) -> None:
        """Read in place of the stream, which goes on to write, and to tell that it is closed."""
        stream = self.stream
        # To the stream, it reads until it is closed: so it never stops to listen.
        stream._start_read().add_done_callback(self._on_stream_closed)
        self._arrived = stream._consume(stream._read_buffer_size)
        stream._add_io_state(stream.io_loop.READ)
        self._listen()

    def _listen(self) -> None:
        """Have the loop call us; for each socket, it knows one reader."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.stream.socket.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        try:
            chunk = self.stream.socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.stream.close((type(error), error, error.__traceback__))
            return
        if not chunk:
            self.stream.close()
        elif self._is_between_frames:
            self._arrived = chunk
            self._handle_whole_texts()
        else:
            self._keep(chunk)

    def _handle_whole_texts(self) -> None:
        """Handle what needs no waiting; the coroutine is woken for the rest."""
        for _ in range(MAX_MESSAGES_AT_ONCE):
            payload = self._take_whole_text()
            if payload is None:
                break
            self._handled = self._handle_message(_TEXT, payload)
            if self._handled is not None or self.client_terminated:
                break
            if not self._arrived:
                return
        self._wake()

    def _keep(self, chunk: bytes) -> None:
        """Keep what the coroutine has not asked for yet, or not all of."""
        if self._behind is None:
            self._behind = []
        self._behind.append(chunk)
        self._behind_bytes += len(chunk)
        if self._awakening is None:
            if self._behind_bytes >= CHUNK_BYTES:
                self._is_paused = True
                asyncio.get_running_loop().remove_reader(self.stream.socket.fileno())
        elif self._behind_bytes >= self._missing:
            self._wake()

    def _on_stream_closed(self, _: object) -> None:
        self._wake()

    def _wake(self) -> None:
        self._is_between_frames = False
        awakening, self._awakening = self._awakening, None
        if awakening is not None and not awakening.done():
            awakening.set_result(None)

    # -- in Tornado's coroutine

    async def _receive_frame(self) -> None:
        if not self._arrived and not self._behind:
            self._is_between_frames = True
            await self._progress()
        if self._handled is not None:
            before, self._handled = self._handled, None
            await before
            return
        payload = self._take_whole_text()
        if payload is None:
            await super()._receive_frame()
            return
        handled = self._handle_message(_TEXT, payload)
        if handled is not None:
            await handled

    async def _read_bytes(self, n: int) -> bytes:
        if self._start + n > len(self._arrived):
            await self._wait_for(n)
        data = self._arrived[self._start : self._start + n]
        self._advance(self._start + n)
        return data

    async def _wait_for(self, n: int) -> None:
        """Have at least `n` bytes at hand, from the first byte of the buffer."""
        self._missing = n - (len(self._arrived) - self._start)
        while self._behind_bytes < self._missing:
            await self._progress()
        self._arrived = b"".join((self._arrived[self._start :], *(self._behind or ())))
        self._start = 0
        self._behind, self._behind_bytes = None, 0

    async def _progress(self) -> None:
        """Wait until what is missing has arrived, or the stream is closed."""
        if self.stream.closed():
            raise StreamClosedError(real_error=self.stream.error)
        if self._is_paused:
            self._is_paused = False
            self._listen()
        self._awakening = asyncio.get_running_loop().create_future()
        await self._awakening

    # -- what has arrived

    def _take_whole_text(self) -> bytes | None:
        """The payload of the next frame, where that is a whole masked text message, all there."""
        arrived, start = self._arrived, self._start
        if len(arrived) < start + _HEADER_BYTES or arrived[start] != _FIN_AND_TEXT:
            return None
        body = start + _HEADER_BYTES
        size = arrived[start + 1] - _MASKED
        if size == _SIZE_FOLLOWS:
            body += 2
            size = int.from_bytes(arrived[start + 2 : start + 4], "big")
        elif not 0 <= size < _SIZE_FOLLOWS:
            return None
        end = body + size
        if end > len(arrived) or size > self.params.max_message_size:
            return None
        if self._fragmented_message_buffer is not None or self._decompressor is not None:
            return None
        self._advance(end)
        return _websocket_mask(arrived[body - 4 : body], arrived[body:end])

    def _advance(self, end: int) -> None:
        """Go on behind a frame, or a part of one, that ends there."""
        self._wire_bytes_in += end - self._start
        if end == len(self._arrived):
            self._arrived, self._start = b"", 0
        else:
            self._start = end


def text_frame(payload: bytes) -> bytes:
    """One whole text message as a server sends it: not masked, not compressed.

    The same bytes are good for every connection. Source: RFC 6455, section 5.2.
    """
    size = len(payload)
    if size < 126:
        return bytes((_FIN_AND_TEXT, size)) + payload
    if size < 2**16:
        return bytes((_FIN_AND_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FIN_AND_TEXT, 127)) + size.to_bytes(8, "big") + payload
