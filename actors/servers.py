"""Which servers share the log, and the end of the connections of those that have died.

A server has a number, and holds an advisory lock of PostgreSQL with that number: it ends with the
database connection, so a server that dies gives it up, however it dies. Whoever gets the lock of
another server knows that this one is dead, and that nobody else cleans up after it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import psycopg

from events.connection import Connection
from events.journal import Journal, StreamConflictError
from events.log import Log, Recorded

logger = logging.getLogger(__name__)

# The first of the two numbers of an advisory lock, beside those of `projections.membership`.
SERVER_LOCK = 0x4C57_0010

CHECK_S = 1.0  # how often the lock's connection is looked after
LOOK_S = 30.0  # how often a server looks for dead ones; the first time after `FIRST_LOOK_S`
FIRST_LOOK_S = 2.0  # so that others have their locks again after a restart of the database
BATCH = 100
ABNORMAL = 1006  # stands for "gone without a close frame" and is never sent
SERVER_DIED = "server died"

# A server whose machine has vanished is found out within some ten seconds.
_CONNECT: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 2,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
}
_FIND_OUT_IF_GONE = (
    "SELECT set_config('tcp_keepalives_idle', '5', false),"
    " set_config('tcp_keepalives_interval', '2', false),"
    " set_config('tcp_keepalives_count', '3', false)"
)


class Presence:
    """This server among those that share the log. Used on the event loop only."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self.number = 0

    async def enter(self) -> bool:
        """Get a number and hold its lock; raises psycopg.Error.

        False where the lock of the number that this server has is not free yet: try again.
        """
        conn = await psycopg.AsyncConnection.connect(self._database_url, **_CONNECT)
        try:
            await conn.execute(_FIND_OUT_IF_GONE)
            has_lock = self.number != 0 and await _try_lock(conn, self.number)
            is_listed = self.number != 0 and await _is_listed(conn, self.number)
            if is_listed and not has_lock:
                await conn.close()
                return False
            if not is_listed:
                self.number = await _new_number(conn)
        except BaseException:
            await conn.close()
            raise
        self._conn = conn
        return True

    async def leave(self) -> None:
        """Give up the lock. The row stays: the next server looks whether everything is closed."""
        if self._conn is not None:
            await self._conn.close()
            self._conn = None

    async def keep(self) -> None:
        """Take the lock again whenever its connection was lost, until cancelled.

        A server that was taken for dead meanwhile goes on with another number.
        """
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():
            await asyncio.sleep(CHECK_S)
            try:
                if self._conn is None or self._conn.closed:
                    await self.enter()
                else:
                    await self._conn.execute("SELECT 1")
            except (psycopg.Error, OSError) as error:
                logger.warning("This server can't be seen by others, trying again: %s", error)
                await self.leave()


async def bury_dead_servers(
    database_url: str, log: Log, journal: Journal, *, look_s: float = LOOK_S
) -> None:
    """Close in the log what dead servers have left open, now and then, until cancelled."""
    task = asyncio.current_task()
    assert task is not None
    wait_s = FIRST_LOOK_S
    while not task.cancelling():
        await asyncio.sleep(wait_s)
        wait_s = look_s
        try:
            await look_for_dead_servers(database_url, log, journal)
        except Exception as error:  # the database is gone, most likely: next time
            logger.warning("Can't look after connections of dead servers: %s", error)


async def look_for_dead_servers(database_url: str, log: Log, journal: Journal) -> None:
    """Close in the log what dead servers have left open."""
    async with aclosing(_dead_servers(database_url)) as dead:
        async for number, started_position in dead:
            count = await _close_connections(log, journal, number, after=started_position)
            if count:
                logger.info("Closed %d connections of server %d, which died", count, number)


async def _close_connections(log: Log, journal: Journal, server: int, *, after: int) -> int:
    """Close in the log the connections that a dead server has left open; returns how many.

    `after` is a position from before it had any. Raises LogUnavailableError.
    """
    count = 0
    while opened := await asyncio.to_thread(log.read_unclosed, after=after, limit=BATCH):
        after = opened[-1].position
        ours = [
            one.event
            for one in opened
            if isinstance(one, Recorded)
            and isinstance(one.event, Connection.ConnectionOpened)
            and one.event.server == server
        ]
        closed = await asyncio.gather(*(_close(log, journal, event) for event in ours))
        count += sum(closed)
    return count


async def _close(log: Log, journal: Journal, opened: Connection.ConnectionOpened) -> bool:
    connection = await asyncio.to_thread(log.load, Connection, opened.originator_id)
    if connection is None or connection.is_closed:
        return False
    known_for = connection.modified_on - opened.timestamp
    connection.close(
        code=ABNORMAL,
        reason=SERVER_DIED,
        received=0,
        sent=0,
        duration_ms=round(known_for.total_seconds() * 1000),
        cause=opened.cause,
    )
    try:
        await journal.append(connection.collect_events())
    except StreamConflictError:  # it was not dead after all, and has written itself
        return False
    return True


async def _dead_servers(database_url: str) -> AsyncGenerator[tuple[int, int], None]:
    """Each dead server with the position at which it started; its row goes when all is done."""
    async with await psycopg.AsyncConnection.connect(database_url, **_CONNECT) as conn:
        found = await conn.execute("SELECT number, started_position FROM lorewire_servers")
        for number, started_position in await found.fetchall():
            if not await _try_lock(conn, number):
                continue
            yield number, started_position
            await conn.execute("DELETE FROM lorewire_servers WHERE number = %s", (number,))
            await conn.execute("SELECT pg_advisory_unlock(%s, %s)", (SERVER_LOCK, number))


async def _try_lock(conn: psycopg.AsyncConnection[Any], number: int) -> bool:
    found = await conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (SERVER_LOCK, number))
    row = await found.fetchone()
    return row is not None and bool(row[0])


async def _is_listed(conn: psycopg.AsyncConnection[Any], number: int) -> bool:
    found = await conn.execute("SELECT FROM lorewire_servers WHERE number = %s", (number,))
    return await found.fetchone() is not None


async def _new_number(conn: psycopg.AsyncConnection[Any]) -> int:
    async with conn.transaction():  # nobody sees the row before the lock is held
        found = await conn.execute(
            "INSERT INTO lorewire_servers (started_position)"
            " SELECT coalesce(max(notification_id), 0) FROM lorewire_events RETURNING number"
        )
        row = await found.fetchone()
        assert row is not None
        number: int = row[0]
        await conn.execute("SELECT pg_advisory_lock(%s, %s)", (SERVER_LOCK, number))
    return number
