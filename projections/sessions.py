"""The sessions: who opened them, what they are called, what they are doing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow, class_row, tuple_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from events.log import Recorded
from events.session import Session
from projections import positions
from projections.positions import LIVE_VERSION
from projections.reading import snapshot

ACTIVE = "active"
DELETED = "deleted"


@dataclass
class SessionRow:
    """One session as the list shows it."""

    session_id: UUID
    user_id: str
    title: str
    status: str  # active or deleted
    config: dict[str, Any]
    created_at: datetime
    last_activity: datetime  # of the last event of the conversation
    turns_total: int
    open_turns: list[UUID]  # running and waiting, in the order in which they were asked
    position: int  # of the last event that changed this row


_COLUMNS = ", ".join(field.name for field in fields(SessionRow))
_IS_LIVE = f"version = {LIVE_VERSION.format(positions.SESSIONS)}"
_UPSERT = (
    f"INSERT INTO sessions (version, {_COLUMNS})"
    f" VALUES (%(version)s, {', '.join(f'%({field.name})s' for field in fields(SessionRow))})"
    " ON CONFLICT (version, session_id) DO UPDATE SET "
    + ", ".join(f"{field.name} = excluded.{field.name}" for field in fields(SessionRow)[1:])
)


class SessionsProjection:
    """Writes one row for each session, folded from the events of its own stream."""

    name = positions.SESSIONS
    tables = ("sessions",)

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """Fold the events into the rows of their sessions."""
        ours = [one for one in recorded if isinstance(one.event, _SESSION_EVENTS)]
        if not ours:
            return False
        rows = _load(curs, {one.event.session_id for one in ours}, version)
        changed: dict[UUID, SessionRow] = {}
        for one in ours:
            session_id = one.event.session_id
            known = rows.get(session_id)
            if known is not None and known.position >= one.position:
                continue  # this row has read further than the view: counting twice would be wrong
            rows[session_id] = changed[session_id] = _fold(known, one)
        curs.executemany(
            _UPSERT,
            [
                vars(row) | {"config": Jsonb(row.config), "version": version}
                for row in changed.values()
            ],
        )
        return bool(changed)


class SessionsView:
    """Reads the sessions. Every method is for an event loop."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def list(
        self, *, limit: int, offset: int = 0, q: str | None = None
    ) -> tuple[list[SessionRow], int]:
        """A page of the sessions that are not deleted, newest activity first; and their number.

        `q` is looked for in titles, user ids and domains, whatever the case of its letters.
        """
        condition = f"{_IS_LIVE} AND status = 'active'"
        parameters: dict[str, Any] = {"limit": limit, "offset": offset}
        if q:
            condition += (
                " AND (title ILIKE %(q)s OR user_id ILIKE %(q)s OR config->>'domain' ILIKE %(q)s)"
            )
            parameters["q"] = f"%{_without_wildcards(q)}%"
        async with snapshot(self._pool) as curs:
            await curs.execute(
                f"SELECT count(*) AS total FROM sessions WHERE {condition}", parameters
            )
            total = await curs.fetchone()
            await curs.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE {condition}"
                " ORDER BY last_activity DESC, session_id LIMIT %(limit)s OFFSET %(offset)s",
                parameters,
            )
            rows = [SessionRow(**row) for row in await curs.fetchall()]
        assert total is not None
        return rows, total["total"]

    async def get(self, session_id: UUID) -> SessionRow | None:
        """One session, deleted ones too; None where the view has not seen it."""
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(SessionRow)) as curs,
        ):
            await curs.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE {_IS_LIVE} AND session_id = %s",
                (session_id,),
            )
            row: SessionRow | None = await curs.fetchone()
        return row

    async def count_active(self) -> int:
        """How many sessions are not deleted."""
        rows = await self._select(
            f"SELECT count(*) FROM sessions WHERE {_IS_LIVE} AND status = 'active'"
        )
        count: int = rows[0][0]
        return count

    async def with_open_turns(self) -> Sequence[UUID]:
        """Sessions in which a turn runs or waits: what a restart has to look at."""
        rows = await self._select(
            f"SELECT session_id FROM sessions WHERE {_IS_LIVE} AND open_turns <> '{{}}'"
        )
        return [row[0] for row in rows]

    async def _select(self, query: str) -> Sequence[tuple[Any, ...]]:
        async with self._pool.connection() as conn, conn.cursor(row_factory=tuple_row) as curs:
            await curs.execute(query)
            rows: Sequence[tuple[Any, ...]] = await curs.fetchall()
        return rows


_SESSION_EVENTS = (
    Session.SessionOpened,
    Session.SessionReconfigured,
    Session.QueryAsked,
    Session.ReplyStarted,
    Session.ReplyCompleted,
    Session.ReplyFailed,
    Session.ReplyCancelled,
    Session.SessionDeleted,
)


def _load(curs: Cursor[DictRow], session_ids: set[UUID], version: int) -> dict[UUID, SessionRow]:
    curs.execute(
        f"SELECT {_COLUMNS} FROM sessions WHERE version = %s AND session_id = ANY(%s)",
        (version, list(session_ids)),
    )
    return {row["session_id"]: SessionRow(**row) for row in curs.fetchall()}


def _fold(row: SessionRow | None, one: Recorded) -> SessionRow:
    """The row after one more event."""
    event = one.event
    if isinstance(event, Session.SessionOpened):
        row = SessionRow(
            session_id=event.session_id,
            user_id=event.user_id,
            title=event.title,
            status=ACTIVE,
            config=asdict(event.config),
            created_at=event.timestamp,
            last_activity=event.timestamp,
            turns_total=0,
            open_turns=[],
            position=one.position,
        )
    if row is None:
        raise LookupError(f"Session {event.session_id} was never opened.")
    match event:
        case Session.SessionReconfigured():
            row.title = event.title
            row.config = asdict(event.config)
        case Session.QueryAsked():
            row.turns_total += 1
            row.open_turns.append(event.turn_id)
        case Session.ReplyCompleted() | Session.ReplyFailed() | Session.ReplyCancelled():
            row.open_turns = [turn_id for turn_id in row.open_turns if turn_id != event.turn_id]
        case Session.SessionDeleted():
            row.status = DELETED
            row.open_turns = []
    row.last_activity = event.timestamp
    row.position = one.position
    return row


def _without_wildcards(text: str) -> str:
    r"""The text as a LIKE pattern that means itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
