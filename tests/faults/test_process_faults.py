"""The projector and the model server are killed in the middle of their work."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import psycopg
import pytest

from tests.faults.world import (
    Database,
    Serving,
    caught_up,
    load,
    problems,
    said_so_far,
    serving,
    unequal_views,
    until_sound,
)
from tests.harness import Socket
from tests.scripted_model import ScriptedModel

LOCK = "hashtextextended('lorewire shard ' || 'sessions', 0)"


def projector_of(server: Serving) -> psutil.Process:
    """The projector that a server has started."""
    children = psutil.Process(server.process.pid).children()
    return next(child for child in children if "project" in child.cmdline())


async def test_a_projector_killed_between_reading_and_committing_leaves_no_gap(
    database: Database, model: ScriptedModel
) -> None:
    async with serving(database.url, model.url) as server:
        async with load(server, talkers=3) as told:
            await said_so_far(told, 10)
            async with await psycopg.AsyncConnection.connect(database.url) as conn:
                # It has read, and waits for this lock before it commits.
                await conn.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
                await until_somebody_waits(database.url)
                projector_of(server).kill()
            await said_so_far(told, sum(len(one.ended) for one in told) + 10)

        assert await until_sound(database.url, told) == []
        await caught_up(database.url)
        assert await asyncio.to_thread(unequal_views, database.url) == []


async def test_a_position_without_its_rows_is_found_out(
    database: Database, model: ScriptedModel
) -> None:
    """The twin: what a projector that commits its position before its rows would leave."""
    async with serving(database.url, model.url) as server, load(server, talkers=1) as told:
        await said_so_far(told, 3)
        with psycopg.connect(database.url) as conn:
            conn.execute(
                "UPDATE lorewire_tracking SET notification_id ="
                " (SELECT max(notification_id) FROM lorewire_events) + 3"
                " WHERE application_name = 'memory'"
            )
        await said_so_far(told, 10)

    assert await asyncio.to_thread(unequal_views, database.url) == ["memory_entries"]


async def until_somebody_waits(database_url: str) -> None:
    """Return when a backend waits for an advisory lock."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        async with asyncio.timeout(10):
            while True:
                found = await conn.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event = 'advisory'"
                )
                row = await found.fetchone()
                if row is not None and row[0]:
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def model_process(port: int = 0) -> AsyncIterator[tuple[Process, str]]:
    """A model server as a process, with its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.scripted_model", "--port", str(port)), stdout=PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.search(r"http://127\.0\.0\.1:\d+/v1", line)
        assert found, line
        yield process, found.group()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


LONG = "word " * 2_000


async def ask_for_much(server: Serving) -> tuple[Socket, str]:
    """A query whose reply is under way; its turn."""
    socket = await server.dial(await server.open_session(), user_id="ada")
    await socket.send("query", {"message": LONG}, id="q1")
    piece = await socket.until("query_response", partial=True)
    return socket, piece["data"]["turn_id"]


async def test_a_model_server_killed_in_mid_stream_ends_the_turn_and_no_other(
    database: Database,
) -> None:
    async with model_process() as (process, url), serving(database.url, url) as server:
        socket, turn_id = await ask_for_much(server)

        process.kill()
        await process.wait()
        failed = await socket.until("query_response", turn_id=turn_id, partial=False)

        assert failed["data"]["failed"]
        assert failed["data"]["code"] == "model_unavailable"
        port = int(url.rpartition(":")[2].partition("/")[0])
        async with model_process(port):
            reply = await socket.query("Is anybody there?")
        assert "failed" not in reply["data"]
        assert await until_sound(database.url, []) == []
        socket.close()


async def test_a_turn_that_nobody_ends_is_found_out(
    database: Database, model: ScriptedModel
) -> None:
    """The twin: a model that neither goes on nor dies, and timeouts that are too long."""
    model.hang_after(1)
    async with serving(database.url, model.url, gap_timeout_s="3600") as server:
        socket, turn_id = await ask_for_much(server)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await socket.until("query_response", turn_id=turn_id, partial=False)

        assert any("never ended" in problem for problem in problems(database.url, []))
        socket.close()
