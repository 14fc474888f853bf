"""Clients of a simulation: they remember what they heard, and resume where they were cut off."""

import asyncio
import contextlib
from typing import Any
from uuid import UUID

import orjson
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from actors.stored_messages import message_of
from events.log import Log, Recorded

GONE = (OSError, WebSocketClosedError, HTTPClientError, TimeoutError)
HANDSHAKE_S = 10.0


class Person:
    """One client of one session. Everything stored that it hears, it hears once and in order."""

    def __init__(self, name: str, session_id: UUID) -> None:
        self.name = name
        self.session_id = session_id
        self.since = 0  # the position at which it came for the first time
        self.heard: list[tuple[int, str]] = []  # positions and types of stored messages
        self.accepted: dict[str, int] = {}  # its own queries: message -> position
        self.ended: dict[str, int] = {}  # turns that it saw end: id -> position
        self.faults: list[str] = []
        self._epoch = ""
        self._last = 0
        self._socket: WebSocketClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked = 0

    @property
    def is_connected(self) -> bool:
        """Whether it has a connection, as far as it knows."""
        return self._socket is not None

    @property
    def last(self) -> int:
        """The newest position that it knows."""
        return self._last

    async def join(self, url: str) -> None:
        """Connect, and resume where it was before; does nothing where the server is gone."""
        if self._socket is not None:
            return
        parameters = {"user_id": self.name}
        if self._epoch:
            parameters |= {"after": str(self._last), "epoch": self._epoch}
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        address = f"{url.replace('http', 'ws', 1)}/api/v1/ws/sessions/{self.session_id}?{query}"
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                socket = await websocket_connect(address)
        except GONE:
            return
        payload = None
        with contextlib.suppress(*GONE):
            async with asyncio.timeout(HANDSHAKE_S):
                payload = await socket.read_message()
        if payload is None:
            socket.close()
            return
        self._greet(orjson.loads(payload))
        self._socket = socket
        self._reading = asyncio.create_task(self._read(socket))

    def cut(self) -> None:
        """Lose the connection, without a goodbye."""
        if self._socket is not None and self._socket.stream is not None:
            self._socket.stream.close()

    def leave(self) -> None:
        """Close the connection as one should."""
        if self._socket is not None:
            self._socket.close()

    async def ask(self, message: str) -> None:
        """Ask the agent."""
        self._asked += 1
        await self.send("query", {"message": message}, f"{self.name}-{self._asked}")

    async def send(self, type_: str, data: dict[str, Any], request_id: str = "x") -> None:
        """Send a request; does nothing where there is no connection."""
        if self._socket is not None:
            with contextlib.suppress(*GONE):
                payload = {"type": type_, "data": data, "id": request_id}
                await self._socket.write_message(orjson.dumps(payload))

    async def gone(self) -> None:
        """Wait until the reading has ended."""
        if self._reading is not None:
            await self._reading

    def _greet(self, message: dict[str, Any]) -> None:
        data = message["data"]
        if message["type"] != "connection_established":
            self.faults.append(f"{self.name} heard {message['type']} before it was established")
        elif not self._epoch:
            self._epoch, self._last, self.since = data["epoch"], message["position"], 0
            self.since = self._last
        elif not data["recovered"]:
            self.faults.append(f"{self.name} could not resume after {self._last}")

    async def _read(self, socket: WebSocketClientConnection) -> None:
        try:
            while (payload := await socket.read_message()) is not None:
                self._hear(orjson.loads(payload))
        finally:
            self._socket = None
            socket.close()  # releases what Tornado holds for it

    def _hear(self, message: dict[str, Any]) -> None:
        position, data = message.get("position"), message["data"]
        if position is None:
            return
        if position <= self._last:
            self.faults.append(
                f"{self.name} heard {message['type']} at {position} after {self._last}"
            )
        self._last = position
        self.heard.append((position, message["type"]))
        if message["type"] == "query_received" and message.get("id"):
            self.accepted[data["message"]] = position
        elif message["type"] == "query_response" and not data["partial"]:
            self.ended[data["turn_id"]] = position


def what_was_said(database_url: str, people: list[Person]) -> dict[str, list[tuple[int, str]]]:
    """The messages that the log holds for each person, since it came for the first time."""
    log = Log(database_url)
    try:
        said: dict[str, list[tuple[int, str]]] = {}
        for person in people:
            said[person.name] = []
            after = person.since
            while items := log.read_session(person.session_id, after=after, limit=1000):
                for one in items:
                    assert isinstance(one, Recorded)
                    message = message_of(one.event, one.position)
                    if message is not None and person.since:
                        said[person.name].append((one.position, message.type))
                after = items[-1].position
        return said
    finally:
        log.close()
