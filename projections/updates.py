"""How a view moves: its rows and its position in one transaction, and a notification of it."""

from collections.abc import Sequence

from eventsourcing.persistence import Tracking
from psycopg import Cursor
from psycopg.rows import DictRow

from events.log import Log, Recorded
from projections.follower import Projection

CHANNEL = "lorewire_views"  # notified with the name of a view whose rows have changed

# A view that loses its last commits in a crash has lost their positions with them, and follows
# again: no need to wait for the disk, holding the lock of NOTIFY that the log's writers need, too.
# Embedding a batch of long replies takes longer than the 5 s for which the library lets one idle.
# One projector at a time writes a view, others wait.
_BEGIN = (
    "SELECT set_config('synchronous_commit', 'off', true),"
    " set_config('idle_in_transaction_session_timeout', '60s', true),"
    " pg_advisory_xact_lock(hashtextextended('lorewire view ' || %s, 0))"
)


class OvertakenError(Exception):
    """Another projector keeps the same view, and has read further."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The view {name} is kept by another projector, too.")


class ViewUpdates:
    """The work of a follower that keeps one view."""

    def __init__(self, log: Log, projection: Projection) -> None:
        self.name = projection.name
        self._log = log
        self._projection = projection

    def advance(self, after: int, recorded: Sequence[Recorded]) -> None:
        """Write the rows that follow from these events, all or none.

        Raises OvertakenError where another projector has written some of them.
        """
        recorder = self._log.recorder
        with recorder.datastore.transaction(commit=True) as curs:
            curs.execute(_BEGIN, (self.name,))
            # The library only makes sure that positions grow, so a batch that overlaps with what
            # another projector has just done would be done again.
            if (recorder._max_tracking_id(self.name, curs) or 0) != after:
                raise OvertakenError(self.name)
            recorder._insert_tracking(curs, Tracking(self.name, recorded[-1].position))
            if self._projection.apply(curs, recorded, _live_version(curs, self.name)):
                curs.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self.name))


def _live_version(curs: Cursor[DictRow], name: str) -> int:
    """The version that is read: a rebuild may have switched since the last batch."""
    curs.execute("SELECT version FROM lorewire_views WHERE name = %s", (name,))
    row = curs.fetchone()
    assert row is not None, "every view has its row since the migration that made it"
    version: int = row["version"]
    return version
