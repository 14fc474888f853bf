"""What tests of projections tell: sessions opened, things said, through real aggregates."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
from eventsourcing.persistence import InterfaceError, OperationalError

from events.aggregate import Cause
from events.knowledge import Knowledge, Statement, knowledge_id
from events.log import Log, Recorded
from events.session import Session, SessionConfig
from projections.follower import Work, stored_position

ADA = Cause(user_id="ada")


class Scenario:
    """Appends to a real log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._sessions: dict[UUID, Session] = {}

    def open(
        self,
        *,
        domain: str = "dnd",
        title: str = "The keep",
        user_id: str = "ada",
        seed: tuple[str, ...] = (),
        **config: Any,
    ) -> UUID:
        """Open a session."""
        session = Session.open(
            user_id=user_id, title=title, config=SessionConfig(domain, **config), seed=seed
        )
        self._sessions[session.id] = session
        self.log.save(session)
        return session.id

    def ask(self, session_id: UUID, message: str, *, user_id: str = "ada") -> UUID:
        """Ask a query; returns its turn."""
        turn_id = uuid4()
        self._sessions[session_id].ask_query(
            turn_id, message, {}, stream=True, cause=Cause(user_id)
        )
        self.log.save(self._sessions[session_id])
        return turn_id

    def reply(self, session_id: UUID, text: str) -> UUID:
        """Reply to the query that has waited longest."""
        session = self._sessions[session_id]
        turn = session.start_reply()
        assert turn is not None
        session.complete_reply(
            turn.turn_id, text=text, recalled=(), facts=(), model="m", usage=None, duration_ms=1
        )
        self.log.save(session)
        return turn.turn_id

    def fail(self, session_id: UUID, text: str) -> UUID:
        """Fail the reply to the query that has waited longest, after some text."""
        session = self._sessions[session_id]
        turn = session.start_reply()
        assert turn is not None
        session.fail_reply(turn.turn_id, code="model_unavailable", error="No.", text=text)
        self.log.save(session)
        return turn.turn_id

    def say(self, session_id: UUID, message: str, text: str) -> UUID:
        """A whole turn."""
        self.ask(session_id, message)
        return self.reply(session_id, text)

    def change(self, session_id: UUID) -> Session:
        """The aggregate, to do something else with it and `save`."""
        return self._sessions[session_id]

    def save(self, session_id: UUID) -> None:
        """Store what was done with `change`."""
        self.log.save(self._sessions[session_id])

    def learn(
        self, session_id: UUID, statements: Sequence[Statement], turn_id: UUID | None = None
    ) -> int:
        """Store what was learned; returns the position."""
        knowledge = self.log.load(Knowledge, knowledge_id(session_id)) or Knowledge.open(session_id)
        knowledge.learn(
            turn_id=turn_id or uuid4(),
            source_position=self.log.session_head(session_id),
            extractor="test/1",
            statements=tuple(statements),
        )
        self.log.save(knowledge)
        return self.log.head()

    def recorded(self, after: int = 0) -> list[Recorded]:
        """Everything in the log after a position."""
        return [
            one for one in self.log.read(after=after, limit=100_000) if isinstance(one, Recorded)
        ]


def statement(
    statement_id: str, subject: str, predicate: str, object: str, **more: Any
) -> Statement:
    """A plain fact, or with `more` another statement."""
    values: dict[str, Any] = {
        "subject_type": None,
        "object_type": None,
        "object_is_literal": False,
        "quote": f"{subject} {predicate} {object}",
        "speaker": "ada",
        "polarity": "yes",
        "modality": "fact",
        "said_by": None,
        "valid_from": None,
        "valid_to": None,
        "confidence": 0.8,
    }
    return Statement(
        statement_id=statement_id,
        subject=subject,
        predicate=predicate,
        object=object,
        **(values | more),
    )


def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait for something to come about; the database may be gone for a while."""
    deadline = time.monotonic() + timeout_s
    while not _holds(condition):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (OperationalError, InterfaceError):
        return False


def terminate_others(database_url: str) -> None:
    """Cut every other connection to a database."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@contextmanager
def unreadable(log: Log, position: int) -> Iterator[None]:
    """One stored event can't be read meanwhile, since its bytes do not fit its class."""
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("SELECT state FROM lorewire_events WHERE notification_id = %s", (position,))
        row = curs.fetchone()
        assert row is not None
    _set_state(log, position, b"{}")
    try:
        yield
    finally:
        _set_state(log, position, row["state"])


def _set_state(log: Log, position: int, state: bytes) -> None:
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute(
            "UPDATE lorewire_events SET state = %s WHERE notification_id = %s", (state, position)
        )


def forget_set_aside(log: Log) -> None:
    """Nothing is set aside any more."""
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("DELETE FROM lorewire_set_aside")


def forget_memory(log: Log) -> None:
    """Nothing is in memory any more, nor is it any embedder's."""
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("DELETE FROM memory_entries")
        curs.execute("UPDATE lorewire_views SET made_with = NULL WHERE name = 'memory'")


def follow(log: Log, work: Work) -> None:
    """Do the work for everything that is new in the log, as a follower would."""
    after = stored_position(log, work.name)
    while batch := log.read(after=after, limit=1000):
        work.advance(after, [one for one in batch if isinstance(one, Recorded)])
        after = batch[-1].position
