"""The projector: every follower of the log in one process."""

import logging
import threading
import time
from collections.abc import Mapping

import psycopg
from eventsourcing.persistence import InterfaceError, OperationalError

from events.log import Log
from language.domains import Domain
from language.embedding import Embedder
from language.extraction import Extractor, load_extractor
from projections.follower import Follower, Work
from projections.graph_projection import GraphProjection
from projections.learning import LearningPolicy
from projections.memory import MemoryProjection
from projections.positions import FOLLOWERS
from projections.sessions import SessionsProjection
from projections.updates import ViewUpdates
from projections.wakeups import WakeUps

logger = logging.getLogger(__name__)

RETRY_S = 0.5  # between tries to reach a database that is not there yet
CONNECTIONS_PER_FOLLOWER = 2  # it reads the log while its transaction is open
STOP_TIMEOUT_S = 1.0  # then a batch is broken off; it is done again after the next start


class Projector:
    """Keeps the views and the learning policy up to date, each in a thread of its own."""

    def __init__(
        self, database_url: str, *, domains: Mapping[str, Domain], embedder: Embedder | None
    ) -> None:
        """Prepare to follow a log whose tables exist. `embedder` None: no entry gets a vector."""
        self._database_url = database_url
        self._domains = domains
        self._embedder = embedder
        self._extractors: dict[str, Extractor | None] = {
            name: load_extractor(name) for name in {one.extractor for one in domains.values()}
        }

    def run(self, stop: threading.Event) -> None:
        """Follow the log until `stop` is set. Blocks; ends within about a second."""
        log = self._open_log(stop)
        if log is None:
            return
        works: list[Work] = [
            ViewUpdates(log, SessionsProjection()),
            ViewUpdates(log, MemoryProjection(log, self._domains, self._embedder)),
            ViewUpdates(log, GraphProjection()),
            LearningPolicy(log, self._domains, self._extractors),
        ]
        followers = [Follower(log, work) for work in works]
        wake_ups = WakeUps(self._database_url, [follower.wake for follower in followers])
        threads: list[Follower | WakeUps] = [*followers, wake_ups]
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.stop()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        log.close()

    def _open_log(self, stop: threading.Event) -> Log | None:
        """The log, as soon as its database answers; None where the projector is to stop before."""
        tries = 0
        while not stop.wait(RETRY_S if tries else 0):
            try:
                psycopg.connect(self._database_url, connect_timeout=2).close()  # fails at once
                return Log(self._database_url, pool_size=len(FOLLOWERS) * CONNECTIONS_PER_FOLLOWER)
            except (psycopg.OperationalError, OperationalError, InterfaceError) as error:
                if not tries:
                    logger.warning("The projector waits for the database: %s", error)
                tries += 1
        return None
