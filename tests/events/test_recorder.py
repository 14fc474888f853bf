"""The recorder keeps the library's promises: its own contract tests, run on ours."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent, Tracking
from eventsourcing.tests import persistence as contract

from events.log import Log
from events.mapper import SessionStoredEvent
from events.recorder import LogRecorder


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        conn.execute("TRUNCATE lorewire_events, lorewire_snapshots RESTART IDENTITY")
        conn.execute("DELETE FROM lorewire_tracking WHERE application_name <> '__migration__'")
    log = Log(migrated_database_url)
    yield log
    log.close()


class Contract:
    """Gives the library's test cases a recorder on an empty database."""

    recorder: LogRecorder

    @pytest.fixture(autouse=True)
    def _on_an_empty_database(self, log: Log) -> None:
        self.recorder = log.recorder

    def create_recorder(self) -> Any:
        return self.recorder

    def new_originator_id(self) -> UUID:
        return uuid4()


class TestApplicationRecorder(Contract, contract.ApplicationRecorderTestCase[Any]):
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestProcessRecorder(Contract, contract.ProcessRecorderTestCase):
    pass


class TestTrackingRecorder(Contract, contract.TrackingRecorderTestCase):
    pass


class TestNonInterleavingNotificationIDs(Contract, contract.NonInterleavingNotificationIDsBaseCase):
    pass


def events(count: int, *, stream_id: UUID | None = None) -> list[StoredEvent]:
    stream_id = stream_id or uuid4()
    return [StoredEvent(stream_id, version, "Test", b"{}") for version in range(1, count + 1)]


def test_versions_of_any_width_all_bytes_and_missing_sessions_share_a_batch(log: Log) -> None:
    state = bytes(range(256))
    session_id = uuid4()
    stored = [
        StoredEvent(uuid4(), 2**62, "Wide", state),
        SessionStoredEvent(session_id, 1, "Narrow", state, session_id),
        StoredEvent(uuid4(), 70_000, "Ümlaut", b""),
    ]

    log.recorder.insert_events(stored)

    keys = [(event.originator_id, event.originator_version) for event in stored]
    found = log.recorder.find_events(keys)
    assert [found[key][1:] for key in keys] == [(event.topic, event.state) for event in stored]
    assert log.session_head(session_id) == 2


def test_two_processes_do_not_interleave_their_positions(migrated_database_url: str) -> None:
    logs = [Log(migrated_database_url) for _ in range(2)]
    barrier = threading.Barrier(2)
    positions: dict[int, list[int]] = {}

    def write(number: int) -> None:
        barrier.wait()
        for _ in range(20):
            written = logs[number].recorder.insert_events(events(50))
            positions.setdefault(number, []).extend(written)
            assert list(written) == list(range(written[0], written[0] + 50))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(positions[0]) == len(positions[1]) == 1000
    assert not set(positions[0]) & set(positions[1])
    for log in logs:
        log.close()


def test_a_reader_never_sees_a_position_before_a_lower_one(
    log: Log, migrated_database_url: str
) -> None:
    """A writer that is slow to commit holds back those behind it, not only their readers."""
    with psycopg.connect(migrated_database_url) as slow:
        slow.execute(
            "SELECT lorewire_append(%s::uuid[], '{1}', '{Test}', '{abc}', %s::uuid[])",
            ([uuid4()], [None]),
        )
        other = threading.Thread(target=log.recorder.insert_events, args=(events(1),))
        other.start()
        other.join(timeout=0.3)

        assert other.is_alive()
        assert log.head() == 0

        slow.commit()
    other.join()
    assert [one.position for one in log.read(after=0, limit=10)] == [1, 2]


def test_the_librarys_own_function_would_lose_events(log: Log, migrated_database_url: str) -> None:
    """The twin of the test above: without the lock, a reader passes over an event."""
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        source = conn.execute("SELECT pg_get_functiondef('lorewire_append'::regproc)").fetchone()
        assert source is not None
        unlocked = source[0].replace("LOCK TABLE lorewire_events IN EXCLUSIVE MODE;", "")
        conn.execute(unlocked.replace("public.lorewire_append", "public.unlocked_append"))
    with psycopg.connect(migrated_database_url) as slow:
        slow.execute(
            "SELECT unlocked_append(%s::uuid[], '{1}', '{Test}', '{abc}', %s::uuid[])",
            ([uuid4()], [None]),
        )
        with psycopg.connect(migrated_database_url) as fast:
            fast.execute(
                "SELECT unlocked_append(%s::uuid[], '{1}', '{Test}', '{abc}', %s::uuid[])",
                ([uuid4()], [None]),
            )
        seen = [one.position for one in log.read(after=0, limit=10)]
        slow.commit()

    missed = [one.position for one in log.read(after=seen[-1], limit=10)]

    assert (seen, missed) == ([2], [])  # position 1 is there, and this reader never sees it


def test_a_conflict_stores_nothing(log: Log) -> None:
    stream_id = uuid4()
    log.recorder.insert_events(events(1, stream_id=stream_id))

    with pytest.raises(IntegrityError):
        log.recorder.insert_events([*events(3), *events(1, stream_id=stream_id)])

    assert log.head() == 1


def test_events_and_tracking_are_one_transaction(log: Log) -> None:
    log.recorder.insert_events(events(1), tracking=Tracking("learning", 5))

    with pytest.raises(IntegrityError):
        log.recorder.insert_events(events(1), tracking=Tracking("learning", 5))

    assert len(log.read(after=0, limit=10)) == 1
    assert log.recorder.max_tracking_id("learning") == 5


def test_stored_events_can_be_found_by_their_keys(log: Log) -> None:
    stored = events(3)
    log.recorder.insert_events(stored)

    found = log.recorder.find_events(
        [(stored[1].originator_id, 2), (stored[1].originator_id, 9), (uuid4(), 1)]
    )

    assert found == {(stored[1].originator_id, 2): (2, "Test", b"{}")}


def test_the_session_of_an_event_is_a_column(log: Log, migrated_database_url: str) -> None:
    session_id = uuid4()

    log.recorder.insert_events([SessionStoredEvent(uuid4(), 1, "Test", b"{}", session_id)])

    with psycopg.connect(migrated_database_url) as conn:
        assert conn.execute("SELECT session_id FROM lorewire_events").fetchone() == (session_id,)
