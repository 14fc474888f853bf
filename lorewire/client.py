"""The Python client: sessions over HTTP, and connections to them.

async with Client() as client:
    session_id = await client.open_session(domain="dnd")
    async with client.connect(session_id) as connection:
        reply = await connection.ask("Who lives in the mist?", on_piece=print)
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import orjson
from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from lorewire.client_errors import (
    ClientError,
    ConnectionClosedError,
    ConnectionLostError,
    NotAllowedError,
    RequestRefusedError,
    ServerUnreachableError,
    SessionGoneError,
)
from lorewire.connection import Connection, Message, Reply, Resume

__all__ = [
    "Client",
    "ClientError",
    "Connection",
    "ConnectionClosedError",
    "ConnectionLostError",
    "Message",
    "NotAllowedError",
    "Reply",
    "RequestRefusedError",
    "Resume",
    "ServerUnreachableError",
    "SessionGoneError",
]

DEFAULT_URL = "http://127.0.0.1:8000"
REQUEST_TIMEOUT_S = 60.0


class Client:
    """A Lorewire server, as a client sees it. Used with `async with`, on one event loop.

    Its methods raise ServerUnreachableError, and RequestRefusedError for what the server refuses.
    """

    def __init__(self, url: str = DEFAULT_URL) -> None:
        """`url` is the server's; raises ClientError where it can't be one."""
        if not url.startswith(("http://", "https://")):
            raise ClientError(f"The server's URL must start with http:// or https://, not {url!r}.")
        self._url = url.rstrip("/")
        self._http: AsyncHTTPClient | None = None

    async def __aenter__(self) -> Self:
        self._http = AsyncHTTPClient(force_instance=True)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._http is not None
        self._http.close()

    async def open_session(
        self,
        *,
        domain: str | None = None,
        title: str | None = None,
        user_id: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """Open a session and return its id; what is left out is the server's choice."""
        body: dict[str, Any] = {"config": dict(config or {})}
        if domain is not None:
            body["config"]["domain"] = domain
        if title is not None:
            body["title"] = title
        if user_id is not None:
            body["user_id"] = user_id
        answer = await self._fetch("POST", "/api/v1/sessions", body=body)
        return str(answer["session_id"])

    def connect(
        self,
        session_id: str,
        *,
        user_id: str | None = None,
        stream: bool = True,
        reconnect: bool = True,
        resume: Resume | None = None,
    ) -> Connection:
        """A connection to a session, to be opened by `async with`.

        `stream`: whether replies also come piece by piece. `reconnect`: whether a connection that
        is lost is opened again, and goes on where it was. `resume`: where an earlier one was.
        """
        options = {"stream": "true" if stream else "false"}
        if user_id is not None:
            options["user_id"] = user_id
        path = f"/api/v1/ws/sessions/{quote(session_id, safe='')}?{urlencode(options)}"
        return Connection(
            "ws" + self._url.removeprefix("http") + path, reconnect=reconnect, resume=resume
        )

    async def sessions(
        self, *, limit: int = 50, offset: int = 0, q: str | None = None
    ) -> dict[str, Any]:
        """A page of the sessions, those with the newest activity first: `{sessions, total}`."""
        return await self._fetch("GET", "/api/v1/sessions", limit=limit, offset=offset, q=q)

    async def session(self, session_id: str) -> dict[str, Any]:
        """One session."""
        return await self._fetch("GET", _path(session_id))

    async def delete(self, session_id: str) -> None:
        """Delete a session."""
        await self._fetch("DELETE", _path(session_id))

    async def events(
        self, session_id: str, *, after: int = 0, limit: int = 100, about: str | None = None
    ) -> dict[str, Any]:
        """A page of what happened in a session after a position: `{events, has_more}`.

        `about` is the id of a turn, a memory entry or a statement: only the events that made it,
        tell of it, or rest on it.
        """
        path = f"{_path(session_id)}/events"
        return await self._fetch("GET", path, after=after, limit=limit, about=about)

    async def _fetch(
        self, method: str, path: str, *, body: object = None, **parameters: object
    ) -> dict[str, Any]:
        assert self._http is not None, "use `async with Client() as client`"
        given = {name: value for name, value in parameters.items() if value is not None}
        try:
            response = await self._http.fetch(
                f"{self._url}{path}" + (f"?{urlencode(given)}" if given else ""),
                method=method,
                body=None if body is None else orjson.dumps(body),
                request_timeout=REQUEST_TIMEOUT_S,
                raise_error=False,
            )
        except (OSError, HTTPClientError) as error:
            raise ServerUnreachableError(
                f"No Lorewire server answers at {self._url}: {error}."
            ) from None
        try:
            answer = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise ServerUnreachableError(
                f"What answers at {self._url} is no Lorewire server: status {response.code}."
            )
        if response.code >= 400:
            raise RequestRefusedError(
                answer.get("code", "internal"), answer.get("error", response.reason)
            )
        return answer


def _path(session_id: str) -> str:
    return f"/api/v1/sessions/{quote(session_id, safe='')}"
