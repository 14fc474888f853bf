"""A malformed event stops nobody: it is set aside, and what it held up is made good later."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import orjson
import pytest
from psycopg_pool import AsyncConnectionPool

from events.knowledge import Knowledge
from events.log import Log
from language.domains import load_domains
from projections.follower import RETRIES_S, Projection
from projections.graph_projection import GraphProjection
from projections.memory import MemoryProjection
from projections.positions import (
    GRAPH,
    LEARNING,
    MEMORY,
    SESSIONS,
    ViewAt,
    read_positions,
    view_at,
)
from projections.reading import snapshot
from projections.sessions import SessionsProjection
from projections.set_aside import read_set_aside, read_set_aside_of
from tests.projections.running import (
    caught_up,
    clean_rows,
    live_rows,
    make_projector,
    projecting,
)
from tests.projections.scenario import (
    ADA,
    Scenario,
    forget_set_aside,
    statement,
    unreadable,
)

Pool = AsyncConnectionPool[Any]


@pytest.fixture(autouse=True)
def quick_retries(log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("projections.follower.RETRIES_S", (0.01,) * len(RETRIES_S))
    yield
    forget_set_aside(log)


@contextmanager
def malformed(log: Log, position: int, **fields: Any) -> Iterator[None]:
    """One stored event has other values in its fields meanwhile, as a bug or a hand may write."""
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("SELECT state FROM lorewire_events WHERE notification_id = %s", (position,))
        row = curs.fetchone()
        assert row is not None
        change = "UPDATE lorewire_events SET state = %s WHERE notification_id = %s"
        state = orjson.dumps(orjson.loads(row["state"]) | fields)
        curs.execute(change, (state, position))
    try:
        yield
    finally:
        with log.recorder.datastore.transaction(commit=True) as curs:
            curs.execute(change, (row["state"], position))


def projections(log: Log) -> list[Projection]:
    return [
        SessionsProjection(),
        MemoryProjection(log, load_domains(), None),
        GraphProjection(load_domains()),
    ]


def projection_of(log: Log, view: str) -> Projection:
    return next(one for one in projections(log) if one.name == view)


def retry(log: Log, database_url: str) -> list[str | None]:
    """Try everything again; the errors."""
    return [one.error for one in make_projector(database_url).retry(log)]


def poison(scenario: Scenario, view: str) -> tuple[UUID, int, dict[str, Any]]:
    """A session with an event that a view can't take: PostgreSQL keeps no NUL in a text."""
    session_id = scenario.open()
    scenario.say(session_id, "Kira is a ranger.", "Yes.")
    if view == SESSIONS:
        scenario.change(session_id).reconfigure(title="Moor", config=None, cause=ADA)
        scenario.save(session_id)
        return session_id, scenario.log.head(), {"title": "\0"}
    if view == MEMORY:
        scenario.ask(session_id, "Who is Kira?")
        return session_id, scenario.log.head(), {"message": "\0"}
    position = scenario.learn(session_id, [statement("k1", "Kira", "has", "bow")])
    found = scenario.recorded(position - 1)[0].event
    assert isinstance(found, Knowledge.KnowledgeExtracted)
    bad = [vars(one) | {"subject": "\0"} for one in found.statements]
    return session_id, position, {"statements": bad}


@pytest.mark.parametrize("view", [SESSIONS, MEMORY, GRAPH])
async def test_a_view_sets_a_malformed_event_aside_and_makes_good_for_it_later(
    view: str, log: Log, scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    session_id, position, fields = poison(scenario, view)
    projection = projection_of(log, view)
    with malformed(log, position, **fields), projecting(migrated_database_url):
        other_id = scenario.open()
        scenario.say(session_id, "Bram is a smith.", "Yes.")
        scenario.say(other_id, "Bram is a smith.", "Yes.")
        await caught_up(pool)

        # Only this view, and only this session in it, is without what came later.
        assert [one.follower for one in await read_set_aside_of(pool, session_id)] == [view]
        assert (await read_positions(pool)).set_aside == {view: 1}
        assert [one.position for one in read_set_aside(log)] == [position]
        assert live_rows(log, projection, other_id) == clean_rows(log, projection, other_id)
        before = live_rows(log, projection, session_id)
        (error,) = retry(log, migrated_database_url)  # nothing is mended yet
        assert error is not None
        assert live_rows(log, projection, session_id) == before

    assert before != clean_rows(log, projection, session_id)
    with projecting(migrated_database_url):
        assert retry(log, migrated_database_url) == [None]
        scenario.say(session_id, "Aldermoor is a keep.", "Yes.")
        await caught_up(pool)

    assert read_set_aside(log) == []
    for each in projections(log):
        assert live_rows(log, each, session_id) == clean_rows(log, each, session_id)


async def test_an_unreadable_event_is_set_aside_by_all_and_made_good_for_by_all(
    log: Log, scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Kira is a ranger.", "Yes.")
    position = log.head()
    with unreadable(log, position), projecting(migrated_database_url):
        await caught_up(pool)
        found = await read_set_aside_of(pool, session_id)
        assert {SESSIONS, MEMORY, GRAPH, LEARNING} <= {one.follower for one in found}
        assert None not in retry(log, migrated_database_url)

    assert set(retry(log, migrated_database_url)) == {None}
    with projecting(migrated_database_url):
        await caught_up(pool)

    assert learned_from(scenario, session_id).count(position) == 1
    for each in projections(log):
        assert live_rows(log, each, session_id) == clean_rows(log, each, session_id)


async def test_a_turn_that_could_not_be_learned_from_is_learned_from_once(
    log: Log, scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Kira is a ranger.", "Yes.")
    position = log.head()
    with malformed(log, position, query_version=1000), projecting(migrated_database_url):
        scenario.say(session_id, "Bram is a smith.", "Yes.")
        later = log.head()
        await caught_up(pool)
        assert [one.follower for one in read_set_aside(log)] == [LEARNING]
        assert learned_from(scenario, session_id) == [later]
        assert retry(log, migrated_database_url) != [None]

    with projecting(migrated_database_url):
        assert retry(log, migrated_database_url) == [None]
        assert retry(log, migrated_database_url) == []
        await caught_up(pool)

    assert learned_from(scenario, session_id) == [later, position]
    graph = projection_of(log, GRAPH)
    assert live_rows(log, graph, session_id) == clean_rows(log, graph, session_id)


def learned_from(scenario: Scenario, session_id: UUID) -> list[int]:
    """The positions of the turns that were learned from, in the order of learning."""
    return [
        one.event.source_position
        for one in scenario.recorded()
        if isinstance(one.event, Knowledge.KnowledgeExtracted)
        and one.event.session_id == session_id
    ]


async def test_nothing_is_skipped_between_what_was_done_and_an_unreadable_event(
    log: Log, scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    session_id, other_id = scenario.open(), scenario.open()
    scenario.say(session_id, "Kira is a ranger.", "Yes.")
    good = log.head()
    scenario.say(session_id, "Bram is a smith.", "Yes.")
    bad = log.head()
    scenario.ask(other_id, "Who?")
    with malformed(log, bad, query_version=1000), unreadable(log, log.head()):
        with projecting(migrated_database_url):  # finds all of it in one batch
            await caught_up(pool)

        aside = {one.position for one in read_set_aside(log) if one.follower == LEARNING}
        assert {bad, bad + 1} <= aside
        assert learned_from(scenario, session_id) == [good]

    assert set(retry(log, migrated_database_url)) == {None}
    assert learned_from(scenario, session_id) == [good, bad]


async def test_a_retry_tells_readers_that_rows_were_written_anew(
    log: Log, scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    _, position, fields = poison(scenario, MEMORY)
    with malformed(log, position, **fields), projecting(migrated_database_url):
        await caught_up(pool)
    before, graph = await view_of(pool, MEMORY), await view_of(pool, GRAPH)

    assert retry(log, migrated_database_url) == [None]

    after = await view_of(pool, MEMORY)
    assert after.generation == before.generation + 1
    assert after.rebuilt_position == after.position == log.head()
    assert await view_of(pool, GRAPH) == graph


async def view_of(pool: Pool, name: str) -> ViewAt:
    async with snapshot(pool) as curs:
        return await view_at(curs, name)
