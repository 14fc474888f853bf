"""Where followers are: the locks under which a position moves, and the positions of shards.

A transaction that moves a shard holds the lock of that shard, and shares the lock of the whole
follower. Whoever needs all shards of a follower to stand still (the switch of a rebuild, another
number of shards) takes the lock of the whole follower for itself.
"""

from dataclasses import dataclass
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from events.log import Log
from events.shards import WHOLE, Shard
from projections.positions import tracking_name

_LOCK_ALL = "SELECT pg_advisory_xact_lock(hashtextextended('lorewire view ' || %s, 0))"
_LOCK_SHARD = (
    "SELECT pg_advisory_xact_lock_shared(hashtextextended('lorewire view ' || %s, 0)),"
    " pg_advisory_xact_lock(hashtextextended('lorewire shard ' || %s, 0))"
)
_IS_OF = "split_part(application_name, ':', 1) = %(name)s"  # a row of this follower
# One statement after the locks, which sees what was committed before they were free.
_READ = (
    "SELECT (SELECT json_object_agg(application_name, notification_id)"
    f" FROM lorewire_tracking WHERE {_IS_OF}) AS positions,"
    " (SELECT version FROM lorewire_views WHERE name = %(name)s) AS version,"
    " ARRAY(SELECT DISTINCT session_id FROM lorewire_set_aside"
    "  WHERE follower = %(name)s) AS held"
)


class OvertakenError(Exception):
    """Another projector keeps the same view, and has read further."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is kept by another projector, too.")


class ShardsChangedError(Exception):
    """The follower is divided into another number of shards now."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not a shard any more.")


@dataclass(frozen=True)
class ShardAt:
    """Where one shard of a follower is."""

    position: int
    version: int | None  # of the rows that are read; None: the follower keeps no view
    held: frozenset[UUID]  # sessions that have an event set aside


def lock_all(curs: Cursor[DictRow], follower: str) -> dict[str, int]:
    """Let no shard of a follower move until the transaction ends; their positions, by name."""
    curs.execute(_LOCK_ALL, (follower,))
    return _read(curs, follower)[0]


def lock_shard(curs: Cursor[DictRow], follower: str, shard: Shard) -> ShardAt:
    """Let nobody else move one shard until the transaction ends; where it is.

    Raises ShardsChangedError where the follower is divided into another number of shards.
    """
    name = tracking_name(follower, shard)
    curs.execute(_LOCK_SHARD, (follower, name))
    positions, version, held = _read(curs, follower)
    return ShardAt(_position_of(positions, name, shard), version, held)


def lock_shard_of(curs: Cursor[DictRow], follower: str, session_id: UUID) -> ShardAt:
    """Let nobody else move the shard that holds a session until the transaction ends."""
    curs.execute(_LOCK_SHARD, (follower, follower))  # while this is shared, the number stands
    return lock_shard(curs, follower, _shard_of(_read(curs, follower)[0], session_id))


def store_positions(curs: Cursor[DictRow], follower: str, position: int) -> None:
    """Bring all shards of a follower to one position. Called under `lock_all`."""
    curs.execute(
        f"UPDATE lorewire_tracking SET notification_id = %(position)s WHERE {_IS_OF}",
        {"position": position, "name": follower},
    )
    if curs.rowcount == 0:
        _insert(curs, follower, position)


def divide(curs: Cursor[DictRow], follower: str, shards: list[Shard], position: int) -> None:
    """Replace the shards of a follower by others at one position. Called under `lock_all`."""
    curs.execute(f"DELETE FROM lorewire_tracking WHERE {_IS_OF}", {"name": follower})
    for shard in shards:
        _insert(curs, tracking_name(follower, shard), position)


def shard_position(log: Log, follower: str, shard: Shard) -> int:
    """How far one shard has come, as the database says; 0: it has not begun.

    Raises OperationalError or InterfaceError where the database does not answer, and
    ShardsChangedError where the follower is divided into another number of shards.
    """
    return _position_of(positions_of(log, follower), tracking_name(follower, shard), shard)


def positions_of(log: Log, follower: str) -> dict[str, int]:
    """How far the shards of a follower have come, by the names under which that is kept."""
    with log.recorder.datastore.get_connection() as conn, conn.cursor() as curs:
        return _read(curs, follower)[0]


def count_of_shards(positions: dict[str, int]) -> int:
    """How many shards a follower with these positions has."""
    return max((int(name.rpartition("/")[2]) for name in positions if "/" in name), default=1)


def _read(
    curs: Cursor[DictRow], follower: str
) -> tuple[dict[str, int], int | None, frozenset[UUID]]:
    curs.execute(_READ, {"name": follower}, prepare=True)
    row = curs.fetchone()
    assert row is not None, "it is made of values"
    return row["positions"] or {}, row["version"], frozenset(row["held"])


def _position_of(positions: dict[str, int], name: str, shard: Shard) -> int:
    if name in positions:
        return positions[name]
    if positions or shard != WHOLE:  # to begin with 0 would be to do everything again
        raise ShardsChangedError(name)
    return 0


def _shard_of(positions: dict[str, int], session_id: UUID) -> Shard:
    count = count_of_shards(positions)
    return Shard(session_id.bytes[-1] % count, count)


def _insert(curs: Cursor[DictRow], name: str, position: int) -> None:
    curs.execute("INSERT INTO lorewire_tracking VALUES (%s, %s)", (name, position))
