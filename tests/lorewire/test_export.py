"""A session that is taken to another server is the same there."""

import asyncio
import hashlib
import io
import json
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from events.aggregate import Cause, TopicMap
from events.connection import Connection
from events.knowledge import Knowledge, knowledge_id
from events.log import CHANNEL, Log, Recorded
from events.mapper import OrjsonTranscoder, TypedMapper
from events.transfer import POSITION_FIELDS, ExportReader, TransferError
from lorewire.database import migrate
from lorewire.export import Imported, export_session, export_to, import_from, import_session
from projections.digest import Selection, digest
from projections.follower import Projection
from projections.graph_projection import GraphProjection
from projections.memory import MemoryProjection
from projections.sessions import SessionsProjection
from tests.conftest import temporary_database
from tests.projections.running import caught_up, projecting
from tests.projections.scenario import Scenario

BOB = Cause("bob")


@pytest.fixture
def target_url(postgres_server: str) -> Iterator[str]:
    """A second database, which has our tables and nothing in them."""
    with temporary_database(postgres_server) as url:
        migrate(url)
        yield url


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    with closing(Log(migrated_database_url)) as log:
        yield log


@pytest.fixture
def target(target_url: str) -> Iterator[Log]:
    with closing(Log(target_url)) as log:
        yield log


def tell(log: Log, url: str) -> UUID:
    """A session with every kind of event that matters, among those of another one."""
    scenario = Scenario(log)
    session_id = scenario.open(seed=("Corvin is the mayor of Aldermoor.",))
    other_id = scenario.open()
    scenario.say(session_id, "Kira is a ranger. Kira lives in Aldermoor.", "Welcome, Kira!")
    scenario.say(other_id, "Nobody is here.", "I see.")
    scenario.say(session_id, "Kira lives in Thornwick.", "Since when?")
    scenario.ask(session_id, "Since\u2028today \u0001 \U0001f409")
    scenario.fail(session_id, "Beca")
    learn_all(url)
    connection = connection_of(session_id)
    connection.record(
        Connection.MemorySearched,
        query="Kira",
        search_type="hybrid",
        as_of=None,
        view_position=log.head(),
        results=("s-0",),
        cause=BOB,
    )
    log.save(connection)
    knowledge = log.load(Knowledge, knowledge_id(session_id))
    assert knowledge is not None
    first = next(statement for event in learned(log, session_id) for statement in event.statements)
    knowledge.retract_statement(first.statement_id, reason="No.", cause=BOB)
    log.save(knowledge)
    learn_all(url)
    return session_id


def connection_of(session_id: UUID) -> Connection:
    return Connection.open(
        session_id=session_id, user_id="bob", stream=True, remote="127.0.0.1", user_agent=""
    )


def learn_all(url: str) -> None:
    """Let every follower read to the end."""

    async def wait() -> None:
        async with AsyncConnectionPool(url, open=False) as pool:
            await caught_up(pool)

    with projecting(url):
        asyncio.run(wait())


def learned(log: Log, session_id: UUID) -> list[Knowledge.KnowledgeExtracted]:
    return [
        event
        for event in events(log, session_id)
        if isinstance(event, Knowledge.KnowledgeExtracted)
    ]


def events(log: Log, session_id: UUID) -> list[Any]:
    return [one.event for one in recorded(log, session_id)]


def recorded(log: Log, session_id: UUID) -> list[Recorded]:
    found = log.read_session(session_id, limit=10_000)
    assert all(isinstance(one, Recorded) for one in found)
    return [one for one in found if isinstance(one, Recorded)]


def rows(url: str, session_id: UUID) -> list[tuple[Any, ...]]:
    """All that the log has of a session, byte by byte."""
    with psycopg.connect(url) as conn:
        return conn.execute(
            "SELECT * FROM lorewire_events WHERE session_id = %s ORDER BY notification_id",
            (session_id,),
        ).fetchall()


def digests(log: Log, session_id: UUID) -> dict[str, str]:
    """What all views hold of a session."""
    views: list[Projection] = [
        SessionsProjection(),
        MemoryProjection(log, {}, None),
        GraphProjection({}),
    ]
    with log.recorder.datastore.transaction() as curs:
        return {
            view.name: digest(curs, view.tables, Selection(_version(curs, view.name), session_id))
            for view in views
        }


def _version(curs: Any, name: str) -> int:
    curs.execute("SELECT version FROM lorewire_views WHERE name = %s", (name,))
    version: int = curs.fetchone()["version"]
    return version


def exported(url: str, session_id: UUID) -> bytes:
    file = io.BytesIO()
    export_session(url, session_id, file.write)
    return file.getvalue()


def imported(url: str, data: bytes) -> Imported:
    return import_session(url, io.BytesIO(data))


def edited(data: bytes, number: int, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """An export in which one line is another one, and the checksum fits again."""
    lines = data.splitlines(keepends=True)
    line = json.loads(lines[number - 1])
    edit(line)
    lines[number - 1] = json.dumps(line).encode() + b"\n"
    footer = json.loads(lines[-1])
    footer["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return b"".join([*lines[:-1], json.dumps(footer).encode() + b"\n"])


def test_an_export_gives_identical_views_on_an_empty_server(
    log: Log, migrated_database_url: str, target: Log, target_url: str
) -> None:
    session_id = tell(log, migrated_database_url)

    result = imported(target_url, exported(migrated_database_url, session_id))
    learn_all(target_url)

    assert rows(target_url, session_id) == rows(migrated_database_url, session_id)
    assert digests(target, session_id) == digests(log, session_id)
    assert len(set(digests(log, session_id).values())) == 3
    assert digests(log, session_id) != digests(log, uuid4())  # the test can fail
    assert (result.distance, result.last) == (0, log.session_head(session_id))
    assert target.head() == result.last  # nothing was learned a second time


def test_what_was_not_learned_before_the_export_is_learned_after_the_import_and_only_that(
    log: Log, migrated_database_url: str, target: Log, target_url: str
) -> None:
    session_id = tell(log, migrated_database_url)
    session: Any = log.load(TopicMap.classes["SessionOpened"], session_id)
    turn_id = uuid4()
    session.ask_query(turn_id, "Corvin is a wizard.", {}, stream=True, cause=BOB)
    session.start_reply()
    session.complete_reply(
        turn_id, text="Oh.", recalled=(), facts=(), model="m", usage=None, duration_ms=1
    )
    log.save(session)
    before = learned(log, session_id)

    imported(target_url, exported(migrated_database_url, session_id))
    learn_all(target_url)

    after = learned(target, session_id)
    assert after[:-1] == before
    assert after[-1].turn_id == turn_id
    assert [statement.subject for statement in after[-1].statements] == ["Corvin"]


def test_positions_move_up_where_the_log_has_them_already(
    log: Log, migrated_database_url: str, target: Log, target_url: str
) -> None:
    session_id = tell(log, migrated_database_url)
    earlier_id = tell(target, target_url)
    while target.head() < log.session_head(session_id):
        tell(target, target_url)
    head = target.head()

    result = imported(target_url, exported(migrated_database_url, session_id))
    learn_all(target_url)
    Scenario(target).open()

    old, new = recorded(log, session_id), recorded(target, session_id)
    distance = head + 1 - old[0].position
    assert result.distance == distance
    assert [one.position for one in new] == [one.position + distance for one in old]
    for one, other in zip(old, new, strict=True):
        fields = POSITION_FIELDS.get(type(one.event), ())
        moved = {name: getattr(one.event, name) for name in fields}
        moved = {name: value and value + distance for name, value in moved.items()}
        assert vars(other.event) == vars(one.event) | moved
    assert target.head() == result.last + 1
    assert learned(target, earlier_id)


def test_every_field_that_holds_a_position_is_known() -> None:
    names = {
        (topic, name)
        for topic, event_class in TopicMap.classes.items()
        for name in event_class.__dataclass_fields__
        if name == "as_of" or name.endswith("position")
    }

    assert names == {
        (event_class.__name__, name)
        for event_class, fields in POSITION_FIELDS.items()
        for name in fields
    }


def test_whoever_follows_the_log_is_told_of_an_import(
    log: Log, migrated_database_url: str, target_url: str
) -> None:
    data = exported(migrated_database_url, Scenario(log).open())
    with psycopg.connect(target_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")

        imported(target_url, data)

        assert [notify.channel for notify in listener.notifies(timeout=10, stop_after=1)]


def test_a_session_that_exists_is_not_imported_again(log: Log, migrated_database_url: str) -> None:
    session_id = Scenario(log).open()
    before = rows(migrated_database_url, session_id)

    with pytest.raises(TransferError, match=f"session {session_id} in this log already"):
        imported(migrated_database_url, exported(migrated_database_url, session_id))

    assert rows(migrated_database_url, session_id) == before


def test_a_stream_of_another_session_is_not_imported_again(
    log: Log, migrated_database_url: str
) -> None:
    session_id, other_id = Scenario(log).open(), uuid4()
    log.save(connection_of(session_id))
    data = exported(migrated_database_url, session_id)
    data = data.replace(str(session_id).encode(), str(other_id).encode())

    with pytest.raises(TransferError, match="A stream of this export is in this log already"):
        imported(migrated_database_url, edited(data, 2, lambda line: None))

    assert rows(migrated_database_url, other_id) == []


def test_of_two_imports_at_once_one_is_refused(
    log: Log, migrated_database_url: str, target: Log, target_url: str
) -> None:
    session_id = tell(log, migrated_database_url)
    data = exported(migrated_database_url, session_id)
    outcomes: list[Imported | TransferError] = []

    def run() -> None:
        try:
            outcomes.append(imported(target_url, data))
        except TransferError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(type(outcome) is TransferError for outcome in outcomes) == [False, True]
    assert events(target, session_id) == events(log, session_id)


def test_a_file_that_was_cut_anywhere_is_refused(
    log: Log, migrated_database_url: str, target: Log, target_url: str
) -> None:
    scenario = Scenario(log)
    session_id = scenario.open()
    scenario.say(session_id, "Who?", "Kira.")
    data = exported(migrated_database_url, session_id)
    ends = [0, *(n for n, byte in enumerate(data, 1) if byte == ord("\n"))][:-1]

    for end in [*ends, 10, len(data) // 2, len(data) - 1]:
        with pytest.raises(TransferError, match=r"Line .* can't be imported: .*whole"):
            imported(target_url, data[:end])

    assert target.head() == 0
    assert imported(target_url, data).events == 4


@pytest.mark.parametrize(
    ("number", "edit", "words"),
    [
        (
            1,
            lambda line: line.update(format="tar"),
            r"Line 1 .*`format` of the header.*lorewire-ex",
        ),
        (1, lambda line: line.update(version=2), "Line 1 .*`version` of the header"),
        (1, lambda line: line.update(events=3), "Line 4 .*`position` of the event.*required"),
        (2, lambda line: line.update(position="x"), "Line 2 .*`position` of the event.*integer"),
        (3, lambda line: line.update(position=1), "Line 3 .*position 1 does not follow"),
        (3, lambda line: line.update(version=3), "Line 3 .*continues with version 2, not 3"),
        (3, lambda line: line.update(topic="HexCast"), "Line 3 .*no event 'HexCast'"),
        (3, lambda line: line.update(topic="os:system"), "Line 3 .*no event 'os:system'"),
        (3, lambda line: line.update(topic="Session"), "Line 3 .*no event 'Session'"),
        (3, lambda line: line.update(topic="StatusRead"), "Line 3 .*StatusRead can't be in stream"),
        (
            3,
            lambda line: line["state"].update(message=3),
            "Line 3 .*`state.message` of the event.*string\\.$",
        ),
        (3, lambda line: line["state"].update(class_version=9), "Line 3 .*newer version"),
        (3, lambda line: line["state"].update(session_id=str(uuid4())), "Line 3 .*is of session"),
        (3, lambda line: line.update(recorded_at="today"), "Line 3 .*`recorded_at`"),
        (3, lambda line: line.update(colour="red"), "Line 3 .*`colour`"),
        (2, lambda line: line["state"].update(originator_topic="os:system"), "Line 2 .*_topic"),
        (2, lambda line: line.update(stream=str(uuid4())), "Line 2 .*can't be in stream"),
        (4, lambda line: line.update(events=3), "Line 4 .*checksum"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_line(
    log: Log,
    migrated_database_url: str,
    target: Log,
    target_url: str,
    number: int,
    edit: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    scenario = Scenario(log)
    session_id = scenario.open()
    scenario.ask(session_id, "Who?")
    data = exported(migrated_database_url, session_id)

    with pytest.raises(TransferError, match=words):
        imported(target_url, edited(data, number, edit))

    assert target.head() == 0
    assert imported(target_url, edited(data, number, lambda line: None)).events == 2


def test_a_file_is_read_line_by_line(log: Log, migrated_database_url: str) -> None:
    scenario = Scenario(log)
    session_id = scenario.open()
    scenario.ask(session_id, "Who?")
    file = io.BytesIO(exported(migrated_database_url, session_id))

    for event in ExportReader(file, TypedMapper(OrjsonTranscoder())):
        lines_read = file.getvalue()[: file.tell()].splitlines()
        assert len(lines_read) == event.version + 1  # the header, and the events so far


def test_a_byte_that_was_changed_on_the_way_is_noticed(
    log: Log, migrated_database_url: str, target: Log, target_url: str
) -> None:
    scenario = Scenario(log)
    session_id = scenario.open()
    scenario.ask(session_id, "Who is Kira?")
    data = exported(migrated_database_url, session_id)

    with pytest.raises(TransferError, match=r"Line 4 .*checksum"):
        imported(target_url, data.replace(b"Who is Kira?", b"Who is Kyra?"))
    with pytest.raises(TransferError, match=r"Line 5 .*ended before"):
        imported(target_url, data + b"more")

    assert target.head() == 0


def test_there_is_nothing_to_export_of_a_session_that_is_unknown(
    migrated_database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "session.jsonl"

    with pytest.raises(TransferError, match="no session"):
        export_to(migrated_database_url, uuid4(), path)

    assert list(tmp_path.iterdir()) == []


def test_a_database_without_our_tables_is_said(postgres_server: str) -> None:
    with (
        temporary_database(postgres_server) as url,
        pytest.raises(TransferError, match="lorewire migrate"),
    ):
        exported(url, uuid4())


def test_the_file_is_whole_and_private(
    log: Log, migrated_database_url: str, target_url: str, tmp_path: Path
) -> None:
    session_id = Scenario(log).open()
    path = tmp_path / "session.jsonl"

    export_to(migrated_database_url, session_id, path)
    import_from(target_url, str(path), print)

    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rows(target_url, session_id) == rows(migrated_database_url, session_id)
