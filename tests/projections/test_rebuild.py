import contextlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from psycopg import Cursor
from psycopg.rows import DictRow

from events.log import Log, Recorded
from events.mapper import topic_of
from language.domains import load_domains
from language.embedding import WordLlamaEmbedder
from projections.digest import Selection, digest
from projections.follower import Projection
from projections.graph_projection import GraphProjection
from projections.memory import MemoryProjection
from projections.rebuild import Progress, Rebuild, RebuildError, begun, live_position
from projections.sessions import SessionsProjection
from projections.tracking import positions_of
from projections.updates import ViewUpdates
from tests.events.strategies import EVENTS
from tests.projections.scenario import Scenario, follow, statement, until

NEVER = threading.Event()


def projections(log: Log) -> list[Projection]:
    domains = load_domains()
    return [
        SessionsProjection(),
        MemoryProjection(log, domains, WordLlamaEmbedder()),
        GraphProjection(domains),
    ]


def tell(scenario: Scenario, turns: int = 5) -> UUID:
    """A session in which something is said and learned."""
    session_id = scenario.open(seed=("Rivermoor is a town.", "Kira is a ranger."))
    for number in range(turns):
        turn_id = scenario.say(session_id, f"Where is the horn number {number}?", "In Rivermoor.")
        fact = statement(f"{turn_id}:0", "Kira", "carries", f"Horn {number}")
        place = statement(f"{turn_id}:1", "Kira", "located_in", f"Town {number}")
        scenario.learn(session_id, [fact, place], turn_id)
    return session_id


def follow_all(log: Log) -> None:
    for projection in projections(log):
        follow(log, ViewUpdates(log, projection))


def ignore(_progress: Progress) -> None:
    """Show nobody how far it is."""


def live_digest(log: Log, projection: Projection) -> str:
    with log.recorder.datastore.transaction(commit=False) as curs:
        return digest(curs, projection.tables, Selection(live_version(curs, projection.name)))


def live_version(curs: Cursor[DictRow], view: str) -> int:
    row = curs.execute("SELECT version FROM lorewire_views WHERE name = %s", (view,)).fetchone()
    assert row is not None
    version: int = row["version"]
    return version


@given(event=EVENTS)
def test_a_rebuild_leaves_unread_only_what_changes_nothing(event: Any) -> None:
    for view in (MemoryProjection(Mock(), {}, None), GraphProjection()):
        if topic_of(event) not in view.topics:
            # Whoever changes anything asks the database first, and here there is none.
            assert not view.apply(Mock(spec=()), [Recorded(1, event)], 1)


def view_row(log: Log, view: str) -> dict[str, Any]:
    with log.recorder.datastore.transaction(commit=False) as curs:
        row = curs.execute("SELECT * FROM lorewire_views WHERE name = %s", (view,)).fetchone()
    assert row is not None
    return dict(row)


def versions_in(log: Log, projection: Projection) -> set[int]:
    with log.recorder.datastore.transaction(commit=False) as curs:
        return {
            row["version"]
            for table in projection.tables
            for row in curs.execute(f"SELECT DISTINCT version FROM {table}").fetchall()
        }


@pytest.mark.parametrize("view", ["sessions", "memory", "graph"])
def test_a_rebuilt_view_is_as_the_live_one_was(log: Log, scenario: Scenario, view: str) -> None:
    tell(scenario)
    tell(scenario)
    follow_all(log)
    (projection,) = [one for one in projections(log) if one.name == view]
    before, row_before = live_digest(log, projection), view_row(log, view)

    with begun(log, projection) as rebuild:
        assert rebuild.fill(ignore, NEVER)
        assert rebuild.compare() == []
        rebuild.switch()

    row = view_row(log, view)
    assert live_digest(log, projection) == before
    assert row["version"] > row_before["version"]
    assert row["generation"] == row_before["generation"] + 1
    assert row["rebuilt_position"] == log.head() == max(positions_of(log, view).values())
    assert versions_in(log, projection) == {row["version"]}


def test_a_follower_goes_on_with_the_new_version(log: Log, scenario: Scenario) -> None:
    session_id = tell(scenario)
    follow_all(log)
    sessions = SessionsProjection()
    updates = ViewUpdates(log, sessions)
    with begun(log, sessions) as rebuild:
        rebuild.fill(ignore, NEVER)
        scenario.say(session_id, "While it is filled.", "Yes.")
        follow(log, updates)  # the live one is ahead of the next one now
        rebuild.switch()

    scenario.say(session_id, "And afterwards.", "Yes.")
    follow(log, updates)

    with begun(log, sessions, is_scratch=True) as rebuild:
        rebuild.fill(ignore, NEVER)
        assert rebuild.compare() == []


def test_readers_see_a_whole_view_at_every_moment(log: Log, scenario: Scenario) -> None:
    tell(scenario, turns=30)
    follow_all(log)
    graph = GraphProjection(load_domains())
    seen: set[tuple[int, int]] = set()
    stop = threading.Event()

    def read() -> None:
        with psycopg.connect(log.database_url) as conn:
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            while not stop.is_set():
                counts = [
                    conn.execute(
                        f"SELECT count(*) FROM {table} WHERE version ="
                        " (SELECT version FROM lorewire_views WHERE name = 'graph')"
                    ).fetchone()
                    for table in ("graph_names", "graph_statements")
                ]
                conn.rollback()
                seen.add(tuple(row[0] for row in counts if row is not None))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        with begun(log, graph) as rebuild:
            rebuild.fill(ignore, NEVER)
            rebuild.switch()
    stop.set()
    reader.join()

    assert len(seen) == 1, "always the same rows, of whichever version"
    assert next(iter(seen)) != (0, 0)


def test_a_rebuild_that_was_stopped_goes_on_where_it_was(
    log: Log, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.rebuild.BATCH_EVENTS", 5)
    tell(scenario, turns=10)
    follow_all(log)
    graph = GraphProjection(load_domains())
    stop = threading.Event()

    with begun(log, graph) as rebuild:
        assert not rebuild.fill(lambda progress: stop.set(), stop)
        stopped_at = rebuild.position
    with begun(log, graph) as again:
        went_on_at = again.position
        assert again.fill(ignore, NEVER)
        assert again.compare() == []
    with begun(log, graph, restart=True) as anew:
        begun_anew_at = anew.position

    assert 0 < stopped_at < log.head()
    assert went_on_at == stopped_at
    assert begun_anew_at == 0
    assert anew.version > again.version == rebuild.version


def test_a_rebuild_that_is_killed_goes_on_where_it_was(log: Log, scenario: Scenario) -> None:
    tell(scenario, turns=10)
    follow_all(log)
    program = (
        "import sys, time, threading\n"
        "import projections.rebuild as r\n"
        "from events.log import Log\n"
        "from projections.sessions import SessionsProjection\n"
        "r.BATCH_EVENTS = 5\n"
        "with r.begun(Log(sys.argv[1]), SessionsProjection()) as rebuild:\n"
        "    def show(progress):\n"
        "        print(progress.position, flush=True)\n"
        "        time.sleep(60 if progress.events > 10 else 0)\n"
        "    rebuild.fill(show, threading.Event())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, log.database_url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    position = max(int(process.stdout.readline()) for _ in range(3))
    process.kill()
    process.wait()
    process.stdout.close()

    def again() -> Rebuild | None:
        with contextlib.suppress(RebuildError), begun(log, SessionsProjection()) as rebuild:
            return rebuild
        return None

    until(lambda: again() is not None)  # its lock is gone as soon as PostgreSQL has noticed

    with begun(log, SessionsProjection()) as rebuild:
        assert rebuild.position == position
        rebuild.fill(ignore, NEVER)
        assert rebuild.compare() == []


def test_a_rebuild_comes_to_the_end_over_events_that_do_not_matter_to_it(
    log: Log, scenario: Scenario
) -> None:
    session_id = tell(scenario)
    scenario.ask(session_id, "Nothing that a graph would show.")
    follow_all(log)

    with begun(log, GraphProjection()) as rebuild:
        rebuild.fill(ignore, NEVER)
        assert rebuild.position == log.head()
        assert rebuild.compare() == []


def test_only_one_process_rebuilds_a_view(log: Log) -> None:
    with (
        begun(log, SessionsProjection()),
        pytest.raises(RebuildError, match="Another process"),
        begun(log, SessionsProjection()),
    ):
        pass


class Broken(SessionsProjection):
    """A projection that fails on one event."""

    def __init__(self, poison: int) -> None:
        super().__init__()
        self._poison = poison

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        if any(one.position == self._poison for one in recorded):
            raise ValueError("poison")
        return super().apply(curs, recorded, version)


def test_a_poison_event_stops_a_rebuild_and_leaves_the_live_view(
    log: Log, scenario: Scenario
) -> None:
    session_id = tell(scenario)
    scenario.ask(session_id, "The one at fault.")
    poison = log.head()
    follow_all(log)
    before = live_digest(log, SessionsProjection())

    with (
        pytest.raises(RebuildError, match=rf"position {poison} \(QueryAsked\).*ValueError: poison"),
        begun(log, Broken(poison)) as rebuild,
    ):
        rebuild.fill(ignore, NEVER)

    assert live_digest(log, SessionsProjection()) == before


def test_an_unreadable_event_stops_a_rebuild(log: Log, scenario: Scenario) -> None:
    tell(scenario)
    with psycopg.connect(log.database_url) as conn:
        row = conn.execute(
            "UPDATE lorewire_events SET state = '{}' WHERE notification_id ="
            " (SELECT max(notification_id) FROM lorewire_events) RETURNING notification_id, topic"
        ).fetchone()
    assert row is not None

    with (
        pytest.raises(RebuildError, match=rf"position {row[0]} \({row[1]}\) can't be read"),
        begun(log, SessionsProjection()) as rebuild,
    ):
        rebuild.fill(ignore, NEVER)

    with psycopg.connect(log.database_url) as conn:
        conn.execute("DELETE FROM lorewire_events WHERE notification_id = %s", (row[0],))


@pytest.fixture
def sound_log(log: Log, scenario: Scenario) -> Log:
    tell(scenario)
    follow_all(log)
    return log


@pytest.mark.parametrize(
    ("view", "table", "column", "value"),
    [
        ("sessions", "sessions", "title", "'Another'"),
        ("memory", "memory_entries", "text", "'Never said.'"),
        ("memory", "memory_entries", "embedding", r"'\x00'::bytea"),
        ("graph", "graph_statements", "predicate", "'despises'"),
    ],
)
def test_a_row_that_was_changed_by_hand_is_found(
    sound_log: Log, view: str, table: str, column: str, value: str
) -> None:
    """The twin of the equal views above."""
    log = sound_log
    (projection,) = [one for one in projections(log) if one.name == view]
    with psycopg.connect(log.database_url) as conn:
        conn.execute(
            f"UPDATE {table} SET {column} = {value} WHERE ctid ="
            f" (SELECT ctid FROM {table} WHERE version = (SELECT version FROM lorewire_views"
            f" WHERE name = '{view}') ORDER BY session_id LIMIT 1)"
        )

    with begun(log, projection, is_scratch=True) as rebuild:
        rebuild.fill(ignore, NEVER)
        (difference,) = rebuild.compare()

    assert (difference.table, difference.changed) == (table, 1)
    assert f"{column} is" in difference.examples[0]
    with begun(log, projection) as rebuild:  # and mended
        rebuild.fill(ignore, NEVER)
        rebuild.switch()
    with begun(log, projection, is_scratch=True) as rebuild:
        rebuild.fill(ignore, NEVER)
        assert rebuild.compare() == []


def test_a_view_that_is_behind_the_log_is_compared_where_it_stands(
    log: Log, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = tell(scenario)
    follow_all(log)
    sessions = SessionsProjection()
    stands_at = live_position(log, "sessions")
    scenario.say(session_id, "Nobody follows.", "No.")

    with begun(log, sessions, is_scratch=True) as rebuild:
        assert rebuild.fill(ignore, NEVER, upto=stands_at)
        assert rebuild.compare() == []
        assert rebuild.position == stands_at < log.head()

        # The twin: what has read further can only be compared when the view comes so far.
        assert rebuild.fill(ignore, NEVER)
        monkeypatch.setattr("projections.rebuild.ALIGN_PATIENCE_S", 0.0)
        with pytest.raises(RebuildError, match=rf"stands at \[{stands_at}\].*Start a projector"):
            rebuild.compare()


def test_a_scratch_version_leaves_nothing_behind(sound_log: Log) -> None:
    graph = GraphProjection(load_domains())
    before = view_row(sound_log, "graph")

    with begun(sound_log, graph, is_scratch=True) as rebuild:
        rebuild.fill(ignore, NEVER)
        assert len(versions_in(sound_log, graph)) == 2

    assert versions_in(sound_log, graph) == {before["version"]}
    assert view_row(sound_log, "graph") == before


def test_new_events_are_caught_up_with_while_they_arrive(log: Log, scenario: Scenario) -> None:
    session_id = tell(scenario)
    follow_all(log)
    memory = MemoryProjection(log, load_domains(), None)
    stop = threading.Event()
    another = Log(log.database_url)

    def talk() -> None:
        while not stop.wait(0.001):
            scenario.say(session_id, "More.", "And more.")

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        with begun(another, memory) as rebuild:
            rebuild.fill(ignore, NEVER)
            rebuild.switch()
    finally:
        stop.set()
        talking.join()
        another.close()
    follow(log, ViewUpdates(log, memory))

    with begun(log, memory, is_scratch=True) as rebuild:
        rebuild.fill(ignore, NEVER)
        assert rebuild.compare() == []
