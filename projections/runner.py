"""The projector: the followers of the log in one process, for those shards that are its own."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import psycopg
from eventsourcing.persistence import InterfaceError, OperationalError

from events.log import Log
from events.shards import WHOLE, Shard
from language.domains import Domain
from language.embedding import Embedder
from language.readers import Reader, load_readers
from projections.division import divide_followers
from projections.follower import Follower, Projection, Work
from projections.graph_projection import GraphProjection
from projections.learning import FOLLOWER_OF, LearningPolicy
from projections.membership import Membership
from projections.memory import MemoryProjection
from projections.positions import FOLLOWERS
from projections.retry import Retried, retry_set_aside
from projections.sessions import SessionsProjection
from projections.updates import ViewUpdates
from projections.wakeups import WakeUps
from projections.window import LogWindow

logger = logging.getLogger(__name__)

RETRY_S = 0.5  # between tries to reach a database that is not there yet
LOOK_S = 0.5  # how often to see which shards are ours: one that nobody runs any more is taken over
CONNECTIONS_PER_FOLLOWER = 2  # it reads the log while its transaction is open
STOP_TIMEOUT_S = 1.0  # then a batch is broken off; it is done again after the next start


class Projector:
    """Keeps the views and the learning policy up to date, each in a thread of its own."""

    def __init__(
        self,
        database_url: str,
        *,
        domains: Mapping[str, Domain],
        embedder: Embedder | None,
        readers: Mapping[str, Reader] | None = None,
        shards: int = 1,
    ) -> None:
        """Prepare to follow a log whose tables exist. `embedder` None: no entry gets a vector.

        `readers` by the extractors that domains name; None: those that need nothing else. Turns of
        domains whose reader is missing wait until there is one.
        `shards`: into how many parts the sessions are divided among all projectors that run.
        """
        self._database_url = database_url
        self._domains = domains
        self._embedder = embedder
        self._readers = load_readers(domains.values()) if readers is None else readers
        self._shards = shards
        self._running: dict[int, list[Follower]] = {}  # by the index of the shard

    def run(self, stop: threading.Event) -> None:
        """Follow the log until `stop` is set. Blocks; ends within about a second."""
        log = self._open_log(stop)
        if log is None:
            return
        membership = Membership(
            self._database_url,
            self._shards,
            lambda: divide_followers(log, self._shards, lambda shard: self.works(log, shard), stop),
        )
        wake_ups = WakeUps(self._database_url, self._wake)
        wake_ups.start()
        is_lost = False
        while not stop.is_set():
            try:
                self._run_shards(log, membership.update(self._end))
                is_lost = False
            except (psycopg.Error, OperationalError, InterfaceError) as error:
                # Followers go on as they can: two at work on one shard do no harm.
                if not is_lost:
                    logger.warning("The projector can't reach the database: %s", error)
                is_lost = True
            stop.wait(LOOK_S)
        wake_ups.stop()
        for index in list(self._running):
            self._stop(index)
        self._join([follower for followers in self._running.values() for follower in followers])
        self._join([wake_ups])
        membership.close()
        log.close()

    def retry(self, log: Log) -> Iterator[Retried]:
        """Try again what was set aside, session by session."""
        return retry_set_aside(log, self._projections(log), self._learning(log, WHOLE))

    def works(self, log: Log, shard: Shard) -> list[Work]:
        """What is done with the events of one shard."""
        views = [ViewUpdates(log, projection, shard) for projection in self._projections(log)]
        return [*views, *self._learning(log, shard)]

    def _projections(self, log: Log) -> list[Projection]:
        return [
            SessionsProjection(),
            MemoryProjection(log, self._domains, self._embedder),
            GraphProjection(self._domains),
        ]

    def _learning(self, log: Log, shard: Shard) -> list[LearningPolicy]:
        return [
            LearningPolicy(
                log, self._domains, self._readers.get(extractor), extractor=extractor, shard=shard
            )
            for extractor in FOLLOWER_OF
        ]

    def _run_shards(self, log: Log, indexes: set[int]) -> None:
        """Follow for these shards, and for no others."""
        for index in set(self._running) - indexes:
            self._end(index)
        for index in indexes:
            running = self._running.get(index)
            if running is not None and all(follower.is_alive() for follower in running):
                continue
            if running is not None:  # the number of shards has changed meanwhile
                self._end(index)
            shard = Shard(index, self._shards)
            window = LogWindow(log, shard)
            self._running[index] = [Follower(log, work, window) for work in self.works(log, shard)]
            for follower in self._running[index]:
                follower.start()

    def _end(self, index: int) -> None:
        """Follow no more for one shard."""
        self._stop(index)
        self._join(self._running.pop(index, []))

    def _stop(self, index: int) -> None:
        for follower in self._running.get(index, []):
            follower.stop()

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for threads to end, but not long: the next at work finds where they have come."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _wake(self) -> None:
        """There may be news. Called in the thread that listens."""
        for followers in list(self._running.values()):
            for follower in followers:
                follower.wake()

    def _open_log(self, stop: threading.Event) -> Log | None:
        """The log, as soon as its database answers; None where the projector is to stop before."""
        pool_size = len(FOLLOWERS) * CONNECTIONS_PER_FOLLOWER * self._shards
        tries = 0
        while not stop.wait(RETRY_S if tries else 0):
            try:
                psycopg.connect(self._database_url, connect_timeout=2).close()  # fails at once
                return Log(self._database_url, pool_size=pool_size)
            except (psycopg.OperationalError, OperationalError, InterfaceError) as error:
                if not tries:
                    logger.warning("The projector waits for the database: %s", error)
                tries += 1
        return None
