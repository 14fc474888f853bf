"""A scripted model and a database that may be killed, for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.faults.world import Database, own_database
from tests.scripted_model import ScriptedModel


@pytest.fixture
def database() -> Iterator[Database]:
    with own_database() as database:
        yield database


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model
