"""WebSocket handlers: they parse, tell the actor, and write what it sends."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping
from typing import Any
from uuid import UUID

import pykka
from tornado.iostream import StreamClosedError
from tornado.websocket import (
    WebSocketClosedError,
    WebSocketHandler,
    WebSocketProtocol,
    WebSocketProtocol13,
)

from actors.connection import Connection
from actors.directory import SessionDirectory
from actors.loop_actor import LoopActorRef
from actors.messages import Connect, Disconnected, Received
from actors.monitor import MonitorActor, Pinged, Unwatch, Watch
from actors.protocol import (
    MONITOR_REQUESTS,
    SESSION_REQUESTS,
    Close,
    Code,
    Message,
    Ping,
    Query,
    RefusedError,
    Request,
    error_message,
    parse_message,
)
from actors.resume import Resume
from events.session import SessionIsDeletedError
from web.admission import Admission, FullError
from web.frames import ChunkedProtocol
from web.life import Pulse
from web.outbox import Outbox
from web.parameters import flag, integer, user_id
from web.traffic import TRAFFIC

logger = logging.getLogger(__name__)

MAX_REASON_CHARS = 120  # a close frame holds 123 bytes
MAX_MONITOR_BYTES = 1024 * 1024  # of what may wait for one who watches
WATCHERS = ""  # those who watch are one user, whose name nobody else can have
NO_STATUS = 1005  # the code that stands for "closed without a code" and is never sent


class Socket(WebSocketHandler):
    """What both sockets share: reading in chunks, writing to a client that may be gone."""

    heard_at = 0.0  # by the pulse's clock, any frame of the client
    _pulse: Pulse
    _admission: Admission

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        """Tornado's protocol, with a faster way to read."""
        protocol = super().get_websocket_protocol()
        if isinstance(protocol, WebSocketProtocol13):
            return ChunkedProtocol(self, False, protocol.params)
        return protocol

    def send_at_once(self) -> None:
        """Let no message wait until the client has confirmed the one before: that takes 40 ms."""
        self.set_nodelay(True)

    def open_outbox(self, limit: int) -> None:
        """Make ready to send; `limit` in bytes, of what may wait for this client."""
        protocol = self.ws_connection
        assert isinstance(protocol, WebSocketProtocol13)
        self.outbox = Outbox(protocol.stream, limit=limit, too_slow=self.on_too_slow)

    def send(self, message: Message, request_id: str | None = None) -> None:
        """Send one message; does nothing where the client is gone."""
        TRAFFIC.sent += 1
        self.outbox.send(message, request_id)

    def parse(
        self, message: str | bytes, user_id: str, requests: Mapping[str, type[Request]]
    ) -> tuple[Request, str | None]:
        """A request within this user's limits, and its id; raises RefusedError."""
        refusal = self._admission.count_message(user_id)
        request, request_id = parse_message(message, requests)
        if refusal is None and isinstance(request, Query):
            refusal = self._admission.count_query(user_id)
        if refusal is not None:
            refusal.request_id = request_id
            raise refusal
        return request, request_id

    def on_too_slow(self) -> None:
        """Close: the client may come back and resume."""
        self.close_for(Close.SLOW_READER, "reads too slowly")

    def close_for(self, code: int, reason: str) -> None:
        """Close from this side; a client that reads gets first what was sent before."""
        if self.outbox.waiting_bytes:
            self._closing = asyncio.create_task(self._close_when_emptied(code, reason))
        else:
            self.close(code, reason)

    def on_close(self) -> None:
        """The client is gone: nothing waits for it any more."""
        self._pulse.leave(self)
        self.outbox.close()

    @property
    def is_behind(self) -> bool:
        """Whether a ping would have to wait for what the client has not read yet."""
        return self.outbox.waiting_bytes > 0

    def send_ping(self) -> None:
        """Ask the client whether it is there."""
        with contextlib.suppress(WebSocketClosedError, StreamClosedError):
            self.ping(b"")

    def on_silence(self, silent_s: float) -> None:
        """Close: nothing was heard of the client for too long."""
        self.close_for(Close.HEARTBEAT_TIMEOUT, f"heartbeat timeout: silent for {silent_s:.0f} s")

    def on_pong(self, data: bytes) -> None:
        """The client answered a ping: it lives."""
        self.heard_at = self._pulse.now

    def on_ping(self, data: bytes) -> None:
        """The client sent a ping: it lives."""
        self.heard_at = self._pulse.now

    async def _close_when_emptied(self, code: int, reason: str) -> None:
        await self.outbox.emptied()
        self.close(code, reason)


class SessionSocket(Socket):
    """`/api/v1/ws/sessions/{session_id}`."""

    def initialize(self, directory: SessionDirectory, admission: Admission, pulse: Pulse) -> None:
        """Called by Tornado for each connection."""
        self._directory = directory
        self._pulse = pulse
        self._admission = admission
        self._has_entered = False
        self._closed_for: tuple[int, str] | None = None
        self._actor: LoopActorRef[Any] | None = None
        self._connection: Connection | None = None

    async def open(self, *args: str, **kwargs: str) -> None:
        """The handshake is done: join the session, or close with the code that says why not."""
        self.send_at_once()
        self.open_outbox(self._directory.services.max_outgoing_bytes)
        session_id = _session_id(args[0])
        if session_id is None:
            self.close(Close.NO_SUCH_SESSION, "no such session")
            return
        try:
            connection = self._make_connection(session_id)
            resume = self._resume()
            self._admission.enter(connection.user_id, session_id)
        except FullError as error:
            self.close(Close.FULL, str(error))
            return
        except RefusedError as error:
            self.send(error_message(error, session_id))
            self.close_for(Close.BAD_PARAMETER, str(error)[:MAX_REASON_CHARS])
            return
        self._session_id, self._user_id = session_id, connection.user_id
        self._has_entered = True
        self._pulse.join(self)
        self._actor = self._directory.ref(session_id)
        self._connection = connection
        try:
            await self._actor.ask(Connect(connection, resume), block=False)
        except RefusedError as error:
            self._connection = None
            code = Close.INTERNAL
            if error.code == Code.NOT_FOUND:
                is_deleted = isinstance(error.__cause__, SessionIsDeletedError)
                code = Close.SESSION_DELETED if is_deleted else Close.NO_SUCH_SESSION
            self.close(code, str(error)[:MAX_REASON_CHARS])
        except Exception:
            self._connection = None
            logger.exception("A connection failed", extra={"session": str(session_id)})
            self.close(Close.INTERNAL, "internal fault")

    def _make_connection(self, session_id: UUID) -> Connection:
        return Connection(
            session_id=session_id,
            user_id=user_id(self) or "anonymous",
            stream_partials=flag(self, "stream", default=True),
            remote=self.request.remote_ip or "",
            user_agent=self.request.headers.get("User-Agent", ""),
            server=self._directory.services.presence.number,
            send=self.send,
            hold=self.outbox.hold,
            release=self.outbox.release,
            drained=self.outbox.drained,
            close_socket=self.close_for,
        )

    def _resume(self) -> Resume | None:
        """Where the client was when it lost its connection, where it says so."""
        if self.get_query_argument("after", None) is None:
            return None
        epoch = self.get_query_argument("epoch", "")
        if not epoch:
            raise RefusedError(
                Code.INVALID_DATA,
                "`epoch` must come with `after`: `connection_established` tells it.",
            )
        after = integer(self, "after", default=0)
        return Resume(epoch, after, integer(self, "graph_after", default=after))

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Check a request and tell the session's actor, once the answers before it are read."""
        self.heard_at = self._pulse.now
        TRAFFIC.received += 1
        if self.outbox.is_full:
            return self._tell_when_read(message)
        self._tell(message)
        return None

    async def _tell_when_read(self, message: str | bytes) -> None:
        await self.outbox.drained()
        self.heard_at = self._pulse.now  # nothing was read of this client meanwhile, not even pongs
        self._tell(message)

    def _tell(self, message: str | bytes) -> None:
        if self._connection is None or self._actor is None or self._closed_for is not None:
            return
        try:
            request, request_id = self.parse(message, self._user_id, SESSION_REQUESTS)
        except RefusedError as error:
            self._connection.received += 1
            self._connection.send(error_message(error, self._session_id), error.request_id)
            return
        try:
            self._actor.tell_now(Received(request, request_id, self._connection))
        except pykka.ActorDeadError:
            self.close(Close.INTERNAL, "internal fault")

    def on_close(self) -> None:
        """Tell the session's actor that the client is gone."""
        super().on_close()
        if self._has_entered:
            self._has_entered = False
            self._admission.leave(self._user_id, self._session_id)
        self._tell_closed()

    def on_silence(self, silent_s: float) -> None:
        """Close, and don't wait for the client to confirm it: most likely it is gone."""
        super().on_silence(silent_s)
        self._tell_closed()

    def _tell_closed(self) -> None:
        if self._connection is None or self._actor is None or not self._actor.is_alive():
            return
        code, reason = self._closed_for or (
            self.close_code or NO_STATUS,
            (self.close_reason or "")[:MAX_REASON_CHARS],
        )
        self._actor.tell(Disconnected(self._connection, code, reason))

    def close_for(self, code: int, reason: str) -> None:
        """Close from this side; the client may never confirm it, so the reason is kept."""
        self._closed_for = (code, reason)
        super().close_for(code, reason)


class MonitorSocket(Socket):
    """`/api/v1/ws/monitor`."""

    def initialize(
        self, monitor: "pykka.ActorRef[MonitorActor]", admission: Admission, pulse: Pulse
    ) -> None:
        """Called by Tornado for each connection."""
        self._monitor = monitor
        self._pulse = pulse
        self._admission = admission
        self._has_entered = False

    def open(self, *args: str, **kwargs: str) -> None:
        """Start watching."""
        self.send_at_once()
        self.open_outbox(MAX_MONITOR_BYTES)
        try:
            self._admission.enter()
        except FullError as error:
            self.close(Close.FULL, str(error))
            return
        self._has_entered = True
        self._pulse.join(self)
        self._monitor.tell(Watch(self.send, self.close_for))

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Answer pings."""
        self.heard_at = self._pulse.now
        TRAFFIC.received += 1
        if not self._has_entered:
            return None
        try:
            request, request_id = self.parse(message, WATCHERS, MONITOR_REQUESTS)
        except RefusedError as error:
            self.send(error_message(error, None), error.request_id)
            return None
        assert isinstance(request, Ping)
        self._monitor.tell(Pinged(request, request_id, self.send))
        return None

    def on_close(self) -> None:
        """Stop watching."""
        super().on_close()
        if not self._has_entered:
            return
        self._has_entered = False
        self._admission.leave()
        if self._monitor.is_alive():
            self._monitor.tell(Unwatch(self.send))


def _session_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
