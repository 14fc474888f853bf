"""One WebSocket as its session's actor sees it: what is sent, what is recorded."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from actors.protocol import Message
from actors.services import Services
from events import connection as stream
from events.aggregate import Cause, SessionAggregate
from events.journal import LogUnavailableError

logger = logging.getLogger(__name__)

RETRY_RECORD_S = 2.0  # between tries to store what was read while the database was gone
MAX_UNSTORED_EVENTS = 1_000  # reads of one connection that wait for the database; then they go


class Connection:
    """A client's WebSocket. Owned by one session's actor, which alone calls it.

    `send` sends a message (with the id of the request that it answers), `hold` lets messages wait
    for `release`, `drained` waits until the client has read most of them, `close_socket` ends the
    WebSocket with a code and a reason. They come from the handler and may be called after the
    socket is gone.
    """

    def __init__(
        self,
        *,
        session_id: UUID,
        user_id: str,
        stream_partials: bool,
        remote: str,
        user_agent: str,
        server: int,
        send: Callable[[Message, str | None], None],
        hold: Callable[[], None],
        release: Callable[[], None],
        drained: Callable[[], Awaitable[None]],
        close_socket: Callable[[int, str], None],
    ) -> None:
        self._send = send
        self.hold = hold
        self.release = release
        self.drained = drained
        self._close_socket = close_socket
        self._record = stream.Connection.open(
            session_id=session_id,
            user_id=user_id,
            stream=stream_partials,
            remote=remote,
            user_agent=user_agent,
            server=server,
        )
        self._opened_at = time.monotonic()
        self._unstored: list[Any] = []
        self._is_storing = False
        self.id = self._record.id
        self.user_id = user_id
        self.stream_partials = stream_partials
        self.received = 0
        self.sent = 0

    def cause(self, request_id: str | None = None) -> Cause:
        """Who is behind what comes in here."""
        return Cause(self.user_id, self.id, request_id)

    def send(self, message: Message, request_id: str | None = None) -> None:
        """Send a message; with the id where it answers a request of this connection."""
        self.sent += 1
        self._send(message, request_id)

    def close_socket(self, code: int, reason: str) -> None:
        """End the WebSocket."""
        self._close_socket(code, reason)

    async def store_opened(self, services: Services) -> int:
        """Store that the connection was opened; returns the position."""
        return (await services.journal.append(self._record.collect_events()))[-1]

    def record(
        self, services: Services, read: type[SessionAggregate.Event], cause: Cause, **what: Any
    ) -> None:
        """Store a read behind the answer to it, so that nobody waits."""
        self._record.record(read, cause=cause, **what)
        self._store_soon(services)

    def record_closed(self, services: Services, code: int, reason: str) -> None:
        """Store that the connection has ended, after all that was read through it."""
        self._record.close(
            code=code,
            reason=reason,
            received=self.received,
            sent=self.sent,
            duration_ms=round((time.monotonic() - self._opened_at) * 1000),
            cause=self.cause(),
        )
        self._store_soon(services)

    def _store_soon(self, services: Services) -> None:
        self._unstored += self._record.collect_events()
        if not self._is_storing:
            self._is_storing = True
            services.keep(asyncio.create_task(self._store(services)))

    async def _store(self, services: Services) -> None:
        """Store events in their order, one append at a time, for as long as the database takes.

        Trying again is safe: the journal recognises events that are stored already.
        """
        try:
            while self._unstored:
                events = self._unstored[:]
                try:
                    await services.journal.append(events)
                except LogUnavailableError:
                    if len(self._unstored) > MAX_UNSTORED_EVENTS:
                        raise
                    await asyncio.sleep(RETRY_RECORD_S)
                else:
                    del self._unstored[: len(events)]
        except Exception:
            logger.exception(
                "%d events of connection %s could not be stored", len(self._unstored), self.id
            )
            self._unstored.clear()
        finally:
            self._is_storing = False
