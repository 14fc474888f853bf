"""The web process is killed at each step of a query, and goes on from the log."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from tests.faults.world import (
    Database,
    Serving,
    Talker,
    Told,
    caught_up,
    problems,
    serving,
    unequal_views,
    until_sound,
)
from tests.harness import Socket
from tests.scripted_model import ScriptedModel

# Threads of the event loop's executor, which come as they are needed and stay.
WORKERS = min(32, (os.cpu_count() or 1) + 4)

MESSAGE = "Captain Sara Holt owns the Silver Horn."

Step = Callable[[Socket, ScriptedModel, psycopg.AsyncConnection[object]], Awaitable[None]]


async def stored(listener: psycopg.AsyncConnection[object]) -> None:
    """Something was just committed to the log; most likely nobody was told yet."""
    async for _ in listener.notifies(stop_after=1):
        pass


async def when_the_query_is_stored(
    socket: Socket, model: ScriptedModel, listener: psycopg.AsyncConnection[object]
) -> None:
    model.hold()
    await socket.send("query", {"message": MESSAGE}, id="q1")
    await stored(listener)


async def when_the_query_is_acknowledged(
    socket: Socket, model: ScriptedModel, listener: psycopg.AsyncConnection[object]
) -> None:
    model.hold()
    await socket.send("query", {"message": MESSAGE}, id="q1")
    await socket.until("query_received")


async def while_the_model_is_asked(
    socket: Socket, model: ScriptedModel, listener: psycopg.AsyncConnection[object]
) -> None:
    model.hold()
    await socket.send("query", {"message": MESSAGE}, id="q1")
    while not model.requests:
        await asyncio.sleep(0.005)


async def in_the_middle_of_the_reply(
    socket: Socket, model: ScriptedModel, listener: psycopg.AsyncConnection[object]
) -> None:
    model.hang_after(3)
    await socket.send("query", {"message": MESSAGE}, id="q1")
    await socket.until("query_response", partial=True, sequence=3)


async def when_the_reply_is_stored(
    socket: Socket, model: ScriptedModel, listener: psycopg.AsyncConnection[object]
) -> None:
    model.hang_after(3)
    await socket.send("query", {"message": MESSAGE}, id="q1")
    await socket.until("query_response", partial=True, sequence=3)
    await asyncio.sleep(0.3)  # whatever else was to be stored is
    listener_is_quiet = listener.notifies(timeout=0.1)
    async for _ in listener_is_quiet:
        pass
    model.behave()
    await socket.send("cancel", {})
    await stored(listener)


async def when_the_reply_is_told(
    socket: Socket, model: ScriptedModel, listener: psycopg.AsyncConnection[object]
) -> None:
    await socket.send("query", {"message": MESSAGE}, id="q1")
    await socket.until("query_response", partial=False)


@pytest.mark.parametrize(
    "step",
    [
        when_the_query_is_stored,
        when_the_query_is_acknowledged,
        while_the_model_is_asked,
        in_the_middle_of_the_reply,
        when_the_reply_is_stored,
        when_the_reply_is_told,
    ],
)
async def test_a_query_is_there_once_and_ends_once_whenever_the_server_is_killed(
    database: Database, model: ScriptedModel, step: Step
) -> None:
    async with serving(database.url, model.url) as server:
        session_id = await server.open_session()
        socket = await server.dial(session_id, user_id="ada")
        await socket.until("connection_established")
        async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as listener:
            await listener.execute("LISTEN lorewire_events")
            await step(socket, model, listener)
            await server.kill()
    told = what_was_told(socket, session_id_of(socket))
    left_open = await asyncio.to_thread(problems, database.url, [told])
    model.behave()

    async with serving(database.url, model.url) as server:
        retried = await retry(server, told)

        assert await until_sound(database.url, [told, retried]) == []
        await caught_up(database.url)
        assert await asyncio.to_thread(unequal_views, database.url) == []
    if step in (when_the_query_is_acknowledged, in_the_middle_of_the_reply):
        # The twin: without what a restart does, the turn would have stayed open.
        assert any("never ended" in problem for problem in left_open)


def what_was_told(socket: Socket, session_id: str) -> Told:
    """What the client had heard when the server died."""
    told = Told(session_id, "ada")  # type: ignore[arg-type]
    for message in socket.seen:
        data = message["data"]
        if message["type"] == "query_received":
            told.accepted[data["message"]] = message["position"]
        elif message["type"] == "query_response" and not data["partial"]:
            told.ended[data["turn_id"]] = message["position"]
    return told


def session_id_of(socket: Socket) -> str:
    """The session that a connection belongs to."""
    session_id: str = socket.seen[0]["data"]["session_id"]
    return session_id


async def retry(server: Serving, told: Told) -> Told:
    """Ask the same query again, with the same id, as a client does that heard no answer."""
    socket = await server.dial(told.session_id, user_id="ada")
    await socket.until("connection_established")
    await socket.send("query", {"message": MESSAGE}, id="q1")
    await socket.until("query_received")
    await socket.until("query_response", partial=False)
    socket.close()
    return what_was_told(socket, str(told.session_id))


async def test_a_thousand_reconnects_leave_nothing_behind(
    database: Database, model: ScriptedModel
) -> None:
    async with serving(database.url, model.url, passivate_after_s="0.2") as server:
        session_ids = [await server.open_session() for _ in range(20)]

        async def come_and_go(count: int) -> None:
            for number in range(count):
                socket = await server.dial(session_ids[number % 20], user_id="ada")
                await socket.until("connection_established")
                if number % 2:
                    socket.close()
                else:
                    socket.cut()

        # As many before, so that the pools of database connections have grown as far as they do.
        await asyncio.gather(*(come_and_go(200) for _ in range(5)))
        before = await settled(server)
        await asyncio.gather(*(come_and_go(200) for _ in range(5)))
        after = await settled(server)

    assert after["connections"] == after["actors"] == 0
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["threads"] <= before["threads"] + WORKERS


async def settled(server: Serving) -> dict[str, int]:
    """What the process holds when nobody is connected any more."""
    import psutil
    from tornado.httpclient import AsyncHTTPClient

    process = psutil.Process(server.process.pid)
    async with asyncio.timeout(30):
        while True:
            response = await AsyncHTTPClient().fetch(f"{server.url}/metrics")
            lines = [line for line in response.body.decode().splitlines() if line[:1] != "#"]
            figures = dict(line.rsplit(" ", 1) for line in lines)
            held = {
                "connections": int(float(figures["lorewire_connections"])),
                "actors": int(float(figures["lorewire_session_actors"])),
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
            }
            if held["connections"] == held["actors"] == 0:
                return held
            await asyncio.sleep(0.2)


async def test_a_leak_is_found_out(database: Database, model: ScriptedModel) -> None:
    """The twin: connections that stay open are seen in the same figures."""
    async with serving(database.url, model.url) as server:
        session_id = await server.open_session()
        talker = Talker(server.url, session_id, "ada")
        task = asyncio.create_task(talker.talk())
        while not talker.told.ended:
            await asyncio.sleep(0.05)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await settled(server)

        talker.stop()
        await task
