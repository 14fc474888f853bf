"""A server is told to end, under load and in the middle of a reply: nobody loses anything."""

import asyncio
import signal
import socket as sockets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest
from tornado.websocket import websocket_connect

from events.connection import Connection
from events.log import Log, Recorded
from events.session import Session
from tests.faults.world import (
    PATIENCE_S,
    Database,
    Serving,
    load,
    problems,
    said_so_far,
    serving,
    until_sound,
)
from tests.harness import Socket
from tests.scripted_model import ScriptedModel


def free_port() -> int:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def ended(server: Serving) -> int:
    """The exit status, when it has ended by itself."""
    async with asyncio.timeout(PATIENCE_S):
        return await server.process.wait()


async def stops_listening(server: Serving) -> None:
    """Return when nobody can connect any more."""
    port = int(server.url.rpartition(":")[2])
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await writer.wait_closed()


def events_of(database_url: str, session_id: UUID | None, *kinds: type[Any]) -> list[Any]:
    """All stored events of some kinds, in order; of all sessions where none is given."""
    log = Log(database_url)
    try:
        recorded = log.read(after=0, limit=1_000_000)
        events: list[Any] = [one.event for one in recorded if isinstance(one, Recorded)]
        return [
            event
            for event in events
            if isinstance(event, kinds) and session_id in (None, event.session_id)
        ]
    finally:
        log.close()


async def in_the_middle_of_a_reply(server: Serving, model: ScriptedModel) -> Socket:
    """A client whose query is being answered, for as long as the model is held."""
    model.hold(after=3)
    socket = await server.dial(await server.open_session(), user_id="ada")
    await socket.until("connection_established")
    await socket.send("query", {"message": "Tell me a story."}, id="q1")
    await socket.until("query_response", partial=True, sequence=3)
    return socket


async def test_a_restart_under_load_loses_nothing_and_breaks_off_no_reply(
    database: Database, model: ScriptedModel
) -> None:
    port = free_port()
    async with AsyncExitStack() as servers, AsyncExitStack() as clients:
        first = await servers.enter_async_context(serving(database.url, model.url, port=port))
        told = await clients.enter_async_context(load(first, talkers=8))
        await said_so_far(told, 30)

        first.process.terminate()
        status = await ended(first)
        left_open = await asyncio.to_thread(open_connections, database.url)
        answered = sum(len(one.ended) for one in told)
        await servers.enter_async_context(serving(database.url, model.url, port=port))
        await said_so_far(told, answered + 30)
        await clients.aclose()

        assert status == 0
        assert left_open == []
        assert await until_sound(database.url, told) == []
        assert await asyncio.to_thread(events_of, database.url, None, Session.ReplyFailed) == []


async def test_a_running_reply_is_finished_and_what_is_asked_meanwhile_waits(
    database: Database, model: ScriptedModel
) -> None:
    async with serving(database.url, model.url) as server:
        socket = await in_the_middle_of_a_reply(server, model)
        monitor = Socket(
            await websocket_connect(server.url.replace("http", "ws", 1) + "/api/v1/ws/monitor")
        )
        server.process.terminate()
        await stops_listening(server)
        await socket.send("query", {"message": "And then?"}, id="q2")
        waiting = await socket.until("query_received", message="And then?")
        model.release()
        reply = await socket.until("query_response", partial=False)

        assert "failed" not in reply["data"]
        assert await socket.closed() == (1012, "server restarting")
        assert (await monitor.closed())[0] == 1012
        assert await ended(server) == 0
        socket.close()
        monitor.close()

    session_id = UUID(waiting["data"]["session_id"])
    async with serving(database.url, model.url):
        assert await until_sound(database.url, []) == []
        ends = await asyncio.to_thread(
            events_of, database.url, session_id, Session.ReplyCompleted, Session.ReplyFailed
        )
        assert [type(one) for one in ends] == [Session.ReplyCompleted] * 2


async def hasten(server: Serving) -> None:
    """A second signal, by which somebody says that they don't want to wait."""
    await stops_listening(server)
    server.process.send_signal(signal.SIGINT)


async def do_nothing(server: Serving) -> None:
    """The time for running turns is over by itself."""


@pytest.mark.parametrize(
    ("grace_s", "what_follows"), [("0", do_nothing), ("600", hasten)], ids=["no time", "hastened"]
)
async def test_a_reply_that_has_no_time_ends_as_failed(
    database: Database,
    model: ScriptedModel,
    grace_s: str,
    what_follows: Callable[[Serving], Awaitable[None]],
) -> None:
    """The twin of the one above."""
    async with serving(database.url, model.url, drain_grace_s=grace_s) as server:
        socket = await in_the_middle_of_a_reply(server, model)

        server.process.terminate()
        await what_follows(server)
        reply = await socket.until("query_response", partial=False)

        assert reply["data"]["failed"]
        assert await socket.closed() == (1012, "server restarting")
        assert await ended(server) == 0
        socket.close()
    assert await asyncio.to_thread(problems, database.url, []) == []


def open_connections(database_url: str) -> list[UUID]:
    """Connections that were opened and, by the log, never closed."""
    opened = events_of(database_url, None, Connection.ConnectionOpened)
    closed = events_of(database_url, None, Connection.ConnectionClosed)
    ids = {event.originator_id for event in closed}
    return [event.originator_id for event in opened if event.originator_id not in ids]
