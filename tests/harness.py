"""A whole server inside a test: real PostgreSQL, real sockets, real projector, scripted model."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import pykka
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.netutil import bind_sockets
from tornado.websocket import WebSocketClientConnection, websocket_connect

from actors.directory import SessionDirectory
from language.domains import load_domains
from language.embedding import Embedder
from lorewire.app import wired
from lorewire.embedder import load_embedder
from lorewire.settings import Settings
from projections.runner import Projector
from tests.scripted_model import MODEL, ScriptedModel
from web.app import make_app, make_server

PATIENCE_S = 10.0  # how long a test waits for something that has to come


class Socket:
    """A client's WebSocket, with what has come through it."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self.seen: list[dict[str, Any]] = []

    async def send(self, type_: str, data: Any = None, **more: Any) -> None:
        """Send one message."""
        await self.send_raw(json.dumps({"type": type_, "data": data or {}, **more}))

    async def send_raw(self, payload: str | bytes, *, binary: bool = False) -> None:
        """Send a frame as it is."""
        await self._connection.write_message(payload, binary=binary)

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the server has closed."""
        async with asyncio.timeout(PATIENCE_S):
            payload = await self._connection.read_message()
        if payload is None:
            return None
        message: dict[str, Any] = orjson.loads(payload)
        self.seen.append(message)
        return message

    async def until(self, type_: str, **data: Any) -> dict[str, Any]:
        """The next message of a type whose data has these values; others are kept in `seen`."""
        while message := await self.receive():
            found = message["data"]
            if message["type"] == type_ and all(found.get(k) == v for k, v in data.items()):
                return message
        raise AssertionError(f"closed with {self.close_code} before {type_} {data}")

    async def ask(self, type_: str, data: Any = None, request_id: str = "ask") -> dict[str, Any]:
        """Send a request and return the first message that answers it."""
        await self.send(type_, data, id=request_id)
        while message := await self.receive():
            if message.get("id") == request_id:
                return message
        raise AssertionError(f"closed with {self.close_code} before the answer to {type_}")

    async def query(self, message: str, **more: Any) -> dict[str, Any]:
        """Ask the agent and return the final reply."""
        await self.send("query", {"message": message}, **more)
        received = await self.until("query_received", message=message)
        turn_id = received["data"]["turn_id"]
        return await self.until("query_response", turn_id=turn_id, partial=False)

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait until the server has closed; its code and reason."""
        while await self.receive():
            pass
        return self.close_code, self._connection.close_reason

    @property
    def close_code(self) -> int | None:
        """The code with which the server closed."""
        return self._connection.close_code

    def close(self) -> None:
        """Close from this side."""
        self._connection.close()

    def cut(self) -> None:
        """Cut the TCP connection, without a goodbye."""
        stream = self._connection.stream
        assert stream is not None
        stream.close()
        self._connection.close()  # releases what Tornado holds for it


@dataclass
class Server:
    """A running server, and what a client needs to use it."""

    port: int
    database_url: str
    directory: SessionDirectory
    monitor: pykka.ActorRef[Any]
    model: ScriptedModel
    sockets: list[Socket] = field(default_factory=list)

    async def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """A request with its status and its JSON (or its text)."""
        response = await self.fetch(method, path, body, raw=raw, headers=headers)
        if response.headers.get("Content-Type", "").startswith("application/json"):
            return response.code, orjson.loads(response.body)
        return response.code, response.body.decode()

    async def fetch(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> HTTPResponse:
        """A request with its whole response."""
        payload = raw if raw is not None else orjson.dumps(body) if body is not None else None
        return await AsyncHTTPClient().fetch(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            body=payload,
            headers=headers,
            allow_nonstandard_methods=True,
            raise_error=False,
            request_timeout=PATIENCE_S,
        )

    async def open_session(self, **body: Any) -> UUID:
        """A new session."""
        status, answer = await self.http("POST", "/api/v1/sessions", body)
        assert status == 201, answer
        return UUID(answer["session_id"])

    async def connect(self, session_id: UUID | str, **parameters: str) -> Socket:
        """A new connection, which has had its `connection_established`."""
        socket = await self.dial(f"/api/v1/ws/sessions/{session_id}", **parameters)
        await socket.until("connection_established")
        return socket

    async def dial(self, path: str, **parameters: str) -> Socket:
        """A new WebSocket, whatever comes through it."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        connection = await websocket_connect(f"ws://127.0.0.1:{self.port}{path}?{query}")
        socket = Socket(connection)
        self.sockets.append(socket)
        return socket

    async def caught_up(self) -> None:
        """Wait until every follower has read what is in the log now."""
        from projections.positions import FOLLOWERS
        from projections.waiting import wait_until_read

        services = self.directory.services
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(2):  # the policy's own events come behind
                head = await asyncio.to_thread(services.log.head)
                for name in FOLLOWERS:
                    await wait_until_read(services.pool, name, head)


@asynccontextmanager
async def running_server(
    database_url: str, *, with_projector: bool = True, port: int = 0, **settings: Any
) -> AsyncIterator[Server]:
    """A server on a migrated database, on a port of loopback (0: a free one)."""
    options = Settings(**{"embedder": "none", "monitor_interval_s": 0.5, **settings})
    async with (
        _projector(database_url, load_embedder(options)) if with_projector else nullcontext(),
        ScriptedModel() as model,
        wired(options, database_url, model_url=model.url, model_name=MODEL) as (
            directory,
            monitor,
        ),
    ):
        server = make_server(make_app(directory, monitor, version="test"))
        listening = bind_sockets(port, "127.0.0.1")
        server.add_sockets(listening)
        running = Server(listening[0].getsockname()[1], database_url, directory, monitor, model)
        try:
            yield running
        finally:
            model.behave()
            for socket in running.sockets:
                socket.close()
            server.stop()
            await directory.shutdown()
            await server.close_all_connections()
            for socket in running.sockets:
                socket.cut()  # one that has not read what came does not see the end either


@asynccontextmanager
async def _projector(database_url: str, embedder: Embedder | None) -> AsyncIterator[None]:
    stop = threading.Event()
    projector = Projector(database_url, domains=load_domains(), embedder=embedder)
    thread = threading.Thread(target=projector.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
