"""Stock Tornado, without actors: pings with the same JSON work, and fan-out in two ways.

    python -m bench.peers.tornado_server PORT

`/ping`, `/loop` (write_message to one after the other) and `/framed` (framed once, written to the
streams). A query with "pieces=N" sends N messages to everybody.
"""

import asyncio
import re
import struct
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

SESSION = "123e4567-e89b-12d3-a456-426614174000"


def now() -> str:
    """The time as the protocol writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def pong(payload: str) -> bytes:
    """What Lorewire answers to a ping."""
    request = orjson.loads(payload)
    ping = request["data"]
    data = {
        "message": ping["message"],
        "client_timestamp": ping["timestamp"],
        "session_id": SESSION,
        "timestamp": now(),
    }
    return orjson.dumps({"type": "pong", "data": data, "id": request["id"]})


def piece(number: int) -> dict[str, Any]:
    """A part of a reply as Lorewire streams it."""
    data = {
        "turn_id": SESSION,
        "message": "word ",
        "partial": True,
        "sequence": number,
        "session_id": SESSION,
        "timestamp": now(),
    }
    return {"type": "query_response", "data": data}


class Ping(WebSocketHandler):
    """Answers pings."""

    def on_message(self, message: str | bytes) -> None:
        """Answer."""
        assert isinstance(message, str)
        self.write_message(pong(message))


class Loop(WebSocketHandler):
    """Sends to all by write_message."""

    everybody: set["Loop"]

    def open(self, *args: str, **kwargs: str) -> None:
        """Join."""
        self.everybody.add(self)

    def on_close(self) -> None:
        """Leave."""
        self.everybody.discard(self)

    async def on_message(self, message: str | bytes) -> None:
        """Send many messages to everybody."""
        found = re.search(r"pieces=(\d+)", str(message))
        for number in range(int(found[1]) if found else 1):
            self.say(piece(number))
            await asyncio.sleep(0)

    def say(self, message: dict[str, Any]) -> None:
        """Send one message to everybody."""
        for other in self.everybody:
            other.write_message(message)


class Framed(Loop):
    """Sends to all the same frame."""

    def say(self, message: dict[str, Any]) -> None:
        """Send one message to everybody."""
        payload = orjson.dumps(message)
        size = len(payload)
        head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + struct.pack("!H", size)
        frame = head + payload
        for other in self.everybody:
            other.ws_connection.stream.write(frame)


Loop.everybody = set()
Framed.everybody = set()


async def main(port: int) -> None:
    """Serve until the process is ended."""
    app = Application([("/ping", Ping), ("/loop", Loop), ("/framed", Framed)])
    HTTPServer(app).listen(port, "127.0.0.1")
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
