"""The journal: group commit. Whatever arrives during one commit is stored by the next."""

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import pykka
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    Mapper,
    OperationalError,
    StoredEvent,
)
from prometheus_client import Counter, Gauge, Histogram

from events.log import Log
from events.recorder import LogRecorder

logger = logging.getLogger(__name__)

MAX_BATCH_EVENTS = 500  # 100 give two thirds of the rate at a third of the latency, 500 nearly all
RETRY_AFTER_S = (0.05, 0.1, 0.2, 0.5)  # between tries while the database is gone; the last repeats

COMMITTED_EVENTS = Counter("lorewire_events_committed", "Domain events committed by this process")
BATCH_EVENTS = Histogram(
    "lorewire_journal_batch_events", "Events in one commit", buckets=(1, 2, 5, 10, 50, 100, 500)
)
COMMIT_SECONDS = Histogram(
    "lorewire_journal_commit_seconds",
    "Time of one commit, retries included",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5),
)
WAITING_APPENDS = Gauge("lorewire_journal_waiting", "Appends that wait for a commit")
REFUSED_APPENDS = Counter("lorewire_journal_refused", "Appends refused, by reason", ["reason"])


class StreamConflictError(Exception):
    """Somebody else has written to the stream: load the aggregate again and decide again."""


class LogUnavailableError(Exception):
    """The database could not be reached in time. The events may or may not be stored."""


@dataclass(slots=True, eq=False)  # not frozen: that takes four times as long, for each command
class Append:
    """Store these events, all or none, and resolve the future on its own loop."""

    stream_id: UUID | str
    events: Sequence[StoredEvent]  # of that stream, in order
    answer: "asyncio.Future[list[int]]"
    deadline: float  # on the monotonic clock
    decided: Callable[[UUID | str], None]  # called with the stream when it may be appended to again


Outcome = tuple[Append, list[int] | Exception]


class Arrivals:
    """Appends that wait for a commit, in order.

    The actor is told once of all that it has not taken yet: a message for each would cost as much
    as what it carries.
    """

    def __init__(self) -> None:
        self._appends: deque[Append] = deque()
        self._is_told = False

    def put(self, append: Append) -> bool:
        """Add an append, from any thread; True where the actor has to be told."""
        self._appends.append(append)
        if self._is_told:  # and will take it: it first expects to be told again, then looks
            return False
        self._is_told = True
        return True

    def expect(self) -> None:
        """Have the actor told of what comes from now on; what is there already is taken next."""
        self._is_told = False

    def take(self) -> list[Append]:
        """The oldest appends, as many as one commit stores."""
        batch: list[Append] = []
        events = 0
        while self._appends and events < MAX_BATCH_EVENTS:
            append = self._appends.popleft()
            batch.append(append)
            events += len(append.events)
        return batch


@dataclass(frozen=True)
class CommitArrivals:
    """Appends have arrived."""


class JournalActor(pykka.ThreadingActor):
    """Commits appends in batches, in a thread of its own, as the log's only writer in this process.

    `on_receive` runs in the actor's thread. An append that fails answers its own future and no
    other; the actor itself goes on whatever the database does.
    """

    use_daemon_thread = True  # an exit must not hang on a database that is gone

    def __init__(self, recorder: LogRecorder, arrivals: Arrivals) -> None:
        super().__init__()
        self._recorder = recorder
        self._arrivals = arrivals

    def on_receive(self, message: CommitArrivals) -> None:
        """Commit what has arrived, and what arrives meanwhile."""
        self._arrivals.expect()
        while batch := self._arrivals.take():
            started = time.monotonic()
            self._commit(batch)
            COMMIT_SECONDS.observe(time.monotonic() - started)

    def on_stop(self) -> None:
        """Commit what still waits."""
        self.on_receive(CommitArrivals())

    def _commit(self, batch: list[Append]) -> None:
        """Store a batch, sorting out whatever stands in its way; every append gets its answer."""
        tries = 0
        is_doubtful = False  # a commit was sent, and nobody knows what became of it
        refused_events = 0
        while batch:
            try:
                if is_doubtful:
                    batch = self._without_decided(batch)
                    if not batch:
                        return
                positions = self._recorder.insert_events(
                    [event for append in batch for event in append.events]
                )
            except IntegrityError as error:
                if refused_events == _count_events(batch):  # not for a version that is taken
                    _answer([(append, error) for append in batch])
                    return
                refused_events = _count_events(batch)
                is_doubtful = True  # one of them is stored already: by us or by somebody else
            except (OperationalError, InterfaceError) as error:
                is_doubtful = True
                batch = _without_expired(batch)
                delay_s = RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S) - 1)]
                if tries in (0, 20):
                    logger.warning(
                        "The event log can't be written, %d appends wait: %s", len(batch), error
                    )
                tries += 1
                time.sleep(delay_s if batch else 0)
            except Exception as error:
                if len(batch) == 1:
                    logger.exception("An append failed for a reason of its own")
                    _answer([(batch[0], error)])
                    return
                for append in batch:  # one of them is at fault, and it must not harm the others
                    self._commit([append])
                return
            else:
                _acknowledge(batch, positions)
                return

    def _without_decided(self, batch: list[Append]) -> list[Append]:
        """Answer what the log has already decided; what is left is not stored.

        An append whose very events are stored was ours: its commit succeeded although we were not
        told. Other events under its versions are a conflict.
        """
        stored = self._recorder.find_events(
            [(e.originator_id, e.originator_version) for append in batch for e in append.events]
        )
        left: list[Append] = []
        outcomes: list[Outcome] = []
        for append in batch:
            found = [stored.get((e.originator_id, e.originator_version)) for e in append.events]
            if not any(found):
                left.append(append)
            elif all(
                row is not None and row[1:] == (event.topic, event.state)
                for row, event in zip(found, append.events, strict=True)
            ):
                outcomes.append((append, [row[0] for row in found if row]))
            else:
                outcomes.append((append, _conflict(append)))
        _answer(outcomes)
        return left


class Journal:
    """How the rest of the program reaches the journal's actor."""

    def __init__(self, log: Log, *, timeout_s: float) -> None:
        """Start the actor; `timeout_s` is how long an append waits for a database that is gone."""
        self._mapper: Mapper[UUID] = log.mapper
        self._timeout_s = timeout_s
        self._arrivals = Arrivals()
        self._actor = JournalActor.start(log.recorder, self._arrivals)
        self._under_way: set[UUID | str] = set()  # streams that are being appended to
        WAITING_APPENDS.set_function(self._under_way.__len__)

    def append(self, events: Iterable[DomainEventProtocol[UUID]]) -> "asyncio.Future[list[int]]":
        """Store new events of one stream; resolves to their positions when they are durable.

        Called on an event loop. The future fails with StreamConflictError where another writer was
        first, and with LogUnavailableError after `timeout_s` without a database. Raises
        pykka.ActorDeadError after `stop`.

        One append of a stream at a time: a later one was decided on what an earlier one may fail to
        store, and the version check could not know. Raises RuntimeError otherwise.
        """
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        stored = [self._mapper.to_stored_event(event) for event in events]
        if not stored:
            answer.set_result([])
            return answer
        if not self._actor.is_alive():
            raise pykka.ActorDeadError("The journal has stopped.")
        stream_id = stored[0].originator_id
        if stream_id in self._under_way:
            raise RuntimeError(f"Stream {stream_id} is being appended to: wait for the answer.")
        self._under_way.add(stream_id)
        deadline = time.monotonic() + self._timeout_s
        append = Append(stream_id, stored, answer, deadline, self._under_way.discard)
        if self._arrivals.put(append):
            self._actor.tell(CommitArrivals())
        return answer

    def stop(self) -> None:
        """Commit what waits, then stop. Blocks."""
        self._actor.stop()


def _count_events(batch: list[Append]) -> int:
    return sum(len(append.events) for append in batch)


def _without_expired(batch: list[Append]) -> list[Append]:
    now = time.monotonic()
    left = [append for append in batch if append.deadline > now]
    expired = [append for append in batch if append.deadline <= now]
    if expired:
        REFUSED_APPENDS.labels("unavailable").inc(len(expired))
        error = LogUnavailableError("The event store does not answer. Try again in a moment.")
        _answer([(append, error) for append in expired])
    return left


def _conflict(append: Append) -> StreamConflictError:
    REFUSED_APPENDS.labels("conflict").inc()
    return StreamConflictError(
        f"Stream {append.stream_id} already has a version {append.events[0].originator_version}."
    )


def _acknowledge(batch: list[Append], stored: Sequence[int]) -> None:
    positions = list(stored)
    BATCH_EVENTS.observe(len(positions))
    COMMITTED_EVENTS.inc(len(positions))
    outcomes: list[Outcome] = []
    taken = 0
    for append in batch:
        end = taken + len(append.events)
        outcomes.append((append, positions[taken:end]))
        taken = end
    _answer(outcomes)


def _answer(outcomes: list[Outcome]) -> None:
    """Resolve futures on their loops, with one wake-up for each loop, in the order of commits."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_loop[outcome[0].answer.get_loop()].append(outcome)
    for loop, its_outcomes in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, its_outcomes)
        except RuntimeError:
            logger.warning("%d answers of the journal came after the end", len(its_outcomes))


def _resolve(outcomes: list[Outcome]) -> None:
    for append, outcome in outcomes:
        append.decided(append.stream_id)
        if append.answer.done():  # cancelled by whoever waited
            continue
        if isinstance(outcome, Exception):
            append.answer.set_exception(outcome)
        else:
            append.answer.set_result(outcome)
