"""A projector that runs inside a test, and what its views hold."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

from events.log import Log, Recorded
from language.domains import load_domains
from projections.follower import Projection
from projections.positions import FOLLOWERS, read_positions
from projections.runner import Projector

CLEAN = 999  # a version of views that no projector writes


def make_projector(database_url: str, *, shards: int = 1) -> Projector:
    """A projector with the domains that come with the program, and without an embedder."""
    return Projector(database_url, domains=load_domains(), embedder=None, shards=shards)


@contextmanager
def projecting(database_url: str, *, shards: int = 1) -> Iterator[None]:
    """A projector runs in a thread meanwhile."""
    stop = threading.Event()
    projector = make_projector(database_url, shards=shards)
    thread = threading.Thread(target=projector.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


async def caught_up(pool: AsyncConnectionPool[Any]) -> None:
    """Return when every follower is at the head."""
    async with asyncio.timeout(30):
        while True:
            positions = await read_positions(pool)
            if all(positions.lag(name) == 0 for name in FOLLOWERS):
                return
            await asyncio.sleep(0.005)


def live_rows(log: Log, projection: Projection, session_id: UUID) -> list[str]:
    """What a view holds of a session, as readers see it."""
    with log.recorder.datastore.transaction() as curs:
        curs.execute("SELECT version FROM lorewire_views WHERE name = %s", (projection.name,))
        row = curs.fetchone()
        assert row is not None
        return _rows(curs, projection, session_id, row["version"])


def clean_rows(log: Log, projection: Projection, session_id: UUID) -> list[str]:
    """What a view holds of a session after all of its events, applied in one go."""
    events = log.read_session(session_id, limit=100_000)
    recorded = [one for one in events if isinstance(one, Recorded)]
    assert recorded == events
    with log.recorder.datastore.transaction() as curs:  # rolled back
        projection.apply(curs, recorded, CLEAN)
        return _rows(curs, projection, session_id, CLEAN)


def _rows(
    curs: Cursor[DictRow], projection: Projection, session_id: UUID, version: int
) -> list[str]:
    rows: list[str] = []
    for table in projection.tables:
        curs.execute(
            sql.SQL(
                "SELECT to_jsonb(one) - 'version' AS row FROM {} AS one"
                " WHERE version = %s AND session_id = %s"
            ).format(sql.Identifier(table)),
            (version, session_id),
        )
        rows += sorted(f"{table} {row['row']}" for row in curs.fetchall())
    return rows
