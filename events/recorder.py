"""The library's recorder, writing through one function call: a lock, a NOTIFY, an INSERT."""

from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID

from eventsourcing.persistence import (
    InterfaceError,
    OperationalError,
    StoredEvent,
    Tracking,
)
from eventsourcing.postgres import (
    PostgresAggregateRecorder,
    PostgresFactory,
    PostgresProcessRecorder,
)
from eventsourcing.utils import Environment, retry
from psycopg import Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row, scalar_row
from psycopg.sql import SQL, Identifier

from events.mapper import SessionStoredEvent

RECONNECT_TIMEOUT_S = 1.0  # one try now and one a second later


# For reads: enough to pass over connections that died in the pool, and short where the database is
# gone. The library's ten times would keep a thread for twelve seconds.
retry_read = retry((InterfaceError, OperationalError), max_attempts=3, wait=0.1)


class LogRecorder(PostgresProcessRecorder):
    """Appends to the log, optionally together with the position of a policy that caused it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Binary: as text, an array of bytes alone costs six times what all five cost so.
        self.append_statement = SQL(
            "SELECT {schema}.lorewire_append("
            "%b::uuid[], %b::bigint[], %b::text[], %b::bytea[], %b::uuid[]) AS notification_id"
        ).format(schema=Identifier(self.datastore.schema))
        self.find_statement = SQL(
            "SELECT e.* FROM unnest(%s::uuid[], %s::bigint[]) AS k(id, version)"
            " JOIN {schema}.{table} e ON e.originator_id = k.id"
            " AND e.originator_version = k.version"
        ).format(schema=Identifier(self.datastore.schema), table=Identifier(self.events_table_name))

    select_events = retry_read(PostgresProcessRecorder.select_events.__wrapped__)
    max_notification_id = retry_read(PostgresProcessRecorder.max_notification_id.__wrapped__)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        tracking: Tracking | None = None,
        within: Callable[[Cursor[DictRow]], None] | None = None,
        **_: Any,
    ) -> Sequence[int]:
        """Store events in one transaction; returns their positions, in order.

        `within` is done before them in the same transaction: what it raises leaves nothing stored.

        Raises IntegrityError where one of them (or a higher tracking) is stored already: then none
        is. Raises OperationalError or InterfaceError where the database is out of reach: then it is
        unknown whether they are. Unlike the library's, it tries once: the caller knows better.
        """
        if not stored_events and tracking is None and within is None:
            return []
        if tracking is None and within is None:
            # Autocommit: the function call is the transaction, so one round trip is the commit.
            with self.datastore.get_connection() as conn, conn.cursor() as curs:
                return self._append(curs, stored_events)
        with self.datastore.transaction(commit=True) as curs:
            if within is not None:
                within(curs)
            if tracking is not None:
                self._insert_tracking(curs, tracking)
            return self._append(curs, stored_events)

    def position_of(self, name: str, curs: Cursor[DictRow]) -> int | None:
        """The position that is kept under a name; None where there is none."""
        position: int | None = self._max_tracking_id(name, curs)
        return position

    def store_position(self, name: str, position: int, curs: Cursor[DictRow]) -> None:
        """Keep a position under a name; raises IntegrityError unless it is a higher one."""
        self._insert_tracking(curs, Tracking(name, position))

    def find_events(
        self, keys: Sequence[tuple[UUID | str, int]]
    ) -> dict[tuple[UUID | str, int], tuple[int, str, bytes]]:
        """What is stored under (stream, version) keys: their position, topic and state."""
        with self.datastore.get_connection() as conn, conn.cursor() as curs:
            curs.execute(self.find_statement, ([key[0] for key in keys], [key[1] for key in keys]))
            return {
                (row["originator_id"], row["originator_version"]): (
                    row["notification_id"],
                    row["topic"],
                    bytes(row["state"]),
                )
                for row in curs.fetchall()
            }

    def _append(self, curs: Cursor[DictRow], stored_events: Sequence[StoredEvent]) -> Sequence[int]:
        if not stored_events:
            return []
        columns: tuple[list[UUID | str], list[int], list[str], list[bytes], list[UUID | None]]
        columns = ([], [], [], [], [])
        for event in stored_events:
            columns[0].append(event.originator_id)
            columns[1].append(event.originator_version)
            columns[2].append(event.topic)
            columns[3].append(event.state)
            columns[4].append(event.session_id if isinstance(event, SessionStoredEvent) else None)
        curs.row_factory = scalar_row
        curs.execute(self.append_statement, columns, prepare=True, binary=True)
        return cast(list[int], curs.fetchall())


class SnapshotRecorder(PostgresAggregateRecorder):
    """Stores snapshots as the library does; reads them as shortly as the log is read."""

    select_events = retry_read(PostgresAggregateRecorder.select_events.__wrapped__)


class LogFactory(PostgresFactory):
    """Builds our recorders on one connection pool."""

    aggregate_recorder_class = SnapshotRecorder
    application_recorder_class = LogRecorder
    process_recorder_class = LogRecorder

    def __init__(self, env: Environment) -> None:
        """Take the database from DATABASE_URL, with every parameter that libpq knows."""
        url = env["DATABASE_URL"]
        info = conninfo_to_dict(url)
        super().__init__(
            Environment(
                env.name,
                {
                    **env,
                    "POSTGRES_DBNAME": str(info.get("dbname", "")),
                    "POSTGRES_HOST": str(info.get("host", "")),
                    "POSTGRES_USER": str(info.get("user", "")),
                    "POSTGRES_PASSWORD": "",
                },
            )
        )
        self.datastore.pool.conninfo = url
        self.datastore.pool.kwargs = {"row_factory": dict_row, "connect_timeout": 2}
        # After a longer outage the pool would wait for minutes between two tries; giving up early
        # makes it try anew with the next caller.
        self.datastore.pool.reconnect_timeout = RECONNECT_TIMEOUT_S
