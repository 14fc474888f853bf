"""The journal: what is acknowledged is stored once, whatever happens on the way."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pykka
import pytest
from eventsourcing.persistence import IntegrityError, InterfaceError, OperationalError, StoredEvent

from events.aggregate import Cause
from events.journal import (
    MAX_BATCH_EVENTS,
    Journal,
    LogUnavailableError,
    StreamConflictError,
)
from events.log import Log, Recorded
from events.session import Session, SessionConfig
from tests.databases import allow_connections, kill_connections, refuse_connections

ADA = Cause("ada")


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    log = Log(migrated_database_url)
    yield log
    log.close()


@pytest.fixture
async def journal(log: Log) -> AsyncIterator[Journal]:
    journal = Journal(log, timeout_s=5.0)
    yield journal
    await asyncio.to_thread(journal.stop)


def open_session() -> Session:
    return Session.open(user_id="ada", title="t", config=SessionConfig("dnd"))


def ask(session: Session) -> Session:
    session.ask_query(uuid4(), "Hi", {}, stream=True, cause=ADA)
    return session


def stream_of(log: Log, session: Session) -> list[int]:
    """The versions that are stored, in the order of their positions."""
    stored = [
        one for one in log.read_session(session.id, limit=10_000) if isinstance(one, Recorded)
    ]
    return [one.event.originator_version for one in stored]


async def test_an_append_is_answered_with_its_positions(log: Log, journal: Journal) -> None:
    session = ask(open_session())

    positions = await journal.append(session.collect_events())

    stored = log.read_session(session.id, limit=10)
    assert [one.position for one in stored] == positions


async def test_appends_that_arrive_together_share_commits(log: Log, journal: Journal) -> None:
    sessions = [open_session() for _ in range(200)]
    before = await asyncio.to_thread(transactions, log)

    await asyncio.gather(*(journal.append(s.collect_events()) for s in sessions))

    assert await asyncio.to_thread(transactions, log) - before < 50


async def test_appends_of_several_loops_are_all_answered(log: Log, journal: Journal) -> None:
    async def work() -> list[int]:
        session = open_session()
        positions = await journal.append(session.collect_events())
        for _ in range(50):
            positions += await journal.append(ask(session).collect_events())
            session.start_reply()
            session.fail_reply(session.running.turn_id, code="x", error="x", text="")  # type: ignore[union-attr]
        return positions

    loops = [asyncio.to_thread(asyncio.run, work()) for _ in range(8)]
    positions = [position for answers in await asyncio.gather(*loops) for position in answers]

    assert len(positions) == len(set(positions))


async def test_what_waits_is_stored_before_the_journal_stops_and_nothing_after(log: Log) -> None:
    journal = Journal(log, timeout_s=5.0)
    sessions = [open_session() for _ in range(20)]
    waiting = [journal.append(session.collect_events()) for session in sessions]

    await asyncio.to_thread(journal.stop)

    assert all(len(positions) == 1 for positions in await asyncio.gather(*waiting))
    for _ in range(2):
        with pytest.raises(pykka.ActorDeadError):
            journal.append(open_session().collect_events())


async def test_a_batch_has_at_most_500_events(log: Log) -> None:
    sizes: list[int] = []
    inner = log.recorder.insert_events

    class Watching:
        def insert_events(self, stored: Sequence[StoredEvent]) -> Sequence[int]:
            sizes.append(len(stored))
            time.sleep(0.01)  # so that the next ones have to wait
            return inner(stored)

    journal = journal_on(log, Watching())
    sessions = [open_session() for _ in range(1200)]

    await asyncio.gather(*(journal.append(s.collect_events()) for s in sessions))

    assert max(sizes) == MAX_BATCH_EVENTS
    assert sum(sizes) == 1200
    await asyncio.to_thread(journal.stop)


async def test_a_conflict_fails_its_own_stream_only(log: Log, journal: Journal) -> None:
    session = open_session()
    await journal.append(session.collect_events())
    elsewhere = await asyncio.to_thread(log.load, Session, session.id)
    assert elsewhere is not None
    await journal.append(ask(elsewhere).collect_events())
    neighbours = [open_session() for _ in range(20)]

    late, *others = await asyncio.gather(
        journal.append(ask(session).collect_events()),
        *(journal.append(neighbour.collect_events()) for neighbour in neighbours),
        return_exceptions=True,
    )

    assert isinstance(late, StreamConflictError)
    assert all(isinstance(other, list) for other in others)
    assert stream_of(log, session) == [1, 2]


async def test_a_stream_is_appended_to_once_at_a_time(journal: Journal) -> None:
    session = open_session()
    first = journal.append(session.collect_events())

    with pytest.raises(RuntimeError, match="wait for the answer"):
        journal.append(ask(session).collect_events())

    await first
    await journal.append(ask(session).collect_events())


async def test_a_stream_is_being_appended_to_although_nobody_waits_any_more(
    journal: Journal,
) -> None:
    session = ask(open_session())
    journal.append(session.collect_events()).cancel()
    later = ask(session).collect_events()

    with pytest.raises(RuntimeError, match="wait for the answer"):
        journal.append(later)
    await journal.append(open_session().collect_events())  # stored behind it, or with it

    assert len(await journal.append(later)) == 1


async def test_of_two_writers_of_one_version_one_is_stored(log: Log, journal: Journal) -> None:
    session = open_session()
    await journal.append(session.collect_events())
    copies = [await asyncio.to_thread(log.load, Session, session.id) for _ in range(2)]
    elsewhere = Journal(log, timeout_s=5.0)

    outcomes = await asyncio.gather(
        *(
            writer.append(ask(copy).collect_events())
            for writer, copy in zip((journal, elsewhere), copies, strict=True)
            if copy
        ),
        return_exceptions=True,
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["StreamConflictError", "list"]
    assert stream_of(log, session) == [1, 2]
    await asyncio.to_thread(elsewhere.stop)


class CutAfterCommit:
    """Stores the events, then fails as if the connection had been cut before the answer."""

    def __init__(self, log: Log, *, times: int, error: type[Exception]) -> None:
        self._recorder = log.recorder
        self._left = times
        self._error = error

    def insert_events(self, stored: Sequence[StoredEvent]) -> Sequence[int]:
        positions = self._recorder.insert_events(stored)
        if self._left:
            self._left -= 1
            raise self._error("server closed the connection unexpectedly")
        return positions

    def find_events(self, keys: Sequence[tuple[UUID | str, int]]) -> Any:
        return self._recorder.find_events(keys)


def journal_on(log: Log, recorder: Any, *, timeout_s: float = 5.0) -> Journal:
    """A journal whose recorder misbehaves."""

    class LogWithRecorder:
        mapper = log.mapper

    LogWithRecorder.recorder = recorder  # type: ignore[attr-defined]
    return Journal(LogWithRecorder(), timeout_s=timeout_s)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
async def test_a_commit_that_nobody_was_told_about_is_found_in_the_log(
    log: Log, error: type[Exception]
) -> None:
    journal = journal_on(log, CutAfterCommit(log, times=1, error=error))
    sessions = [ask(open_session()) for _ in range(3)]

    outcomes = await asyncio.gather(*(journal.append(s.collect_events()) for s in sessions))

    for session, positions in zip(sessions, outcomes, strict=True):
        assert [one.position for one in log.read_session(session.id, limit=10)] == positions
    await asyncio.to_thread(journal.stop)


async def test_without_reading_the_log_a_lost_answer_looks_like_a_conflict(log: Log) -> None:
    """The twin of the test above: a second try of the same events is refused by the database."""
    session = open_session()
    stored = [log.mapper.to_stored_event(event) for event in session.collect_events()]
    recorder = CutAfterCommit(log, times=1, error=OperationalError)

    with pytest.raises(OperationalError):
        recorder.insert_events(stored)

    with pytest.raises(IntegrityError):
        recorder.insert_events(stored)


async def test_commands_wait_for_a_database_that_comes_back(
    log: Log, journal: Journal, migrated_database_url: str
) -> None:
    session = open_session()
    await journal.append(session.collect_events())

    await asyncio.to_thread(refuse_connections, migrated_database_url)
    waiting = journal.append(ask(session).collect_events())
    await asyncio.sleep(0.7)
    assert not waiting.done()
    await asyncio.to_thread(allow_connections, migrated_database_url)

    await waiting
    assert await asyncio.to_thread(stream_of, log, session) == [1, 2]


async def test_commands_wait_up_to_a_limit(log: Log, migrated_database_url: str) -> None:
    journal = Journal(log, timeout_s=0.5)
    session = open_session()
    await journal.append(session.collect_events())
    await asyncio.to_thread(refuse_connections, migrated_database_url)
    try:
        outcomes = await asyncio.gather(
            *(journal.append(ask(open_session()).collect_events()) for _ in range(20)),
            return_exceptions=True,
        )
    finally:
        await asyncio.to_thread(allow_connections, migrated_database_url)

    assert {type(outcome) for outcome in outcomes} == {LogUnavailableError}
    await journal.append(ask(session).collect_events())  # and it goes on where it was
    assert stream_of(log, session) == [1, 2]
    await asyncio.to_thread(journal.stop)


async def test_connections_that_are_killed_under_load_lose_nothing(
    log: Log, journal: Journal, migrated_database_url: str
) -> None:
    sessions = [open_session() for _ in range(20)]
    acknowledged: dict[UUID, list[int]] = {session.id: [] for session in sessions}

    async def work(session: Session) -> None:
        for _ in range(40):
            ask(session)
            acknowledged[session.id] += await journal.append(session.collect_events())
            session.start_reply()
            session.fail_reply(session.running.turn_id, code="x", error="x", text="")  # type: ignore[union-attr]

    async def kill() -> None:
        for _ in range(10):
            await asyncio.sleep(0.05)
            await asyncio.to_thread(kill_connections, migrated_database_url)

    await asyncio.gather(kill(), *(work(session) for session in sessions))

    for session in sessions:
        stored = await asyncio.to_thread(log.read_session, session.id, limit=10_000)
        assert [one.position for one in stored] == acknowledged[session.id]
        versions = [one.event.originator_version for one in stored if isinstance(one, Recorded)]
        assert versions == list(range(1, len(versions) + 1))


async def test_an_append_that_can_never_succeed_does_not_harm_its_neighbours(
    log: Log, journal: Journal
) -> None:
    good = open_session()
    bad = open_session()
    [event] = bad.collect_events()
    object.__setattr__(event, "originator_version", 2**70)  # no bigint holds it

    outcomes = await asyncio.gather(
        journal.append([event]), journal.append(good.collect_events()), return_exceptions=True
    )

    assert isinstance(outcomes[0], Exception)
    assert isinstance(outcomes[1], list)


async def test_an_event_that_can_not_be_written_fails_at_once(journal: Journal) -> None:
    session = open_session()
    [event] = session.collect_events()
    object.__setattr__(event, "title", object())

    with pytest.raises(TypeError):
        journal.append([event])


def transactions(log: Log) -> int:
    with log.recorder.datastore.get_connection() as conn:
        conn.execute("SELECT pg_stat_force_next_flush()")
        row = conn.execute("SELECT count(DISTINCT xmin::text) AS n FROM lorewire_events").fetchone()
    assert row is not None
    return int(row["n"])
