"""Looking back needs a moment that has been."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from projections.as_of import AsOfError, resolve_as_of
from tests.projections.scenario import Scenario

Pool = AsyncConnectionPool[Any]


async def recorded_at(pool: Pool, position: int) -> datetime:
    async with pool.connection() as conn, conn.cursor(row_factory=tuple_row) as curs:
        await curs.execute(
            "SELECT recorded_at FROM lorewire_events WHERE notification_id = %s", (position,)
        )
        row = await curs.fetchone()
    assert row is not None
    time: datetime = row[0]
    return time


async def test_a_position_is_taken_as_it_is(log: Log, scenario: Scenario, pool: Pool) -> None:
    session_id = scenario.open()

    assert await resolve_as_of(pool, session_id, 0) == 0
    assert await resolve_as_of(pool, session_id, log.head()) == log.head()


async def test_a_time_is_the_newest_position_that_the_session_had_then(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    opened = log.head()
    scenario.ask(session_id, "One?")
    asked = log.head()
    scenario.open()

    time = await recorded_at(pool, asked)
    just_before = time - timedelta(microseconds=1)

    assert await resolve_as_of(pool, session_id, time) == asked
    assert await resolve_as_of(pool, session_id, just_before) == opened
    assert await resolve_as_of(pool, session_id, datetime.now(UTC)) == asked
    assert await resolve_as_of(pool, session_id, time - timedelta(days=1)) == 0
    assert await resolve_as_of(pool, UUID(int=1), time) == 0


@pytest.mark.parametrize(
    "as_of",
    [
        -1,
        10**9,
        2**70,
        datetime.now(UTC) + timedelta(days=365),
        datetime(2020, 1, 1),  # no zone
    ],
)
async def test_no_moment_that_has_been_is_refused_by_name(
    as_of: int | datetime, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()

    with pytest.raises(AsOfError, match="`as_of`"):
        await resolve_as_of(pool, session_id, as_of)


async def test_an_empty_log_has_only_the_beginning(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute("TRUNCATE lorewire_events")

    assert await resolve_as_of(pool, UUID(int=1), 0) == 0
    with pytest.raises(AsOfError, match="from 0 to 0"):
        await resolve_as_of(pool, UUID(int=1), 1)
