"""The projector as a process whose domains ask a model: started, killed in mid-call, ended."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from events.log import Log
from projections.follower import stored_position
from projections.positions import FOLLOWERS
from tests.projections.scenario import Scenario, until
from tests.projections.test_learning import learned
from tests.projections.test_learning_model import objects, pairs
from tests.scripted_model import ScriptedModel

DOMAIN = """
title = "Notes"
description = "Remembers what is written down."
agent_name = "Clerk"
instructions = "Be brief."
extractor = "model"
"""


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        model.answer = pairs
        yield model
        model.behave()


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    log = Log(migrated_database_url)
    yield log
    log.close()


@asynccontextmanager
async def projector(database_url: str, model_url: str, domains: Path) -> AsyncIterator[Process]:
    """`lorewire project`, as an operator starts it."""
    (domains / "notes.toml").write_text(DOMAIN, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lorewire", "project"),
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "LOREWIRE_MODEL_URL": model_url,
            "LOREWIRE_DOMAINS_DIR": str(domains),
            "LOREWIRE_EMBEDDER": "none",
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_projector_that_is_killed_in_mid_call_reads_the_turn_after_its_next_start(
    log: Log, scripted: ScriptedModel, migrated_database_url: str, tmp_path: Path
) -> None:
    scenario = Scenario(log)
    session_id = scenario.open(domain="notes")
    scenario.say(session_id, "a=1", "Yes.")
    scripted.hold()

    async with projector(migrated_database_url, scripted.url, tmp_path) as first:
        await asyncio.to_thread(until, lambda: scripted.open_streams == 1, timeout_s=60)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    in_between = learned(log, session_id)
    scripted.release()
    async with projector(migrated_database_url, scripted.url, tmp_path):
        await asyncio.to_thread(until, lambda: bool(learned(log, session_id)), timeout_s=60)
        await asyncio.to_thread(_until_all_is_read, log)

    assert in_between == []
    assert objects(log, session_id) == ["1"]
    assert [event.extractor for event in learned(log, session_id)] == ["model/1/default"]


async def test_a_projector_ends_when_it_is_told_to_while_a_model_hangs(
    log: Log, scripted: ScriptedModel, migrated_database_url: str, tmp_path: Path
) -> None:
    scenario = Scenario(log)
    session_id = scenario.open(domain="notes")
    scenario.say(session_id, "a=1", "Yes.")
    scripted.hang_after(0)

    async with projector(migrated_database_url, scripted.url, tmp_path) as process:
        await asyncio.to_thread(until, lambda: scripted.open_streams == 1, timeout_s=60)
        process.terminate()
        async with asyncio.timeout(30):
            status = await process.wait()

    assert status == 0
    assert learned(log, session_id) == []


def _until_all_is_read(log: Log) -> None:
    until(lambda: all(stored_position(log, name) >= log.head() for name in FOLLOWERS), timeout_s=60)
