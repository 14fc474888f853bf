"""What has happened to the views since somebody looked at them, in one trip."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from projections.positions import GRAPH, MEMORY, POSITION_OF


@dataclass(frozen=True)
class Moves:
    """Where a view is, and what has changed in it after a position."""

    position: int  # how far it has read: all rows that it will ever have up to there are stored
    generation: int  # grows whenever a rebuild has replaced rows
    rebuilt_session: str | None  # the session whose rows the last rebuild replaced; None: all
    session_ids: list[UUID]  # with rows that are newer; those of a faster shard may be among them


_READ = f"""
    SELECT name, {POSITION_OF.replace("%s", "name")}, generation, rebuilt_session, CASE name
        WHEN '{MEMORY}' THEN ARRAY(
            SELECT DISTINCT session_id FROM memory_entries AS entries
            WHERE entries.version = views.version AND position > %(memory)s
        ) ELSE ARRAY(
            SELECT session_id FROM graph_sessions AS sessions
            WHERE sessions.version = views.version AND position > %(graph)s
        ) END
    FROM lorewire_views AS views WHERE name IN ('{MEMORY}', '{GRAPH}')
"""


async def read_moves(
    pool: AsyncConnectionPool[Any], *, memory: int, graph: int
) -> dict[str, Moves]:
    """By the view's name: what has changed after these positions of theirs, in one snapshot."""
    async with pool.connection() as conn, conn.cursor(row_factory=tuple_row) as curs:
        after = {"memory": memory, "graph": graph}
        await curs.execute(_READ, after, binary=True, prepare=True)
        return {name: Moves(*row) for name, *row in await curs.fetchall()}
