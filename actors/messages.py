"""What can be told to and asked of a session's actor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from actors.connection import Connection
from actors.protocol import Message, Query, Request
from actors.resume import Resume
from actors.view_progress import ViewName
from events.aggregate import Cause
from events.session import SessionConfig, TokenUsage


@dataclass(frozen=True)
class Connect:
    """Ask: a client has connected. Answered when it is one of the session's connections."""

    connection: Connection
    resume: Resume | None = None  # None: it has not been here before


@dataclass(frozen=True)
class CatchUp:
    """Tell: a connection that resumes is ready for the next page of what it has missed."""

    connection: Connection
    resume: Resume
    after: int  # the newest position that it has been sent


@dataclass(frozen=True)
class Disconnected:
    """Tell: a connection's socket is gone."""

    connection: Connection
    code: int
    reason: str


@dataclass(frozen=True)
class Received:
    """Tell: a request came in on a connection."""

    request: Request
    request_id: str | None
    connection: Connection


@dataclass(frozen=True)
class Answer:
    """Ask: the same reads as on a socket, for HTTP. Answered with the `data` of the answer."""

    request: Request


@dataclass(frozen=True)
class Check:
    """Ask: nothing but whether there is such a session; refused where there is none."""


@dataclass(frozen=True)
class AskQuery:
    """Ask: a query that came over HTTP. Answered with its turn's id and its position.

    `listen` gets every message about the turn until its final `query_response`, included.
    """

    query: Query
    cause: Cause
    listen: Callable[[Message], None]


@dataclass(frozen=True)
class StopListening:
    """Tell: whoever asked over HTTP is gone."""

    listen: Callable[[Message], None]


@dataclass(frozen=True)
class Reconfigure:
    """Ask: change title, configuration or both (None: as it is)."""

    title: str | None
    config: SessionConfig | None
    cause: Cause


@dataclass(frozen=True)
class Correct:
    """Ask: a correction of the graph that came over HTTP. Answered with what it led to."""

    request: Request
    cause: Cause


@dataclass(frozen=True)
class Delete:
    """Ask: delete the session."""

    cause: Cause


@dataclass(frozen=True)
class PieceArrived:
    """Tell, from a turn: the model wrote a piece of its reply."""

    turn_id: UUID
    text: str


@dataclass(frozen=True)
class ReplyArrived:
    """Tell, from a turn: the model has finished its reply."""

    turn_id: UUID
    text: str
    recalled: tuple[str, ...]
    facts: tuple[str, ...]
    memory_position: int  # how far the view had read that `recalled` is from
    graph_position: int  # the same for `facts`
    model: str
    usage: TokenUsage | None
    duration_ms: int


@dataclass(frozen=True)
class TurnFailed:
    """Tell, from a turn: there will be no reply."""

    turn_id: UUID
    code: str
    error: str


@dataclass(frozen=True)
class ViewMoved:
    """Tell: a view of this session has moved, up to this position.

    With what its connections are to be told that know it up to `after`, or have missed nothing in
    between; where that was not read, None.
    """

    view: ViewName
    position: int
    after: int = 0
    updates: Sequence[Message] | None = None


@dataclass(frozen=True)
class ViewRebuilt:
    """Tell: a rebuild has replaced the rows of a view of this session."""

    view: ViewName
    position: int  # up to which the view had read then


@dataclass(frozen=True)
class Wake:
    """Tell: see whether a turn was left open by a server that died."""


@dataclass(frozen=True)
class Passivate:
    """Ask: stop if nobody is connected and nothing runs. Answered with whether it does."""


@dataclass(frozen=True)
class Shutdown:
    """Ask: the server stops. The running turn ends as failed, connections are closed."""
