"""The log: reading what was stored."""

import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from events.aggregate import Cause
from events.audit import as_dict
from events.connection import Connection
from events.log import Log, Recorded, Unreadable
from events.session import Session, SessionConfig


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    log = Log(migrated_database_url)
    yield log
    log.close()


def store_session(log: Log, *, queries: int = 1) -> Session:
    session = Session.open(user_id="ada", title="t", config=SessionConfig("dnd"))
    for number in range(queries):
        session.ask_query(uuid4(), f"Q{number}", {}, stream=True, cause=Cause("ada"))
        session.start_reply()
        assert session.running is not None
        session.fail_reply(session.running.turn_id, code="x", error="x", text="")
    log.save(session)
    return session


def test_a_session_is_loaded_as_it_was_saved(log: Log) -> None:
    session = store_session(log)

    assert log.load(Session, session.id) == session
    assert log.load(Session, uuid4()) is None


def test_an_aggregate_that_was_loaded_is_brought_to_where_it_is_now(log: Log) -> None:
    session = store_session(log)
    loaded = log.load(Session, session.id)
    assert loaded is not None
    session.reconfigure(title="Moor", config=None, cause=Cause("ada"))
    log.save(session)
    assert loaded != session

    log.catch_up(loaded)

    assert loaded == session
    log.catch_up(loaded)  # nothing is new
    assert loaded == session


def test_aggregates_are_brought_to_where_they_are_now_together(log: Log) -> None:
    sessions = [store_session(log) for _ in range(3)]
    loaded = [log.load(Session, session.id) for session in sessions]
    for count, session in enumerate(sessions):
        for number in range(count):
            session.reconfigure(title=f"Moor {number}", config=None, cause=Cause("ada"))
            log.save(session)

    log.catch_up(*[one for one in loaded if one is not None])

    assert loaded == sessions
    log.catch_up()  # none


def test_a_snapshot_that_can_not_be_read_is_passed_over(
    log: Log, migrated_database_url: str
) -> None:
    session = store_session(log)
    log.put_snapshot(Session.Snapshot.take(session))
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        conn.execute("UPDATE lorewire_snapshots SET state = 'broken'")

    assert log.load(Session, session.id) == session


def test_the_same_snapshot_may_be_taken_twice(log: Log) -> None:
    session = store_session(log)

    for _ in range(2):
        log.put_snapshot(Session.Snapshot.take(session))

    assert log.load(Session, session.id) == session


def test_a_sessions_events_of_all_streams_come_in_order(log: Log) -> None:
    session = store_session(log)
    connection = Connection.open(
        session_id=session.id, user_id="ada", stream=True, remote="", user_agent=""
    )
    log.save(connection)
    store_session(log)

    recorded = log.read_session(session.id, limit=100)

    assert [one.position for one in recorded] == sorted(one.position for one in recorded)
    assert isinstance(recorded[-1], Recorded)
    assert recorded[-1].event.originator_id == connection.id
    assert log.session_head(session.id) == recorded[-1].position
    rest = log.read_session(session.id, after=recorded[1].position, limit=2)
    assert rest == recorded[2:4]


def test_an_event_that_can_not_be_read_keeps_its_place(
    log: Log, migrated_database_url: str
) -> None:
    session = store_session(log)
    positions = [one.position for one in log.read_session(session.id, limit=100)]
    with psycopg.connect(migrated_database_url, autocommit=True) as conn:
        conn.execute(
            "UPDATE lorewire_events SET state = '{}' WHERE notification_id = %s", (positions[1],)
        )

    recorded = log.read_session(session.id, limit=100)

    assert [one.position for one in recorded] == positions
    assert isinstance(recorded[1], Unreadable)
    assert "error" in as_dict(recorded[1])


def test_a_turn_is_its_query_and_its_end(log: Log) -> None:
    session = store_session(log, queries=3)
    turn_id, version = list(session.asked.items())[1]

    turn = log.read_turn(session.id, version, turn_id)

    assert [type(one.event).__name__ for one in turn] == ["QueryAsked", "ReplyFailed"]
    assert {one.event.turn_id for one in turn} == {turn_id}  # type: ignore[attr-defined]


def test_a_process_that_only_reads_knows_every_kind_of_event() -> None:
    """Each class registers its topic when it is imported: the log must import them all."""
    script = (
        "import events.log; from eventsourcing.utils import resolve_topic;"
        " print([resolve_topic(t).__name__ for t in"
        " ('QueryAsked', 'ConnectionClosed', 'KnowledgeExtracted')])"
    )

    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )

    assert said.stdout.strip() == "['QueryAsked', 'ConnectionClosed', 'KnowledgeExtracted']"


def test_the_audit_view_has_plain_values(log: Log) -> None:
    session = store_session(log)

    asked = as_dict(log.read_session(session.id, limit=2)[1])

    assert asked["type"] == "QueryAsked"
    assert asked["stream"] == session.id
    assert asked["data"].keys() == {"turn_id", "message", "context", "stream"}
    assert asked["cause"] == Cause("ada")


def test_the_schema_is_the_librarys(log: Log) -> None:
    """What the library's recorder expects of its tables, they have."""
    statements = [s.as_string() for s in log.recorder.sql_create_statements]

    with log.recorder.datastore.get_connection() as conn:
        for table in ("lorewire_events", "lorewire_tracking"):
            expected = next(s for s in statements if f'"{table}" (' in s)
            columns = conn.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
                (table,),
            ).fetchall()
            for row in columns:
                if row["attname"] not in ("session_id", "recorded_at"):  # ours
                    assert row["attname"] in expected
