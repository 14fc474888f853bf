"""Everybody can see how far the followers are."""

from typing import Any

from psycopg_pool import AsyncConnectionPool

from events.log import Log
from projections.positions import FOLLOWERS, SESSIONS, read_positions
from projections.sessions import SessionsProjection
from projections.updates import ViewUpdates
from tests.projections.scenario import Scenario, follow


async def test_an_empty_log_has_no_lag(pool: AsyncConnectionPool[Any]) -> None:
    read = await read_positions(pool)

    assert (read.head, read.views, read.set_aside) == (0, dict.fromkeys(FOLLOWERS, 0), {})
    assert all(read.lag(name) == 0 for name in FOLLOWERS)


async def test_lag_is_the_distance_to_the_head(
    log: Log, scenario: Scenario, pool: AsyncConnectionPool[Any]
) -> None:
    scenario.say(scenario.open(), "One?", "Yes.")
    follow(log, ViewUpdates(log, SessionsProjection()))
    scenario.open()

    positions = await read_positions(pool)

    assert positions.head == log.head()
    assert positions.lag(SESSIONS) == 1
    assert positions.lag("memory") == positions.head
