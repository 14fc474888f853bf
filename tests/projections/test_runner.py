"""The projector, with all its followers."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from lorewire.database import migrate
from lorewire.postgres import EmbeddedPostgres
from projections.graph import GraphView
from projections.memory import MemoryView
from projections.positions import MEMORY, SESSIONS, read_positions
from projections.sessions import SessionsView
from tests.projections.running import caught_up, projecting
from tests.projections.scenario import Scenario, terminate_others, until

Pool = AsyncConnectionPool[Any]


async def test_every_view_follows_the_conversation(
    scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    with projecting(migrated_database_url):
        session_id = scenario.open(seed=("Aldermoor is a ruined keep.",))
        scenario.say(session_id, "I am Kira. Kira is a ranger.", "Welcome, Kira.")
        await caught_up(pool)

    assert (await MemoryView(pool).entries(session_id, limit=10)).total == 3
    assert (await GraphView(pool).facts(session_id, limit=10)).total > 0
    row = await SessionsView(pool).get(session_id)
    assert row is not None
    assert row.turns_total == 1


async def test_a_commit_moves_memory_without_waiting_for_the_poll(
    scenario: Scenario,
    pool: Pool,
    migrated_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("projections.follower.POLL_S", 60.0)  # only a notification wakes it in time
    with projecting(migrated_database_url):
        session_id = scenario.open()
        await caught_up(pool)
        for number in range(10):
            scenario.ask(session_id, f"Number {number}?")
            head = scenario.log.head()
            async with asyncio.timeout(10):
                while (await read_positions(pool)).views[MEMORY] < head:
                    await asyncio.sleep(0.005)
            await caught_up(pool)


async def test_the_projector_goes_on_after_the_loss_of_all_connections(
    scenario: Scenario, pool: Pool, migrated_database_url: str, log: Log
) -> None:
    with projecting(migrated_database_url):
        session_id = scenario.open()
        for number in range(12):
            scenario.say(session_id, f"Kira is {number}.", "Yes.")
            if number % 5 == 2:
                terminate_others(migrated_database_url)
                until(lambda: log.head() > 0)
        await caught_up(pool)

    assert (await MemoryView(pool).entries(session_id, limit=1)).total == 24
    row = await SessionsView(pool).get(session_id)
    assert row is not None
    assert (row.turns_total, row.open_turns) == (12, [])


@pytest.mark.parametrize("shards", [1, 3])
async def test_the_projector_outlives_its_database(shards: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="lorewire-tests-", dir="/tmp"))
    server = EmbeddedPostgres(folder / "postgres")
    url = server.start()
    migrate(url)
    log = Log(url)
    scenario = Scenario(log)
    try:
        session_id = scenario.open()
        with projecting(url, shards=shards):
            async with AsyncConnectionPool(url, min_size=1, open=False) as pool:
                await caught_up(pool)
            server.stop()
            await asyncio.sleep(2.0)
            server = EmbeddedPostgres(folder / "postgres")
            assert server.start() == url
            until(lambda: log.head() > 0)
            scenario.say(session_id, "Kira is a ranger.", "Yes.")
            async with AsyncConnectionPool(url, min_size=1, open=False) as pool:
                await caught_up(pool)
                assert (await MemoryView(pool).entries(session_id, limit=9)).total == 2
    finally:
        log.close()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_projector_waits_for_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    with projecting(f"postgresql://nobody@/nothing?host={tmp_path}"):
        time.sleep(0.5)


PROJECT = """
import sys, threading
from language.domains import load_domains
from projections.runner import Projector
Projector(sys.argv[1], domains=load_domains(), embedder=None).run(threading.Event())
"""


async def test_a_projector_that_is_killed_again_and_again_loses_and_repeats_nothing(
    scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    session_id = scenario.open()
    before = scenario.log.head()
    for round in range(3):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", PROJECT, migrated_database_url),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(30):
            scenario.say(session_id, f"Kira is {30 * round + number}.", "Yes.")
            if number == 10:
                await asyncio.sleep(1.0)  # it has started now, or is about to
        process.send_signal(signal.SIGKILL)
        await process.wait()

    with projecting(migrated_database_url):
        await caught_up(pool)

    page = await MemoryView(pool).entries(session_id, limit=500)
    texts = [entry.text for entry in page.entries[::-1] if entry.role == "user"]
    assert texts == [f"Kira is {number}." for number in range(90)]
    row = await SessionsView(pool).get(session_id)
    assert row is not None
    assert (row.turns_total, row.open_turns) == (90, [])
    extracted = [one for one in scenario.recorded(before) if hasattr(one.event, "statements")]
    sources = [one.event.source_position for one in extracted]  # type: ignore[attr-defined]
    assert len(sources) == len(set(sources)) == 90


async def test_one_follower_that_stands_does_not_hold_the_others(
    scenario: Scenario, pool: Pool, log: Log, migrated_database_url: str
) -> None:
    scenario.ask(scenario.open(), "Who?")
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("ALTER TABLE sessions RENAME TO hidden")

    with projecting(migrated_database_url):
        async with asyncio.timeout(10):
            while (await read_positions(pool)).lag(MEMORY) > 0:
                await asyncio.sleep(0.01)
        assert (await read_positions(pool)).lag(SESSIONS) > 0
        with log.recorder.datastore.transaction(commit=True) as curs:
            curs.execute("ALTER TABLE hidden RENAME TO sessions")

        await caught_up(pool)
