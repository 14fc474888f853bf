"""A client's connection to a session: requests, replies, coming back when it is lost."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

import orjson
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    websocket_connect,
)

from lorewire.client_errors import (
    FINAL_CODES,
    ClientError,
    ConnectionClosedError,
    ConnectionLostError,
    RequestRefusedError,
    ServerUnreachableError,
)

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0  # for the handshake, and again for the first message
CLOSE_TIMEOUT_S = 2.0  # for the server to confirm
PING_INTERVAL_S = 20.0  # a server that vanished without a word is noticed by this
PING_TIMEOUT_S = 10.0
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # a whole graph comes in one message
MAX_UNREAD = 1_000  # messages kept for the first iteration, which may never come

NORMAL_CLOSURE = 1000
ABNORMAL_CLOSURE = 1006  # stands for a connection that ended without a close frame

# The messages that tell of stored events: what `after` counts.
STORED = ("query_received", "query_response", "session_updated", "session_deleted")

T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """A message from the server."""

    type: str
    data: dict[str, Any]
    id: str | None = None  # of the request that it answers
    position: int | None = None  # in the log, of the stored event that it tells of
    view_position: int | None = None  # how far the view had read


@dataclass(frozen=True)
class Resume:
    """Where a connection was when it ended."""

    epoch: str  # of the log; positions mean nothing in another one
    after: int  # the newest stored message that it has seen
    graph_after: int | None = None  # how far its graph goes; None: it was told of no difference


@dataclass(frozen=True)
class Reply:
    """What a query led to, as stored."""

    text: str  # the whole of it; where it failed or was cancelled, what had come until then
    turn_id: str
    position: int
    recalled: tuple[str, ...]  # ids of the memories that the model was given
    failed: bool
    error: str | None  # why it failed
    cancelled: bool


class Connection:
    """A connection to one session; `async with` opens and closes it.

    Iterating gives every message from the server in order, also those that answer requests made
    meanwhile, and ends when the connection is closed from here. A lost connection is opened again,
    for as long as it takes, and resumes: `connection_established` says that it is back, and what
    was missed follows. A query under way is sent again and answered, since it is not run twice;
    other requests raise ConnectionLostError. When it is over for good, everything raises the
    reason. Use it on one event loop, from as many tasks as you like.
    """

    def __init__(self, url: str, *, reconnect: bool = True, resume: Resume | None = None) -> None:
        """`url` starts with ws:// or wss:// and names the session; `resume` says where an earlier
        connection was.
        """
        self._url = url
        self._reconnect = reconnect
        self._at = resume
        self._socket: WebSocketClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_settled = asyncio.Event()  # connected, or over
        self._over: ClientError | None = None
        self._is_closing = False
        self._listeners: dict[str, Callable[[Message | ClientError], None]] = {}
        self._queries: dict[str, bytes] = {}  # under way, by id: to be sent again
        self._turns: dict[str, str] = {}  # of these: their ids by their turns
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_iterated = False
        self.connection_id = ""  # as the server calls the present connection
        self.session_id = ""

    @property
    def resume(self) -> Resume | None:
        """Where this connection is: for another one, of another process, that goes on from here."""
        return self._at

    async def __aenter__(self) -> Self:
        """Connect; raises ServerUnreachableError or ConnectionClosedError."""
        await self._open()
        self._reader = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection for good."""
        self._is_closing = True
        assert self._reader is not None
        if self._socket is not None:
            self._socket.close(NORMAL_CLOSURE)
            await asyncio.wait([self._reader], timeout=CLOSE_TIMEOUT_S)
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self._end(ConnectionClosedError(NORMAL_CLOSURE, "closed by this client"))

    def __aiter__(self) -> Self:
        self._is_iterated = True
        return self

    async def __anext__(self) -> Message:
        message = await self._inbox.get()
        if message is not None:
            return message
        self._inbox.put_nowait(None)  # for the next one who asks
        if self._is_closing:
            raise StopAsyncIteration
        assert self._over is not None
        raise self._over

    async def send(
        self, type: str, data: Mapping[str, Any] | None = None, id: str | None = None
    ) -> str:
        """Send a request without waiting for its answer; returns its id.

        Waits while the connection is being opened again.
        """
        await self._is_settled.wait()
        if self._over is not None:
            raise self._over
        request_id = id or uuid4().hex
        try:
            if self._socket is None:
                raise WebSocketClosedError
            await self._socket.write_message(_payload(type, data, request_id).decode())
        except WebSocketClosedError:
            raise ConnectionLostError(ABNORMAL_CLOSURE, "while sending") from None
        return request_id

    async def request(
        self, type: str, data: Mapping[str, Any] | None = None, id: str | None = None
    ) -> Message:
        """Send a request and wait for its first answer.

        Raises RequestRefusedError for an `error`, ConnectionClosedError where none can come.
        """
        return await self._exchange(type, data, id, lambda answer: answer)

    async def ask(
        self,
        text: str,
        *,
        context: Mapping[str, Any] | None = None,
        on_piece: Callable[[str], None] | None = None,
        id: str | None = None,
    ) -> Reply:
        """Ask the agent and wait for its whole reply; `on_piece` gets the text as it comes.

        Raises RequestRefusedError where the query is refused. A turn that fails or is cancelled
        is a reply that says so. A connection that is lost meanwhile only takes longer.
        """
        so_far = ""

        def accept(answer: Message) -> Reply | None:
            nonlocal so_far
            if answer.type != "query_response":
                return None
            if answer.data["partial"]:
                piece = answer.data["message"]
                if answer.data["first_sequence"] == 1:  # also what came before a cut
                    piece = piece.removeprefix(so_far)
                so_far += piece
                if on_piece is not None and piece:
                    on_piece(piece)
                return None
            return _reply(answer)

        data: dict[str, Any] = {"message": text}
        if context is not None:
            data["context"] = context
        return await self._exchange("query", data, id, accept)

    async def search(self, query: str, **options: Any) -> dict[str, Any]:
        """Search what was said; `options` are those of `search_memory`."""
        return (await self.request("search_memory", {"query": query, **options})).data

    async def memory(self, **options: Any) -> dict[str, Any]:
        """List what is remembered; `options` are those of `get_memory`."""
        return (await self.request("get_memory", options)).data

    async def graph(self, **options: Any) -> dict[str, Any]:
        """The knowledge graph; `options` are those of `get_graph`."""
        return (await self.request("get_graph", options)).data

    async def retract(self, statement_id: str, *, reason: str | None = None) -> dict[str, Any]:
        """Say that a statement was never right; what it had ended stands again."""
        data = {"statement_id": statement_id, "reason": reason}
        return (await self.request("retract_statement", data)).data

    async def merge(self, kept: str, merged: str) -> dict[str, Any]:
        """Say that two entities, given by ids or names, are one; the answer has the `merge_id`."""
        return (await self.request("merge_entities", {"kept": kept, "merged": merged})).data

    async def split(self, merge_id: str) -> dict[str, Any]:
        """Take a merge back."""
        return (await self.request("split_entities", {"merge_id": merge_id})).data

    async def status(self) -> dict[str, Any]:
        """How the session is."""
        return (await self.request("get_status")).data

    async def cancel(self, turn_id: str | None = None) -> bool:
        """Stop a turn, by default the running one; returns whether there was one to stop."""
        answer = await self.request("cancel", {"turn_id": turn_id} if turn_id else None)
        return bool(answer.data["cancelled"])

    async def ping(self, message: Any = None) -> dict[str, Any]:
        """Go there and back."""
        return (await self.request("ping", {"message": message})).data

    async def heartbeat(self) -> dict[str, Any]:
        """Say that this client lives; WebSocket pings do so already."""
        return (await self.request("heartbeat", {"connection_id": self.connection_id})).data

    async def _exchange(
        self,
        type: str,
        data: Mapping[str, Any] | None,
        id: str | None,
        accept: Callable[[Message], T | None],
    ) -> T:
        """Send a request, and show `accept` the answers until it makes something of one."""
        request_id = id or uuid4().hex
        outcome: asyncio.Future[T | ClientError] = asyncio.get_running_loop().create_future()

        def listen(answer: Message | ClientError) -> None:
            if outcome.done():
                return
            if isinstance(answer, ClientError):
                outcome.set_result(answer)
            elif answer.type == "error":
                outcome.set_result(RequestRefusedError(answer.data["code"], answer.data["error"]))
            else:
                try:
                    accepted = accept(answer)
                except Exception as error:  # of the caller's own function: back to the caller
                    outcome.set_exception(error)
                    return
                if accepted is not None:
                    outcome.set_result(accepted)

        self._listeners[request_id] = listen
        if type == "query" and self._reconnect:
            self._queries[request_id] = _payload(type, data, request_id)
        try:
            try:
                await self.send(type, data, request_id)
            except ConnectionLostError:
                if request_id not in self._queries:
                    raise
            result = await outcome
        finally:
            self._listeners.pop(request_id, None)
            self._queries.pop(request_id, None)
            self._turns = {turn: id for turn, id in self._turns.items() if id != request_id}
        if isinstance(result, ClientError):
            raise result
        return result

    async def _run(self) -> None:
        """Read messages, over as many sockets as it takes."""
        try:
            while True:
                closed = await self._read_until_closed()
                self._is_settled.clear()
                if self._is_closing or not self._reconnect or closed.code in FINAL_CODES:
                    raise closed
                logger.info("%s Connecting again.", closed)
                self._fail_requests(closed, but=self._queries)
                await self._open_again()
        except ClientError as error:
            self._end(error)
        except Exception as error:
            logger.exception("A message from the server could not be read")
            self._end(ClientError(f"The server does not speak lorewire.v1: {error}"))

    async def _read_until_closed(self) -> ConnectionClosedError:
        socket = self._socket
        assert socket is not None
        while (payload := await socket.read_message()) is not None:
            self._take(payload)
        self._socket = None
        socket.close()  # releases what Tornado holds for it
        return _closed(socket)

    def _take(self, payload: str | bytes) -> None:
        envelope = orjson.loads(payload)
        message = Message(
            envelope["type"],
            envelope["data"],
            envelope.get("id"),
            envelope.get("position"),
            envelope.get("view_position"),
        )
        if message.type == "connection_established":
            self.connection_id = message.data["connection_id"]
            self.session_id = message.data["session_id"]
        is_repeated = self._note_position(message)
        listen = self._listener_of(message)
        if listen is not None:
            listen(message)
        if is_repeated:
            return
        if not self._is_iterated and self._inbox.qsize() >= MAX_UNREAD:
            self._inbox.get_nowait()
        self._inbox.put_nowait(message)

    def _listener_of(self, message: Message) -> Callable[[Message | ClientError], None] | None:
        """Who waits for a message. After a cut, that of a turn may come without the id."""
        request_id = message.id
        turn_id = message.data.get("turn_id")
        if request_id is None:
            request_id = self._turns.get(turn_id) if turn_id else None
        elif message.type == "query_received" and request_id in self._queries:
            self._turns[message.data["turn_id"]] = request_id
        return self._listeners.get(request_id) if request_id else None

    def _note_position(self, message: Message) -> bool:
        """Remember where to resume; returns whether the message was seen before."""
        if message.type == "connection_established":
            if not message.data["recovered"]:
                assert message.position is not None
                self._at = Resume(message.data["epoch"], message.position)
            return False
        at = self._at
        assert at is not None, "no message comes before the connection is established"
        if message.position is not None and message.id is not None and message.position <= at.after:
            return True
        if message.type == "graph_updated" and message.view_position is not None:
            self._at = replace(at, graph_after=message.view_position)
        elif message.position is not None and message.type in STORED:
            self._at = replace(at, after=max(at.after, message.position))
        return False

    async def _open(self) -> None:
        """Connect and take the first message."""
        try:
            socket = await websocket_connect(
                HTTPRequest(self._url_now(), connect_timeout=CONNECT_TIMEOUT_S),
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_TIMEOUT_S,
                max_message_size=MAX_MESSAGE_BYTES,
            )
        except (OSError, HTTPClientError, WebSocketError) as error:
            raise ServerUnreachableError(
                f"No Lorewire server answers at {self._url.partition('?')[0]}: {error}."
            ) from None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                first = await socket.read_message()
        except BaseException as error:
            socket.close()
            if isinstance(error, TimeoutError):
                raise ServerUnreachableError(
                    "The server accepts connections, but is mute."
                ) from None
            raise
        if first is None:
            socket.close()
            raise _closed(socket)
        self._socket = socket
        self._take(first)
        with contextlib.suppress(WebSocketClosedError):  # it is opened once more
            await self._send_again(socket)
        self._is_settled.set()

    def _url_now(self) -> str:
        at = self._at
        if at is None:
            return self._url
        parameters: dict[str, str | int] = {"after": at.after, "epoch": at.epoch}
        if at.graph_after is not None:
            parameters["graph_after"] = at.graph_after
        return f"{self._url}{'&' if '?' in self._url else '?'}{urlencode(parameters)}"

    async def _send_again(self, socket: WebSocketClientConnection) -> None:
        """Send the queries under way to a server that may have had them."""
        for request_id, payload in list(self._queries.items()):
            if request_id in self._listeners:
                await socket.write_message(payload.decode())

    async def _open_again(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            await asyncio.sleep(random.uniform(0, backoff_s))
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            try:
                await self._open()
                return
            except (ServerUnreachableError, ConnectionLostError) as error:
                logger.debug("%s", error)

    def _fail_requests(self, error: ClientError, *, but: Collection[str] = ()) -> None:
        for request_id, listen in list(self._listeners.items()):
            if request_id not in but:
                listen(error)

    def _end(self, reason: ClientError) -> None:
        if self._over is not None:
            return
        self._over = reason
        self._is_settled.set()
        self._fail_requests(reason)
        self._inbox.put_nowait(None)


def _payload(type: str, data: Mapping[str, Any] | None, request_id: str) -> bytes:
    return orjson.dumps({"type": type, "data": data or {}, "id": request_id})


def _closed(socket: WebSocketClientConnection) -> ConnectionClosedError:
    code = socket.close_code or ABNORMAL_CLOSURE
    return FINAL_CODES.get(code, ConnectionLostError)(code, socket.close_reason or "")


def _reply(message: Message) -> Reply:
    assert message.position is not None, "a whole reply is stored"
    data = message.data
    return Reply(
        text=data["message"],
        turn_id=data["turn_id"],
        position=message.position,
        recalled=tuple(data.get("recalled", ())),
        failed=data.get("failed", False),
        error=data.get("error"),
        cancelled=data.get("cancelled", False),
    )
