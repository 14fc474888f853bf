"""A model server that answers at once: what is measured beside it is never the model.

    python -m bench.instant_model PORT

Speaks enough of OpenAI's chat completions. A reply has twelve words in four pieces; where the last
message says "pieces=N", it has N pieces, and where that says "hold", no reply comes.
"""

import asyncio
import re
import sys
from typing import Any

import orjson

WORDS = "The lantern is lit and the harbour watch knows Kira by name."
PIECES = ("The lantern is ", "lit and the harbour ", "watch knows Kira ", "by name.")


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that is kept."""

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            found = re.search(rb"content-length: (\d+)", head)
            total = end + 4 + (int(found[1]) if found else 0)
            if len(self._data) < total:
                return
            body, self._data = self._data[end + 4 : total], self._data[total:]
            if not _is_held(body):
                self._transport.write(_answer(body))


def _is_held(body: bytes) -> bool:
    return b"hold" in body and orjson.loads(body)["messages"][-1]["content"].endswith("hold")


def _answer(body: bytes) -> bytes:
    if not body:
        return _http(b"application/json", orjson.dumps({"data": [{"id": "instant"}]}))
    request = orjson.loads(body)
    if not request.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": WORDS}}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "instant"}
        usage = {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}
        choice["finish_reason"] = "stop"
        return _http(
            b"application/json", orjson.dumps({**answer, "choices": [choice], "usage": usage})
        )
    found = re.search(r"pieces=(\d+)", str(request["messages"][-1]["content"]))
    pieces = ["word "] * int(found[1]) if found else PIECES
    chunks = [_chunk({"content": piece}, None) for piece in pieces] + [_chunk({}, "stop")]
    return _http(b"text/event-stream", b"".join(chunks) + b"data: [DONE]\n\n")


def _chunk(delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "instant"}
    return b"data: " + orjson.dumps({**chunk, "choices": [choice]}) + b"\n\n"


def _http(content_type: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        content_type,
        len(body),
        body,
    )


async def main(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
