"""A connection: one WebSocket of a session, and what was read through it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing import domain
from eventsourcing.domain import Aggregate
from typing_extensions import TypedDict

from events.aggregate import Cause, SessionAggregate, stable_topics


class ConnectionState(TypedDict):
    """What a snapshot of a connection holds."""

    _created_on: datetime
    _modified_on: datetime
    session_id: UUID
    is_closed: bool


@stable_topics
class Connection(SessionAggregate):
    """One WebSocket, from opening to closing. Its stream is written by the node it is on."""

    class ConnectionOpened(SessionAggregate.Event, Aggregate.Created):
        """A client connected to the session."""

        class_version = 2

        stream: bool  # False: this client wants no partial replies
        remote: str  # the client's address as the server saw it
        user_agent: str  # as the client gave it, at most 200 characters
        server: int  # the number of the server that it is on; 0: from before they had numbers

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            """Servers have numbers now."""
            state["server"] = 0

    class MemorySearched(SessionAggregate.Event):
        """Somebody searched what was said."""

        query: str
        search_type: str  # hybrid, semantic or keyword
        as_of: int | None  # the position at which memory was looked at; None: now
        view_position: int  # how far the memory view had read
        results: tuple[str, ...]  # ids of the entries that were shown, best first

    class MemoryRead(SessionAggregate.Event):
        """Somebody listed what is remembered."""

        kind: str  # conversations, entities or facts
        limit: int
        offset: int
        as_of: int | None
        view_position: int

    class GraphRead(SessionAggregate.Event):
        """Somebody looked at the knowledge graph."""

        format: str
        entity: str | None
        depth: int | None
        as_of: int | None
        view_position: int

    class StatusRead(SessionAggregate.Event):
        """Somebody asked how the session is."""

    class ConnectionClosed(SessionAggregate.Event):
        """The connection ended, from either side."""

        code: int  # the WebSocket close code
        reason: str
        received: int  # messages from the client, heartbeats and pings included
        sent: int  # messages to the client
        duration_ms: int

        def apply(self, connection: "Connection") -> None:
            """Nothing follows."""
            connection.is_closed = True

    class Snapshot(domain.Snapshot):
        """A connection as it was at one version."""

        state: ConnectionState  # type: ignore[assignment]

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id
        self.is_closed = False

    @classmethod
    def open(
        cls,
        *,
        session_id: UUID,
        user_id: str,
        stream: bool,
        remote: str,
        user_agent: str,
        server: int = 0,
    ) -> "Connection":
        """A client has connected."""
        connection_id = cls.create_id()
        return cls._create(
            cls.ConnectionOpened,
            id=connection_id,
            session_id=session_id,
            cause=Cause(user_id, connection_id),
            stream=stream,
            remote=remote,
            user_agent=user_agent[:200],
            server=server,
        )

    def record(self, read: type[SessionAggregate.Event], *, cause: Cause, **what: Any) -> None:
        """Somebody read something: MemorySearched, MemoryRead, GraphRead or StatusRead."""
        self.trigger_event(read, cause=cause, **what)

    def close(
        self, *, code: int, reason: str, received: int, sent: int, duration_ms: int, cause: Cause
    ) -> None:
        """The connection has ended; a second call changes nothing."""
        if self.is_closed:
            return
        self.trigger_event(
            self.ConnectionClosed,
            code=code,
            reason=reason,
            received=received,
            sent=sent,
            duration_ms=duration_ms,
            cause=cause,
        )
