"""HTTP handlers: the same sessions, without a socket."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import orjson
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler, stream_request_body

from actors.directory import SessionDirectory
from actors.errors import EXPECTED_ERRORS, refusal_of
from actors.messages import Answer, AskQuery, Delete, Reconfigure, StopListening
from actors.protocol import (
    Code,
    GetGraph,
    GetMemory,
    GetStatus,
    Message,
    Query,
    RefusedError,
    Request,
    SearchMemory,
    parse_data,
    rfc3339,
    timestamp,
)
from events.aggregate import Cause
from events.audit import as_dict
from projections.graph import EntityDetail
from projections.positions import SESSIONS
from projections.sessions import SessionRow
from projections.waiting import wait_until_read
from web.bodies import OpenSessionBody, ReconfigureBody, SparqlBody, parse_body, parse_object
from web.parameters import integer, read_request, user_id

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024  # a query of 32,000 characters with its context is far below
LIST_WAITS_S = 1.0  # for the list to show what this process has just opened, renamed or deleted

STATUS = {
    Code.INVALID_JSON: 400,
    Code.INVALID_MESSAGE: 400,
    Code.UNKNOWN_TYPE: 404,
    Code.INVALID_DATA: 422,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.TOO_LARGE: 413,
    Code.MODEL_UNAVAILABLE: 503,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
}


@stream_request_body
class ApiHandler(RequestHandler):
    """What all endpoints share: bounded bodies, JSON answers, errors without tracebacks."""

    def initialize(self, directory: SessionDirectory) -> None:
        """Called by Tornado for each request."""
        self.directory = directory
        self.services = directory.services
        self._chunks: list[bytes] = []
        self._received_bytes = 0

    def prepare(self) -> Awaitable[None] | None:
        """Refuse a body that is too large before it has come."""
        length = self.request.headers.get("Content-Length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            raise _too_large()
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Collect the body."""
        self._received_bytes += len(chunk)
        if self._received_bytes > MAX_BODY_BYTES:
            raise _too_large()
        self._chunks.append(chunk)
        return None

    @property
    def body(self) -> bytes:
        """The request's body."""
        return b"".join(self._chunks)

    def answer(self, data: Any, *, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the error that was raised, as JSON."""
        error = kwargs.get("exc_info", (None, None))[1]
        refusal = _refusal(error, status_code)
        status = STATUS.get(refusal.code, 500) if not isinstance(error, HTTPError) else status_code
        data = {"error": str(refusal), "code": refusal.code, "status_code": status}
        if refusal.details is not None:
            data["details"] = refusal.details
        self.answer(data, status=status)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what nobody expected; a refused request is not worth a traceback."""
        if _refusal(value, 500).code == Code.INTERNAL and not isinstance(value, HTTPError):
            logger.error(
                "%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb)
            )

    def session_id(self, text: str) -> UUID:
        """The session in the path."""
        try:
            return UUID(text)
        except ValueError:
            raise RefusedError(Code.NOT_FOUND, f"There is no session {text[:64]!r}.") from None

    async def read(self, session_id: UUID, request: Request) -> dict[str, Any]:
        """What the session answers to a read."""
        data: dict[str, Any] = (await self.directory.ask(session_id, Answer(request))).wire
        return data


class NotFoundHandler(ApiHandler):
    """Any other path."""

    def prepare(self) -> Awaitable[None] | None:
        """Say that there is nothing here."""
        raise RefusedError(Code.NOT_FOUND, f"There is nothing at {self.request.path[:200]}.")


class SessionsHandler(ApiHandler):
    """`/api/v1/sessions`."""

    async def get(self) -> None:
        """The list of sessions, those with the newest activity first."""
        limit = integer(self, "limit", default=50, low=1, high=500)
        offset = integer(self, "offset", default=0, high=2**31 - 1)
        await self._wait_for_own_changes()
        rows, total = await self.services.sessions.list(
            limit=limit, offset=offset, q=self.get_query_argument("q", None)
        )
        self.answer({"sessions": [_session_on_the_wire(row) for row in rows], "total": total})

    async def post(self) -> None:
        """Open a session."""
        body = parse_body(OpenSessionBody, self.body)
        session_id = await self.directory.open_session(
            user_id=body.user_id, title=body.title, config=body.config.new()
        )
        self.answer(
            {
                "session_id": session_id,
                "status": "active",
                "message": f"Connect to /api/v1/ws/sessions/{session_id}",
            },
            status=201,
        )

    async def _wait_for_own_changes(self) -> None:
        try:
            async with asyncio.timeout(LIST_WAITS_S):
                await wait_until_read(
                    self.services.pool, SESSIONS, self.directory.last_listed_position
                )
        except TimeoutError:
            pass  # an older list is better than none


class SessionHandler(ApiHandler):
    """`/api/v1/sessions/{id}`."""

    async def get(self, text: str) -> None:
        """The session."""
        session_id = self.session_id(text)
        status = await self.read(session_id, GetStatus())
        names = ("user_id", "title", "status", "created_at", "last_activity", "config")
        self.answer({"session_id": session_id, **{name: status[name] for name in names}})

    async def patch(self, text: str) -> None:
        """Rename or reconfigure the session."""
        session_id = self.session_id(text)
        body = parse_body(ReconfigureBody, self.body)
        status = await self.read(session_id, GetStatus())
        config = None if body.config is None else body.config.over(status["config"])
        if config is not None and config.domain not in self.services.domains:
            raise RefusedError(
                Code.INVALID_DATA, f"`config.domain` {config.domain!r} is not known."
            )
        cause = Cause(user_id(self) or status["user_id"])
        await self.directory.ask(session_id, Reconfigure(body.title, config, cause))
        await self.get(text)

    async def delete(self, text: str) -> None:
        """Delete the session."""
        session_id = self.session_id(text)
        await self.directory.ask(session_id, Delete(Cause(user_id(self) or "anonymous")))
        self.answer({"status": "deleted", "message": f"Session {session_id} is deleted."})


class CleanupHandler(ApiHandler):
    """`/api/v1/sessions/cleanup`."""

    async def post(self) -> None:
        """Passivate the sessions that nobody is connected to."""
        self.answer({"status": "ok", "cleaned_count": await self.directory.passivate_idle()})


class QueryHandler(ApiHandler):
    """`/api/v1/sessions/{id}/query`."""

    _hang_up: Callable[[], None] | None = None

    async def post(self, text: str) -> None:
        """Ask the agent; with `stream: true` the reply comes as server-sent events."""
        session_id = self.session_id(text)
        data = parse_object(self.body)
        wants_events = data.get("stream") is True
        query = parse_data(Query, {"stream": False, **data})
        assert isinstance(query, Query)
        request_id = self.request.headers.get("Idempotency-Key")
        cause = Cause(user_id(self) or "anonymous", request_id=request_id and request_id[:64])
        messages: asyncio.Queue[Message] = asyncio.Queue()
        listen = messages.put_nowait
        self._hang_up = lambda: self.directory.tell_live(session_id, StopListening(listen))
        await self.directory.ask(session_id, AskQuery(query, cause, listen))
        if wants_events:
            await self._stream(messages)
        else:
            await self._answer_when_done(session_id, messages)

    def on_connection_close(self) -> None:
        """The client is gone: the turn goes on, nobody listens."""
        if self._hang_up is not None:
            self._hang_up()

    async def _stream(self, messages: "asyncio.Queue[Message]") -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        is_last = False
        while not is_last:
            message = await messages.get()
            is_last = _is_last(message)
            self.write(b"event: %b\ndata: %b\n\n" % (message.type.encode(), message.payload))
            try:
                await self.flush()
            except StreamClosedError:
                return

    async def _answer_when_done(self, session_id: UUID, messages: "asyncio.Queue[Message]") -> None:
        message = await messages.get()
        while not _is_last(message):
            message = await messages.get()
        envelope = orjson.loads(message.payload)
        data = envelope["data"]
        if message.type == "error" or data.get("failed"):
            raise RefusedError(data["code"], data["error"])
        self.answer(
            {
                "response": data["message"],
                "session_id": session_id,
                "timestamp": data["timestamp"],
                "turn_id": data["turn_id"],
                "position": envelope["position"],
                "cancelled": data.get("cancelled", False),
            }
        )


class StatusHandler(ApiHandler):
    """`/api/v1/sessions/{id}/status`."""

    async def get(self, text: str) -> None:
        """How the session is."""
        session_id = self.session_id(text)
        status = await self.read(session_id, GetStatus())
        self.answer({"session_id": session_id, "timestamp": timestamp(), **status})


class MemoryHandler(ApiHandler):
    """`/api/v1/sessions/{id}/memory`."""

    async def get(self, text: str) -> None:
        """What is remembered: conversations, entities or facts."""
        names = {"type": str, "limit": int, "offset": int, "as_of": str}
        read = await self.read(self.session_id(text), read_request(self, GetMemory, names))
        data = read["data"]
        pagination = {name: data.pop(name) for name in ("limit", "offset", "has_more")}
        self.answer(
            {
                "data": data[read["type"]],
                "total": data["total"],
                "pagination": pagination,
                "view_position": read["view_position"],
            }
        )


class SearchHandler(ApiHandler):
    """`/api/v1/sessions/{id}/memory/search`."""

    async def post(self, text: str) -> None:
        """Search what was said."""
        request = parse_data(SearchMemory, parse_object(self.body))
        found = await self.read(self.session_id(text), request)
        self.answer(
            {
                "results": found["results"],
                "relevance_scores": [result["relevance_score"] for result in found["results"]],
                "total": found["total_results"],
                "query": found["query"],
                "took_ms": found["took_ms"],
                "view_position": found["view_position"],
            }
        )


class MemoryStatsHandler(ApiHandler):
    """`/api/v1/sessions/{id}/memory/stats`."""

    async def get(self, text: str) -> None:
        """How much is remembered."""
        session_id = await self._existing(text)
        memory = await self.services.memory.stats(session_id)
        graph = await self.services.graph.stats(session_id)
        self.answer(
            {
                "conversation_count": memory.conversation_count,
                "entity_count": graph.node_count,
                "relationship_count": graph.edge_count,
                "total_memory_size": memory.text_bytes,
            }
        )

    async def _existing(self, text: str) -> UUID:
        session_id = self.session_id(text)
        await self.read(session_id, GetStatus())
        return session_id


class GraphHandler(ApiHandler):
    """`/api/v1/sessions/{id}/graph`."""

    async def get(self, text: str) -> None:
        """The knowledge graph, in the format that is asked for."""
        names = {
            "format": str,
            "include_metadata": bool,
            "entity": str,
            "depth": int,
            "node_limit": int,
            "edge_limit": int,
            "as_of": str,
        }
        request = read_request(self, GetGraph, names)
        assert isinstance(request, GetGraph)
        if self.get_query_argument("format", None) is None:
            request = request.model_copy(update={"format": self._accepted_format()})
        read = await self.read(self.session_id(text), request)
        graph = read["graph_data"]
        if isinstance(graph, str):
            self.set_header("Content-Type", CONTENT_TYPES[request.format])
            self.finish(graph)
            return
        links = graph["links"] if request.format == "d3" else graph["edges"]
        stats = {"nodes": len(graph["nodes"]), "edges": len(links)}
        self.answer({**graph, "stats": stats, "view_position": read["view_position"]})

    def _accepted_format(self) -> str:
        accepted = self.request.headers.get("Accept", "")
        for format_, content_type in CONTENT_TYPES.items():
            if content_type.partition(";")[0] in accepted:
                return format_
        return "json"


class GraphStatsHandler(MemoryStatsHandler):
    """`/api/v1/sessions/{id}/graph/stats`."""

    async def get(self, text: str) -> None:
        """How large the graph is."""
        self.answer(await self.services.graph.stats(await self._existing(text)))


class EntityHandler(MemoryStatsHandler):
    """`/api/v1/sessions/{id}/graph/entity/{entity_id}`."""

    async def get(self, text: str, entity_id: str = "") -> None:
        """One entity with its relationships."""
        session_id = await self._existing(text)
        entity = await self.services.graph.entity(session_id, entity_id)
        if entity is None:
            raise RefusedError(
                Code.NOT_FOUND, f"`entity_id` {entity_id[:100]!r} is no entity of this session."
            )
        self.answer(_entity_on_the_wire(entity))


class SparqlHandler(MemoryStatsHandler):
    """`/api/v1/sessions/{id}/graph/sparql`."""

    async def post(self, text: str) -> None:
        """Answer a SELECT, ASK or CONSTRUCT query; the body is the query, or JSON with `query`."""
        session_id = await self._existing(text)
        if self.request.headers.get("Content-Type", "").startswith("application/sparql-query"):
            body = parse_body(SparqlBody, orjson.dumps({"query": self._text()}))
        else:
            body = parse_body(SparqlBody, self.body)
        graph = await self.services.graph.read(session_id)
        self.answer(await self.services.sparql.query(graph, body.query))

    def _text(self) -> str:
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise RefusedError(Code.INVALID_DATA, "The query must be UTF-8 text.") from None


class EventsHandler(MemoryStatsHandler):
    """`/api/v1/sessions/{id}/events`."""

    async def get(self, text: str) -> None:
        """The audit view: every stored event of the session, in order."""
        session_id = self.session_id(text)
        after = integer(self, "after", default=0)
        limit = integer(self, "limit", default=100, low=1, high=1_000)
        log = self.services.log
        events = await asyncio.to_thread(log.read_session, session_id, after=after, limit=limit + 1)
        if not events and not await asyncio.to_thread(log.session_head, session_id):
            raise RefusedError(Code.NOT_FOUND, f"There is no session {session_id}.")
        self.answer(
            {
                "events": [as_dict(one) for one in events[:limit]],
                "has_more": len(events) > limit,
            }
        )


class DomainsHandler(ApiHandler):
    """`/api/v1/domains`."""

    def get(self) -> None:
        """All domain configurations."""
        self.answer({"domains": [domain.model_dump() for domain in self.services.domains.values()]})


class DomainHandler(ApiHandler):
    """`/api/v1/domains/{name}`."""

    def get(self, name: str) -> None:
        """One domain configuration."""
        domain = self.services.domains.get(name)
        if domain is None:
            raise RefusedError(Code.NOT_FOUND, f"There is no domain {name[:64]!r}.")
        self.answer(domain.model_dump())


CONTENT_TYPES = {
    "turtle": "text/turtle; charset=utf-8",
    "json-ld": "application/ld+json; charset=utf-8",
    "graphml": "application/graphml+xml; charset=utf-8",
}


def _is_last(message: Message) -> bool:
    if message.type == "error":
        return True
    return message.type == "query_response" and b'"partial":false' in message.payload


def _session_on_the_wire(row: SessionRow) -> dict[str, Any]:
    return {
        "session_id": row.session_id,
        "user_id": row.user_id,
        "title": row.title,
        "status": row.status,
        "created_at": rfc3339(row.created_at),
        "last_activity": rfc3339(row.last_activity),
        "config": row.config,
    }


def _entity_on_the_wire(entity: EntityDetail) -> dict[str, Any]:
    node = entity.node
    return {
        "entity_id": node.id,
        "type": node.type,
        "properties": {"name": node.name, "description": node.description, **node.metadata},
        "relationships": [
            {
                "type": relationship.edge.type,
                "target_entity": {
                    "entity_id": relationship.other.id,
                    "name": relationship.other.name,
                    "type": relationship.other.type,
                },
                "properties": {
                    "statement_id": relationship.edge.id,
                    "direction": "outgoing" if relationship.is_outgoing else "incoming",
                    **relationship.edge.metadata,
                },
            }
            for relationship in entity.relationships
        ],
    }


def _too_large() -> RefusedError:
    return RefusedError(Code.TOO_LARGE, f"The body may have {MAX_BODY_BYTES:,} bytes at most.")


def _refusal(error: object, status_code: int) -> RefusedError:
    """What the client is told about an error of any kind."""
    if isinstance(error, EXPECTED_ERRORS):
        return refusal_of(error)
    if isinstance(error, HTTPError) and status_code < 500:
        code = {404: Code.NOT_FOUND, 405: Code.INVALID_MESSAGE}.get(status_code, Code.INVALID_DATA)
        return RefusedError(code, error.log_message or error.reason or f"HTTP {status_code}")
    return RefusedError(Code.INTERNAL, "The server made a mistake. It is in its log.")
