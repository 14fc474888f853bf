"""Which shards this projector runs: agreed upon by all projectors through PostgreSQL's locks.

Advisory locks of a session end with its connection, so a projector that dies leaves at once. Each
one shares the lock of its number of shards, by which all know who is there; the shards are dealt
out by rank. The lock of a shard is taken by one only, so that a handover has no two at work. None
of this keeps the views right, which the transactions of the followers do (`projections.tracking`):
it keeps projectors from doing work in vain.
"""

import logging
from collections.abc import Callable
from typing import Any

import psycopg

logger = logging.getLogger(__name__)

# The first of the two numbers of an advisory lock, so that they mean something in `pg_locks`.
CHANGE_LOCK = 0x4C57_0000  # nobody else comes, or changes the number of shards
PRESENT_LOCK = 0x4C57_0001  # shared, with the number of shards: a projector is there
SHARD_LOCK = 0x4C57_0002  # with the shard's index: a projector runs it

# A projector whose machine has vanished is found out within some ten seconds.
_CONNECT: dict[str, Any] = {
    "connect_timeout": 2,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
}
_FIND_OUT_IF_GONE = (
    "SELECT set_config('tcp_keepalives_idle', '5', false),"
    " set_config('tcp_keepalives_interval', '2', false),"
    " set_config('tcp_keepalives_count', '3', false)"
)
_PRESENT = (
    "SELECT pid, objid::bigint AS shards, pid = pg_backend_pid() AS is_me FROM pg_locks"
    " WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " ORDER BY pid"
)


class Membership:
    """One projector among those that follow the same log. Used by one thread.

    Every method raises psycopg.Error where the database does not answer; the next call begins
    anew.
    """

    def __init__(self, database_url: str, shards: int, divide: Callable[[], bool]) -> None:
        """`divide` brings the followers to this number of shards; False: it has been stopped."""
        self._database_url = database_url
        self._shards = shards
        self._divide = divide
        self._conn: psycopg.Connection[tuple[int, int, bool]] | None = None
        self._held: set[int] = set()
        self._is_refused = False

    def close(self) -> None:
        """Leave."""
        if self._conn is not None:
            self._conn.close()
        self._conn = None
        self._held = set()

    def update(self, before_release: Callable[[int], None]) -> set[int]:
        """The shards that are this projector's now.

        `before_release` is called with each one that it gives to another, to end the work on it.
        """
        try:
            if self._conn is None or self._conn.closed:
                self.close()
                if not self._enter():
                    return set()
            due = self._due()
            for index in self._held - due:
                before_release(index)
                self._execute("SELECT pg_advisory_unlock(%s, %s)", SHARD_LOCK, index)
                self._held.discard(index)
            for index in sorted(due - self._held):
                if self._try_lock(SHARD_LOCK, index):
                    self._held.add(index)
        except BaseException:
            self.close()
            raise
        return set(self._held)

    def _enter(self) -> bool:
        """Join the others; False while some are there who have another number of shards."""
        self._conn = psycopg.connect(self._database_url, autocommit=True, **_CONNECT)
        self._conn.execute(_FIND_OUT_IF_GONE)
        if not self._try_lock(CHANGE_LOCK, 0):
            self.close()  # somebody else is coming: a moment later then
            return False
        others = {shards for _, shards, _ in self._present()} - {self._shards}
        if others:
            if not self._is_refused:
                logger.warning(
                    "Projectors with --shards %s are running: this one, with --shards %s, waits "
                    "until they have ended",
                    *(", ".join(map(str, sorted(others))), self._shards),
                )
            self._is_refused = True
            self.close()
            return False
        self._is_refused = False
        if not self._divide():
            self.close()
            return False
        self._execute("SELECT pg_advisory_lock_shared(%s, %s)", PRESENT_LOCK, self._shards)
        self._execute("SELECT pg_advisory_unlock(%s, %s)", CHANGE_LOCK, 0)
        return True

    def _due(self) -> set[int]:
        """The shards that fall to this projector, as long as nobody comes or goes."""
        present = self._present()
        rank = next(rank for rank, (_, _, is_me) in enumerate(present) if is_me)
        return {index for index in range(self._shards) if index % len(present) == rank}

    def _present(self) -> list[tuple[int, int, bool]]:
        assert self._conn is not None
        return self._conn.execute(_PRESENT, (PRESENT_LOCK,)).fetchall()

    def _try_lock(self, lock: int, number: int) -> bool:
        assert self._conn is not None
        found = self._conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (lock, number))
        row = found.fetchone()
        return row is not None and bool(row[0])

    def _execute(self, query: str, lock: int, number: int) -> None:
        assert self._conn is not None
        self._conn.execute(query, (lock, number))
