"""The session's actor: the one place where a session is live."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import pykka
from eventsourcing.persistence import InterfaceError, OperationalError

from actors import reads
from actors.connection import Connection
from actors.loop_actor import LoopActor
from actors.messages import (
    Answer,
    AskQuery,
    Connect,
    Delete,
    Disconnected,
    Passivate,
    PieceArrived,
    Received,
    Reconfigure,
    ReplyArrived,
    Shutdown,
    StopListening,
    TurnFailed,
    ViewMoved,
    Wake,
)
from actors.monitor import (
    ConnectionJoined,
    ConnectionLeft,
    MonitorActor,
    SessionRemoved,
    TurnsRunning,
)
from actors.patience import VIEWS_UNREACHABLE, patiently
from actors.protocol import (
    PROTOCOL,
    Cancel,
    Close,
    Code,
    GetStatus,
    Heartbeat,
    Message,
    Ping,
    Query,
    RefusedError,
    Request,
    error_message,
    rfc3339,
    timestamp,
)
from actors.services import Services
from actors.stored_messages import message_of
from actors.turn import PastTurn, TurnContext, run_turn
from events.aggregate import Cause, SessionAggregate
from events.journal import LogUnavailableError, StreamConflictError
from events.session import (
    Session,
    SessionConfig,
    SessionIsDeletedError,
    TooManyTurnsError,
    UnknownTurnError,
)
from language.domains import Domain
from projections.as_of import AsOfError
from projections.graph import UnknownEntityError
from projections.positions import read_positions
from projections.search import MemoryIndex

if TYPE_CHECKING:
    from actors.directory import SessionDirectory

logger = logging.getLogger(__name__)

MAX_DECISIONS = 5  # of one command, where other writers are faster; more means something is wrong
SNAPSHOT_EVERY = 100  # events: loading a session reads at most as many
SHOWN_TURNS = 6  # the last turns as they are, word for word, in every prompt
RETRY_PUSH_S = 1.0  # between tries to tell what a view has gained, likewise
RETRY_END_S = 1.0  # between tries to store the end of a turn while the database is gone

T = TypeVar("T")


class NoSuchSessionError(Exception):
    """There is no session with this id in the log."""

    def __init__(self, session_id: UUID) -> None:
        super().__init__(f"There is no session {session_id}.")


# What a client is told about the errors that are expected. The first class that fits counts.
ERROR_CODES: Sequence[tuple[type[Exception], str]] = (
    (NoSuchSessionError, Code.NOT_FOUND),
    (SessionIsDeletedError, Code.NOT_FOUND),
    (UnknownTurnError, Code.NOT_FOUND),
    (TooManyTurnsError, Code.CONFLICT),
    (StreamConflictError, Code.CONFLICT),
    (AsOfError, Code.INVALID_DATA),
    (UnknownEntityError, Code.NOT_FOUND),
    (LogUnavailableError, Code.UNAVAILABLE),
    (OperationalError, Code.UNAVAILABLE),  # of the log
    (InterfaceError, Code.UNAVAILABLE),
    *((error, Code.UNAVAILABLE) for error in VIEWS_UNREACHABLE),
)
UNREACHABLE = (OperationalError, InterfaceError, *VIEWS_UNREACHABLE)
EXPECTED_ERRORS: tuple[type[Exception], ...] = (RefusedError, *(error for error, _ in ERROR_CODES))


@dataclass
class LiveTurn:
    """The turn whose reply is being written."""

    query: Session.QueryAsked
    task: "asyncio.Task[None]"
    pieces: list[str] = field(default_factory=list)

    @property
    def turn_id(self) -> UUID:
        """The turn's id."""
        return self.query.turn_id

    @property
    def text(self) -> str:
        """What has come until now."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Decided(Generic[T]):
    """What a command led to."""

    result: T
    events: Sequence[SessionAggregate.Event]
    positions: Sequence[int]


class SessionActor(LoopActor):
    """Owns a session's aggregate, its connections and its running turn.

    It is virtual: started by the first message, passivated when nobody needs it, and what it knows
    comes from the log. It never has two appends of its stream under way at once.
    """

    def __init__(self, session_id: UUID, services: Services, directory: "SessionDirectory") -> None:
        super().__init__()
        self._id = session_id
        self._services = services
        self._directory = directory
        self._monitor: pykka.ActorRef[MonitorActor] = directory.monitor
        self._session: Session | None = None  # None: to be loaded
        self._position = 0  # of the newest event that this actor has seen
        self._connections: dict[UUID, Connection] = {}
        self._turn: LiveTurn | None = None
        self._queries: dict[UUID, Session.QueryAsked] = {}  # of the open turns
        self._askers: dict[UUID, dict[UUID, str]] = {}  # turn -> connection -> its request id
        self._listeners: dict[UUID, list[Callable[[Message], None]]] = {}
        self._past: deque[PastTurn] = deque(maxlen=SHOWN_TURNS)
        self._is_past_known = False
        self._index = MemoryIndex(services.memory, session_id, services.embedder)
        self._pushed = {"memory": 0, "graph": 0}  # how far connections know each view
        self._active_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    # -- the inbox

    def on_receive(self, message: Any) -> Any:
        """Handle one message; what needs neither log nor views is answered at once."""
        self._active_at = time.monotonic()
        if isinstance(message, Received):
            message.connection.received += 1
            if isinstance(message.request, Ping):
                return self._pong(message.request, message)
            if isinstance(message.request, Heartbeat):
                return self._heartbeat(message)
        if isinstance(message, PieceArrived):
            return self._send_piece(message)
        return self._handle(message)

    def on_failure(self, *exc_info: Any) -> None:
        """An unexpected error has ended this actor; the next message starts a fresh one."""
        self._give_up(exc_info[1])

    async def _handle(self, message: Any) -> Any:
        try:
            answer = await self._dispatch(message)
            self._watch_idleness()
            return answer
        except EXPECTED_ERRORS as error:
            refusal = refusal_of(error)
            if isinstance(error, NoSuchSessionError):
                self._stop_soon()
            if isinstance(message, Received):
                message.connection.send(error_message(refusal, self._id), message.request_id)
                return None
            if isinstance(message, Connect | Answer | AskQuery | Reconfigure | Delete):
                raise refusal from error
            logger.warning("Session %s could not handle %s: %s", self._id, message, error)
            return None
        except Exception as error:
            if isinstance(message, Connect | Answer | AskQuery | Reconfigure | Delete):
                self._give_up(error)
                self._stop_soon()
            raise

    async def _dispatch(self, message: Any) -> Any:
        match message:
            case Received(request=Query() as query):
                connection = message.connection
                await self._ask_query(
                    query, connection.cause(message.request_id), connection=connection
                )
            case Received(request=Cancel()):
                await self._cancel(message)
            case Received():
                await self._answer_read(message)
            case Answer():
                return await self._read(message.request)
            case AskQuery():
                return await self._ask_query(message.query, message.cause, listen=message.listen)
            case StopListening():
                for listeners in self._listeners.values():
                    listeners[:] = [listen for listen in listeners if listen != message.listen]
            case Connect():
                await self._connect(message.connection)
            case Disconnected():
                self._disconnect(message)
            case ReplyArrived() | TurnFailed():
                await self._end_turn(message)
            case ViewMoved():
                await self._push_view(message)
            case Reconfigure():
                return await self._reconfigure(message)
            case Delete():
                await self._delete(message)
            case Wake():
                await self._current()
            case Passivate():
                return self._passivate()
            case Shutdown():
                await self._shut_down()
            case _:
                raise TypeError(f"A session does not understand {message!r}")

    # -- the aggregate and the log

    async def _current(self) -> Session:
        """The session as it is; loaded from the log where it is not known."""
        if self._session is not None:
            return self._session
        log = self._services.log
        session = await asyncio.to_thread(log.load, Session, self._id)
        if session is None:
            raise NoSuchSessionError(self._id)
        self._session = session
        self._position = max(self._position, await asyncio.to_thread(log.session_head, self._id))
        if not self._is_past_known:
            self._past.extend(await asyncio.to_thread(self._read_past))
            self._is_past_known = True
        if session.running and self._turn is None:
            await self._fail_interrupted_turn(session.running.turn_id)
        elif session.waiting and self._turn is None:
            await self._commit_and_go_on(lambda session: None)
        return self._session or await self._current()

    async def _commit(self, decide: Callable[[Session], T]) -> Decided[T]:
        """Let the aggregate decide, and store what it decided; starts the turn that it started.

        Where another writer was first, the aggregate is loaded again and decides again. Raises what
        `decide` raises, and LogUnavailableError; then nothing has happened.
        """
        for _ in range(MAX_DECISIONS):
            session = await self._current()
            result = decide(session)
            events: list[Any] = list(session.collect_events())
            if not events:
                return Decided(result, [], [])
            try:
                positions = await self._services.journal.append(events)
            except StreamConflictError:
                self._session = None
            except BaseException:
                self._session = None  # it is unknown whether the events are stored
                raise
            else:
                self._position = positions[-1]
                self._take_snapshot(session, events)
                return Decided(result, events, positions)
        raise StreamConflictError(f"Session {self._id} is being changed elsewhere. Try again.")

    def _take_snapshot(self, session: Session, events: Sequence[Any]) -> None:
        if any(event.originator_version % SNAPSHOT_EVERY == 0 for event in events):
            snapshot = Session.Snapshot.take(session)
            self._services.keep(
                asyncio.create_task(asyncio.to_thread(self._services.log.put_snapshot, snapshot))
            )

    def _read_past(self) -> list[PastTurn]:
        """The last turns that have a reply, oldest first. Blocks."""
        past: list[PastTurn] = []
        replies: dict[int, Session.ReplyCompleted] = {}
        for event in self._services.log.read_stream_backwards(self._id, limit=10 * SHOWN_TURNS):
            if isinstance(event, Session.ReplyCompleted):
                replies[event.query_version] = event
            elif isinstance(event, Session.QueryAsked):
                reply = replies.get(event.originator_version)
                if reply is not None:
                    past.append(PastTurn(event.turn_id, event.message, reply.text))
        return past[:SHOWN_TURNS][::-1]

    # -- connections

    async def _connect(self, connection: Connection) -> None:
        session = await self._current()
        if session.is_deleted:
            raise SessionIsDeletedError(self._id)
        if not self._connections:
            positions = await patiently(lambda: read_positions(self._services.pool))
            self._pushed = {view: positions.views.get(view, 0) for view in self._pushed}
        self._position = await connection.store_opened(self._services)
        self._connections[connection.id] = connection
        connection.send(
            self._say(
                "connection_established",
                connection_id=connection.id,
                protocol=PROTOCOL,
                epoch=self._services.epoch,
                heartbeat_interval_s=self._services.heartbeat_interval_s,
                heartbeat_timeout_s=self._services.heartbeat_timeout_s,
                recovered=False,
                position=self._position,
            )
        )
        self._tell_others("connection_joined", connection)
        if self._turn is not None:
            connection.send(self._say("typing_start", turn_id=self._turn.turn_id))
        self._monitor.tell(ConnectionJoined(self._id, connection.id, connection.user_id))
        logger.info(
            "Connection %s of user %s opened, session %s",
            connection.id,
            connection.user_id,
            self._id,
        )

    def _disconnect(self, message: Disconnected) -> None:
        connection = self._connections.pop(message.connection.id, None)
        if connection is None:
            return
        connection.record_closed(self._services, message.code, message.reason)
        self._forget_asker(connection)
        self._tell_others("connection_left", connection)
        self._monitor.tell(ConnectionLeft(self._id, connection.id, message.code))
        logger.info(
            "Connection %s closed with %d %s, session %s",
            connection.id,
            message.code,
            message.reason,
            self._id,
        )

    def _close_connections(self, code: int, reason: str) -> None:
        for connection in list(self._connections.values()):
            connection.close_socket(code, reason)
            self._disconnect(Disconnected(connection, code, reason))

    def _forget_asker(self, connection: Connection) -> None:
        for askers in self._askers.values():
            askers.pop(connection.id, None)

    def _tell_others(self, type_: str, about: Connection) -> None:
        """Presence: nobody's history, so it has no position."""
        message = self._say(
            type_,
            connection_id=about.id,
            user_id=about.user_id,
            connections=len(self._connections),
        )
        for connection in self._connections.values():
            if connection is not about:
                connection.send(message)

    # -- what is said

    def _say(self, type_: str, *, position: int | None = None, **data: Any) -> Message:
        data["session_id"] = self._id
        data.setdefault("timestamp", timestamp())
        return Message(type_, data, position=position)

    def _broadcast(
        self, message: Message, turn_id: UUID | None = None, *, is_partial: bool = False
    ) -> None:
        """Send to every connection; those that asked get the id of their request with it."""
        askers = self._askers.get(turn_id, {}) if turn_id else {}
        for connection in self._connections.values():
            if not is_partial or connection.stream_partials:
                connection.send(message, askers.get(connection.id))
        for listen in self._listeners.get(turn_id, ()) if turn_id else ():
            listen(message)

    def _pong(self, ping: Ping, message: Received) -> None:
        pong = self._say("pong", message=ping.message, client_timestamp=ping.timestamp)
        message.connection.send(pong, message.request_id)

    def _heartbeat(self, message: Received) -> None:
        connection = message.connection
        answer = self._say("heartbeat_response", connection_id=connection.id)
        connection.send(answer, message.request_id)

    # -- turns

    async def _ask_query(
        self,
        query: Query,
        cause: Cause,
        *,
        connection: Connection | None = None,
        listen: Callable[[Message], None] | None = None,
    ) -> tuple[UUID, int]:
        """Store a query and tell everybody; runs it where its turn has come at once.

        Returns the turn and the query's position. A retry gets the first one's answers.
        """

        def decide(session: Session) -> UUID:
            turn_id = session.turn_id_of(query.message, query.context, cause)
            if turn_id not in session.asked:
                session.ask_query(
                    turn_id, query.message, query.context, stream=query.stream, cause=cause
                )
                session.start_reply()
            return turn_id

        decided = await self._commit(decide)
        turn_id = decided.result
        if connection is not None and cause.request_id is not None:
            self._askers.setdefault(turn_id, {})[connection.id] = cause.request_id
        if listen is not None:
            self._listeners.setdefault(turn_id, []).append(listen)
        if not decided.events:
            return turn_id, await self._repeat(turn_id, cause, connection, listen)
        self._publish(decided)
        return turn_id, decided.positions[0]

    async def _repeat(
        self,
        turn_id: UUID,
        cause: Cause,
        connection: Connection | None,
        listen: Callable[[Message], None] | None,
    ) -> int:
        """Answer a retried query with what the first one led to; returns its position.

        These messages have the positions of the first ones, which are older than what the
        connection may have seen.
        """
        session = await self._current()
        recorded = await asyncio.to_thread(
            self._services.log.read_turn, self._id, session.asked[turn_id], turn_id
        )
        is_open = turn_id in self._queries
        for event in recorded:
            message = message_of(event.event, event.position)
            if message is None:
                continue
            if connection is not None:
                connection.send(message, cause.request_id)
            if listen is not None:
                listen(message)
        if not is_open:
            self._forget_turn(turn_id)
        return recorded[0].position

    def _publish(self, decided: Decided[Any]) -> None:
        """Tell everybody what was stored, and start the turn whose time has come."""
        for event, position in zip(decided.events, decided.positions, strict=True):
            if isinstance(event, Session.QueryAsked):
                self._queries[event.turn_id] = event
            message = message_of(event, position)
            if message is not None:
                self._broadcast(message, getattr(event, "turn_id", None))
            if isinstance(event, Session.ReplyStarted):
                self._start_turn(event)
            elif isinstance(
                event, Session.ReplyCompleted | Session.ReplyFailed | Session.ReplyCancelled
            ):
                self._finish_turn(event)

    def _start_turn(self, event: Session.ReplyStarted) -> None:
        query = self._queries[event.turn_id]
        assert self._session is not None
        config = self._session.config
        context = TurnContext(query, config, self._domain(config), tuple(self._past), self._index)
        task = asyncio.create_task(run_turn(context, self._services, self._tell_self))
        self._services.keep(task)
        self._turn = LiveTurn(query, task)
        self._monitor.tell(TurnsRunning(+1))
        self._broadcast(self._say("typing_start", turn_id=event.turn_id), event.turn_id)

    def _finish_turn(
        self, event: Session.ReplyCompleted | Session.ReplyFailed | Session.ReplyCancelled
    ) -> None:
        turn_id = event.turn_id
        query = self._queries.pop(turn_id, None)
        if query is not None and isinstance(event, Session.ReplyCompleted):
            self._past.append(PastTurn(turn_id, query.message, event.text))
        if self._turn is not None and self._turn.turn_id == turn_id:
            self._turn.task.cancel()
            self._turn = None
            self._monitor.tell(TurnsRunning(-1))
            self._broadcast(self._say("typing_stop", turn_id=turn_id), turn_id)
        self._forget_turn(turn_id)

    def _forget_turn(self, turn_id: UUID) -> None:
        self._askers.pop(turn_id, None)
        self._listeners.pop(turn_id, None)

    def _refuse_listeners(self, code: str, sentence: str) -> None:
        """Whoever still waits for a reply over HTTP gets an error."""
        message = error_message(RefusedError(code, sentence), self._id)
        for listeners in self._listeners.values():
            for listen in listeners:
                listen(message)
        self._listeners.clear()

    def _send_piece(self, piece: PieceArrived) -> None:
        turn = self._turn
        if turn is None or turn.turn_id != piece.turn_id:
            return
        turn.pieces.append(piece.text)
        if turn.query.stream:
            message = self._say(
                "query_response",
                turn_id=piece.turn_id,
                message=piece.text,
                partial=True,
                sequence=len(turn.pieces),
            )
            self._broadcast(message, piece.turn_id, is_partial=True)

    async def _end_turn(self, outcome: ReplyArrived | TurnFailed) -> None:
        """Store how the running turn ended, then let the next one begin."""
        turn = self._turn
        if turn is None or turn.turn_id != outcome.turn_id:
            return  # it was cancelled while the outcome was on its way

        def decide(session: Session) -> None:
            if isinstance(outcome, ReplyArrived):
                session.complete_reply(
                    outcome.turn_id,
                    text=outcome.text,
                    recalled=outcome.recalled,
                    facts=outcome.facts,
                    model=outcome.model,
                    usage=outcome.usage,
                    duration_ms=outcome.duration_ms,
                )
            else:
                session.fail_reply(
                    outcome.turn_id, code=outcome.code, error=outcome.error, text=turn.text
                )

        try:
            await self._commit_and_go_on(decide)
        except LogUnavailableError:
            # A reply that was paid for is not thrown away: it is stored when the database is back.
            asyncio.get_running_loop().call_later(RETRY_END_S, self._tell_self, outcome)

    async def _commit_and_go_on(self, decide: Callable[[Session], T]) -> T:
        """End a turn and start the one that has waited longest, in one commit."""

        def decide_both(session: Session) -> T:
            result = decide(session)
            session.start_reply()
            return result

        decided = await self._commit(decide_both)
        for event in decided.events:
            if isinstance(event, Session.ReplyStarted) and event.turn_id not in self._queries:
                await self._find_query(event.turn_id)
        self._publish(decided)
        return decided.result

    async def _find_query(self, turn_id: UUID) -> None:
        """Read the query of a turn that was asked before this actor was live."""
        session = await self._current()
        self._queries[turn_id] = await asyncio.to_thread(
            self._services.log.read_one, self._id, session.asked[turn_id]
        )

    async def _fail_interrupted_turn(self, turn_id: UUID) -> None:
        logger.warning("Turn %s of session %s was interrupted", turn_id, self._id)
        await self._commit_and_go_on(
            lambda session: session.fail_reply(
                turn_id,
                code=Code.UNAVAILABLE,
                error="The server stopped while the reply was being written. Ask again.",
                text="",
            )
        )

    async def _cancel(self, message: Received) -> None:
        request = message.request
        assert isinstance(request, Cancel)
        connection = message.connection
        turn = self._turn
        running = turn if turn and request.turn_id in (None, turn.turn_id) else None
        turn_id = request.turn_id
        is_cancelled = True
        try:
            turn_id = await self._commit_and_go_on(
                lambda session: session.cancel_reply(
                    request.turn_id,
                    text=running.text if running else "",
                    cause=connection.cause(message.request_id),
                )
            )
        except UnknownTurnError:
            is_cancelled = False
        answer = self._say("cancel_response", turn_id=turn_id, cancelled=is_cancelled)
        connection.send(answer, message.request_id)

    # -- reads

    async def _answer_read(self, message: Received) -> None:
        connection = message.connection
        data = await self._read(message.request)
        read = reads.RECORDED_READS.get(type(message.request))
        if read is not None and read.is_wanted(self._services.record_reads):
            connection.record(
                self._services,
                read.event_class,
                connection.cause(message.request_id),
                **read.what(message.request, data),
            )
        answer = self._say(reads.ANSWERS[type(message.request)], **data.wire)
        connection.send(answer, message.request_id)

    async def _read(self, request: Request) -> reads.Read:
        session = await self._current()
        if session.is_deleted:
            raise SessionIsDeletedError(self._id)
        if isinstance(request, GetStatus):
            return await patiently(lambda: self._status(session))
        return await patiently(lambda: reads.answer(request, session, self._services, self._index))

    async def _status(self, session: Session) -> reads.Read:
        services = self._services
        positions = await read_positions(services.pool)
        memory = await services.memory.stats(self._id)
        graph = await services.graph.stats(self._id)
        return reads.Read(
            wire={
                "status": "deleted" if session.is_deleted else "active",
                "title": session.title,
                "user_id": session.user_id,
                "agent_initialized": session.config.domain in services.domains,
                "memory_manager_initialized": True,
                "created_at": rfc3339(session.created_on),
                "last_activity": rfc3339(session.modified_on),
                "config": session.config,
                "model": session.config.llm_model or services.model.model,
                "connections": len(self._connections),
                "turn": self._turn
                and {
                    "turn_id": self._turn.turn_id,
                    "waiting": len(session.waiting),
                },
                "turns_total": session.turns_total,
                "memory_entries": memory.conversation_count,
                "graph": {"entities": graph.node_count, "statements": graph.edge_count},
                "position": self._position,
                "lag": max(positions.lag(name) for name in positions.views),
            },
            view_position=min(positions.views.values()),
        )

    async def _push_view(self, moved: ViewMoved) -> None:
        """Tell all connections what a view has gained since they were last told."""
        after = self._pushed[moved.view]
        if not self._connections or moved.position <= after:
            return
        update = reads.memory_updates if moved.view == "memory" else reads.graph_updates
        try:
            messages = await patiently(
                lambda: update(self._services, self._id, after, moved.position)
            )
        except VIEWS_UNREACHABLE:
            # Nothing else may move the view, so this must not be forgotten.
            asyncio.get_running_loop().call_later(RETRY_PUSH_S, self._tell_self, moved)
            return
        self._pushed[moved.view] = moved.position
        for message in messages:
            self._broadcast(message)

    # -- the session's life

    async def _reconfigure(self, message: Reconfigure) -> None:
        decided = await self._commit(
            lambda session: session.reconfigure(
                title=message.title, config=message.config, cause=message.cause
            )
        )
        self._publish(decided)
        if decided.positions:
            self._directory.last_listed_position = decided.positions[-1]

    async def _delete(self, message: Delete) -> None:
        decided = await self._commit(lambda session: session.delete(cause=message.cause))
        self._directory.last_listed_position = decided.positions[-1]
        self._drop_turn()
        self._publish(decided)
        self._refuse_listeners(Code.NOT_FOUND, str(SessionIsDeletedError(self._id)))
        self._close_connections(Close.SESSION_DELETED, "session deleted")
        self._monitor.tell(SessionRemoved(self._id))
        self._stop_soon()

    async def _shut_down(self) -> None:
        turn = self._turn
        if turn is not None:
            turn.task.cancel()
            try:
                self._publish(
                    await self._commit(
                        lambda session: session.fail_reply(
                            turn.turn_id,
                            code=Code.UNAVAILABLE,
                            error="The server is restarting. Ask again.",
                            text=turn.text,
                        )
                    )
                )
            except LogUnavailableError:
                logger.warning("Turn %s ends as failed at the next start", turn.turn_id)
        self._refuse_listeners(Code.UNAVAILABLE, "The server is restarting. Ask again.")
        self._close_connections(Close.RESTARTING, "server restarting")
        self._stop_soon()

    def _watch_idleness(self) -> None:
        if self._timer is None and not self.actor_stopped.is_set():
            self._timer = asyncio.get_running_loop().call_later(
                self._services.passivate_after_s, self._look_whether_idle
            )

    def _look_whether_idle(self) -> None:
        self._timer = None
        if self.actor_stopped.is_set():
            return
        is_quiet = time.monotonic() - self._active_at >= self._services.passivate_after_s
        if not (is_quiet and self._passivate()):
            self._watch_idleness()

    def _passivate(self) -> bool:
        """Stop where nobody is connected, nothing runs and no message waits."""
        if self._connections or self._turn or self._is_busy_elsewhere():
            return False
        self._stop_soon()
        return True

    def _is_busy_elsewhere(self) -> bool:
        return bool(self._listeners) or not self.actor_inbox.empty()

    def _give_up(self, error: BaseException | None) -> None:
        logger.error("Session %s failed after position %d: %s", self._id, self._position, error)
        self._drop_turn()
        self._refuse_listeners(Code.INTERNAL, "The server made a mistake. Ask again.")
        self._close_connections(Close.INTERNAL, "internal fault")
        self._directory.forget(self._id, self.actor_ref)

    def _drop_turn(self) -> None:
        if self._turn is not None:
            self._turn.task.cancel()
            self._turn = None
            self._monitor.tell(TurnsRunning(-1))

    def _stop_soon(self) -> None:
        """Stop after what waits in the inbox; the next message starts a fresh actor."""
        self._directory.forget(self._id, self.actor_ref)
        if self._timer is not None:
            self._timer.cancel()
        if not self.actor_stopped.is_set():
            self.stop()

    def _tell_self(self, message: Any) -> None:
        if not self.actor_stopped.is_set():
            self.actor_ref.tell(message)

    def _domain(self, config: SessionConfig) -> Domain:
        """The session's domain; where its file is gone, another one keeps the session alive."""
        domains = self._services.domains
        domain = domains.get(config.domain)
        if domain is None:
            domain = next(iter(domains.values()))
            logger.error(
                "Session %s has domain %r, which is not configured any more: using %r",
                self._id,
                config.domain,
                domain.name,
            )
        return domain


def refusal_of(error: Exception) -> RefusedError:
    """An expected error as what a client is told."""
    if isinstance(error, RefusedError):
        return error
    for error_class, code in ERROR_CODES:
        if isinstance(error, error_class):
            sentence = str(error)
            if isinstance(error, UNREACHABLE):
                logger.warning("The database can't be read: %s", error)
                sentence = "The database does not answer. Try again in a moment."
            return RefusedError(code, sentence)
    raise error
