"""`lorewire rebuild` and `lorewire verify` as processes, beside a live view."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from events.aggregate import Cause
from events.log import Log
from language.domains import load_domains
from projections.follower import Projection
from projections.graph_projection import GraphProjection
from projections.memory import MemoryProjection
from projections.positions import FOLLOWERS
from projections.rebuild import BATCH_EVENTS
from projections.sessions import SessionsProjection
from projections.updates import ViewUpdates
from tests.harness import running_server
from tests.projections.scenario import Scenario, follow, statement, unreadable, until

TURNS = BATCH_EVENTS // 3 + 100  # of one session: more than a batch, fewer than two


@dataclass(frozen=True)
class Told:
    """A log whose views are up to date: one session after the other."""

    log: Log
    first: UUID
    second: UUID  # begins after the first batch of a rebuild


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def told(migrated_database_url: str) -> Iterator[Told]:
    with closing(Log(migrated_database_url)) as log:
        scenario = Scenario(log)
        first, second = (tell(scenario, turns=TURNS) for _ in range(2))
        follow_all(log)
        yield Told(log, first, second)


def tell(scenario: Scenario, *, turns: int) -> UUID:
    """A session in which much is said, and something is learned."""
    session_id = scenario.open(seed=("Rivermoor is a town.",))
    session = scenario.change(session_id)
    for number in range(turns):
        turn_id = uuid4()
        session.ask_query(turn_id, f"Horn {number}?", {}, stream=True, cause=Cause("ada"))
        session.start_reply()
        session.complete_reply(
            turn_id, text="Here.", recalled=(), facts=(), model="m", usage=None, duration_ms=1
        )
    scenario.save(session_id)
    scenario.learn(session_id, [statement("s:0", "Kira", "carries", "Horn 1")])
    scenario.learn(session_id, [statement("s:1", "Kira", "located_in", "Rivermoor")])
    return session_id


def follow_all(log: Log) -> None:
    domains = load_domains()
    projections: list[Projection] = [
        SessionsProjection(),
        MemoryProjection(log, domains, None),
        GraphProjection(domains),
    ]
    for projection in projections:
        follow(log, ViewUpdates(log, projection))
    with log.recorder.datastore.transaction(commit=True) as curs:
        for policy in set(FOLLOWERS) - {one.name for one in projections}:
            log.recorder.store_position(policy, log.head(), curs)  # nobody reads these turns


def started(log: Log, *arguments: str, embedder: str = "none") -> "subprocess.Popen[str]":
    environment = {**os.environ, "DATABASE_URL": log.database_url, "LOREWIRE_EMBEDDER": embedder}
    return subprocess.Popen(
        [sys.executable, "-m", "lorewire", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ended(process: "subprocess.Popen[str]") -> Ran:
    out, err = process.communicate()
    return Ran(process.returncode, out, err)


def lorewire(log: Log, *arguments: str, embedder: str = "none") -> Ran:
    return ended(started(log, *arguments, embedder=embedder))


@contextmanager
def held_up_in_the_second_batch(told: Told, table: str, view: str) -> Iterator[None]:
    """The next rebuild writes its first batch, then waits: rows of its second are being written by
    somebody else, who takes them back at the end.
    """
    with psycopg.connect(told.log.database_url) as conn:
        version = next_version(conn, view)
        conn.execute(
            sql.SQL(
                "INSERT INTO {table} SELECT (jsonb_populate_record(row, {version})).*"
                " FROM {table} AS row WHERE session_id = {session} AND version ="
                " (SELECT version FROM lorewire_views WHERE name = {view})"
            ).format(
                table=sql.Identifier(table),
                version=f'{{"version": {version}}}',
                session=told.second,
                view=view,
            )
        )
        yield
        conn.rollback()


def next_version(conn: "psycopg.Connection[tuple[int]]", view: str) -> int:
    row = conn.execute(
        "SELECT 1 + greatest((SELECT version FROM lorewire_views WHERE name = %(view)s),"
        " (SELECT version FROM lorewire_rebuilds WHERE view = %(view)s))",
        {"view": view},
    ).fetchone()
    assert row is not None
    return row[0]


def is_waiting(log: Log) -> bool:
    """Whether a process waits for somebody else's rows."""
    return bool(
        one(
            log,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event = 'transactionid' AND datname = current_database()",
        )
    )


def is_anyone_rebuilding(log: Log) -> bool:
    """Whether PostgreSQL holds a lock for somebody: it notices late that a process was killed."""
    return bool(
        one(
            log,
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database()",
        )
    )


def one(log: Log, query: str, *parameters: object) -> int:
    with psycopg.connect(log.database_url) as conn:
        row = conn.execute(query.encode(), parameters).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def live_version(log: Log, view: str) -> int:
    return one(log, "SELECT version FROM lorewire_views WHERE name = %s", view)


@contextmanager
def tampered(log: Log, table: str, column: str, value: str, session_id: UUID) -> Iterator[None]:
    """One live row says something else meanwhile; whoever rebuilds mends it."""
    with psycopg.connect(log.database_url) as conn:
        conn.execute(
            sql.SQL(
                "UPDATE {table} SET {column} = {value} WHERE ctid = (SELECT ctid FROM {table}"
                " WHERE session_id = {session} LIMIT 1)"
            ).format(
                table=sql.Identifier(table),
                column=sql.Identifier(column),
                value=value,
                session=session_id,
            )
        )
    yield
    assert lorewire(log, "rebuild", "all").status == 0


def test_all_views_are_rebuilt_and_are_what_the_log_gives(told: Told) -> None:
    before = {view: live_version(told.log, view) for view in ("sessions", "memory", "graph")}

    rebuilt = lorewire(told.log, "rebuild", "all")
    verified = lorewire(told.log, "verify")

    head = f"{told.log.head():,}"
    assert rebuilt.status == 0, rebuilt.err
    assert rebuilt.out.splitlines() == [
        f"{view}: rebuilt up to position {head}" for view in ("sessions", "memory", "graph")
    ]
    assert "events, " in rebuilt.err  # the progress
    assert all(live_version(told.log, view) > version for view, version in before.items())
    assert (verified.status, verified.out) == (0, "sessions: equal\nmemory: equal\ngraph: equal\n")


def test_ctrl_c_stops_a_rebuild_after_its_batch_and_the_next_one_goes_on(told: Told) -> None:
    version = live_version(told.log, "sessions")
    with held_up_in_the_second_batch(told, "sessions", "sessions"):
        process = started(told.log, "rebuild", "sessions")
        until(lambda: is_waiting(told.log))
        process.send_signal(signal.SIGINT)
    stopped = ended(process)
    version_when_stopped = live_version(told.log, "sessions")

    again = lorewire(told.log, "rebuild", "sessions")

    assert (stopped.status, version_when_stopped) == (130, version)
    assert stopped.out == "sessions: stopped. The same command goes on from here.\n"
    assert again.out.splitlines() == [
        f"sessions: goes on after position {2 * BATCH_EVENTS:,}",
        f"sessions: rebuilt up to position {told.log.head():,}",
    ]
    assert lorewire(told.log, "verify", "sessions").out == "sessions: equal\n"


@pytest.mark.parametrize(
    ("view", "table"),
    [("sessions", "sessions"), ("memory", "memory_entries"), ("graph", "graph_sessions")],
)
def test_a_rebuild_that_is_killed_goes_on_after_its_last_batch(
    told: Told, view: str, table: str
) -> None:
    version = live_version(told.log, view)
    with held_up_in_the_second_batch(told, table, view):
        process = started(told.log, "rebuild", view)
        until(lambda: is_waiting(told.log))
        process.kill()
        killed = ended(process)
    version_when_killed = live_version(told.log, view)
    until(lambda: not is_anyone_rebuilding(told.log))

    again = lorewire(told.log, "rebuild", view)

    assert (killed.status, version_when_killed) == (-signal.SIGKILL, version)
    assert again.out.splitlines() == [
        f"{view}: goes on after position {BATCH_EVENTS:,}",
        f"{view}: rebuilt up to position {told.log.head():,}",
    ]
    assert lorewire(told.log, "verify", view).out == f"{view}: equal\n"


def test_a_comparison_says_what_would_change_and_changes_nothing(told: Told) -> None:
    version = live_version(told.log, "graph")
    unchanged = lorewire(told.log, "rebuild", "graph", "--compare")
    with tampered(told.log, "graph_statements", "predicate", "drops", told.first):
        changed = lorewire(told.log, "rebuild", "graph", "--compare")
        version_after = live_version(told.log, "graph")
        switched = lorewire(told.log, "rebuild", "graph")

    assert unchanged.out.splitlines()[0] == "graph: nothing would change"
    assert "  graph_statements: 0 added, 0 gone, 1 changed" in changed.out.splitlines()
    assert "predicate is 'drops' live and 'carries' rebuilt" in changed.out
    assert version_after == version
    assert f"goes on after position {told.log.head():,}" in switched.out
    assert live_version(told.log, "graph") > version


def test_verify_names_the_first_difference(told: Told) -> None:
    """The twin of the equal views above."""
    with tampered(told.log, "memory_entries", "text", "Never said.", told.first):
        verified = lorewire(told.log, "verify")

    assert verified.status == 1
    assert verified.out.splitlines()[:3] == [
        "sessions: equal",
        "memory: different",
        "  memory_entries: 0 added, 0 gone, 1 changed",
    ]
    assert f"session_id {told.first}" in verified.out
    assert "text is 'Never said.' live" in verified.out
    assert verified.out.splitlines()[-1] == "graph: equal"
    assert lorewire(told.log, "verify").status == 0  # mended by the rebuild


def test_rows_that_are_missing_and_rows_too_many_are_counted(told: Told) -> None:
    with psycopg.connect(told.log.database_url) as conn:
        conn.execute(
            "DELETE FROM memory_entries WHERE session_id = %s AND role = 'seed'", (told.first,)
        )
        conn.execute(
            "UPDATE memory_entries SET entry_id = 'r-x' WHERE session_id = %s AND role = 'seed'",
            (told.second,),
        )

    verified = lorewire(told.log, "verify", "memory")
    lorewire(told.log, "rebuild", "memory")

    assert "  memory_entries: 2 added, 1 gone, 0 changed" in verified.out.splitlines()
    assert "only in the rebuilt view" in verified.out


def test_one_session_is_rebuilt_by_itself(told: Told) -> None:
    session = str(told.second)
    with tampered(told.log, "sessions", "title", "Mine", told.second):
        compared = lorewire(told.log, "rebuild", "all", "--session", session, "--compare")
        different = lorewire(told.log, "verify", "sessions", "--session", session)
        other = lorewire(told.log, "verify", "sessions", "--session", str(told.first))
        version = live_version(told.log, "sessions")
        rebuilt = lorewire(told.log, "rebuild", "sessions", "--session", session)
        equal = lorewire(told.log, "verify", "sessions", "--session", session)

        assert f"sessions of session {session}: would change" in compared.out
        assert f"graph of session {session}: nothing would change" in compared.out
        assert (different.status, other.status, equal.status) == (1, 0, 0)
        assert rebuilt.out.startswith(f"sessions of session {session}: rebuilt up to position")
        assert live_version(told.log, "sessions") == version


@pytest.mark.parametrize("command", ["rebuild", "verify"])
def test_what_does_not_exist_is_said_on_one_line(told: Told, command: str) -> None:
    unknown = uuid4()

    no_session = lorewire(told.log, command, "graph", "--session", str(unknown))
    no_id = lorewire(told.log, command, "graph", "--session", "kira")
    no_view = lorewire(told.log, command, "horns")

    assert no_session.status == 1
    assert no_session.err == f"There is no session {unknown} in the log.\n"
    assert (no_id.status, no_view.status) == (2, 2)
    assert "expected a UUID" in no_id.err
    assert "horns" in no_view.err


def test_a_poison_event_stops_a_rebuild_with_advice_and_later_it_goes_on(told: Told) -> None:
    poison, version = told.log.head() - 1, live_version(told.log, "graph")
    session = str(told.second)
    with unreadable(told.log, poison):
        all_of_it = lorewire(told.log, "rebuild", "graph")
        one_session = lorewire(told.log, "rebuild", "graph", "--session", session)
        verified = lorewire(told.log, "verify", "graph")
        version_after = live_version(told.log, "graph")

    mended = lorewire(told.log, "rebuild", "graph")

    for ran in (all_of_it, one_session, verified):
        assert ran.status == 1
        assert f"The event at position {poison} (KnowledgeExtracted) can't be read" in ran.err
        assert "Traceback" not in ran.err
    assert "The live view stays as it is." in all_of_it.err
    assert "The live rows stay as they are." in one_session.err
    assert version_after == version
    assert mended.status == 0


def test_another_embedder_is_named_where_vectors_differ(told: Told) -> None:
    verified = lorewire(told.log, "verify", "memory", embedder="wordllama")
    rebuilt = lorewire(told.log, "rebuild", "memory", embedder="wordllama")
    again = lorewire(told.log, "verify", "memory", embedder="wordllama")
    lorewire(told.log, "rebuild", "memory")

    assert verified.status == 1
    assert "made with no embedder, and the embedder is wordllama-128 now" in verified.out
    assert (rebuilt.status, again.out) == (0, "memory: equal\n")


@pytest.mark.parametrize(
    ("view", "table", "message", "update_type"),
    [
        ("memory", "memory_entries", "memory_updated", "memory_rebuilt"),
        ("graph", "graph_sessions", "graph_updated", "graph_rebuilt"),
    ],
)
async def test_clients_hear_of_a_rebuild_at_its_switch_and_nothing_before(
    told: Told, view: str, table: str, message: str, update_type: str
) -> None:
    async with running_server(told.log.database_url) as server:
        socket = await server.connect(told.first)
        await socket.query("Where is the horn?")
        await server.caught_up()
        await socket.ask("ping")
        socket.seen.clear()

        with held_up_in_the_second_batch(told, table, view):
            process = started(told.log, "rebuild", view)
            await asyncio.to_thread(until, lambda: is_waiting(told.log))
            await socket.ask("ping", request_id="held up")
            seen_before = [one["type"] for one in socket.seen]
        told_of_it = await socket.until(message, update_type=update_type)
        ran = await asyncio.to_thread(ended, process)

    assert ran.status == 0, ran.err
    assert seen_before == ["pong"]
    assert told_of_it["data"]["session_id"] == str(told.first)
