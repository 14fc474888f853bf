"""WebSocket handlers: they parse, tell the actor, and write what it sends."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import pykka
from tornado.websocket import (
    WebSocketClosedError,
    WebSocketHandler,
    WebSocketProtocol,
    WebSocketProtocol13,
)

from actors.connection import Connection
from actors.directory import SessionDirectory
from actors.messages import Connect, Disconnected, Received
from actors.monitor import MonitorActor, Pinged, Unwatch, Watch
from actors.protocol import (
    MONITOR_REQUESTS,
    Close,
    Code,
    Ping,
    RefusedError,
    error_message,
    parse_message,
)
from events.session import SessionIsDeletedError
from web.frames import ChunkedProtocol
from web.parameters import flag, user_id

logger = logging.getLogger(__name__)

MAX_REASON_CHARS = 120  # a close frame holds 123 bytes
NO_STATUS = 1005  # the code that stands for "closed without a code" and is never sent


class Socket(WebSocketHandler):
    """What both sockets share: reading in chunks, writing to a client that may be gone."""

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        """Tornado's protocol, with a faster way to read."""
        protocol = super().get_websocket_protocol()
        if isinstance(protocol, WebSocketProtocol13):
            return ChunkedProtocol(self, False, protocol.params)
        return protocol

    def send_at_once(self) -> None:
        """Let no message wait until the client has confirmed the one before: that takes 40 ms."""
        self.set_nodelay(True)

    def write_payload(self, payload: bytes) -> None:
        """Send one message; does nothing where the client is gone."""
        with contextlib.suppress(WebSocketClosedError):  # on_close tells the actor
            self.write_message(payload).add_done_callback(_forget_outcome)


class SessionSocket(Socket):
    """`/api/v1/ws/sessions/{session_id}`."""

    def initialize(self, directory: SessionDirectory) -> None:
        """Called by Tornado for each connection."""
        self._directory = directory
        self._silence_s = directory.services.heartbeat_timeout_s
        self._closed_for: tuple[int, str] | None = None
        self._heard_at = time.monotonic()
        self._life_timer: asyncio.TimerHandle | None = None
        self._actor: pykka.ActorRef[Any] | None = None
        self._connection: Connection | None = None

    async def open(self, *args: str, **kwargs: str) -> None:
        """The handshake is done: join the session, or close with the code that says why not."""
        self.send_at_once()
        session_id = _session_id(args[0])
        if session_id is None:
            self.close(Close.NO_SUCH_SESSION, "no such session")
            return
        try:
            connection = self._make_connection(session_id)
        except RefusedError as error:
            self.write_payload(error_message(error, session_id).payload)
            self.close(Close.BAD_PARAMETER, str(error)[:MAX_REASON_CHARS])
            return
        self._session_id = session_id
        self._look_for_life()
        self._actor = self._directory.ref(session_id)
        self._connection = connection
        try:
            await self._actor.ask(Connect(connection), block=False)
        except RefusedError as error:
            self._connection = None
            code = Close.INTERNAL
            if error.code == Code.NOT_FOUND:
                is_deleted = isinstance(error.__cause__, SessionIsDeletedError)
                code = Close.SESSION_DELETED if is_deleted else Close.NO_SUCH_SESSION
            self.close(code, str(error)[:MAX_REASON_CHARS])
        except Exception:
            self._connection = None
            logger.exception("A connection to session %s failed", session_id)
            self.close(Close.INTERNAL, "internal fault")

    def _make_connection(self, session_id: UUID) -> Connection:
        return Connection(
            session_id=session_id,
            user_id=user_id(self) or "anonymous",
            stream_partials=flag(self, "stream", default=True),
            remote=self.request.remote_ip or "",
            user_agent=self.request.headers.get("User-Agent", ""),
            write=self.write_payload,
            close_socket=self._close_for,
        )

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Check a request and tell the session's actor."""
        self._heard_at = time.monotonic()
        if self._connection is None or self._actor is None:
            return None
        try:
            request, request_id = parse_message(message)
        except RefusedError as error:
            self._connection.received += 1
            self._connection.send(error_message(error, self._session_id), error.request_id)
            return None
        try:
            self._actor.tell(Received(request, request_id, self._connection))
        except pykka.ActorDeadError:
            self.close(Close.INTERNAL, "internal fault")
        return None

    def on_pong(self, data: bytes) -> None:
        """The client answered a ping: it lives."""
        self._heard_at = time.monotonic()

    def on_ping(self, data: bytes) -> None:
        """The client sent a ping: it lives."""
        self._heard_at = time.monotonic()

    def on_close(self) -> None:
        """Tell the session's actor that the client is gone."""
        if self._life_timer is not None:
            self._life_timer.cancel()
        if self._connection is None or self._actor is None or not self._actor.is_alive():
            return
        code, reason = self._closed_for or (
            self.close_code or NO_STATUS,
            (self.close_reason or "")[:MAX_REASON_CHARS],
        )
        self._actor.tell(Disconnected(self._connection, code, reason))

    def _close_for(self, code: int, reason: str) -> None:
        """Close from this side; the client may never confirm it, so the reason is kept."""
        self._closed_for = (code, reason)
        self.close(code, reason)

    def _look_for_life(self) -> None:
        """Close a connection that has been silent for too long; look again when it may be."""
        silent_s = time.monotonic() - self._heard_at
        if silent_s >= self._silence_s:
            self._close_for(Close.HEARTBEAT_TIMEOUT, "heartbeat timeout")
        else:
            self._life_timer = asyncio.get_running_loop().call_later(
                self._silence_s - silent_s, self._look_for_life
            )


class MonitorSocket(Socket):
    """`/api/v1/ws/monitor`."""

    def initialize(self, monitor: "pykka.ActorRef[MonitorActor]") -> None:
        """Called by Tornado for each connection."""
        self._monitor = monitor

    def open(self, *args: str, **kwargs: str) -> None:
        """Start watching."""
        self.send_at_once()
        self._monitor.tell(Watch(self.write_payload))

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Answer pings."""
        try:
            request, request_id = parse_message(message, MONITOR_REQUESTS)
        except RefusedError as error:
            self.write_payload(error_message(error, None).payload_for(error.request_id))
            return None
        assert isinstance(request, Ping)
        self._monitor.tell(Pinged(request, request_id, self.write_payload))
        return None

    def on_close(self) -> None:
        """Stop watching."""
        if self._monitor.is_alive():
            self._monitor.tell(Unwatch(self.write_payload))


def _session_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _forget_outcome(written: "asyncio.Future[None]") -> None:
    """A client that went away while it was written to is not worth a traceback."""
    if not written.cancelled():
        written.exception()
