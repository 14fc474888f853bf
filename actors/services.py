"""What a session's actor works with; put together once, in `lorewire`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from psycopg_pool import AsyncConnectionPool

from actors.servers import Presence
from actors.view_progress import ViewProgress
from events.journal import Journal
from events.log import Log
from language.chat import ChatModel
from language.domains import Domain
from language.embedding import Embedder
from projections.graph import GraphView
from projections.memory import MemoryView
from projections.sessions import SessionsView
from projections.sparql import SparqlEngine


@dataclass(frozen=True)
class Services:
    """The log, the views, the model, and the numbers an operator may set."""

    log: Log
    journal: Journal
    epoch: str  # of the log
    presence: Presence
    pool: AsyncConnectionPool
    sessions: SessionsView
    memory: MemoryView
    graph: GraphView
    sparql: SparqlEngine
    model: ChatModel
    domains: Mapping[str, Domain]
    embedder: Embedder | None
    record_reads: Literal["all", "searches", "none"] = "all"
    heartbeat_interval_s: float = 25.0
    pong_timeout_s: float = 8.0
    heartbeat_timeout_s: float = 60.0
    passivate_after_s: float = 300.0
    model_context_tokens: int = 4096
    max_outgoing_bytes: int = 1024 * 1024
    max_connections: int = 10_000
    max_connections_per_user: int = 1_000
    max_connections_per_session: int = 1_000
    messages_per_s: float = 200.0
    queries_per_s: float = 20.0
    # Set when the server is about to end: no turn is started any more.
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    told: ViewProgress = field(default_factory=ViewProgress)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Hold a background task until it is done: the loop itself holds tasks weakly."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
