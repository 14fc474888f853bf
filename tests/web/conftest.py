"""One server for each test that asks for it."""

from collections.abc import AsyncIterator

import pytest

from tests.harness import Server, running_server


@pytest.fixture
async def server(migrated_database_url: str) -> AsyncIterator[Server]:
    async with running_server(migrated_database_url) as server:
        yield server
