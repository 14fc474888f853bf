"""How a view moves: its rows and its position in one transaction, and a notification of it."""

from collections.abc import Sequence
from uuid import UUID

from psycopg import Cursor, sql
from psycopg.rows import DictRow

from events.log import Log, Recorded, Unreadable
from events.shards import WHOLE, Shard
from projections.follower import (
    FailedEventError,
    Projection,
    UnreadableEventError,
    is_of_event,
)
from projections.positions import tracking_name
from projections.set_aside import forget_session
from projections.tracking import OvertakenError, lock_shard, lock_shard_of

CHANNEL = "lorewire_views"  # notified with the name of a view whose rows have changed

MAX_REDO_EVENTS = 1000  # read at a time

# A view that loses its last commits in a crash has lost their positions with them, and follows
# again: no need to wait for the disk, holding the lock of NOTIFY that the log's writers need, too.
# Embedding a batch of long replies takes longer than the 5 s for which the library lets one idle.
BEGIN = (
    "SELECT set_config('synchronous_commit', 'off', true),"
    " set_config('idle_in_transaction_session_timeout', '60s', true)"
)


class ViewUpdates:
    """The work of a follower that keeps one view, or one shard of it."""

    def __init__(self, log: Log, projection: Projection, shard: Shard = WHOLE) -> None:
        self.name = projection.name
        self.shard = shard
        self._log = log
        self._projection = projection
        self._tracking_name = tracking_name(projection.name, shard)

    def advance(self, after: int, recorded: Sequence[Recorded], upto: int | None = None) -> None:
        """Write the rows that follow from these events, all or none.

        Events of a session that has one set aside are passed over. Raises OvertakenError where
        another projector has written some of them.
        """
        recorder = self._log.recorder
        with recorder.datastore.transaction(commit=True) as curs:
            curs.execute(BEGIN)
            at = lock_shard(curs, self.name, self.shard)
            # The library only makes sure that positions grow, so a batch that overlaps with what
            # another projector has just done would be done again.
            if at.position != after:
                raise OvertakenError(self._tracking_name)
            assert at.version is not None, "every view has its row since the migration that made it"
            last = recorded[-1].position if upto is None else upto
            recorder.store_position(self._tracking_name, last, curs)
            ours = [one for one in recorded if one.event.session_id not in at.held]
            if ours and self._projection.apply(curs, ours, at.version):
                notify(curs, self.name)


def redo_session(log: Log, projection: Projection, session_id: UUID) -> int:
    """Write the live rows of one session anew, from all of its events; returns up to which.

    All or nothing: readers see the rows as they were until the new ones are there. Nothing of the
    session is set aside in this view then. Raises UnreadableEventError or FailedEventError where
    one of its events can't be handled, and leaves everything as it was.
    """
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute(BEGIN)
        at = lock_shard_of(curs, projection.name, session_id)
        assert at.version is not None, "every view has its row since the migration that made it"
        for table in projection.tables:
            curs.execute(
                sql.SQL("DELETE FROM {} WHERE version = %s AND session_id = %s").format(
                    sql.Identifier(table)
                ),
                (at.version, session_id),
            )
        apply_session(log, projection, curs, session_id, at.position, at.version)
        forget_session(curs, projection.name, session_id)
        curs.execute(
            "UPDATE lorewire_views SET generation = generation + 1, rebuilt_session = %s,"
            " rebuilt_position = greatest(rebuilt_position, %s) WHERE name = %s",
            (session_id, at.position, projection.name),
        )
        notify(curs, projection.name)
    return at.position


def apply_session(
    log: Log,
    projection: Projection,
    curs: Cursor[DictRow],
    session_id: UUID,
    upto: int,
    version: int,
) -> None:
    """Write the rows of one session from all of its events up to a position.

    Raises UnreadableEventError or FailedEventError where one of them can't be handled.
    """
    after = 0
    while True:
        items = log.read_session(session_id, after=after, limit=MAX_REDO_EVENTS)
        due = [item for item in items if item.position <= upto]
        readable: list[Recorded] = []
        for item in due:
            if isinstance(item, Unreadable):
                raise UnreadableEventError(item)
            readable.append(item)
        if readable:
            apply_batch(projection, curs, readable, version)
        if len(due) < MAX_REDO_EVENTS:
            return
        after = due[-1].position


def apply_batch(
    projection: Projection, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int
) -> None:
    """Apply events in the caller's transaction; raises FailedEventError with the one that fails."""
    try:
        with curs.connection.transaction():
            projection.apply(curs, recorded, version)
        return
    except Exception as error:
        if not is_of_event(error):
            raise
    for one in recorded:
        try:
            projection.apply(curs, [one], version)
        except Exception as error:
            raise FailedEventError(one) from error


def notify(curs: Cursor[DictRow], view: str) -> None:
    """Tell whoever shows the view that its rows have changed."""
    curs.execute("SELECT pg_notify(%s, %s)", (CHANNEL, view))
