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

# As a subselect it comes from the same snapshot as the rows beside it.
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


async def view_position(curs: AsyncCursor[dict[str, Any]], name: str) -> int:
    """How far one view has read, for use inside the transaction that reads its rows."""
    await curs.execute(f"SELECT {POSITION_OF} AS position", (name,))
    row = await curs.fetchone()
    assert row is not None
    position: int = row["position"]
    return position
