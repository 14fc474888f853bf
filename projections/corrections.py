"""What a correction of the graph needs to know of it: statements, entities, merges."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from events.knowledge import CurationError
from projections import positions
from projections.entity_names import entity_id_of
from projections.positions import LIVE_VERSION, view_at
from projections.reading import snapshot
from projections.session_graph import LITERAL

Pool = AsyncConnectionPool[Any]

_LIVE = f"version = {LIVE_VERSION.format(positions.GRAPH)} AND session_id = %(session_id)s"


class UnknownStatementError(Exception):
    """The session's graph has no such statement; the text is a sentence for the client."""

    def __init__(self, statement_id: str) -> None:
        super().__init__(f"The session has no statement {statement_id[:200]!r}.")


class UnknownMergeError(Exception):
    """Nothing was ever merged under this id; the text is a sentence for the client."""

    def __init__(self, merge_id: UUID) -> None:
        super().__init__(f"The session has no merge {merge_id}: its list of merges has their ids.")


class StatementIsRetractedError(CurationError):
    """The statement was retracted before."""

    def __init__(self, statement_id: str) -> None:
        super().__init__(f"Statement {statement_id!r} is retracted already.")


@dataclass(frozen=True)
class StatementState:
    """Whether a statement stands."""

    statement_id: str
    ended_reason: str | None  # None: it stands


@dataclass(frozen=True)
class ShownEntity:
    """An entity as it is shown, whatever it was asked for by."""

    entity_id: str
    name: str
    is_literal: bool


@dataclass(frozen=True)
class MergeRow:
    """A merge that stands or stood."""

    merge_id: UUID
    kept_id: str
    kept_name: str
    merged_id: str
    merged_name: str
    made_by: str  # person, or the rule that made it: part_of_name or typo
    user_id: str | None  # None: a rule made it
    made_at: datetime
    position: int  # of the event that made it
    is_standing: bool


@dataclass(frozen=True)
class MergePage:
    """Part of the merges of a session, the newest first."""

    merges: list[MergeRow]
    total: int
    view_position: int


async def read_statement(pool: Pool, session_id: UUID, statement_id: str) -> StatementState | None:
    """A statement as it is now; None: there never was one."""
    async with (
        pool.connection() as conn,
        conn.cursor(row_factory=class_row(StatementState)) as curs,
    ):
        await curs.execute(
            "SELECT statement_id, ended_reason FROM graph_statements"
            f" WHERE {_LIVE} AND statement_id = %(statement_id)s"
            " ORDER BY from_position DESC LIMIT 1",
            {"session_id": session_id, "statement_id": statement_id},
        )
        found: StatementState | None = await curs.fetchone()
    return found


async def read_entity(pool: Pool, session_id: UUID, entity: str) -> ShownEntity | None:
    """What is shown for an id or a name; None: nothing is."""
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(ShownEntity)) as curs:
        await curs.execute(
            "SELECT shown.entity_id, shown.name,"
            " coalesce(shown.type = %(literal)s, false) AS is_literal"
            " FROM graph_names AS named JOIN graph_names AS shown"
            " ON shown.version = named.version AND shown.session_id = named.session_id"
            " AND shown.own_id = named.entity_id AND shown.until_position IS NULL"
            f" WHERE named.version = {LIVE_VERSION.format(positions.GRAPH)}"
            " AND named.session_id = %(session_id)s AND named.own_id IN (%(id)s, %(named)s)"
            " AND named.until_position IS NULL"
            " ORDER BY named.own_id <> %(id)s, shown.position, shown.mention LIMIT 1",
            {
                "session_id": session_id,
                "id": entity,
                "named": entity_id_of(session_id, entity),
                "literal": LITERAL,
            },
        )
        found: ShownEntity | None = await curs.fetchone()
    return found


async def read_merge(pool: Pool, session_id: UUID, merge_id: UUID) -> MergeRow | None:
    """A merge as it is now; None: there never was one."""
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(MergeRow)) as curs:
        await curs.execute(
            f"SELECT {_COLUMNS}, until_position IS NULL AS is_standing FROM graph_merges"
            f" WHERE {_LIVE} AND merge_id = %(merge_id)s ORDER BY from_position DESC LIMIT 1",
            {"session_id": session_id, "merge_id": merge_id},
        )
        found: MergeRow | None = await curs.fetchone()
    return found


async def read_merges(
    pool: Pool, session_id: UUID, *, limit: int, offset: int = 0, as_of: int | None = None
) -> MergePage:
    """A page of the merges that stand, of people and of rules, the newest first."""
    async with snapshot(pool) as curs:
        view = await view_at(curs, positions.GRAPH)
        parameters = {
            "session_id": session_id,
            "version": view.version,
            "at": view.position if as_of is None else as_of,
            "limit": limit,
            "offset": offset,
        }
        standing = (
            "graph_merges WHERE version = %(version)s AND session_id = %(session_id)s"
            " AND from_position <= %(at)s"
            " AND (until_position IS NULL OR until_position > %(at)s)"
        )
        await curs.execute(f"SELECT count(*) AS total FROM {standing}", parameters)
        row = await curs.fetchone()
        assert row is not None  # a count is one row
        await curs.execute(
            f"SELECT {_COLUMNS}, true AS is_standing FROM {standing}"
            " ORDER BY from_position DESC, merge_id LIMIT %(limit)s OFFSET %(offset)s",
            parameters,
        )
        merges = [MergeRow(**row) for row in await curs.fetchall()]
    return MergePage(merges, row["total"], view.position)


_COLUMNS = (
    "merge_id, kept_id, kept_name, merged_id, merged_name, made_by, user_id, made_at,"
    " from_position AS position"
)
