"""Following the log: one thread that hands batches to a projection or a policy, and never skips."""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from eventsourcing.persistence import InterfaceError, OperationalError
from psycopg import Cursor
from psycopg.rows import DictRow

from events.log import Log, Recorded, Unreadable
from events.mapper import topic_of

logger = logging.getLogger(__name__)

MAX_BATCH_EVENTS = 1000  # one transaction an event is 300 events/s, one for 1,000 is fast enough
POLL_S = 1.0  # wake-ups can be missed
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 5.0  # a database that is back is found again within this
TRIES_PER_LOG_LINE = 20  # a line every two minutes says that it still stands


class UnreadableEventError(Exception):
    """A stored event whose bytes do not fit its class: nothing can be derived from it."""

    def __init__(self, unreadable: Unreadable) -> None:
        super().__init__(
            f"The event at position {unreadable.position} ({unreadable.topic}) can't be read: "
            f"{unreadable.error}"
        )


class FailedEventError(Exception):
    """The work failed on one event, for a reason of its own: the cause of this error."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(
            f"The event at position {recorded.position} ({topic_of(recorded.event)}) "
            "can't be handled."
        )


class Work(Protocol):
    """What a follower does with the events that it reads."""

    @property
    def name(self) -> str:
        """The name under which the position is kept."""

    def advance(self, after: int, recorded: Sequence[Recorded]) -> None:
        """Do the work for all events after a position, these, and store the last one's position.

        Work and position are stored together: whatever raises leaves both as they were, or both
        done up to some event of the batch. Called in the follower's thread.
        """


class Projection(Protocol):
    """A walk from events to the rows of one view. It sends nothing and keeps no position."""

    @property
    def name(self) -> str:
        """The view's name."""

    @property
    def tables(self) -> Sequence[str]:
        """Where its rows are. Each table has `version` and `session_id` first in its key."""

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """Write the rows of one version that follow from these events; True where any changed.

        The same events give the same rows, whatever the batches.
        """


class Follower(threading.Thread):
    """Follows the log with one piece of work, until it is stopped.

    An event that can't be read, or that the work fails on, holds this follower at its position: it
    is logged, tried again, and visible as lag. Nothing is skipped, and other followers go on.
    """

    def __init__(self, log: Log, work: Work) -> None:
        super().__init__(name=f"follower-{work.name}", daemon=True)
        self._log = log
        self._work = work
        self._wake = threading.Event()
        self._stop_asked = threading.Event()
        self._position: int | None = None  # None: has to be read from the database
        self._failures = 0

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
            try:
                has_more = self._follow_once()
            except Exception as error:
                if not self._stop_asked.is_set():
                    self._log_failure(error)
                self._position = None  # what became of the last transaction is for the table to say
                self._stop_asked.wait(self._next_retry_s())
            else:
                if self._failures:
                    logger.info("%s goes on after position %s", self.name, self._position)
                self._failures = 0
                if not has_more:
                    self._wake.wait(POLL_S)

    def _follow_once(self) -> bool:
        """Handle one batch; False where there was none."""
        if self._position is None:
            self._position = stored_position(self._log, self._work.name)
        self._wake.clear()  # before the read: what is appended after it sets the flag again
        batch = self._log.read(after=self._position, limit=MAX_BATCH_EVENTS)
        readable: list[Recorded] = []
        for item in batch:
            if isinstance(item, Unreadable):
                self._advance(readable)
                raise UnreadableEventError(item)
            readable.append(item)
        self._advance(readable)
        return bool(batch)

    def _advance(self, recorded: Sequence[Recorded]) -> None:
        if not recorded:
            return
        assert self._position is not None, "a batch is read after a position"
        try:
            self._work.advance(self._position, recorded)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            position = stored_position(self._log, self._work.name)
            if position != self._position:  # half of it is done, or somebody else was faster
                self._position = position
            else:
                self._advance_singly(position, recorded)
        else:
            self._position = recorded[-1].position

    def _advance_singly(self, after: int, recorded: Sequence[Recorded]) -> None:
        """Do what can be done, up to the event that is at fault."""
        for one in recorded:
            try:
                self._work.advance(after, [one])
            except (OperationalError, InterfaceError):
                raise
            except Exception as error:
                raise FailedEventError(one) from error
            self._position = after = one.position

    def _log_failure(self, error: Exception) -> None:
        if self._failures % TRIES_PER_LOG_LINE:
            return
        if isinstance(error, (OperationalError, InterfaceError)):
            logger.warning("%s waits for the database: %s", self.name, error)
        else:
            logger.error("%s stops at position %s", self.name, self._position, exc_info=error)

    def _next_retry_s(self) -> float:
        retry_s: float = min(FIRST_RETRY_S * 2.0 ** min(self._failures, 10), LAST_RETRY_S)
        self._failures += 1
        return retry_s


def stored_position(log: Log, name: str) -> int:
    """How far a follower has come, as the database says; 0: it has not begun.

    Raises OperationalError or InterfaceError where the database does not answer.
    """
    with log.recorder.datastore.get_connection() as conn, conn.cursor() as curs:
        return log.recorder._max_tracking_id(name, curs) or 0
