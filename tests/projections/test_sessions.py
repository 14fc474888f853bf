"""The list of sessions follows the log."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from events.session import SessionConfig
from projections.sessions import SessionRow, SessionsProjection, SessionsView
from projections.updates import ViewUpdates
from tests.projections.scenario import ADA, Scenario, follow

Pool = AsyncConnectionPool[Any]


def project(log: Log) -> None:
    follow(log, ViewUpdates(log, SessionsProjection()))


async def row_of(pool: Pool, session_id: UUID) -> SessionRow:
    row = await SessionsView(pool).get(session_id)
    assert row is not None
    return row


async def test_an_opened_session_is_listed(log: Log, scenario: Scenario, pool: Pool) -> None:
    session_id = scenario.open(user_id="bob", title="Dragons", custom_config={"a": [1]})

    project(log)

    row = await row_of(pool, session_id)
    assert (row.user_id, row.title, row.status) == ("bob", "Dragons", "active")
    assert row.config["domain"] == "dnd"
    assert row.config["custom_config"] == {"a": [1]}
    assert row.created_at == row.last_activity == scenario.recorded()[-1].event.timestamp
    assert row.position == log.head()
    assert (row.turns_total, row.open_turns) == (0, [])


async def test_turns_are_open_until_they_end(log: Log, scenario: Scenario, pool: Pool) -> None:
    session_id = scenario.open()
    first = scenario.ask(session_id, "One?")
    second = scenario.ask(session_id, "Two?")
    third = scenario.ask(session_id, "Three?")

    project(log)

    assert (await row_of(pool, session_id)).open_turns == [first, second, third]
    assert session_id in await SessionsView(pool).with_open_turns()

    scenario.reply(session_id, "Yes.")
    scenario.fail(session_id, "")
    scenario.change(session_id).cancel_reply(third, text="", cause=ADA)
    scenario.save(session_id)
    project(log)

    row = await row_of(pool, session_id)
    assert (row.turns_total, row.open_turns) == (3, [])
    assert session_id not in await SessionsView(pool).with_open_turns()


async def test_a_change_of_title_and_configuration_is_seen(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.change(session_id).reconfigure(
        title="New", config=SessionConfig("lab_assistant"), cause=ADA
    )
    scenario.save(session_id)

    project(log)

    row = await row_of(pool, session_id)
    assert (row.title, row.config["domain"]) == ("New", "lab_assistant")


async def test_a_deleted_session_leaves_the_list_and_can_still_be_found(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    view = SessionsView(pool)
    session_id = scenario.open(title="Soon gone")
    scenario.ask(session_id, "Anyone?")
    project(log)
    active = await view.count_active()

    scenario.change(session_id).delete(cause=ADA)
    scenario.save(session_id)
    project(log)

    assert await view.list(limit=5, q="Soon gone") == ([], 0)
    assert await view.count_active() == active - 1
    row = await row_of(pool, session_id)
    assert (row.status, row.open_turns) == ("deleted", [])


async def test_the_list_is_searched_by_title_user_and_domain_literally(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    view = SessionsView(pool)
    mark = uuid4().hex
    wild = scenario.open(title=f"100% {mark}_\\ done")
    scenario.open(title=f"100x {mark}yz done")
    project(log)

    async def found(q: str) -> list[UUID]:
        rows, total = await view.list(limit=10, q=q)
        assert total == len(rows)
        return [row.session_id for row in rows]

    assert await found(f"0% {mark.upper()}_\\") == [wild]
    assert len(await found(mark)) == 2
    assert await found(f"{mark}%done") == []
    assert wild in (row.session_id for row in (await view.list(limit=500, q="DND"))[0])
    assert wild in (row.session_id for row in (await view.list(limit=500, q="aDa"))[0])


async def test_pages_show_the_newest_activity_first(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    view = SessionsView(pool)
    mark = uuid4().hex
    ids = [scenario.open(title=mark) for _ in range(3)]
    scenario.ask(ids[0], "Last?")
    project(log)

    first, total = await view.list(limit=2, q=mark)
    rest, total_again = await view.list(limit=2, offset=2, q=mark)
    beyond, total_beyond = await view.list(limit=2, offset=9, q=mark)

    assert [row.session_id for row in first + rest] == [ids[0], ids[2], ids[1]]
    assert (total, total_again, beyond, total_beyond) == (3, 3, [], 3)


async def test_events_that_are_applied_twice_count_once(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "One?", "Yes.")
    events = scenario.recorded()
    with log.recorder.datastore.transaction(commit=True) as curs:
        SessionsProjection().apply(curs, events, 1)
    once = await row_of(pool, session_id)

    with log.recorder.datastore.transaction(commit=True) as curs:
        has_changed = SessionsProjection().apply(curs, events, 1)

    assert not has_changed
    assert await row_of(pool, session_id) == once


async def test_any_cut_into_batches_gives_the_same_rows(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "One?", "Yes.")
    scenario.ask(session_id, "Two?")
    with log.recorder.datastore.transaction(commit=True) as curs:
        for one in scenario.recorded():
            SessionsProjection().apply(curs, [one], 1)
    singly = await row_of(pool, session_id)
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("DELETE FROM sessions")
        SessionsProjection().apply(curs, scenario.recorded(), 1)

    assert await row_of(pool, session_id) == singly


async def test_an_event_of_a_session_that_was_never_opened_is_not_passed_over(
    log: Log, scenario: Scenario
) -> None:
    scenario.open()
    scenario.ask(session_id := scenario.open(), "Who?")
    stray = [one for one in scenario.recorded() if one.event.session_id == session_id][1:]

    with (
        pytest.raises(LookupError, match="never opened"),
        log.recorder.datastore.transaction(commit=False) as curs,
    ):
        SessionsProjection().apply(curs, stray, 1)
