"""Looking back: the position that a client means by `as_of`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool


class AsOfError(ValueError):
    """`as_of` names no moment at which one can look; the text is a sentence for the client."""


async def resolve_as_of(
    pool: AsyncConnectionPool[Any], session_id: UUID, as_of: int | datetime
) -> int:
    """The position at which to look at a session.

    For a time, the newest position that the session had then, 0 where it had none. Raises AsOfError
    for a position that the log has not reached, for a time in the future, and for one without zone.
    """
    if isinstance(as_of, int):
        head = await _select(pool, "SELECT max(notification_id) FROM lorewire_events", ())
        if not 0 <= as_of <= (head or 0):
            raise AsOfError(f"`as_of` is {as_of}, but positions go from 0 to {head or 0} so far.")
        return as_of
    if as_of.tzinfo is None:
        raise AsOfError("`as_of` is a time without a zone: add Z or an offset.")
    if await _select(pool, "SELECT %s > clock_timestamp()", (as_of,)):
        raise AsOfError(f"`as_of` is {as_of.isoformat()}, which lies in the future.")
    position: int | None = await _select(
        pool,
        "SELECT max(notification_id) FROM lorewire_events"
        " WHERE session_id = %s AND recorded_at <= %s",
        (session_id, as_of),
    )
    return position or 0


async def _select(
    pool: AsyncConnectionPool[Any], query: str, parameters: tuple[object, ...]
) -> Any:
    async with pool.connection() as conn, conn.cursor(row_factory=tuple_row) as curs:
        await curs.execute(query, parameters)
        row = await curs.fetchone()
    assert row is not None  # each query asks for one value
    return row[0]
