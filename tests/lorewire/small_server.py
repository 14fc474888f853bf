"""A small server that speaks the protocol, and can be told how to misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import orjson
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler


class SmallServer:
    """What the handlers share, for a test to look at and to change."""

    def __init__(self) -> None:
        self.url = ""
        self.sockets: list[SessionSocket] = []
        self.opened = 0
        self.refuse_with: int | None = None  # a close code for those who connect
        self.received: list[dict[str, Any]] = []
        self.resumed: list[list[str]] = []  # the `after` of each connection
        self.cut: set[str] = (
            set()
        )  # ids of the queries that were answered by cutting the connection
        self.bodies: list[Any] = []


class SessionSocket(WebSocketHandler):
    """Answers as the real one does, without a session behind it."""

    def initialize(self, server: SmallServer) -> None:
        self._server = server
        self._position = 0

    def open(self, *args: str, **kwargs: str) -> None:
        self._server.opened += 1
        self.session_id = args[0]
        if self._server.refuse_with is not None:
            self.close(self._server.refuse_with, "as told")
            return
        self._server.sockets.append(self)
        self._position = int(self.get_query_argument("after", "0"))
        self._server.resumed.append(self.get_query_arguments("after"))
        self.tell(
            "connection_established",
            is_at_position=True,
            connection_id=str(uuid4()),
            session_id=args[0],
            epoch="e",
            recovered=self.get_query_argument("epoch", None) == "e",
        )

    def tell(
        self,
        type_: str,
        id_: str | None = None,
        *,
        stored: bool = False,
        is_at_position: bool = False,
        **data: Any,
    ) -> None:
        envelope: dict[str, Any] = {"type": type_, "data": data}
        if id_ is not None:
            envelope["id"] = id_
        if stored:
            self._position += 1
        if stored or is_at_position:
            envelope["position"] = self._position
        self.write_message(orjson.dumps(envelope).decode())

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        request = orjson.loads(message)
        self._server.received.append(request)
        data, id_ = request["data"], request.get("id")
        match request["type"]:
            case "ping":
                self.tell("pong", id_, message=data.get("message"))
            case "search_memory" if not data["query"]:
                self.tell("error", id_, code="invalid_data", error="`query` is empty.")
            case "search_memory":
                self.tell("search_response", id_, query=data["query"], results=[])
            case "get_status":
                self.tell("status_response", id_, title="A test", turns_total=0, memory_entries=0)
            case "get_graph":
                nodes = [{"id": "a", "name": "Ada"}, {"id": "b", "name": "Babbage"}]
                edges = [{"source": "a", "target": "b", "type": "knows"}]
                self.tell("graph_response", id_, format="json", graph_data=_graph(nodes, edges))
            case "cancel":
                self.tell("cancel_response", id_, turn_id=None, cancelled=False)
            case "query" if data["message"] == "go away" and id_ not in self._server.cut:
                self._server.cut.add(id_)
                self.stream_of_bytes.close()
            case "cut":
                self.stream_of_bytes.close()
            case "query" if data["message"] == "never mind":
                pass
            case "query":
                self._reply(data["message"], id_)
        return None

    @property
    def stream_of_bytes(self) -> Any:
        assert self.ws_connection is not None
        return self.ws_connection.stream

    def _reply(self, query: str, id_: str | None) -> None:
        turn: dict[str, Any] = {"turn_id": str(uuid4())}
        self.tell("query_received", id_, stored=True, message=query, connection_id="x", **turn)
        for number, piece in enumerate(("You said ", query), 1):
            data: dict[str, Any] = {"message": piece, "partial": True, "first_sequence": number}
            self.tell("query_response", id_, **data, sequence=number, **turn)
        self.tell(
            "query_response",
            id_,
            stored=True,
            message=f"You said {query}",
            partial=False,
            recalled=["m1"],
            **turn,
        )

    def on_close(self) -> None:
        if self in self._server.sockets:
            self._server.sockets.remove(self)


class ApiHandler(RequestHandler):
    """`/api/v1/sessions` and below."""

    def initialize(self, server: SmallServer) -> None:
        self._server = server

    def post(self, *_: str) -> None:
        self._server.bodies.append(orjson.loads(self.request.body))
        self.set_status(201)
        self.write({"session_id": "s1", "status": "active"})

    def get(self, path: str | None) -> None:
        path = path or ""
        if path == "/gone":
            self.set_status(404)
            self.write({"error": "There is no session 'gone'.", "code": "not_found"})
        elif path.endswith("/events"):
            after = int(self.get_query_argument("after"))
            self.write({"events": EVENTS[after : after + 2], "has_more": after + 2 < len(EVENTS)})
        elif path == "/s1":
            self.write({"session_id": "s1", "title": "A test"})
        else:
            self.write({"sessions": [SESSION], "total": 1})

    def delete(self, *_: str) -> None:
        self.write({"status": "deleted"})


class NotLorewireHandler(RequestHandler):
    """Some other server."""

    def get(self) -> None:
        self.write("<html>")


@asynccontextmanager
async def small_server() -> AsyncIterator[SmallServer]:
    """A server on a free port of 127.0.0.1."""
    server = SmallServer()
    shared = {"server": server}
    http = HTTPServer(
        Application(
            [
                (r"/api/v1/ws/sessions/([^/]+)", SessionSocket, shared),
                (r"/api/v1/sessions(/.*)?", ApiHandler, shared),
                (r"/elsewhere/api/v1/sessions", NotLorewireHandler),
            ]
        )
    )
    socket, port = bind_unused_port()
    http.add_socket(socket)
    server.url = f"http://127.0.0.1:{port}"
    try:
        yield server
    finally:
        http.stop()
        for one in list(server.sockets):
            one.close(1012, "restarting")
        await asyncio.sleep(0)
        await http.close_all_connections()


def _graph(nodes: list[dict[str, str]], edges: list[dict[str, str]]) -> dict[str, Any]:
    return {"nodes": nodes, "edges": edges, "metadata": {}}


SESSION = {
    "session_id": "s1",
    "user_id": "ada",
    "title": "A test",
    "status": "active",
    "created_at": "2026-01-31T12:00:00.000Z",
    "last_activity": "2026-01-31T12:30:00.000Z",
    "config": {"domain": "dnd"},
}


def _event(position: int, type_: str, **data: Any) -> dict[str, Any]:
    return {
        "position": position,
        "type": type_,
        "session_id": "s1",
        "stream": "s1",
        "version": position,
        "timestamp": f"2026-01-31T12:00:0{position}.250000+00:00",
        "cause": {"user_id": "ada", "connection_id": None, "request_id": None, "turn_id": None},
        "data": data,
    }


EVENTS = [
    _event(1, "SessionOpened", user_id="ada", title="A test", config={"domain": "dnd"}, seed=[]),
    _event(2, "QueryAsked", turn_id="t1", message="Who lives\nin the mist?", context={}),
    _event(
        *(3, "ReplyCompleted"),
        turn_id="t1",
        text="A witch.",
        recalled=["m1"],
        facts=["seed:0", "seed:1"],
        duration_ms=1500,
    ),
    {"position": 4, "type": "HexCast", "error": "There is no event HexCast."},
    _event(5, "SomethingNew", how="strange"),
]
