"""WebSocket frames where Tornado's own way costs too much: read in chunks, framed once.

What is overridden here is private to Tornado; `tests/web/test_frames.py` names the versions that it
was tested with.
"""

from tornado.util import _websocket_mask
from tornado.websocket import WebSocketProtocol13

CHUNK_BYTES = 64 * 1024  # read at once where a client sends faster than it is read

_TEXT = 0x1
_FIN_AND_TEXT = 0x80 | _TEXT
_MASKED = 0x80
_SIZE_FOLLOWS = 126  # in place of a size: the next two bytes have it
_HEADER_BYTES = 6  # with the mask, of a frame whose size is in its second byte


class ChunkedProtocol(WebSocketProtocol13):
    """Tornado's protocol, but a frame is cut from what has arrived.

    Tornado reads a frame in three or four awaited reads, and each goes through its stream and the
    event loop. Here they find their bytes in a buffer, and a text message that is there whole is
    taken in one piece. Whatever else comes is read and checked by Tornado.
    """

    _arrived = b""  # read from the stream and not yet part of a frame
    _start = 0  # of what is left of it

    async def _receive_frame(self) -> None:
        if not self._arrived:
            await self._wait_for(1)
        payload = self._take_whole_text()
        if payload is None:
            await super()._receive_frame()
            return
        handled = self._handle_message(_TEXT, payload)
        if handled is not None:
            await handled

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
        self._wire_bytes_in += end - start
        if end == len(arrived):
            self._arrived, self._start = b"", 0
        else:
            self._start = end
        return _websocket_mask(arrived[body - 4 : body], arrived[body:end])

    async def _read_bytes(self, n: int) -> bytes:
        end = self._start + n
        if end > len(self._arrived):
            await self._wait_for(n)
            end = n
        data = self._arrived[self._start : end]
        if end == len(self._arrived):
            self._arrived, self._start = b"", 0
        else:
            self._start = end
        self._wire_bytes_in += n
        return data

    async def _wait_for(self, n: int) -> None:
        """Have at least `n` bytes at hand, from the first byte of the buffer."""
        chunks = [self._arrived[self._start :]]
        missing = n - len(chunks[0])
        self._arrived, self._start = chunks[0], 0
        while missing > 0:
            chunk = await self.stream.read_bytes(max(missing, CHUNK_BYTES), partial=True)
            chunks.append(chunk)
            missing -= len(chunk)
        self._arrived = b"".join(chunks)


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
