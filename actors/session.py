"""The session's actor: the one place where a session is live."""

import asyncio
import logging
import time
from collections.abc import Callable
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
    Ping,
    Query,
    RefusedError,
    Request,
    RetractStatement,
    SplitEntities,
    error_message,
    session_message,
    timestamp,
)
from actors.resume import Resume, read_missed
from actors.services import Services
from actors.stored_messages import message_of
from actors.turns import TurnEnd, Turns
from actors.view_pushes import ViewPushes
from events.aggregate import Cause
from events.journal import LogUnavailableError
from events.session import Session, SessionIsDeletedError, UnknownTurnError
from projections.search import MemoryIndex

logger = logging.getLogger(__name__)

RETRY_END_S = 1.0  # between tries to store the end of a turn while the database is gone
RETRY_CATCH_UP_S = 1.0  # between tries to read what a connection has missed, likewise

# Messages that somebody awaits.
ASKED = (Connect, Answer, Check, AskQuery, Correct, Reconfigure, Delete)

T = TypeVar("T")


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
        self._turns = Turns(session_id, services, monitor, self._audience, self._tell_self)
        self._index = MemoryIndex(services.memory, session_id, services.embedder)
        self._told_upto: int | None = None  # the newest event that connections were told of
        self._views = ViewPushes(session_id, services, self._audience, self._tell_self)
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
            return self._turns.take_piece(message)
        if isinstance(message, ViewMoved) and self._views.take(message):
            return None
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
                await self._views.read(message)
            case ViewRebuilt():
                if message.view == "memory":
                    self._index.note_rebuilt(message.position)
                await self._views.rebuilt(message)
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
        await self._turns.remember(self._live)
        if not self._live.is_fresh:
            return session
        await self._tell_missed()
        self._live.is_fresh = False
        if self._turns.running is None:
            if session.running is not None:
                await self._fail_interrupted_turn(session.running.turn_id)
            elif session.waiting:
                self._publish(await self._commit_and_go_on(lambda session: None))
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
        decided = await self._live.commit(decide)
        if self._live.is_fresh:  # another writer was faster, and the aggregate was loaded again
            await self._tell_missed(before=decided.positions[0] if decided.positions else None)
            self._live.is_fresh = False
        return decided

    async def _tell_missed(self, *, before: int | None = None) -> None:
        """Tell what was stored without being told: by another writer, or by a commit of which the
        answer was lost. It comes before what was stored after it.
        """
        if self._told_upto is None:
            self._told_upto = self._live.position  # nobody was here to be told
            return
        is_last = False
        while not is_last:
            missed = await read_missed(self._services, self._id, self._told_upto)
            for message, recorded in missed.messages:
                if before is not None and recorded.position >= before:
                    return
                self._tell(message, recorded.event, recorded.position)
            is_last = missed.is_last

    def _tell(self, message: Message | None, event: Any, position: int) -> None:
        """Tell everybody of a stored event; end its turn where it is the end of one."""
        self._told_upto = position
        if isinstance(event, Session.QueryAsked):
            self._turns.add(event)
        if message is not None:
            self._audience.send(message, getattr(event, "turn_id", None))
        if isinstance(event, TurnEnd):
            self._turns.finish(event, position)

    # -- connections

    async def _connect(self, connection: Connection, resume: Resume | None) -> None:
        await self._existing()
        if not self._audience:
            await self._views.begin()
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
            self._turns.show(connection)

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
            await self._current()  # so that what it reads now is not told once more later
            missed = await read_missed(self._services, self._id, after)
            for message, recorded in missed.messages:
                turn_id = getattr(recorded.event, "turn_id", None)
                connection.send(message, self._audience.request_of(turn_id, connection))
            after = missed.upto
            if not missed.is_last:
                behind = CatchUp(connection, behind.resume, after)
                self._services.keep(asyncio.create_task(self._tell_when_read(behind)))
                return
            updates = await self._views.missed(behind.resume)
        except (*VIEWS_UNREACHABLE, *DATABASE_UNREACHABLE) as error:
            about = self._about(connection=connection.id)
            logger.warning("A connection can't catch up yet: %s", error, extra=about)
            behind = CatchUp(connection, behind.resume, after)
            asyncio.get_running_loop().call_later(RETRY_CATCH_UP_S, self._tell_self, behind)
            return
        for update in updates:
            connection.send(update)
        self._audience.has_caught_up(connection)
        self._turns.show(connection)

    async def _tell_when_read(self, behind: CatchUp) -> None:
        await behind.connection.drained()
        self._tell_self(behind)

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
        if not self._turns.is_open(turn_id):
            self._audience.forget_turn(turn_id)
        elif connection is not None and self._turns.is_running(turn_id):
            self._turns.show(connection, cause.request_id)

    def _publish(self, decided: Decided[Any]) -> None:
        """Tell everybody what was stored; start and end turns accordingly."""
        with self._audience.together():
            for event, position in zip(decided.events, decided.positions, strict=True):
                self._tell(message_of(event, position), event, position)
                if isinstance(event, Session.ReplyStarted):
                    session = self._live.loaded
                    assert session is not None
                    self._turns.start(event.turn_id, session, self._index, self._views.memory)

    async def _end_turn(self, outcome: ReplyArrived | TurnFailed) -> None:
        """Store how the running turn ended, then let the next one begin."""
        turn = self._turns.running
        if turn is None or turn.turn_id != outcome.turn_id:
            return  # it was cancelled while the outcome was on its way

        def decide(session: Session) -> None:
            if isinstance(outcome, ReplyArrived):
                session.complete_reply(
                    outcome.turn_id,
                    text=outcome.text,
                    recalled=outcome.recalled,
                    facts=outcome.facts,
                    memory_position=outcome.memory_position,
                    graph_position=outcome.graph_position,
                    model=outcome.model,
                    usage=outcome.usage,
                    duration_ms=outcome.duration_ms,
                )
            else:
                session.fail_reply(
                    outcome.turn_id, code=outcome.code, error=outcome.error, text=turn.text
                )

        try:
            self._publish(await self._commit_and_go_on(decide))
        except LogUnavailableError:
            # A reply that was paid for is not thrown away: it is stored when the database is back.
            asyncio.get_running_loop().call_later(RETRY_END_S, self._tell_self, outcome)

    async def _commit_and_go_on(self, decide: Callable[[Session], T]) -> Decided[T]:
        """End a turn and start the one that has waited longest, in one commit; to be published."""

        def decide_both(session: Session) -> T:
            result = decide(session)
            self._start_next(session)
            return result

        decided = await self._commit(decide_both)
        for event in decided.events:
            if isinstance(event, Session.ReplyStarted) and not self._turns.is_open(event.turn_id):
                # It was asked before this actor was live.
                self._turns.add(await self._live.query_of(event.turn_id))
        return decided

    def _start_next(self, session: Session) -> None:
        """Let the next turn begin; where the server is about to end, the next server does that."""
        if not self._services.draining.is_set():
            session.start_reply()

    async def _fail_interrupted_turn(self, turn_id: UUID) -> None:
        logger.warning("Turn interrupted by the end of a server", extra=self._about(turn=turn_id))
        failed = await self._commit_and_go_on(
            lambda session: session.fail_reply(
                turn_id,
                code=Code.UNAVAILABLE,
                error="The server stopped while the reply was being written. Ask again.",
                text="",
            )
        )
        self._publish(failed)

    async def _cancel(self, message: Received) -> None:
        request = message.request
        assert isinstance(request, Cancel)
        turn = self._turns.running
        running = turn if turn and request.turn_id in (None, turn.turn_id) else None
        try:
            cancelled = await self._commit_and_go_on(
                lambda session: session.cancel_reply(
                    request.turn_id,
                    text=running.text if running else "",
                    cause=message.connection.cause(message.request_id),
                )
            )
        except UnknownTurnError:
            cancelled = None
        turn_id = cancelled.result if cancelled else request.turn_id
        answer = self._say("cancel_response", turn_id=turn_id, cancelled=cancelled is not None)
        with self._audience.together():
            if cancelled:
                self._publish(cancelled)
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
        about = {"session_id": self._id, "timestamp": timestamp()}
        answer = Message(reads.ANSWERS[type(message.request)], {**read.wire, **about})
        connection.send(answer, message.request_id)

    async def _read(self, request: Request) -> reads.Read:
        session = await self._existing()
        live = reads.LiveState(
            connections=len(self._audience),
            running=self._turns.running.turn_id if self._turns.running else None,
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
        self._turns.drop()
        self._publish(decided)
        self._audience.refuse_listeners(refusal_of(SessionIsDeletedError(self._id)))
        self._close_connections(Close.SESSION_DELETED, "session deleted")
        self._monitor.tell(SessionRemoved(self._id))
        self._stop_soon()

    async def _shut_down(self) -> None:
        turn = self._turns.running
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
        is_needed = self._audience or self._audience.is_waited_for or self._turns.running
        if is_needed or not self.actor_inbox.empty():
            return False
        self._stop_soon()
        return True

    def _give_up(self, error: BaseException | None) -> None:
        logger.error("Session failed: %s", error, extra=self._about())
        self._turns.drop()
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
