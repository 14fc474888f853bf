"""What operators look at: health and metrics."""

import asyncio
import logging
from typing import Any

import prometheus_client
import pykka

from actors.directory import SessionDirectory
from actors.monitor import Counts, MonitorActor
from actors.protocol import timestamp
from projections.learning_queue import read_learning_queue
from projections.positions import read_positions
from web.admission import Admission
from web.api import ApiHandler

logger = logging.getLogger(__name__)

MODEL_CHECK_AGE_S = 30.0  # load balancers ask every few seconds, and the model may be far away
CHECK_TIMEOUT_S = 2.0  # a load balancer does not wait longer

SESSION_ACTORS = prometheus_client.Gauge("lorewire_session_actors", "Live session actors")
CONNECTIONS = prometheus_client.Gauge("lorewire_connections", "WebSockets of sessions")
LOG_POSITION = prometheus_client.Gauge("lorewire_log_position", "Newest position of the log")
VIEW_POSITION = prometheus_client.Gauge(
    "lorewire_view_position", "How far a view has read", ["view"]
)
VIEW_LAG = prometheus_client.Gauge("lorewire_view_lag", "Positions that a view is behind", ["view"])
SET_ASIDE = prometheus_client.Gauge(
    "lorewire_view_set_aside", "Events that a view could not handle", ["view"]
)

# Domains whose extractor is a model. The calls are counted over the life of the log.
LEARNING_WAITING = prometheus_client.Gauge(
    "lorewire_learning_waiting", "Turns that no model has read yet"
)
LEARNING_RUNNING = prometheus_client.Gauge(
    "lorewire_learning_running", "Turns that a model is reading"
)
LEARNING_OLDEST = prometheus_client.Gauge(
    "lorewire_learning_oldest_seconds", "How long the turn has waited that has waited longest"
)
LEARNING_CALLS = prometheus_client.Gauge(
    "lorewire_learning_calls", "Calls to the model for statements", ["outcome"]
)
LEARNING_GIVEN_UP = prometheus_client.Gauge(
    "lorewire_learning_given_up", "Turns whose statements are not the model's"
)


class OperationsHandler(ApiHandler):
    """What both endpoints share."""

    is_limited = False  # who watches over the server must not be kept out

    def initialize(  # type: ignore[override]
        self,
        directory: SessionDirectory,
        admission: Admission,
        monitor: "pykka.ActorRef[MonitorActor]",
        version: str,
    ) -> None:
        """Called by Tornado for each request."""
        super().initialize(directory, admission)
        self._monitor = monitor
        self._version = version

    async def counts(self) -> dict[str, Any]:
        """How many sessions and connections there are."""
        counts: dict[str, Any] = await self._monitor.ask(Counts(), block=False)
        return counts


class HealthHandler(OperationsHandler):
    """`/health`."""

    async def get(self) -> None:
        """Whether the server can do its work; 503 where the event store does not answer, or where
        the server is about to end.
        """
        counts = await self.counts()
        event_store = await self._check_event_store()
        model = await self.services.model.check(max_age_s=MODEL_CHECK_AGE_S)
        is_draining = self.services.draining.is_set()
        is_healthy = event_store is None and not is_draining
        self.answer(
            {
                "status": "healthy" if is_healthy else "unhealthy",
                "version": self._version,
                "session_count": counts["active_sessions"],
                "connection_count": counts["active_connections"],
                "timestamp": timestamp(),
                "checks": {
                    "event_store": event_store or "ok",
                    "model": model or "ok",
                    "draining": "The server is about to end." if is_draining else "ok",
                },
            },
            status=200 if is_healthy else 503,
        )

    async def _check_event_store(self) -> str | None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await read_positions(self.services.pool)
        except Exception as error:
            logger.warning("The event store does not answer: %s", error)
            return "The event store does not answer. See the server's log."
        return None


class AliveHandler(OperationsHandler):
    """`/health/alive`."""

    def get(self) -> None:
        """That the process answers: one that does is not to be started again, whatever else."""
        self.answer({"status": "alive", "version": self._version, "timestamp": timestamp()})


class MetricsHandler(OperationsHandler):
    """`/metrics`."""

    async def get(self) -> None:
        """Prometheus text."""
        SESSION_ACTORS.set(len(self.directory))
        CONNECTIONS.set((await self.counts())["active_connections"])
        await self._look_at_views()
        self.set_header("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)
        self.finish(prometheus_client.generate_latest())

    async def _look_at_views(self) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                positions = await read_positions(self.services.pool)
                queue = await read_learning_queue(self.services.pool, self.services.domains)
        except Exception as error:  # the other metrics matter most while the database is gone
            logger.warning("The views' positions can't be read: %s", error)
            return
        LOG_POSITION.set(positions.head)
        LEARNING_WAITING.set(queue.waiting)
        LEARNING_RUNNING.set(queue.running)
        LEARNING_OLDEST.set(queue.oldest_s or 0.0)
        LEARNING_CALLS.labels("answered").set(queue.calls - queue.failed_calls)
        LEARNING_CALLS.labels("failed").set(queue.failed_calls)
        LEARNING_GIVEN_UP.set(queue.given_up)
        for view, position in positions.views.items():
            VIEW_POSITION.labels(view).set(position)
            VIEW_LAG.labels(view).set(positions.lag(view))
            SET_ASIDE.labels(view).set(positions.set_aside.get(view, 0))
