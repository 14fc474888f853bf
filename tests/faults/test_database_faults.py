"""PostgreSQL dies, comes back, answers nothing, or has no room left."""

import asyncio
import contextlib
import errno
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.faults.world import (
    Database,
    caught_up,
    load,
    own_database,
    problems,
    said_so_far,
    serving,
    unequal_views,
    until_sound,
)
from tests.scripted_model import ScriptedModel


async def test_nothing_that_was_acknowledged_is_lost_when_the_database_is_killed(
    database: Database, model: ScriptedModel
) -> None:
    async with serving(database.url, model.url) as server:
        async with load(server, talkers=4) as told:
            for _ in range(2):
                await said_so_far(told, sum(len(one.ended) for one in told) + 20)
                await asyncio.to_thread(database.kill)
                await asyncio.to_thread(database.start)
            await said_so_far(told, sum(len(one.ended) for one in told) + 20)

        assert await until_sound(database.url, told) == []
        await caught_up(database.url)
        assert await asyncio.to_thread(unequal_views, database.url) == []


async def test_a_database_that_does_not_wait_for_its_disk_is_found_out(
    database: Database, model: ScriptedModel
) -> None:
    """The twin: the same kill with commits that are acknowledged before they are durable."""
    with psycopg.connect(database.url, autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname)
        conn.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
        conn.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        conn.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
        conn.execute("SELECT pg_reload_conf()")
    async with serving(database.url, model.url) as server, load(server, talkers=4) as told:
        await said_so_far(told, 20)
        before = [list(one.accepted.items()) for one in told]
        await asyncio.to_thread(database.kill)
        await asyncio.to_thread(database.start)

        lost = await asyncio.to_thread(problems, database.url, told)

    assert any("is not there" in problem for problem in lost), (before, lost)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a file system of its own, with room for little more than a new database."""
    folder = Path(tempfile.mkdtemp(prefix="lorewire-small-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=192m,mode=755", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


async def test_a_full_disk_refuses_and_loses_nothing(
    small_disk: Path, model: ScriptedModel
) -> None:
    with own_database(small_disk) as database:
        async with serving(database.url, model.url, journal_timeout_s="1") as server:
            async with load(server, talkers=4) as told:
                await said_so_far(told, 20)
                ballast = small_disk / "ballast"
                await asyncio.to_thread(_fill_up, ballast)
                await asyncio.to_thread(_until_writes_fail, database.url)
                await asyncio.sleep(1)  # clients go on asking, in vain
                ballast.unlink()
                await asyncio.to_thread(_until_it_answers, database)
                await said_so_far(told, sum(len(one.ended) for one in told) + 20)

            assert await until_sound(database.url, told) == []
            await caught_up(database.url)
            assert await asyncio.to_thread(unequal_views, database.url) == []


def _fill_up(ballast: Path) -> None:
    """Leave no room on the disk."""
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(64 * 1024))
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017


def _until_writes_fail(database_url: str) -> None:
    """Use up what PostgreSQL has set aside for its log, too."""
    million = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 30000)"
    with contextlib.suppress(psycopg.errors.DiskFull, psycopg.OperationalError):
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS ballast (filler text)")
            for _ in range(1_000):
                conn.execute(f"INSERT INTO ballast {million}")
        raise AssertionError("a gigabyte was written to a full disk")


def _until_it_answers(database: Database) -> None:
    for _ in range(100):
        try:
            with psycopg.connect(database.url, autocommit=True) as conn:
                conn.execute("DROP TABLE IF EXISTS ballast")
                return
        except psycopg.Error:
            pass
        database.start()
