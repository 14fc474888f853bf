"""The Tornado application: which path leads to which handler."""

from typing import Any

import pykka
from tornado.httpserver import HTTPServer
from tornado.web import Application

from actors.directory import SessionDirectory
from actors.monitor import MonitorActor
from actors.protocol import MAX_MESSAGE_BYTES
from web import http
from web.operations import HealthHandler, MetricsHandler
from web.sockets import MonitorSocket, SessionSocket

SESSION = r"/api/v1/sessions/([^/]+)"
MAX_REQUEST_BYTES = 1024**3  # read and thrown away, so that even such a client gets its 413


def make_app(
    directory: SessionDirectory, monitor: "pykka.ActorRef[MonitorActor]", *, version: str
) -> Application:
    """Put the handlers together."""
    sessions: dict[str, Any] = {"directory": directory}
    operations = {**sessions, "monitor": monitor, "version": version}
    return Application(
        [
            (r"/api/v1/ws/sessions/([^/]+)", SessionSocket, sessions),
            (r"/api/v1/ws/monitor", MonitorSocket, {"monitor": monitor}),
            (r"/health", HealthHandler, operations),
            (r"/metrics", MetricsHandler, operations),
            (r"/api/v1/sessions", http.SessionsHandler, sessions),
            (r"/api/v1/sessions/cleanup", http.CleanupHandler, sessions),
            (SESSION, http.SessionHandler, sessions),
            (SESSION + "/query", http.QueryHandler, sessions),
            (SESSION + "/status", http.StatusHandler, sessions),
            (SESSION + "/memory", http.MemoryHandler, sessions),
            (SESSION + "/memory/search", http.SearchHandler, sessions),
            (SESSION + "/memory/stats", http.MemoryStatsHandler, sessions),
            (SESSION + "/graph", http.GraphHandler, sessions),
            (SESSION + "/graph/stats", http.GraphStatsHandler, sessions),
            (SESSION + "/graph/entity/(.+)", http.EntityHandler, sessions),
            (SESSION + "/graph/sparql", http.SparqlHandler, sessions),
            (SESSION + "/events", http.EventsHandler, sessions),
            (r"/api/v1/domains", http.DomainsHandler, sessions),
            (r"/api/v1/domains/([^/]+)", http.DomainHandler, sessions),
        ],
        default_handler_class=http.NotFoundHandler,
        default_handler_args=sessions,
        websocket_max_message_size=MAX_MESSAGE_BYTES,
        websocket_ping_interval=directory.services.heartbeat_interval_s,
        websocket_ping_timeout=0,  # the socket itself looks for life: any frame counts
        log_function=lambda _handler: None,  # handlers log what matters
    )


def make_server(app: Application) -> HTTPServer:
    """A server for the application."""
    return HTTPServer(app, max_body_size=MAX_REQUEST_BYTES, xheaders=False)
