"""HTTP: opening, listing, changing and deleting sessions; asking; domains."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from tornado.iostream import StreamClosedError

from actors.directory import unknown_domain
from actors.messages import AskQuery, Delete, Reconfigure, StopListening
from actors.protocol import (
    MAX_ID_CHARS,
    Code,
    GetStatus,
    Message,
    Query,
    RefusedError,
    parse_data,
    rfc3339,
    timestamp,
)
from events.aggregate import Cause
from projections.positions import SESSIONS
from projections.sessions import SessionRow
from projections.waiting import has_read_within
from web.api import ApiHandler
from web.bodies import OpenSessionBody, ReconfigureBody, parse_body, parse_object
from web.parameters import integer, user_id

LIST_WAITS_S = 1.0  # for the list to show what this process has just opened, renamed or deleted


class SessionsHandler(ApiHandler):
    """`/api/v1/sessions`."""

    async def get(self) -> None:
        """The list of sessions, those with the newest activity first."""
        limit = integer(self, "limit", default=50, low=1, high=500)
        offset = integer(self, "offset", default=0, high=2**31 - 1)
        # What was just done here should show; an older list is better than none.
        own = self.directory.last_listed_position
        await has_read_within(self.services.pool, SESSIONS, own, LIST_WAITS_S)
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
            raise unknown_domain(config.domain, self.services.domains)
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
        cause = Cause(user_id(self) or "anonymous", request_id=self._idempotency_key())
        if self.services.draining.is_set():
            raise RefusedError(Code.UNAVAILABLE, "The server is restarting. Ask again.")
        refusal = self.admission.count_query(cause.user_id)
        if refusal is not None:
            raise refusal
        messages: asyncio.Queue[Message] = asyncio.Queue()
        listen = messages.put_nowait
        self._hang_up = lambda: self.directory.tell_live(session_id, StopListening(listen))
        await self.directory.ask(session_id, AskQuery(query, cause, listen))
        if wants_events:
            await self._stream(messages)
        else:
            await self._answer_when_done(session_id, messages)

    def _idempotency_key(self) -> str | None:
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= MAX_ID_CHARS:
            raise RefusedError(
                Code.INVALID_DATA, f"`Idempotency-Key` must have 1 to {MAX_ID_CHARS} characters."
            )
        return key

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
