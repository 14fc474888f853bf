"""Events that a follower can't handle: kept with their error, until somebody has mended the cause.

A view keeps a session as it was before the first of its events that is set aside: what comes after
it may depend on it. `projections.retry` brings such a session up to date.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow, class_row
from psycopg_pool import AsyncConnectionPool

from events.log import Log, Recorded, Unreadable
from events.mapper import topic_of

MAX_ERROR_CHARACTERS = 2000


@dataclass(frozen=True)
class SetAside:
    """One event that one follower could not handle."""

    follower: str
    position: int
    session_id: UUID | None
    topic: str
    error: str  # of the last try
    tries: int
    set_aside_at: datetime


def set_aside(
    curs: Cursor[DictRow], follower: str, item: Recorded | Unreadable, error: str, tries: int
) -> None:
    """Keep an event with its error."""
    if isinstance(item, Unreadable):
        session_id, topic = item.session_id, item.topic
    else:
        session_id, topic = item.event.session_id, topic_of(item.event)
    curs.execute(
        "INSERT INTO lorewire_set_aside (follower, position, session_id, topic, error, tries)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (follower, position) DO UPDATE SET"
        " error = excluded.error, tries = excluded.tries, set_aside_at = excluded.set_aside_at",
        (follower, item.position, session_id, topic, _storable(error), tries),
    )


def read_set_aside(log: Log) -> list[SetAside]:
    """All that is set aside, in the order of the log."""
    with (
        log.recorder.datastore.get_connection() as conn,
        conn.cursor(row_factory=class_row(SetAside)) as curs,
    ):
        return curs.execute("SELECT * FROM lorewire_set_aside ORDER BY position").fetchall()


async def read_set_aside_of(pool: AsyncConnectionPool[Any], session_id: UUID) -> list[SetAside]:
    """What is set aside of one session, in the order of the log."""
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(SetAside)) as curs:
        await curs.execute(
            "SELECT * FROM lorewire_set_aside WHERE session_id = %s ORDER BY position, follower",
            (session_id,),
        )
        found: list[SetAside] = await curs.fetchall()
    return found


def held_sessions(curs: Cursor[DictRow], follower: str) -> list[UUID]:
    """The sessions that a view keeps as they were, since one of their events is set aside."""
    curs.execute(
        "SELECT DISTINCT session_id FROM lorewire_set_aside"
        " WHERE follower = %s AND session_id IS NOT NULL",
        (follower,),
    )
    return [row["session_id"] for row in curs.fetchall()]


def forget_session(curs: Cursor[DictRow], follower: str, session_id: UUID) -> None:
    """A view is up to date with a session again: nothing of it is set aside."""
    curs.execute(
        "DELETE FROM lorewire_set_aside WHERE follower = %s AND session_id = %s",
        (follower, session_id),
    )


def forget_all(curs: Cursor[DictRow], follower: str) -> None:
    """A view is up to date with all sessions again, after a rebuild."""
    curs.execute("DELETE FROM lorewire_set_aside WHERE follower = %s", (follower,))


def forget_event(curs: Cursor[DictRow], follower: str, position: int) -> bool:
    """One event is handled; False where somebody else has done so."""
    curs.execute(
        "DELETE FROM lorewire_set_aside WHERE follower = %s AND position = %s",
        (follower, position),
    )
    return curs.rowcount == 1


def note_failure(curs: Cursor[DictRow], follower: str, position: int, error: str) -> None:
    """Another try has failed."""
    curs.execute(
        "UPDATE lorewire_set_aside SET error = %s, tries = tries + 1"
        " WHERE follower = %s AND position = %s",
        (_storable(error), follower, position),
    )


def _storable(error: str) -> str:
    """PostgreSQL refuses a text with NUL, which may be just what the error is about."""
    return error.replace("\0", "\ufffd")[:MAX_ERROR_CHARACTERS]
