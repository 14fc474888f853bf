"""A session's aggregate while it is live: loaded from the log once, then only written."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from actors.errors import NoSuchSessionError
from actors.services import Services
from actors.turn import PastTurn
from events.aggregate import SessionAggregate
from events.journal import StreamConflictError
from events.log import Recorded
from events.session import Session

MAX_DECISIONS = 5  # of one command, where other writers are faster; more means something is wrong
SNAPSHOT_EVERY = 100  # events: loading a session reads at most as many
EVENTS_PER_TURN = 10  # what a turn leaves in the stream at most, others' commands included

T = TypeVar("T")


@dataclass(frozen=True)
class Decided(Generic[T]):
    """What a command led to: the aggregate's answer, and its events with their positions."""

    result: T
    events: Sequence[SessionAggregate.Event]
    positions: Sequence[int]


class LiveSession:
    """The aggregate of one session. Owned by its actor: one append at a time."""

    def __init__(self, session_id: UUID, services: Services) -> None:
        self._id = session_id
        self._log = services.log
        self._journal = services.journal
        self._keep = services.keep
        self._session: Session | None = None  # None: to be loaded
        self.is_fresh = False  # it was loaded, and what was stored meanwhile has not been looked at
        self.position = 0  # of the newest event that is known here

    @property
    def loaded(self) -> Session | None:
        """The aggregate, where it is loaded."""
        return self._session

    async def current(self) -> Session:
        """The aggregate, loaded where it is not known. Raises NoSuchSessionError."""
        if self._session is None:
            session = await asyncio.to_thread(self._log.load, Session, self._id)
            if session is None:
                raise NoSuchSessionError(self._id)
            head = await asyncio.to_thread(self._log.session_head, self._id)
            self.position = max(self.position, head)
            self._session = session
            self.is_fresh = True
        return self._session

    async def commit(self, decide: Callable[[Session], T]) -> Decided[T]:
        """Let the aggregate decide, and store what it has decided.

        Where another writer was first, it is loaded again and decides again. Raises what `decide`
        raises, StreamConflictError where others are faster each time, and LogUnavailableError: then
        it is unknown whether anything was stored, and the log will tell.
        """
        for _ in range(MAX_DECISIONS):
            session = await self.current()
            result = self._decide(decide, session)
            events: list[Any] = list(session.collect_events())
            if not events:
                return Decided(result, [], [])
            try:
                positions = await self._journal.append(events)
            except StreamConflictError:
                self._session = None
            except BaseException:
                self._session = None
                raise
            else:
                self.position = positions[-1]
                self._take_snapshot(session, events)
                return Decided(result, events, positions)
        raise StreamConflictError(f"Session {self._id} is being changed elsewhere. Try again.")

    def _decide(self, decide: Callable[[Session], T], session: Session) -> T:
        try:
            return decide(session)
        except BaseException:
            if session.pending_events:  # half a decision must not be stored with the next one
                self._session = None
            raise

    async def past_turns(self, limit: int) -> list[PastTurn]:
        """The last turns that have a reply, oldest first."""
        return await asyncio.to_thread(self._read_past, limit)

    async def query_of(self, turn_id: UUID) -> Session.QueryAsked:
        """The query of a recent turn, from the log."""
        session = await self.current()
        query: Session.QueryAsked = await asyncio.to_thread(
            self._log.read_one, self._id, session.asked[turn_id]
        )
        return query

    async def turn(self, turn_id: UUID) -> list[Recorded]:
        """The query of a recent turn and, where it has ended, its end, from the log."""
        session = await self.current()
        return await asyncio.to_thread(
            self._log.read_turn, self._id, session.asked[turn_id], turn_id
        )

    def _take_snapshot(self, session: Session, events: Sequence[Any]) -> None:
        if any(event.originator_version % SNAPSHOT_EVERY == 0 for event in events):
            snapshot = Session.Snapshot.take(session)
            self._keep(asyncio.create_task(asyncio.to_thread(self._log.put_snapshot, snapshot)))

    def _read_past(self, limit: int) -> list[PastTurn]:
        past: list[PastTurn] = []
        replies: dict[int, Session.ReplyCompleted] = {}
        newest_first = self._log.read_stream_backwards(self._id, limit=EVENTS_PER_TURN * limit)
        for event in newest_first:
            if isinstance(event, Session.ReplyCompleted):
                replies[event.query_version] = event
            elif isinstance(event, Session.QueryAsked):
                reply = replies.get(event.originator_version)
                if reply is not None:
                    past.append(PastTurn(event.turn_id, event.message, reply.text))
        return past[:limit][::-1]
