"""A server is killed with clients connected: the log says what became of them."""

import asyncio
from contextlib import AsyncExitStack, closing
from uuid import UUID

from events.connection import Connection
from events.log import Log, Recorded
from tests.faults.world import PATIENCE_S, Database, serving
from tests.scripted_model import ScriptedModel


async def test_connections_that_a_killed_server_has_left_open_are_closed_in_the_log(
    database: Database, model: ScriptedModel
) -> None:
    async with AsyncExitStack() as stack:
        survivor = await stack.enter_async_context(serving(database.url, model.url))
        killed = await stack.enter_async_context(serving(database.url, model.url))
        session_ids = [await survivor.open_session() for _ in range(2)]
        lively = await survivor.dial(session_ids[0], user_id="ada")
        cut = [await killed.dial(session_ids[1], user_id="bob") for _ in range(3)]
        for socket in (lively, *cut):
            await socket.until("connection_established")

        await killed.kill()
        await stack.enter_async_context(serving(database.url, model.url))
        ends: list[tuple[int, str]] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(ends) < 3:
                ends = await asyncio.to_thread(closed_connections, database.url, session_ids[1])
                await asyncio.sleep(0.05)

        assert ends == [(1006, "server died")] * 3
        assert await asyncio.to_thread(closed_connections, database.url, session_ids[0]) == []
        assert (await lively.ask("ping"))["type"] == "pong"
        for socket in (lively, *cut):
            socket.close()


def closed_connections(database_url: str, session_id: UUID) -> list[tuple[int, str]]:
    """Code and reason of the connections of a session that have ended."""
    with closing(Log(database_url)) as log:
        events = [
            one.event
            for one in log.read_session(session_id, limit=1000)
            if isinstance(one, Recorded)
        ]
    return [
        (event.code, event.reason)
        for event in events
        if isinstance(event, Connection.ConnectionClosed)
    ]
