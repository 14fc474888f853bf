"""The projector: every follower of the log in one process."""

import threading
import time
from collections.abc import Mapping

from events.log import Log
from language.domains import Domain
from language.embedding import Embedder
from language.extraction import load_extractor
from projections.follower import Follower, Work
from projections.graph_projection import GraphProjection
from projections.learning import LearningPolicy
from projections.memory import MemoryProjection
from projections.positions import FOLLOWERS
from projections.sessions import SessionsProjection
from projections.updates import ViewUpdates
from projections.wakeups import WakeUps

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
        self._extractors = {
            name: load_extractor(name) for name in {one.extractor for one in domains.values()}
        }

    def run(self, stop: threading.Event) -> None:
        """Follow the log until `stop` is set. Blocks; ends within about a second."""
        log = Log(self._database_url, pool_size=len(FOLLOWERS) * CONNECTIONS_PER_FOLLOWER)
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
