"""How far each follower has read the log."""

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncCursor
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

# The names under which followers keep their position.
SESSIONS = "sessions"
MEMORY = "memory"
GRAPH = "graph"
LEARNING = "learning"
FOLLOWERS = (SESSIONS, MEMORY, GRAPH, LEARNING)

# As subselects they come from the same snapshot as the rows beside them.
LIVE_VERSION = "(SELECT version FROM lorewire_views WHERE name = '{}')"  # of the view so named
POSITION_OF = (
    "(SELECT coalesce(max(notification_id), 0) FROM lorewire_tracking WHERE application_name = %s)"
)


@dataclass(frozen=True)
class Positions:
    """The newest position of the log, and the position of each follower at the same moment."""

    head: int
    views: dict[str, int]  # by name; 0: has not begun

    def lag(self, name: str) -> int:
        """How many positions a follower is behind the log."""
        return max(0, self.head - self.views[name])


async def read_positions(pool: AsyncConnectionPool[Any]) -> Positions:
    """Where the log and its followers are, in one snapshot."""
    async with pool.connection() as conn, conn.cursor(row_factory=dict_row) as curs:
        await curs.execute(
            "SELECT (SELECT coalesce(max(notification_id), 0) FROM lorewire_events) AS head,"
            " coalesce(array_agg(application_name), '{}') AS names,"
            " coalesce(array_agg(notification_id), '{}') AS positions"
            " FROM lorewire_tracking WHERE application_name = ANY(%s)",
            (list(FOLLOWERS),),
        )
        row = await curs.fetchone()
    assert row is not None  # an aggregate always has one
    found = dict(zip(row["names"], row["positions"], strict=True))
    return Positions(row["head"], {name: found.get(name, 0) for name in FOLLOWERS})


@dataclass(frozen=True)
class ViewAt:
    """Which rows of a view to read, and how far they go."""

    position: int  # how far the view has read
    version: int  # of the rows that count
    generation: int  # grows whenever a rebuild has replaced rows
    rebuilt_position: int  # how far the view had read when that happened last; 0: never
    made_with: str | None  # the embedder of the vectors; None: there are none


async def view_at(curs: AsyncCursor[dict[str, Any]], name: str) -> ViewAt:
    """Where one view is, for use inside the transaction that reads its rows."""
    await curs.execute(
        f"SELECT {POSITION_OF} AS position, version, generation, rebuilt_position, made_with"
        " FROM lorewire_views WHERE name = %s",
        (name, name),
    )
    row = await curs.fetchone()
    assert row is not None, "every view has its row since the migration that made it"
    return ViewAt(**row)
