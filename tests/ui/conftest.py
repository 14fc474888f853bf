"""One browser and one server for all tests of the page; windows of their own for each."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, expect

from lorewire.database import migrate
from tests.conftest import temporary_database
from tests.harness import Server, running_server
from tests.ui.browser import Reader, launched_browser, reader

Open = Callable[..., AbstractAsyncContextManager[Reader]]

expect.set_options(timeout=10_000)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with launched_browser() as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(postgres_server: str) -> AsyncIterator[Server]:
    with temporary_database(postgres_server) as database_url:
        migrate(database_url)
        async with running_server(database_url) as server:
            yield server


@pytest_asyncio.fixture(loop_scope="session")
async def window(browser: Browser, server: Server) -> AsyncIterator[Open]:
    """Opens windows onto the server; whatever goes wrong in one fails the test."""
    opened: list[Reader] = []

    @asynccontextmanager
    async def open_window(name: str = "ada", **options: Any) -> AsyncIterator[Reader]:
        async with reader(browser, f"http://127.0.0.1:{server.port}", name, **options) as one:
            opened.append(one)
            yield one

    yield open_window
    server.model.behave()
    while server.sockets:
        server.sockets.pop().close()
    assert [problem for one in opened for problem in one.problems] == []
