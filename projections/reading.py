"""Reading a view: several statements that see one moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncCursor, IsolationLevel
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool


@asynccontextmanager
async def snapshot(pool: AsyncConnectionPool[Any]) -> AsyncIterator[AsyncCursor[dict[str, Any]]]:
    """A read-only transaction, so that rows and the view's position belong together."""
    async with pool.connection() as conn:
        if conn.isolation_level is None:  # its transactions begin like this from now on
            await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            await conn.set_read_only(True)
        async with conn.transaction(), conn.cursor(row_factory=dict_row) as curs:
            yield curs
