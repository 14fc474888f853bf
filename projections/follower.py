"""Following the log: one thread that hands batches to a projection or a policy, and never skips."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import psycopg
from eventsourcing.persistence import InterfaceError, OperationalError
from psycopg import Cursor
from psycopg.rows import DictRow

from events.log import Log, Recorded, Unreadable
from events.mapper import topic_of
from events.shards import Shard
from projections.positions import tracking_name
from projections.resting import rest_s
from projections.set_aside import set_aside
from projections.tracking import (
    OvertakenError,
    ShardsChangedError,
    lock_shard,
    shard_position,
)
from projections.window import LogWindow

logger = logging.getLogger(__name__)

MAX_BATCH_EVENTS = 1000  # one transaction an event is 300 events/s, one for 1,000 is fast enough
POLL_S = 1.0  # wake-ups can be missed
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 5.0  # a database that is back is found again within this
TRIES_PER_LOG_LINE = 20  # a line every two minutes says that it still stands

# Between tries of one event, then it is set aside. Long enough for a hiccup of something that the
# work asks, short enough for a reader who waits behind it.
RETRIES_S = (0.1, 0.3, 0.8, 1.8)

# What PostgreSQL blames on a value or on a row that is there: other errors of its own, such as a
# table that does not exist, would meet every event, and end when somebody mends them.
_STATES_OF_EVENT = ("22", "23")  # data exception, integrity constraint violation


class NotYetError(Exception):
    """Something that the work needs does not answer now; the event itself is as good as any.

    Raised by work. The follower waits and tries again for as long as it takes, visibly as lag.
    """


_NOT_OF_EVENT = (
    NotYetError,
    OvertakenError,
    ShardsChangedError,
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)


class UnreadableEventError(Exception):
    """A stored event whose bytes do not fit its class: nothing can be derived from it."""

    def __init__(self, unreadable: Unreadable) -> None:
        super().__init__(
            f"The event at position {unreadable.position} ({unreadable.topic}) can't be read: "
            f"{unreadable.error}"
        )
        self.item = unreadable


class FailedEventError(Exception):
    """The work failed on one event, for a reason of its own: the cause of this error."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(
            f"The event at position {recorded.position} ({topic_of(recorded.event)}) "
            "can't be handled."
        )
        self.item = recorded


class Work(Protocol):
    """What a follower does with the events that it reads."""

    @property
    def name(self) -> str:
        """The follower's name, under which its position is kept."""

    @property
    def shard(self) -> Shard:
        """Which sessions it is for."""

    def advance(self, after: int, recorded: Sequence[Recorded], upto: int | None = None) -> None:
        """Do the work for all events of the shard after a position, these, and store how far it is.

        That is `upto`, or the position of the last one. Work and position are stored together:
        whatever raises leaves both as they were, or both done up to some event of the batch.
        Called in the follower's thread.
        """


class Projection(Protocol):
    """A walk from events to the rows of one view. It sends nothing and keeps no position.

    One that has `topics` says with them which events matter to it, by every name that their classes
    have had in the log: a rebuild reads no others, a follower hands it all.

    What it remembers between calls may come from events, never from rows: another process may have
    written those since, or a transaction may have been rolled back.
    """

    @property
    def name(self) -> str:
        """The view's name."""

    @property
    def tables(self) -> Sequence[str]:
        """Where its rows are. Each table has `version` and `session_id` first in its key."""

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """Write the rows of one version that follow from these events; True where any changed.

        The same events give the same rows, whatever the batches. Raises NotYetError where they
        can't be written now.
        """


class Follower(threading.Thread):
    """Follows the log with one piece of work, until it is stopped.

    An event that can't be read, or that the work fails on again and again, is set aside with its
    error, in the transaction that moves the position past it. What does not depend on the event
    (the database is gone, a table is missing, NotYetError) is waited for. Nothing is skipped
    silently, and other followers go on.
    """

    def __init__(
        self, log: Log, work: Work, window: LogWindow | None = None, *, upto: int | None = None
    ) -> None:
        """`window`: what followers of the same shard share. `upto`: end there."""
        super().__init__(name=f"follower-{tracking_name(work.name, work.shard)}", daemon=True)
        self._log = log
        self._work = work
        self._window = window or LogWindow(log, work.shard)
        self._upto = upto
        self._wake = threading.Event()
        self._stop_asked = threading.Event()
        self._position: int | None = None  # None: has to be read from the database
        self.failures = 0  # in a row, of tries that were not the event's fault
        self._tried = 0  # the position of the event that failed last
        self._tries = 0  # how often in a row it has

    def wake(self) -> None:
        """There may be news. Called from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End after the batch at hand. Called from any thread."""
        self._stop_asked.set()
        self._wake.set()

    def run(self) -> None:
        """Follow, whatever the database and the events do."""
        while not self._stop_asked.is_set():
            began = time.monotonic()
            try:
                moved = self._follow_once()
            except ShardsChangedError as error:
                logger.info("%s ends: %s", self.name, error)
                return
            except OvertakenError:
                self._position = None
            except FailedEventError as error:
                self._try_again_or_set_aside(error)
            except Exception as error:
                if not self._stop_asked.is_set():
                    self._log_failure(error)
                self._position = None  # what became of the last transaction is for the table to say
                self._stop_asked.wait(self._next_retry_s())
            else:
                if self.failures:
                    logger.info("%s goes on after position %s", self.name, self._position)
                self.failures = 0
                if self._is_done():
                    return
                if not moved:
                    self._wake.wait(POLL_S)
                elif moved < MAX_BATCH_EVENTS:
                    # It has caught up. What comes while it rests shares a transaction.
                    self._stop_asked.wait(rest_s(time.monotonic() - began, moved))

    def _is_done(self) -> bool:
        return self._upto is not None and (self._position or 0) >= self._upto

    def _follow_once(self) -> int:
        """Handle one batch; by how many positions that went on, 0 where there was nothing new."""
        if self._position is None:
            self._position = shard_position(self._log, self._work.name, self._work.shard)
        if self._is_done():
            return 0
        self._wake.clear()  # before the read: what is appended after it sets the flag again
        batch = self._window.read(after=self._position, limit=MAX_BATCH_EVENTS)
        upto = batch.upto if self._upto is None else min(batch.upto, self._upto)
        readable: list[Recorded] = []
        for item in batch.events:
            if item.position > upto:
                break
            if isinstance(item, Unreadable):
                if readable and not self._advance(readable, readable[-1].position):
                    return batch.upto - batch.after
                readable = []
                # Its bytes will not change: only another release may read it, and that by a retry.
                self._set_aside(item, item.error, tries=1)
            else:
                readable.append(item)
        if upto > self._position:
            self._advance(readable, upto)
        return batch.upto - batch.after

    def _advance(self, recorded: Sequence[Recorded], upto: int) -> bool:
        """Have the work done; False where it ended elsewhere, and what follows has to be read."""
        assert self._position is not None, "a batch is read after a position"
        try:
            self._work.advance(self._position, recorded, upto)
        except Exception as error:
            if isinstance(error, ShardsChangedError):
                raise
            if not isinstance(error, OvertakenError) and not is_of_event(error):
                raise
            position = shard_position(self._log, self._work.name, self._work.shard)
            if position != self._position:  # half of it is done, or somebody else was faster
                self._position = position
                return False
            self._advance_singly(recorded, upto)
        self._position = upto
        return True

    def _advance_singly(self, recorded: Sequence[Recorded], upto: int) -> None:
        """Do what can be done, up to the event that is at fault."""
        for one in recorded:
            assert self._position is not None, "a batch is read after a position"
            try:
                self._work.advance(self._position, [one])
            except Exception as error:
                if not is_of_event(error):
                    raise
                raise FailedEventError(one) from error
            self._position = one.position
        if self._position is not None and self._position < upto:
            self._work.advance(self._position, [], upto)

    def _try_again_or_set_aside(self, failed: FailedEventError) -> None:
        position = failed.item.position
        self._tries = self._tries + 1 if self._tried == position else 1
        self._tried = position
        if self._tries <= len(RETRIES_S):
            logger.warning("%s tries again: %s", self.name, failed, exc_info=failed.__cause__)
            self._stop_asked.wait(RETRIES_S[self._tries - 1])
            return
        try:
            cause = failed.__cause__
            self._set_aside(failed.item, f"{type(cause).__name__}: {cause}", self._tries)
        except Exception as error:  # the database is gone now: all of this is done again
            self._log_failure(error)
            self._position = None
            self._stop_asked.wait(self._next_retry_s())

    def _set_aside(self, item: Recorded | Unreadable, text: str, tries: int) -> None:
        """Keep an event with its error, and go on behind it, in one transaction."""
        name = tracking_name(self._work.name, self._work.shard)
        recorder = self._log.recorder
        with recorder.datastore.transaction(commit=True) as curs:
            at = lock_shard(curs, self._work.name, self._work.shard)
            if at.position != self._position:
                raise OvertakenError(name)
            set_aside(curs, self._work.name, item, text, tries)
            recorder.store_position(name, item.position, curs)
        self._position = item.position
        logger.error(
            "%s has set aside the event at position %s (%s of session %s): %s. When the cause is "
            "mended, run `lorewire project --retry`.",
            *(self.name, item.position, *_what(item), text.partition("\n")[0]),
        )

    def _log_failure(self, error: Exception) -> None:
        if self.failures % TRIES_PER_LOG_LINE:
            return
        if isinstance(error, (OperationalError, InterfaceError)):
            logger.warning("%s waits for the database: %s", self.name, error)
        elif isinstance(error, NotYetError):
            logger.warning("%s waits at position %s: %s", self.name, self._position, error)
        else:
            logger.error("%s stops at position %s", self.name, self._position, exc_info=error)

    def _next_retry_s(self) -> float:
        retry_s: float = min(FIRST_RETRY_S * 2.0 ** min(self.failures, 10), LAST_RETRY_S)
        self.failures += 1
        return retry_s


def is_of_event(error: BaseException) -> bool:
    """Whether an error of work is about the event that it was given.

    False where every event would meet it, now: the database is out of reach or not as it should
    be, something that the work needs does not answer, another projector was faster.
    """
    for one in _with_causes(error):
        if isinstance(one, _NOT_OF_EVENT):
            return False
        if isinstance(one, psycopg.Error) and one.sqlstate is not None:
            return one.sqlstate.startswith(_STATES_OF_EVENT)
    return True


def stored_position(log: Log, name: str) -> int:
    """How far a follower that has one shard has come, as the database says; 0: it has not begun.

    Raises OperationalError or InterfaceError where the database does not answer.
    """
    with log.recorder.datastore.get_connection() as conn, conn.cursor() as curs:
        return log.recorder.position_of(name, curs) or 0


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _what(item: Recorded | Unreadable) -> tuple[str, object]:
    if isinstance(item, Unreadable):
        return item.topic, item.session_id
    return topic_of(item.event), item.event.session_id
