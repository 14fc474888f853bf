"""The session's actor: the one place where a session is live."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import pykka

from actors import reads
from actors.audience import Audience, Listener
from actors.connection import Connection
from actors.curation import Corrected, Curator
from actors.errors import (
    DATABASE_UNREACHABLE,
    EXPECTED_ERRORS,
    NoSuchSessionError,
    refusal_of,
)
from actors.live_session import Decided, LiveSession
from actors.loop_actor import LoopActor
from actors.messages import (
    Answer,
    AskQuery,
    CatchUp,
    Check,
    Connect,
    Correct,
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
    ViewRebuilt,
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
    Heartbeat,
    MergeEntities,
    Message,
    Piece,
    Ping,
    Query,
    RefusedError,
    Request,
    RetractStatement,
    SplitEntities,
    error_message,
    session_message,
)
from actors.resume import Resume, missed_by_views, read_missed
from actors.services import Services
from actors.stored_messages import message_of
from actors.turn import PastTurn, TurnContext, domain_of, run_turn
from events.aggregate import Cause
from events.journal import LogUnavailableError
from events.session import Session, SessionIsDeletedError, UnknownTurnError
from projections.positions import read_positions
from projections.search import MemoryIndex

logger = logging.getLogger(__name__)

SHOWN_TURNS = 6  # the last turns as they are, word for word, in every prompt
RETRY_END_S = 1.0  # between tries to store the end of a turn while the database is gone
RETRY_PUSH_S = 1.0  # between tries to tell what a view has gained, likewise

# Messages that somebody awaits.
ASKED = (Connect, Answer, Check, AskQuery, Correct, Reconfigure, Delete)
ENDS = (Session.ReplyCompleted, Session.ReplyFailed, Session.ReplyCancelled)

T = TypeVar("T")


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


class SessionActor(LoopActor):
    """Owns a session's aggregate, its connections and its running turn.

    It is virtual: started by the first message, passivated when nobody needs it, and what it knows
    comes from the log. It never has two appends of its stream under way at once.
    """

    def __init__(
        self,
        session_id: UUID,
        services: Services,
        monitor: "pykka.ActorRef[MonitorActor]",
        *,
        forget: Callable[[UUID, "pykka.ActorRef[Any]"], None],
        list_changed: Callable[[int], None],
    ) -> None:
        """`forget` is called before the actor stops, `list_changed` with the position of an event
        that changes what the list of sessions shows.
        """
        super().__init__()
        self._id = session_id
        self._services = services
        self._monitor = monitor
        self._forget = forget
        self._list_changed = list_changed
        self._live = LiveSession(session_id, services)
        self._curator = Curator(session_id, services)
        self._audience = Audience(session_id)
        self._turn: LiveTurn | None = None
        self._queries: dict[UUID, Session.QueryAsked] = {}  # of the open turns
        self._past: deque[PastTurn] | None = None  # None: to be read
        self._recall_from = 0  # the newest position that prompts do not show by themselves
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
            if isinstance(error, DATABASE_UNREACHABLE):
                logger.warning("The database can't be read: %s", error)
            if isinstance(error, NoSuchSessionError):
                self._stop_soon()
            if isinstance(message, Received):
                message.connection.send(error_message(refusal, self._id), message.request_id)
                return None
            if isinstance(message, ASKED):
                raise refusal from error
            logger.warning("Could not handle %s: %s", message, error, extra=self._about())
            return None
        except Exception as error:
            if isinstance(message, ASKED):
                self._give_up(error)
                self._stop_soon()
            raise

    async def _dispatch(self, message: Any) -> Any:
        match message:
            case Received(request=Query() as query):
                cause = message.connection.cause(message.request_id)
                await self._ask_query(query, cause, connection=message.connection)
            case Received(request=Cancel()):
                await self._cancel(message)
            case Received(request=RetractStatement() | MergeEntities() | SplitEntities()):
                await self._answer_correction(message)
            case Received():
                await self._answer_read(message)
            case Answer():
                return await self._read(message.request)
            case Check():
                await self._existing()
            case AskQuery():
                return await self._ask_query(message.query, message.cause, listener=message.listen)
            case StopListening():
                self._audience.stop_listening(message.listen)
            case Connect():
                await self._connect(message.connection, message.resume)
            case CatchUp():
                await self._catch_up(message)
            case Disconnected():
                self._disconnect(message)
            case ReplyArrived() | TurnFailed():
                await self._end_turn(message)
            case ViewMoved():
                await self._push_view(message)
            case ViewRebuilt():
                await self._push_rebuilt(message)
            case Correct():
                return await self._correct(message.request, message.cause)
            case Reconfigure():
                await self._reconfigure(message)
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

    # -- the session

    async def _current(self) -> Session:
        """The session as it is. Where it was just loaded, what a server that died has left open
        is ended: the interrupted turn fails, and the query that has waited longest is run.
        """
        session = await self._live.current()
        if self._past is None:
            self._past = deque(await self._live.past_turns(SHOWN_TURNS), maxlen=SHOWN_TURNS)
            self._recall_from = self._live.position
        if self._live.take_fresh() and self._turn is None:
            if session.running is not None:
                await self._fail_interrupted_turn(session.running.turn_id)
            elif session.waiting:
                await self._commit_and_go_on(lambda session: None)
            return await self._live.current()
        return session

    async def _existing(self) -> Session:
        """The session as it is, refused where it is deleted."""
        session = await self._current()
        if session.is_deleted:
            raise SessionIsDeletedError(self._id)
        return session

    async def _commit(self, decide: Callable[[Session], T]) -> Decided[T]:
        await self._current()
        return await self._live.commit(decide)

    # -- connections

    async def _connect(self, connection: Connection, resume: Resume | None) -> None:
        await self._existing()
        if not self._audience:
            told = (
                self._services.told
                or (await patiently(lambda: read_positions(self._services.pool))).views
            )
            self._pushed = {view: told[view] for view in self._pushed}
        self._live.position = await connection.store_opened(self._services)
        is_recovered = resume is not None and resume.fits(self._services.epoch, self._live.position)
        connection.send(
            self._say(
                "connection_established",
                connection_id=connection.id,
                protocol=PROTOCOL,
                epoch=self._services.epoch,
                heartbeat_interval_s=self._services.heartbeat_interval_s,
                heartbeat_timeout_s=self._services.heartbeat_timeout_s,
                recovered=is_recovered,
                position=self._live.position,
            )
        )
        self._audience.join(connection, is_behind=is_recovered)
        self._monitor.tell(ConnectionJoined(self._id, connection.id, connection.user_id))
        logger.info(
            "Connection opened",
            extra=self._about(connection=connection.id, user=connection.user_id),
        )
        if resume is not None and is_recovered:
            await self._catch_up(CatchUp(connection, resume, resume.after))
        else:
            self._show_turn(connection)

    async def _catch_up(self, behind: CatchUp) -> None:
        """Send a page of what a connection has missed; with the last one, it hears all there is.

        Nothing falls between: whatever is stored is told while a message is handled, and until this
        one is handled, it is in the log.
        """
        connection = behind.connection
        if connection not in self._audience:
            return
        after = behind.after
        try:
            missed = await read_missed(self._services, self._id, after)
            for message, turn_id in missed.messages:
                connection.send(message, self._audience.request_of(turn_id, connection))
            after = missed.upto
            if not missed.is_last:
                behind = CatchUp(connection, behind.resume, after)
                self._services.keep(asyncio.create_task(self._tell_when_read(behind)))
                return
            updates = await missed_by_views(self._services, self._id, behind.resume, **self._pushed)
        except (*VIEWS_UNREACHABLE, *DATABASE_UNREACHABLE) as error:
            about = self._about(connection=connection.id)
            logger.warning("A connection can't catch up yet: %s", error, extra=about)
            behind = CatchUp(connection, behind.resume, after)
            asyncio.get_running_loop().call_later(RETRY_PUSH_S, self._tell_self, behind)
            return
        for update in updates:
            connection.send(update)
        self._audience.has_caught_up(connection)
        self._show_turn(connection)

    async def _tell_when_read(self, behind: CatchUp) -> None:
        await behind.connection.drained()
        self._tell_self(behind)

    def _show_turn(self, connection: Connection, request_id: str | None = None) -> None:
        """Tell a connection of the turn that runs, with the text that has come until now."""
        turn = self._turn
        if turn is None:
            return
        connection.send(self._say("typing_start", turn_id=turn.turn_id), request_id)
        if turn.pieces and turn.query.stream and connection.stream_partials:
            count = len(turn.pieces)
            connection.send(
                Piece(self._id, turn.turn_id, turn.text, first=1, last=count), request_id
            )

    def _disconnect(self, message: Disconnected) -> None:
        connection = message.connection
        if not self._audience.leave(connection):
            return
        connection.record_closed(self._services, message.code, message.reason)
        self._monitor.tell(ConnectionLeft(self._id, connection.id, message.code))
        logger.info(
            "Connection closed: %s",
            message.reason or "the client has left",
            extra=self._about(connection=connection.id, code=message.code),
        )

    def _close_connections(self, code: int, reason: str) -> None:
        for connection in self._audience:
            connection.close_socket(code, reason)
            self._disconnect(Disconnected(connection, code, reason))

    def _about(self, **what: Any) -> dict[str, Any]:
        """What a line of the log is about."""
        known = {"session": self._id, "position": self._live.position, **what}
        return {
            name: value if isinstance(value, int | str) else str(value)
            for name, value in known.items()
        }

    def _say(self, type_: str, /, **data: Any) -> Message:
        return session_message(self._id, type_, **data)

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
        listener: Listener | None = None,
    ) -> None:
        """Store a query and tell everybody; run it where its turn has come at once.

        A retry is not stored again: it gets the first one's answers.
        """

        def decide(session: Session) -> UUID:
            turn_id = session.turn_id_of(query.message, query.context, cause)
            if turn_id not in session.asked:
                session.ask_query(
                    turn_id, query.message, query.context, stream=query.stream, cause=cause
                )
                self._start_next(session)
            return turn_id

        decided = await self._commit(decide)
        turn_id = decided.result
        if connection is not None:
            self._audience.expects(turn_id, connection, cause.request_id)
        if listener is not None:
            self._audience.listen(turn_id, listener)
        if decided.events:
            self._publish(decided)
        else:
            await self._repeat(turn_id, cause, connection, listener)

    async def _repeat(
        self,
        turn_id: UUID,
        cause: Cause,
        connection: Connection | None,
        listener: Listener | None,
    ) -> None:
        """Answer a retried query with what the first one has led to until now.

        These messages have the positions of the first ones, which are older than what the
        connection may have seen.
        """
        for recorded in await self._live.turn(turn_id):
            message = message_of(recorded.event, recorded.position)
            if message is None:
                continue
            if connection is not None:
                connection.send(message, cause.request_id)
            if listener is not None:
                listener(message)
        if turn_id not in self._queries:
            self._audience.forget_turn(turn_id)
        elif connection is not None and self._turn is not None and self._turn.turn_id == turn_id:
            self._show_turn(connection, cause.request_id)

    def _publish(self, decided: Decided[Any]) -> None:
        """Tell everybody what was stored; start and end turns accordingly."""
        for event, position in zip(decided.events, decided.positions, strict=True):
            if isinstance(event, Session.QueryAsked):
                self._queries[event.turn_id] = event
            message = message_of(event, position)
            if message is not None:
                self._audience.send(message, getattr(event, "turn_id", None))
            if isinstance(event, Session.ReplyStarted):
                self._start_turn(event)
            elif isinstance(event, ENDS):
                self._finish_turn(event, position)

    def _start_turn(self, event: Session.ReplyStarted) -> None:
        session = self._live.loaded
        assert session is not None
        query = self._queries[event.turn_id]
        context = TurnContext(
            query,
            session.config,
            domain_of(session, self._services),
            tuple(self._past or ()),
            self._index,
            None if self._pushed["memory"] >= self._recall_from else self._recall_from,
        )
        task = asyncio.create_task(run_turn(context, self._services, self._tell_self))
        self._services.keep(task)
        self._turn = LiveTurn(query, task)
        self._monitor.tell(TurnsRunning(+1))
        self._audience.send(self._say("typing_start", turn_id=event.turn_id), event.turn_id)

    def _finish_turn(
        self,
        event: Session.ReplyCompleted | Session.ReplyFailed | Session.ReplyCancelled,
        position: int,
    ) -> None:
        turn_id = event.turn_id
        kind = type(event).__name__.removeprefix("Reply").lower()
        logger.info("Turn %s", kind, extra=self._about(turn=turn_id, position=position))
        query = self._queries.pop(turn_id, None)
        if query is not None and isinstance(event, Session.ReplyCompleted):
            assert self._past is not None
            if len(self._past) == SHOWN_TURNS:
                self._recall_from = max(self._recall_from, self._past[0].position)
            self._past.append(PastTurn(turn_id, query.message, event.text, position))
        if self._turn is not None and self._turn.turn_id == turn_id:
            self._drop_turn()
            self._audience.send(self._say("typing_stop", turn_id=turn_id), turn_id)
        self._audience.forget_turn(turn_id)

    def _drop_turn(self) -> None:
        if self._turn is not None:
            self._turn.task.cancel()
            self._turn = None
            self._monitor.tell(TurnsRunning(-1))

    def _send_piece(self, piece: PieceArrived) -> None:
        turn = self._turn
        if turn is None or turn.turn_id != piece.turn_id:
            return
        turn.pieces.append(piece.text)
        if turn.query.stream:
            count = len(turn.pieces)
            message = Piece(self._id, piece.turn_id, piece.text, first=count, last=count)
            self._audience.send(message, piece.turn_id, is_partial=True)

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
            self._start_next(session)
            return result

        decided = await self._commit(decide_both)
        for event in decided.events:
            if isinstance(event, Session.ReplyStarted) and event.turn_id not in self._queries:
                # It was asked before this actor was live.
                self._queries[event.turn_id] = await self._live.query_of(event.turn_id)
        self._publish(decided)
        return decided.result

    def _start_next(self, session: Session) -> None:
        """Let the next turn begin; where the server is about to end, the next server does that."""
        if not self._services.draining.is_set():
            session.start_reply()

    async def _fail_interrupted_turn(self, turn_id: UUID) -> None:
        logger.warning("Turn interrupted by the end of a server", extra=self._about(turn=turn_id))
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
        turn = self._turn
        running = turn if turn and request.turn_id in (None, turn.turn_id) else None
        turn_id = request.turn_id
        is_cancelled = True
        try:
            turn_id = await self._commit_and_go_on(
                lambda session: session.cancel_reply(
                    request.turn_id,
                    text=running.text if running else "",
                    cause=message.connection.cause(message.request_id),
                )
            )
        except UnknownTurnError:
            is_cancelled = False
        answer = self._say("cancel_response", turn_id=turn_id, cancelled=is_cancelled)
        message.connection.send(answer, message.request_id)

    # -- reads

    async def _answer_read(self, message: Received) -> None:
        connection = message.connection
        read = await self._read(message.request)
        recorded = reads.RECORDED_READS[type(message.request)]
        if recorded.is_wanted(self._services.record_reads):
            cause = connection.cause(message.request_id)
            what = recorded.what(message.request, read)
            connection.record(self._services, recorded.event_class, cause, **what)
        answer = self._say(reads.ANSWERS[type(message.request)], **read.wire)
        connection.send(answer, message.request_id)

    async def _read(self, request: Request) -> reads.Read:
        session = await self._existing()
        live = reads.LiveState(
            connections=len(self._audience),
            running=self._turn.turn_id if self._turn else None,
            position=self._live.position,
        )
        return await patiently(
            lambda: reads.answer(request, session, self._services, self._index, live)
        )

    # -- corrections

    async def _answer_correction(self, message: Received) -> None:
        cause = message.connection.cause(message.request_id)
        corrected = await self._correct(message.request, cause)
        answer = self._say(
            f"{message.request.type}_response", position=corrected.position, **corrected.wire
        )
        message.connection.send(answer, message.request_id)

    async def _correct(self, request: Request, cause: Cause) -> Corrected:
        """Store a correction; the views tell all connections what it has changed."""
        await self._existing()
        corrected = await self._curator.correct(request, cause)
        self._live.position = max(self._live.position, corrected.position)
        return corrected

    async def _push_view(self, moved: ViewMoved) -> None:
        """Tell all connections what a view has gained since they were last told."""
        after = self._pushed[moved.view]
        if not self._audience or moved.position <= after:
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
            self._audience.send(message)

    async def _push_rebuilt(self, rebuilt: ViewRebuilt) -> None:
        """Tell all connections that what they hold of a view was replaced."""
        if not self._audience:
            return
        try:
            message, position = await patiently(
                lambda: reads.rebuilt_message(self._services, self._id, rebuilt.view)
            )
        except VIEWS_UNREACHABLE:
            asyncio.get_running_loop().call_later(RETRY_PUSH_S, self._tell_self, rebuilt)
            return
        self._pushed[rebuilt.view] = max(self._pushed[rebuilt.view], position)
        self._audience.send(message)

    # -- the session's life

    async def _reconfigure(self, message: Reconfigure) -> None:
        decided = await self._commit(
            lambda session: session.reconfigure(
                title=message.title, config=message.config, cause=message.cause
            )
        )
        self._publish(decided)
        if decided.positions:
            self._list_changed(decided.positions[-1])

    async def _delete(self, message: Delete) -> None:
        decided = await self._commit(lambda session: session.delete(cause=message.cause))
        self._list_changed(decided.positions[-1])
        self._drop_turn()
        self._publish(decided)
        self._audience.refuse_listeners(refusal_of(SessionIsDeletedError(self._id)))
        self._close_connections(Close.SESSION_DELETED, "session deleted")
        self._monitor.tell(SessionRemoved(self._id))
        self._stop_soon()

    async def _shut_down(self) -> None:
        turn = self._turn
        sentence = "The server is restarting. Ask again."
        if turn is not None:
            turn.task.cancel()
            try:
                self._publish(
                    await self._commit(
                        lambda session: session.fail_reply(
                            turn.turn_id, code=Code.UNAVAILABLE, error=sentence, text=turn.text
                        )
                    )
                )
            except LogUnavailableError:
                about = self._about(turn=turn.turn_id)
                logger.warning("Turn ends as failed at the next start", extra=about)
        self._audience.refuse_listeners(RefusedError(Code.UNAVAILABLE, sentence))
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
        if time.monotonic() - self._active_at >= self._services.passivate_after_s:
            self._tell_self(Passivate())  # as a message, after whatever is being handled
        self._watch_idleness()

    def _passivate(self) -> bool:
        """Stop where nobody is connected or waits, nothing runs and no message has come."""
        is_needed = self._audience or self._audience.is_waited_for or self._turn
        if is_needed or not self.actor_inbox.empty():
            return False
        self._stop_soon()
        return True

    def _give_up(self, error: BaseException | None) -> None:
        logger.error("Session failed: %s", error, extra=self._about())
        self._drop_turn()
        self._audience.refuse_listeners(
            RefusedError(Code.INTERNAL, "The server made a mistake. Ask again.")
        )
        self._close_connections(Close.INTERNAL, "internal fault")
        self._forget(self._id, self.actor_ref)

    def _stop_soon(self) -> None:
        """Stop after what waits in the inbox; the next message starts a fresh actor."""
        self._forget(self._id, self.actor_ref)
        if self._timer is not None:
            self._timer.cancel()
        if not self.actor_stopped.is_set():
            self.stop()

    def _tell_self(self, message: Any) -> None:
        if not self.actor_stopped.is_set():
            self.actor_ref.tell(message)
