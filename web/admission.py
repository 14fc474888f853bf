"""Who may connect now, and how fast users may ask."""

import asyncio
import math
from collections import Counter
from typing import TypeVar
from uuid import UUID

import prometheus_client

from actors.protocol import Code, RefusedError
from actors.services import Services
from web.rates import Rate

REFUSALS = prometheus_client.Counter(
    "lorewire_refusals", "Connections and requests refused by a limit", ["reason"]
)
_DRAINING = REFUSALS.labels("draining")
_SERVER = REFUSALS.labels("server_connections")
_USER = REFUSALS.labels("user_connections")
_SESSION = REFUSALS.labels("session_connections")
_MESSAGES = REFUSALS.labels("message_rate")
_QUERIES = REFUSALS.labels("query_rate")


Key = TypeVar("Key")


class FullError(Exception):
    """No connection more; the text says of what, for the close frame."""


class Admission:
    """Counts the connections of this process, and what each user asks. On the event loop only.

    Users are who they say they are; those who don't say are one user, `anonymous`.
    """

    def __init__(self, services: Services) -> None:
        self._max = services.max_connections
        self._max_per_user = services.max_connections_per_user
        self._max_per_session = services.max_connections_per_session
        self._messages = Rate(services.messages_per_s)
        self._queries = Rate(services.queries_per_s)
        self._total = 0
        self._of_user: Counter[str] = Counter()
        self._of_session: Counter[UUID] = Counter()
        self._draining = services.draining
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return self._total

    def enter(self, user_id: str | None = None, session_id: UUID | None = None) -> None:
        """Count a connection, of a session or of the monitor; raises FullError."""
        if self._draining.is_set():
            _DRAINING.inc()
            raise FullError("the server is stopping")
        if self._total >= self._max:
            _SERVER.inc()
            raise FullError("the server has as many connections as it takes")
        if user_id is not None and self._of_user[user_id] >= self._max_per_user:
            _USER.inc()
            raise FullError("this user has as many connections as one may have")
        if session_id is not None and self._of_session[session_id] >= self._max_per_session:
            _SESSION.inc()
            raise FullError("this session has as many connections as one may have")
        self._total += 1
        if user_id is not None:
            self._of_user[user_id] += 1
        if session_id is not None:
            self._of_session[session_id] += 1

    def leave(self, user_id: str | None = None, session_id: UUID | None = None) -> None:
        """A connection that has entered is gone."""
        self._total -= 1
        if not self._total and self._empty is not None:
            self._empty.set()
        if user_id is not None:
            _take_one(self._of_user, user_id)
        if session_id is not None:
            _take_one(self._of_session, session_id)

    async def emptied(self) -> None:
        """Wait until all connections are gone."""
        while self._total:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def count_message(self, user_id: str) -> RefusedError | None:
        """Count a message or an HTTP request; what to answer where the user sends them too fast."""
        wait_s = self._messages.take(user_id)
        if not wait_s:
            return None
        _MESSAGES.inc()
        return _too_fast("messages", wait_s)

    def count_query(self, user_id: str) -> RefusedError | None:
        """Count a query; what to answer where the user sends them too fast."""
        wait_s = self._queries.take(user_id)
        if not wait_s:
            return None
        _QUERIES.inc()
        return _too_fast("queries", wait_s)


def _take_one(counts: Counter[Key], key: Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _too_fast(what: str, wait_s: float) -> RefusedError:
    wait_ms = math.ceil(wait_s * 1000)
    return RefusedError(
        Code.RATE_LIMITED,
        f"This user sends {what} too fast. Try again in {wait_ms} ms.",
        details={"retry_after_ms": wait_ms},
    )
