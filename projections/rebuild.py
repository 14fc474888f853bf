"""Rebuilding a view: its next version is filled beside the live one, compared, and switched to.

Readers see the live version until one transaction makes the next one live, and followers of the
log go on meanwhile. A rebuild that is stopped, whatever stops it, goes on where it was.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Cursor, sql
from psycopg.rows import DictRow

from events.log import MAX_POSITION, Batch, Log, Recorded, Unreadable
from projections.collecting import collecting_rarely
from projections.digest import Difference, Selection, differences, digest
from projections.follower import (
    FailedEventError,
    NotYetError,
    Projection,
    UnreadableEventError,
)
from projections.set_aside import forget_all, held_sessions
from projections.tracking import lock_all, lock_shard_of, positions_of, store_positions
from projections.updates import BEGIN, apply_batch, apply_session, notify

logger = logging.getLogger(__name__)

BATCH_EVENTS = 2_000  # in one transaction
BATCHES_AHEAD = 2  # read and decoded while others are written
NOT_YET_S = 1.0  # between tries where an embedder does not answer
LOCK_TRIES = 20  # one that has just ended or was killed may hold its lock for a moment yet
LOCK_TRY_S = 0.1
ALIGN_S = 0.05  # between looks whether all shards stand at one position
ALIGN_PATIENCE_S = 60.0  # then there is no projector, or it waits for something
DELETE_ROWS = 20_000  # of old versions, in one transaction
SCRATCH_VERSION = -1  # of rows that no other transaction ever sees

_LOCK_REBUILD = "SELECT pg_try_advisory_lock(hashtextextended('lorewire rebuild ' || %s, 0))"


class RebuildError(Exception):
    """A rebuild can't go on; the text says why and what to do."""


@dataclass(frozen=True)
class Progress:
    """How far a rebuild has come."""

    position: int
    end: int  # where it has to come: the newest position of the log, or the live view's
    events: int  # handled since it was started or went on


class Rebuild:
    """The next version of one view. See `begun`."""

    def __init__(self, log: Log, projection: Projection, version: int, position: int) -> None:
        self.view = projection.name
        self.version = version
        self.position = position  # up to which it is filled
        self._log = log
        self._projection = projection
        self._tracking_name = f"{self.view}@{version}"
        # What does not matter to a view is not read: that is most of what its rebuild would cost.
        self._topics: Sequence[str] | None = getattr(projection, "topics", None)

    def fill(
        self,
        report: Callable[[Progress], None],
        stop: threading.Event,
        *,
        upto: int | None = None,
    ) -> bool:
        """Handle events until there are no more, or until `stop` is set: then False.

        With `upto` those that come later are left alone. Raises RebuildError at an event that can't
        be read or handled.
        """
        events = 0
        with (
            collecting_rarely(),
            _reading_ahead(self._log, self.position, upto, self._topics) as batches,
        ):
            for batch in batches:
                if stop.is_set() or not self._write(batch, stop):
                    return False
                events += len(batch.events)
                end = upto if upto is not None else self._log.head()
                report(Progress(self.position, end, events))
        return not stop.is_set()

    def switch(self) -> None:
        """Make this version the one that is read, and delete the rows of others."""
        with self._log.recorder.datastore.transaction(commit=True) as curs:
            curs.execute(BEGIN)
            self._catch_up(curs, lock_all(curs, self.view))
            curs.execute(
                "UPDATE lorewire_views SET version = %s, generation = generation + 1,"
                " rebuilt_session = NULL, rebuilt_position = %s,"
                " made_with = (SELECT made_with FROM lorewire_rebuilds WHERE view = name)"
                " WHERE name = %s",
                (self.version, self.position, self.view),
            )
            store_positions(curs, self.view, self.position)
            forget_all(curs, self.view)
            self._forget(curs)
            notify(curs, self.view)
        delete_old_versions(self._log, self._projection)

    def drop(self) -> None:
        """Throw it away."""
        with self._log.recorder.datastore.transaction(commit=True) as curs:
            self._forget(curs)
        delete_old_versions(self._log, self._projection)

    def compare(self) -> list[Difference]:
        """How the live view would change; nothing: not at all.

        Sessions that have an event set aside are left out: their live rows stand still. Nobody
        moves the view meanwhile. Raises RebuildError where the live view does not come as far as
        this one, or where its shards do not come to one position.
        """
        with self._at_one_moment() as (curs, live):
            held = held_sessions(curs, self.view)
            return _compare(
                curs,
                self._projection,
                Selection(live, None, held),
                Selection(self.version, None, held),
            )

    @contextmanager
    def _at_one_moment(self) -> Iterator[tuple[Cursor[DictRow], int]]:
        """The live version and this one at the same position, which nobody moves."""
        deadline = time.monotonic() + ALIGN_PATIENCE_S
        while True:
            with self._log.recorder.datastore.transaction(commit=True) as curs:
                curs.execute(BEGIN)
                positions = lock_all(curs, self.view)
                if len(set(positions.values())) <= 1 and self.position <= _newest(positions):
                    self._catch_up(curs, positions)
                    yield curs, _live_version(curs, self.view)
                    return
            if time.monotonic() > deadline:
                raise RebuildError(
                    f"The live view {self.view} stands at {sorted(positions.values())}, and what "
                    f"was rebuilt at {self.position}: they can't be compared. Start a projector "
                    "(`lorewire serve` or `lorewire project`), or look at what its log waits for."
                )
            time.sleep(ALIGN_S)  # a shard, or all of them, are behind

    def _catch_up(self, curs: Cursor[DictRow], positions: dict[str, int]) -> None:
        """Fill up to where the live view is; called while nobody moves it."""
        upto = _newest(positions)
        while self.position < upto:
            batch = self._log.read_batch(
                after=self.position, limit=BATCH_EVENTS, upto=upto, topics=self._topics
            )
            if batch.upto == batch.after:
                break
            try:
                self._apply(curs, batch)
            except NotYetError as error:  # nobody shall wait for it behind our lock
                raise RebuildError(f"{error} Run it again: it goes on where it was.") from error

    def _write(self, batch: Batch, stop: threading.Event) -> bool:
        """Write a batch; False where it was stopped while it waited."""
        position = self.position
        while True:
            try:
                with self._log.recorder.datastore.transaction(commit=True) as curs:
                    curs.execute(BEGIN)
                    self._apply(curs, batch)
                return True
            except NotYetError as error:
                self.position = position
                logger.warning("The rebuild of %s waits: %s", self.view, error)
                if stop.wait(NOT_YET_S):
                    return False

    def _apply(self, curs: Cursor[DictRow], batch: Batch) -> None:
        recorded = _readable(batch.events)
        try:
            if recorded:
                apply_batch(self._projection, curs, recorded, self.version)
        except FailedEventError as error:
            raise RebuildError(
                f"{error} {type(error.__cause__).__name__}: {error.__cause__}. The live view stays "
                f"as it is. Mend the cause, then run the rebuild of {self.view} again: it goes on."
            ) from error
        self.position = batch.upto
        self._log.recorder.store_position(self._tracking_name, self.position, curs)

    def _forget(self, curs: Cursor[DictRow]) -> None:
        """There is no rebuild of this view any more."""
        curs.execute(
            "DELETE FROM lorewire_tracking WHERE application_name = %s", (self._tracking_name,)
        )
        curs.execute("DELETE FROM lorewire_rebuilds WHERE view = %s", (self.view,))


def _is_locked(conn: psycopg.Connection[Any], view: str) -> bool:
    """Whether the rebuild of a view is this connection's alone now."""
    for attempt in range(LOCK_TRIES):
        if attempt:
            time.sleep(LOCK_TRY_S)
        row = conn.execute(_LOCK_REBUILD, (view,)).fetchone()
        if row is not None and row[0]:
            return True
    return False


@contextmanager
def begun(
    log: Log, projection: Projection, *, restart: bool = False, is_scratch: bool = False
) -> Iterator[Rebuild]:
    """A rebuild that is begun, or one that was stopped and goes on. One of a view at a time.

    One that was filled with another embedder is begun anew, as with `restart`. A scratch version
    is always begun anew, and thrown away at the end.

    Raises RebuildError where another process rebuilds the same view.
    """
    name = projection.name
    with psycopg.connect(log.database_url, autocommit=True) as conn:
        if not _is_locked(conn, name):
            raise RebuildError(f"Another process is rebuilding {name}. Wait for it, or stop it.")
        made_with = getattr(projection, "made_with", None)
        with log.recorder.datastore.transaction(commit=True) as curs:
            found = curs.execute(
                "SELECT version, made_with, is_scratch FROM lorewire_rebuilds WHERE view = %s",
                (name,),
            ).fetchone()
            is_ours = (
                found is not None
                and not (restart or is_scratch or found["is_scratch"])
                and found["made_with"] == made_with
            )
            if found is not None and is_ours:
                version = found["version"]
            else:
                version = max(_live_version(curs, name), found["version"] if found else 0) + 1
                curs.execute(
                    "DELETE FROM lorewire_tracking WHERE application_name LIKE %s", (f"{name}@%",)
                )
                curs.execute(
                    "INSERT INTO lorewire_rebuilds (view, version, made_with, is_scratch)"
                    " VALUES (%s, %s, %s, %s) ON CONFLICT (view) DO UPDATE SET"
                    " version = excluded.version, made_with = excluded.made_with,"
                    " is_scratch = excluded.is_scratch, started_at = now()",
                    (name, version, made_with, is_scratch),
                )
            position = log.recorder.position_of(f"{name}@{version}", curs) or 0
        delete_old_versions(log, projection)
        rebuild = Rebuild(log, projection, version, position)
        try:
            yield rebuild
        finally:
            if is_scratch:
                rebuild.drop()


def live_position(log: Log, view: str) -> int:
    """How far the view that is read has come; the furthest of its shards."""
    return _newest(positions_of(log, view))


def live_embedder(log: Log) -> str | None:
    """The embedder whose vectors are in the memory that is read; None: they are nobody's."""
    with log.recorder.datastore.transaction(commit=False) as curs:
        row = curs.execute("SELECT made_with FROM lorewire_views WHERE name = 'memory'").fetchone()
    assert row is not None, "every view has its row since the migration that made it"
    made_with: str | None = row["made_with"]
    return made_with


def compare_session(log: Log, projection: Projection, session_id: UUID) -> list[Difference]:
    """How the live rows of one session would change; nothing is kept of the comparison.

    Raises UnreadableEventError or FailedEventError where one of its events can't be handled.
    """
    with log.recorder.datastore.transaction(commit=False) as curs:
        curs.execute(BEGIN)
        at = lock_shard_of(curs, projection.name, session_id)
        assert at.version is not None, "every view has its row since the migration that made it"
        apply_session(log, projection, curs, session_id, at.position, SCRATCH_VERSION)
        return _compare(
            curs,
            projection,
            Selection(at.version, session_id),
            Selection(SCRATCH_VERSION, session_id),
        )


def _compare(
    curs: Cursor[DictRow], projection: Projection, first: Selection, second: Selection
) -> list[Difference]:
    if digest(curs, projection.tables, first) == digest(curs, projection.tables, second):
        return []
    return differences(curs, projection.tables, first, second)


def delete_old_versions(log: Log, projection: Projection) -> None:
    """Delete rows that nobody reads and no rebuild fills, in batches that hold nobody up."""
    for table in projection.tables:
        is_more = True
        while is_more:
            with log.recorder.datastore.transaction(commit=True) as curs:
                curs.execute(
                    sql.SQL(
                        "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table}"
                        " WHERE version <> ALL(ARRAY("
                        "  SELECT version FROM lorewire_views WHERE name = {view} UNION ALL"
                        "  SELECT version FROM lorewire_rebuilds WHERE view = {view}))"
                        " LIMIT {limit}))"
                    ).format(table=sql.Identifier(table), view=projection.name, limit=DELETE_ROWS)
                )
                is_more = curs.rowcount == DELETE_ROWS


@contextmanager
def _reading_ahead(
    log: Log, after: int, upto: int | None, topics: Sequence[str] | None
) -> Iterator[Iterator[Batch]]:
    """Batches of events until there are no more, or none up to a position, read by a thread."""
    batches: queue.Queue[Batch | Exception] = queue.Queue(BATCHES_AHEAD)
    is_over = threading.Event()
    end = MAX_POSITION if upto is None else upto

    def read() -> None:
        position = after
        try:
            while not is_over.is_set():
                batch = log.read_batch(after=position, limit=BATCH_EVENTS, upto=end, topics=topics)
                batches.put(batch)
                if batch.upto == position:
                    return
                position = batch.upto
        except Exception as error:
            batches.put(error)

    def taken() -> Iterator[Batch]:
        while True:
            batch = batches.get()
            if isinstance(batch, Exception):
                raise batch
            if batch.upto == batch.after:
                return
            yield batch

    reader = threading.Thread(target=read, name="rebuild-reader", daemon=True)
    reader.start()
    try:
        yield taken()
    finally:
        is_over.set()
        while reader.is_alive():
            with_room = threading.Event()
            try:
                batches.get_nowait()
            except queue.Empty:
                with_room.wait(0.01)


def _readable(items: Sequence[Recorded | Unreadable]) -> list[Recorded]:
    readable: list[Recorded] = []
    for item in items:
        if isinstance(item, Unreadable):
            raise RebuildError(
                f"{UnreadableEventError(item)} The live view stays as it is. A release that reads "
                "such events can go on with the rebuild."
            )
        readable.append(item)
    return readable


def _newest(positions: dict[str, int]) -> int:
    return max(positions.values(), default=0)


def _live_version(curs: Cursor[DictRow], view: str) -> int:
    row = curs.execute("SELECT version FROM lorewire_views WHERE name = %s", (view,)).fetchone()
    assert row is not None, "every view has its row since the migration that made it"
    version: int = row["version"]
    return version
