"""The learning policy: what was said becomes statements, exactly once."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain
from uuid import UUID

from eventsourcing.persistence import IntegrityError
from psycopg import Cursor
from psycopg.rows import DictRow

from events.knowledge import Knowledge, Statement, knowledge_id
from events.log import Log, Recorded
from events.session import Session
from events.shards import WHOLE, Shard
from language.domains import Domain
from language.extraction import Passage
from language.readers import CallCounts, Reader, Reading, TurnText
from language.recent import Recent
from language.statements import ExtractedStatement
from projections import positions
from projections.follower import NotYetError
from projections.learning_queue import CallReport
from projections.positions import tracking_name
from projections.set_aside import forget_event, read_set_aside
from projections.tracking import OvertakenError, lock_shard, shard_position

logger = logging.getLogger(__name__)

MAX_QUERIES = 1000  # kept at hand until their turns end
MAX_SESSIONS = 1000  # kept at hand, each with at most 4,800 names, and mostly a few
EVENTS_WITH_NAMES = 100  # the newest of a session's knowledge: whom it spoke of lately
SNAPSHOT_EVENTS = 100  # so many are loaded in some 5 ms
MAX_CONFLICTS = 5  # the stream has hardly another writer
MAX_EVENTS_BEFORE = 40  # in which to find the turns before one: others may have been asked between
WAIT_S = 1.0  # between looks at a turn that is being read, at which the waiting is made visible

Read = tuple[Recorded, Reading]  # what ended a turn, and what was read in it

TurnEnded = Session.ReplyCompleted | Session.ReplyFailed | Session.ReplyCancelled
MayBeRead = TurnEnded | Session.SessionOpened

# What an extractor tells of a statement; the policy adds its id and the speaker.
_EXTRACTED = [field.name for field in fields(ExtractedStatement)]

# Which follower learns from the sessions of a domain, by the extractor that the domain names.
FOLLOWER_OF = {"offline": positions.LEARNING, "model": positions.LEARNING_MODEL}

_MISSING = {
    "offline": "There is no offline extractor. Run `lorewire model install`.",
    "model": "There is no chat model to ask. Set LOREWIRE_MODEL_URL.",
}


@dataclass
class SessionKnowledge:
    """What is kept at hand of one session."""

    knowledge: Knowledge
    names: deque[tuple[str, ...]] = field(  # of the newest extractions, newest first
        default_factory=lambda: deque(maxlen=EVENTS_WITH_NAMES)
    )
    learned: frozenset[int] | None = None  # positions; None: to be read, where they are asked for

    def known_names(self) -> list[str]:
        """Each name once, the one last mentioned first."""
        return list(dict.fromkeys(name for names in self.names for name in names))


class LearningPolicy:
    """The work of a follower that has every turn read.

    There are two: one for domains whose extractor needs nothing but the turn, one for those that
    ask a model, which may take long. Each passes over the other's sessions. One KnowledgeExtracted
    for each ended turn and for each seed, stored in one transaction with the position of the event
    that it answers: whatever dies when, a turn is neither left out nor learned twice. Turns may be
    read at once, and are stored in the order of the log.
    """

    def __init__(
        self,
        log: Log,
        domains: Mapping[str, Domain],
        reader: Reader | None,
        *,
        extractor: str = "offline",
        shard: Shard = WHOLE,
    ) -> None:
        """For the domains that name this extractor. `reader` None: it has to wait for one."""
        self.name = FOLLOWER_OF[extractor]
        self.shard = shard
        self._other_name = next(name for name in FOLLOWER_OF.values() if name != self.name)
        self._log = log
        self._domains = domains
        self._reader = reader
        self._max_at_once = reader.max_at_once if reader else 1
        self._max_prepared = reader.max_prepared if reader else 1
        self._extractor = extractor
        self._is_wanted = any(domain.extractor == extractor for domain in domains.values())
        self._counts = CallCounts()
        self._report = CallReport(log, self._counts, self.name, shard)
        self._sessions: Recent[UUID, SessionKnowledge] = Recent(MAX_SESSIONS)
        self._talks: Recent[UUID, Session] = Recent(MAX_SESSIONS)
        self._queries: Recent[tuple[UUID, int], Session.QueryAsked] = Recent(MAX_QUERIES)
        self._readings: dict[int, Future[Reading]] = {}  # by position, until they are stored
        self._others_start: int | None = None  # where the other follower was when this one began

    def advance(self, after: int, recorded: Sequence[Recorded], upto: int | None = None) -> None:
        """Learn from these events. What was read at once is stored at once, and nothing waits for
        what is still being read.

        Raises NotYetError where there is no model to ask, and OvertakenError where another
        projector was faster.
        """
        if self._others_start is None:
            self._others_start = shard_position(self._log, self._other_name, self.shard)
        for position in [each for each in self._readings if each <= after]:
            self._readings.pop(position).cancel()  # another projector has learned it
        position = after
        for read in self._read_in_order(recorded):
            position = read[-1][0].position
            self._store(read, within=partial(self._move, position=position))
            for one, _ in read:
                self._readings.pop(one.position, None)
            self._report.tell()
        last = recorded[-1].position if upto is None else upto
        if position < last:
            with self._log.recorder.datastore.transaction(commit=True) as curs:
                self._move(curs, position=last)

    def redo(self, one: Recorded) -> None:
        """Learn from an event that was set aside, which it is no more, in one transaction."""
        # It was this follower's when it came by, whatever its domain says now.
        self._others_start = max(self._others_start or 0, one.position)
        (one,) = self._caught_up([one])
        turn = self._turn_to_read(one)
        reading = self._submit(one.position, turn).result() if turn else None

        def take_back(curs: Cursor[DictRow]) -> None:
            if not forget_event(curs, self.name, one.position):
                raise OvertakenError(self.name)

        if reading is None:
            with self._log.recorder.datastore.transaction(commit=True) as curs:
                take_back(curs)
        else:
            del self._readings[one.position]
            self._store([(one, reading)], within=take_back)

    def _move(self, curs: Cursor[DictRow], *, position: int) -> None:
        """Bring the position forward, in the transaction that stores what it stands for."""
        name = tracking_name(self.name, self.shard)
        if lock_shard(curs, self.name, self.shard).position >= position:
            raise OvertakenError(name)
        self._log.recorder.store_position(name, position, curs)

    def _read_in_order(self, recorded: Sequence[Recorded]) -> Iterator[Sequence[Read]]:
        """Have turns read, as many at once as the reader can, and hand them out in order: together
        those that are there already, each of another session.

        What has been read and could not be stored is not read again: a call may cost money.
        """
        waiting: deque[tuple[Recorded, Future[Reading]]] = deque()
        for turns in self._prepared(recorded):
            waiting.extend((one, self._submit(one.position, turn)) for one, turn in turns)
            while waiting and (waiting[0][1].done() or len(waiting) >= self._max_at_once):
                yield self._take(waiting)
        while waiting:
            yield self._take(waiting)

    def _take(self, waiting: deque[tuple[Recorded, "Future[Reading]"]]) -> Sequence[Read]:
        one, future = waiting.popleft()
        taken = {one.event.session_id: (one, self._wait_for(future))}
        while waiting and waiting[0][1].done() and waiting[0][0].event.session_id not in taken:
            one, future = waiting.popleft()
            taken[one.event.session_id] = one, future.result()
        return list(taken.values())

    def _prepared(
        self, recorded: Sequence[Recorded]
    ) -> Iterator[Sequence[tuple[Recorded, TurnText]]]:
        """The turns to read, so many at once as the reader prepares together.

        Each is of another session, so that a turn knows the names of the one before it.
        """
        turns: dict[UUID, tuple[Recorded, TurnText]] = {}
        for one in chain.from_iterable(map(self._caught_up, self._in_parts(recorded))):
            if isinstance(one.event, Session.QueryAsked):
                self._queries[one.event.session_id, one.event.originator_version] = one.event
            if one.event.session_id in turns:
                yield self._prepare(turns.values())
                turns.clear()
            turn = self._turn_to_read(one)
            if turn is not None:
                turns[one.event.session_id] = one, turn
            if len(turns) >= self._max_prepared:
                yield self._prepare(turns.values())
                turns.clear()
        yield self._prepare(turns.values())

    def _in_parts(self, recorded: Sequence[Recorded]) -> Iterator[Sequence[Recorded]]:
        """The events, so many together that what is to be read in them may be prepared at once."""
        start = found = 0
        for end, one in enumerate(recorded, 1):
            found += self._may_be_read(one)
            if found == self._max_prepared:
                yield recorded[start:end]
                start, found = end, 0
        yield recorded[start:]

    def _caught_up(self, recorded: Sequence[Recorded]) -> Sequence[Recorded]:
        """These events, the sessions whose turns they end being at hand as they are now.

        What the events themselves tell is not read again, and the rest of all sessions at once.
        """
        for one in recorded:
            event = one.event
            session = self._talks.pop(event.session_id, None)  # of no use where this raises
            if session is not None:
                if (event.originator_id, event.originator_version) == _next_of(session):
                    event.mutate(session)
                self._talks[session.id] = session
        ended = {one.event.session_id for one in recorded if self._may_be_read(one)}
        known = [session for each in ended if (session := self._talks.pop(each, None))]
        self._log.catch_up(*known)
        self._talks.update({session.id: session for session in known})
        return recorded

    def _prepare(
        self, turns: Iterable[tuple[Recorded, TurnText]]
    ) -> Sequence[tuple[Recorded, TurnText]]:
        prepared = list(turns)
        if self._reader is not None and prepared:
            self._reader.prepare([turn for _, turn in prepared])
        return prepared

    def _submit(self, position: int, turn: TurnText) -> "Future[Reading]":
        future = self._readings.get(position)
        if future is None:
            future = self._readings[position] = (
                self._reader.submit(turn, self._counts) if self._reader else self._without_reader()
            )
        return future

    def _without_reader(self) -> "Future[Reading]":
        if self._is_wanted:
            raise NotYetError(_MISSING[self._extractor])
        unread: Future[Reading] = Future()
        unread.set_result(Reading(self._extractor, (), "No domain has this extractor any more."))
        return unread

    def _wait_for(self, future: "Future[Reading]") -> Reading:
        while True:
            try:
                return future.result(WAIT_S)
            except TimeoutError:
                self._report.tell()

    def _turn_to_read(self, one: Recorded) -> TurnText | None:
        """What an event gives to read; None where it is not this follower's to have read."""
        event = one.event
        if not isinstance(event, MayBeRead) or not self._may_be_read(one):
            return None
        session = self._talk(event.session_id)
        if session is None or session.is_deleted or not session.config.enable_graph:
            return None
        domain = self._domains.get(session.config.domain)
        if domain is None or domain.extractor not in FOLLOWER_OF:
            return None
        if not self._is_ours(one, domain) or self._came_learned(one):
            return None
        if isinstance(event, Session.SessionOpened):
            passages = [Passage(text, domain.title, None) for text in event.seed]
            before: list[Passage] = []
        else:
            passages = self._passages_of(event, domain.agent_name)
            before = self._passages_before(event, domain.agent_name)
        if not passages:
            return None
        return TurnText(
            passages,
            before=before,
            known_names=self._session(event.session_id).known_names(),
            said_at=event.timestamp,
            model=session.config.llm_model,
        )

    def _may_be_read(self, one: Recorded) -> bool:
        """Whether it takes a look at the session to know whether an event is to be read."""
        is_due = self._is_wanted or one.position <= (self._others_start or 0)
        return is_due and isinstance(one.event, MayBeRead)

    def _is_ours(self, one: Recorded, domain: Domain) -> bool:
        """Whether this follower has to see to a turn, and not the other one.

        That is for the domain to say; but what it said may have changed since the other follower
        passed by, at the latest when this process began. Then one of them has learned the turn, or
        neither has, and this one is the last to come. What the other one has set aside is its own.
        """
        if one.position > (self._others_start or 0):
            return domain.extractor == self._extractor
        return not self._is_learned(one) and not any(
            each.follower == self._other_name and each.position == one.position
            for each in read_set_aside(self._log)
        )

    def _came_learned(self, one: Recorded) -> bool:
        """Whether a turn was learned in the log from which its session was imported.

        Elsewhere nothing was learned from what comes later, so that this costs a comparison.
        """
        session = self._session(one.event.session_id)
        if one.position > session.knowledge.learned_upto:
            return False
        if session.learned is None:
            session.learned = self._learned(one.event.session_id)
        return one.position in session.learned

    def _is_learned(self, one: Recorded) -> bool:
        return one.position in self._learned(one.event.session_id)

    def _learned(self, session_id: UUID) -> frozenset[int]:
        return frozenset(
            event.source_position
            for event in self._log.events.get(knowledge_id(session_id))
            if isinstance(event, Knowledge.KnowledgeExtracted)
        )

    def _passages_of(self, event: TurnEnded, agent_name: str) -> list[Passage]:
        query = self._queries.get((event.session_id, event.query_version))
        if query is None:
            query = self._log.read_one(event.session_id, event.query_version)
        user_id = query.cause.user_id
        passages = [Passage(query.message, user_id, agent_name)]
        if event.text.strip():
            passages.append(Passage(event.text, agent_name, user_id))
        return passages

    def _passages_before(self, event: TurnEnded, agent_name: str) -> list[Passage]:
        """The turns that ended before one, oldest first, as many as the reader wants."""
        wanted = self._reader.turns_before if self._reader else 0
        if not wanted:
            return []
        earlier = self._log.events.get(
            event.session_id,
            lte=event.originator_version - 1,
            desc=True,
            limit=MAX_EVENTS_BEFORE,
        )
        ended = [each for each in earlier if isinstance(each, TurnEnded)][:wanted]
        return [
            passage for each in reversed(ended) for passage in self._passages_of(each, agent_name)
        ]

    def _store(self, read: Sequence[Read], *, within: Callable[[Cursor[DictRow]], None]) -> None:
        """Append to the knowledge of sessions, of each once; on a conflict, load them once more.

        All is one transaction, in which `within` is done, too.
        """
        for conflicts in range(MAX_CONFLICTS + 1):
            learned = [self._learn(one, reading) for one, reading in read]
            events = [event for each in learned for event in each.knowledge.collect_events()]
            try:
                self._log.events.put(events, within=within)
            except IntegrityError:
                if conflicts == MAX_CONFLICTS:
                    raise
            else:
                for (one, _), session in zip(read, learned, strict=True):
                    self._sessions[one.event.session_id] = session
                    self._take_snapshot(session.knowledge)
                return

    def _learn(self, one: Recorded, reading: Reading) -> SessionKnowledge:
        """A session that has learned what was read, out of reach until that is stored: what fails
        leaves an aggregate ahead of the log.
        """
        session = self._session(one.event.session_id)
        del self._sessions[one.event.session_id]
        turn_id = getattr(one.event, "turn_id", None)
        statements = tuple(_statements(reading.found, str(turn_id or "seed")))
        session.knowledge.learn(
            turn_id=turn_id,
            source_position=one.position,
            extractor=reading.extractor,
            statements=statements,
            error=reading.error,
            said_at=one.event.timestamp,
        )
        session.names.appendleft(names_of(statements))
        return session

    def _talk(self, session_id: UUID) -> Session | None:
        """A session, at hand as `_caught_up` has left it, or loaded as it is now."""
        session = self._talks.get(session_id) or self._log.load(Session, session_id)
        if session is not None:
            self._talks[session_id] = session
        return session

    def _session(self, session_id: UUID) -> SessionKnowledge:
        """What is at hand of a session, loaded where it is not."""
        session = self._sessions.get(session_id)
        if session is None:
            stream_id = knowledge_id(session_id)
            session = SessionKnowledge(
                self._log.load(Knowledge, stream_id) or Knowledge.open(session_id)
            )
            for event in self._log.read_stream_backwards(stream_id, limit=EVENTS_WITH_NAMES):
                if isinstance(event, Knowledge.KnowledgeExtracted):
                    session.names.append(names_of(event.statements))
        self._sessions[session_id] = session
        return session

    def _take_snapshot(self, knowledge: Knowledge) -> None:
        if knowledge.version % SNAPSHOT_EVENTS == 0:
            self._log.put_snapshot(Knowledge.Snapshot.take(knowledge))


def _next_of(session: Session) -> tuple[UUID, int]:
    """The key of the event that a session has not seen yet."""
    return session.id, session.version + 1


def _statements(
    found: Sequence[tuple[Passage, ExtractedStatement]], prefix: str
) -> Iterator[Statement]:
    for number, (passage, one) in enumerate(found):
        yield Statement(
            statement_id=f"{prefix}:{number}",
            speaker=passage.speaker,
            **{name: getattr(one, name) for name in _EXTRACTED},
        )


def names_of(statements: Sequence[Statement | ExtractedStatement]) -> tuple[str, ...]:
    """What statements call by a name: with a capital, and not by way of an owner."""
    names = [one.subject for one in statements]
    names += [one.object for one in statements if not one.object_is_literal]
    return tuple(
        dict.fromkeys(name for name in names if name[:1].isupper() and not _is_indirect(name))
    )


def _is_indirect(name: str) -> bool:
    """ "Kira's brother", "ada (group)"."""
    return "'s " in name or "\u2019s " in name or name.endswith(")")
