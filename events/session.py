"""A session: who opened it, how it is configured, and the turns of its conversation."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

import orjson
from eventsourcing import domain
from eventsourcing.domain import Aggregate
from typing_extensions import TypedDict

from events.aggregate import Cause, SessionAggregate, stable_topics

MAX_WAITING_TURNS = 16  # more than a person types while one reply is written
REMEMBERED_REQUESTS = 256  # a retry comes within seconds; snapshots stay under 20 KiB


class SessionError(Exception):
    """A command that the session refuses; the text is a sentence for the client."""


class SessionIsDeletedError(SessionError):
    """The session was deleted: it takes no more commands."""

    def __init__(self, session_id: UUID) -> None:
        super().__init__(f"Session {session_id} is deleted. Open a new one.")


class TooManyTurnsError(SessionError):
    """So many queries wait already that another is refused."""

    def __init__(self) -> None:
        super().__init__(
            f"{MAX_WAITING_TURNS} queries already wait in this session. "
            "Send this one again when a reply has come."
        )


class UnknownTurnError(SessionError):
    """The turn is neither running nor waiting."""

    def __init__(self, turn_id: UUID | None) -> None:
        turn = "No turn" if turn_id is None else f"Turn {turn_id} is neither waiting nor"
        super().__init__(f"{turn} running: there is nothing to cancel.")


@dataclass(frozen=True)
class SessionConfig:
    """What a client may choose for a session."""

    domain: str
    llm_model: str | None = None  # None: the model that the server is configured with
    enable_graph: bool = True  # False: nothing is learned from what is said
    max_memory_size: int | None = None  # the newest entries that recall draws on; None: all
    custom_config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenUsage:
    """Tokens that the language model counted for one reply."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Turn:
    """A query that has no final reply yet."""

    turn_id: UUID
    query_version: int  # of its QueryAsked in the session's stream
    cause: Cause


class SessionState(TypedDict):
    """What a snapshot of a session holds."""

    _created_on: datetime
    _modified_on: datetime
    session_id: UUID
    user_id: str
    title: str
    config: SessionConfig
    is_deleted: bool
    running: Turn | None
    waiting: list[Turn]
    asked: dict[UUID, int]
    turns_total: int


@stable_topics
class Session(SessionAggregate):
    """One conversation with an agent. Its stream is written by the session's actor."""

    class SessionOpened(SessionAggregate.Event, Aggregate.Created):
        """A user opened the session."""

        user_id: str
        title: str
        config: SessionConfig
        seed: tuple[str, ...]  # the domain's paragraphs of knowledge, as they were on that day

    class SessionReconfigured(SessionAggregate.Event):
        """The title or the configuration changed; both are given as they are from now on."""

        title: str
        config: SessionConfig
        changed: tuple[str, ...]  # which of the two, or both

        def apply(self, session: "Session") -> None:
            """Take over title and configuration."""
            session.title = self.title
            session.config = self.config

    class QueryAsked(SessionAggregate.Event):
        """A user asked the agent something."""

        turn_id: UUID
        message: str
        context: dict[str, Any]  # what the client sent along; given to the model
        stream: bool  # False: the reply is sent in one piece

        def apply(self, session: "Session") -> None:
            """Let the query wait for its turn."""
            turn = Turn(self.turn_id, self.originator_version, self.cause)
            session.waiting.append(turn)
            session.turns_total += 1
            session.asked[self.turn_id] = self.originator_version
            if len(session.asked) > REMEMBERED_REQUESTS:
                del session.asked[next(iter(session.asked))]

    class ReplyStarted(SessionAggregate.Event):
        """The turn of a query has come: the agent works on its reply."""

        turn_id: UUID

        def apply(self, session: "Session") -> None:
            """Move the turn from waiting to running."""
            session.running = session._remove_waiting(self.turn_id)

    class ReplyCompleted(SessionAggregate.Event):
        """The language model finished its reply to one query."""

        turn_id: UUID
        query_version: int  # version of the QueryAsked that it answers
        text: str
        recalled: tuple[str, ...]  # ids of the memory entries that the model was given
        facts: tuple[str, ...]  # ids of the statements that the model was given
        memory_position: int | None  # how far the view had read that `recalled` is from
        graph_position: int | None  # the same for `facts`; None in events from before
        model: str
        usage: TokenUsage | None
        duration_ms: int  # from ReplyStarted to the last piece of text

        class_version = 2

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            """Version 1 did not say at which positions the views were looked at."""
            state["memory_position"] = None
            state["graph_position"] = None

        def apply(self, session: "Session") -> None:
            """End the turn."""
            session.running = None

    class ReplyFailed(SessionAggregate.Event):
        """No reply came: the model or the server failed."""

        turn_id: UUID
        query_version: int  # version of the QueryAsked that stays without an answer
        code: str  # an error code of the protocol
        error: str  # a sentence for the user
        text: str  # what had come until then

        def apply(self, session: "Session") -> None:
            """End the turn."""
            session._end(self.turn_id)

    class ReplyCancelled(SessionAggregate.Event):
        """A user stopped the turn, before or while the reply was written."""

        turn_id: UUID
        query_version: int  # version of the QueryAsked that stays without an answer
        text: str  # what had come until then

        def apply(self, session: "Session") -> None:
            """End the turn."""
            session._end(self.turn_id)

    class SessionDeleted(SessionAggregate.Event):
        """The session was deleted by its user."""

        def apply(self, session: "Session") -> None:
            """Refuse everything from now on."""
            session.is_deleted = True
            session.running = None
            session.waiting = []

    class Snapshot(domain.Snapshot):
        """A session as it was at one version."""

        state: SessionState  # type: ignore[assignment]

        @classmethod
        def take(cls, aggregate: Any) -> "Session.Snapshot":
            """The session as it is now; it may go on before the snapshot is stored."""
            snapshot: Session.Snapshot = super().take(aggregate)
            snapshot.state["waiting"] = snapshot.state["waiting"].copy()
            snapshot.state["asked"] = snapshot.state["asked"].copy()
            return snapshot

    def __init__(self, session_id: UUID, user_id: str, title: str, config: SessionConfig) -> None:
        self.session_id = session_id
        self.user_id = user_id
        self.title = title
        self.config = config
        self.is_deleted = False
        self.running: Turn | None = None
        self.waiting: list[Turn] = []
        self.asked: dict[UUID, int] = {}  # recent turns -> version of their QueryAsked
        self.turns_total = 0

    @classmethod
    def open(
        cls,
        *,
        user_id: str,
        title: str,
        config: SessionConfig,
        seed: tuple[str, ...] = (),
        session_id: UUID | None = None,
    ) -> "Session":
        """Open a new session for a user."""
        session_id = session_id or uuid4()
        return cls._create(
            cls.SessionOpened,
            id=session_id,
            session_id=session_id,
            cause=Cause(user_id),
            user_id=user_id,
            title=title,
            config=config,
            seed=seed,
        )

    def reconfigure(self, *, title: str | None, config: SessionConfig | None, cause: Cause) -> None:
        """Change title or configuration (None: as it is); no event without a change."""
        self._refuse_if_deleted()
        new_title = self.title if title is None else title
        new_config = self.config if config is None else config
        changed = tuple(
            name
            for name, is_new in (
                ("title", new_title != self.title),
                ("config", new_config != self.config),
            )
            if is_new
        )
        if changed:
            self.trigger_event(
                self.SessionReconfigured,
                title=new_title,
                config=new_config,
                changed=changed,
                cause=cause,
            )

    def turn_id_of(self, message: str, context: dict[str, Any], cause: Cause) -> UUID:
        """The id that this query's turn has or would have.

        A query with a request id always gets the same one, so that a retry is recognised: the same
        user, request id, message and context make the same turn.
        """
        if cause.request_id is None:
            return uuid4()
        name = [cause.user_id, cause.request_id, message, context]
        return uuid5(self.id, orjson.dumps(name, option=orjson.OPT_SORT_KEYS).decode())

    def ask_query(
        self, turn_id: UUID, message: str, context: dict[str, Any], *, stream: bool, cause: Cause
    ) -> None:
        """Accept a query; raises TooManyTurnsError when 16 already wait."""
        self._refuse_if_deleted()
        if len(self.waiting) >= MAX_WAITING_TURNS:
            raise TooManyTurnsError
        self.trigger_event(
            self.QueryAsked,
            turn_id=turn_id,
            message=message,
            context=context,
            stream=stream,
            cause=cause,
        )

    def start_reply(self) -> Turn | None:
        """Start the turn that has waited longest; None where one runs already or none waits."""
        if self.is_deleted or self.running or not self.waiting:
            return None
        turn = self.waiting[0]
        self.trigger_event(self.ReplyStarted, turn_id=turn.turn_id, cause=turn.cause)
        return turn

    def complete_reply(
        self,
        turn_id: UUID,
        *,
        text: str,
        recalled: tuple[str, ...],
        facts: tuple[str, ...],
        model: str,
        usage: TokenUsage | None,
        duration_ms: int,
        memory_position: int | None = None,
        graph_position: int | None = None,
    ) -> bool:
        """Store the whole reply; False where the turn has ended in the meantime.

        The positions say how far the views had read that `recalled` and `facts` are from.
        """
        turn = self.running
        if turn is None or turn.turn_id != turn_id:
            return False
        self.trigger_event(
            self.ReplyCompleted,
            turn_id=turn_id,
            query_version=turn.query_version,
            text=text,
            recalled=recalled,
            facts=facts,
            memory_position=memory_position,
            graph_position=graph_position,
            model=model,
            usage=usage,
            duration_ms=duration_ms,
            cause=turn.cause,
        )
        return True

    def fail_reply(self, turn_id: UUID, *, code: str, error: str, text: str) -> bool:
        """End the running turn without a reply; False where it has ended in the meantime."""
        turn = self.running
        if turn is None or turn.turn_id != turn_id:
            return False
        self.trigger_event(
            self.ReplyFailed,
            turn_id=turn_id,
            query_version=turn.query_version,
            code=code,
            error=error,
            text=text,
            cause=turn.cause,
        )
        return True

    def cancel_reply(self, turn_id: UUID | None, *, text: str, cause: Cause) -> UUID:
        """Stop a running or waiting turn (None: the running one); returns which."""
        self._refuse_if_deleted()
        turn = self._open_turn(turn_id)
        if turn is None:
            raise UnknownTurnError(turn_id)
        self.trigger_event(
            self.ReplyCancelled,
            turn_id=turn.turn_id,
            query_version=turn.query_version,
            text=text,
            cause=cause,
        )
        return turn.turn_id

    def delete(self, *, cause: Cause) -> None:
        """Delete the session: it is kept in the log, and refuses every further command."""
        self._refuse_if_deleted()
        self.trigger_event(self.SessionDeleted, cause=cause)

    def _refuse_if_deleted(self) -> None:
        if self.is_deleted:
            raise SessionIsDeletedError(self.id)

    def _open_turn(self, turn_id: UUID | None) -> Turn | None:
        if self.running and turn_id in (None, self.running.turn_id):
            return self.running
        return next((turn for turn in self.waiting if turn.turn_id == turn_id), None)

    def _remove_waiting(self, turn_id: UUID) -> Turn | None:
        turn = next((turn for turn in self.waiting if turn.turn_id == turn_id), None)
        self.waiting = [other for other in self.waiting if other.turn_id != turn_id]
        return turn

    def _end(self, turn_id: UUID) -> None:
        if self.running and self.running.turn_id == turn_id:
            self.running = None
        else:
            self._remove_waiting(turn_id)
