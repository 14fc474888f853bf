"""The Tornado application: which path leads to which handler."""

from typing import Any

import pykka
from tornado.httpserver import HTTPServer
from tornado.web import Application

from actors.directory import SessionDirectory
from actors.monitor import MonitorActor
from actors.protocol import MAX_MESSAGE_BYTES
from web import audit, graph, memory, sessions
from web.admission import Admission
from web.api import NotFoundHandler
from web.life import Pulse
from web.operations import AliveHandler, HealthHandler, MetricsHandler
from web.page import page_routes
from web.sockets import MonitorSocket, SessionSocket

SESSION = r"/api/v1/sessions/([^/]+)"
MAX_REQUEST_BYTES = 1024**3  # read and thrown away, so that even such a client gets its 413


def make_app(
    directory: SessionDirectory,
    monitor: "pykka.ActorRef[MonitorActor]",
    *,
    version: str,
    admission: Admission | None = None,
) -> Application:
    """Put the handlers together; `admission` says who may connect, by the services' limits."""
    if admission is None:
        admission = Admission(directory.services)
    services = directory.services
    pulse = Pulse(
        interval_s=services.heartbeat_interval_s,
        pong_timeout_s=services.pong_timeout_s,
        silence_s=services.heartbeat_timeout_s,
    )
    api: dict[str, Any] = {"directory": directory, "admission": admission}
    watching = {"monitor": monitor, "admission": admission, "pulse": pulse}
    operations = {**api, "monitor": monitor, "version": version}
    return Application(
        [
            (r"/api/v1/ws/sessions/([^/]+)", SessionSocket, {**api, "pulse": pulse}),
            (r"/api/v1/ws/monitor", MonitorSocket, watching),
            (r"/health", HealthHandler, operations),
            (r"/health/alive", AliveHandler, operations),
            (r"/metrics", MetricsHandler, operations),
            (r"/api/v1/sessions", sessions.SessionsHandler, api),
            (r"/api/v1/sessions/cleanup", sessions.CleanupHandler, api),
            (SESSION, sessions.SessionHandler, api),
            (SESSION + "/query", sessions.QueryHandler, api),
            (SESSION + "/status", sessions.StatusHandler, api),
            (SESSION + "/memory", memory.MemoryHandler, api),
            (SESSION + "/memory/search", memory.SearchHandler, api),
            (SESSION + "/memory/stats", memory.MemoryStatsHandler, api),
            (SESSION + "/graph", graph.GraphHandler, api),
            (SESSION + "/graph/stats", graph.GraphStatsHandler, api),
            (SESSION + "/graph/entity/(.+)", graph.EntityHandler, api),
            (SESSION + "/graph/statements/(.+)", graph.StatementHandler, api),
            (SESSION + "/graph/merges", graph.MergesHandler, api),
            (SESSION + "/graph/merges/([^/]+)", graph.MergeHandler, api),
            (SESSION + "/graph/sparql", graph.SparqlHandler, api),
            (SESSION + "/events", audit.EventsHandler, api),
            (r"/api/v1/domains", sessions.DomainsHandler, api),
            (r"/api/v1/domains/([^/]+)", sessions.DomainHandler, api),
            *page_routes(),
        ],
        default_handler_class=NotFoundHandler,
        default_handler_args=api,
        websocket_max_message_size=MAX_MESSAGE_BYTES,
        websocket_ping_interval=0,  # the pulse does it, for all connections by one timer
        log_function=lambda _handler: None,  # handlers log what matters
    )


def make_server(app: Application) -> HTTPServer:
    """A server for the application."""
    return HTTPServer(app, max_body_size=MAX_REQUEST_BYTES, xheaders=False)
