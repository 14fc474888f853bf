"""A log in a migrated database, somebody who speaks in it, and a pool that reads its views."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from tests.projections.scenario import Scenario


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    log = Log(migrated_database_url)
    yield log
    log.close()


@pytest.fixture
def scenario(log: Log) -> Scenario:
    return Scenario(log)


@pytest_asyncio.fixture
async def pool(migrated_database_url: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(
        migrated_database_url,
        min_size=1,
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True},
        open=False,
    ) as pool:
        yield pool
