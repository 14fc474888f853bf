"""What all HTTP endpoints share: bounded bodies, JSON answers, errors without tracebacks."""

import logging
import math
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import orjson
from tornado.web import HTTPError, RequestHandler, stream_request_body

from actors.directory import SessionDirectory
from actors.errors import DATABASE_UNREACHABLE, EXPECTED_ERRORS, refusal_of
from actors.messages import Answer, Check
from actors.protocol import Code, RefusedError, Request
from web.admission import Admission
from web.parameters import user_id

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024  # a query of 32,000 characters with its context is far below

STATUS = {
    Code.INVALID_JSON: 400,
    Code.INVALID_MESSAGE: 400,
    Code.UNKNOWN_TYPE: 404,
    Code.INVALID_DATA: 422,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.RATE_LIMITED: 429,
    Code.TOO_LARGE: 413,
    Code.MODEL_UNAVAILABLE: 503,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
}


@stream_request_body
class ApiHandler(RequestHandler):
    """What all endpoints share: bounded bodies, JSON answers, errors without tracebacks."""

    is_limited = True  # to so many requests a second

    def initialize(self, directory: SessionDirectory, admission: Admission) -> None:
        """Called by Tornado for each request."""
        self.directory = directory
        self.admission = admission
        self.services = directory.services
        self._chunks: list[bytes] = []
        self._received_bytes = 0

    def prepare(self) -> Awaitable[None] | None:
        """Refuse a user that asks too fast, and a body that is too large before it has come."""
        if self.is_limited:
            refusal = self.admission.count_message(user_id(self) or "anonymous")
            if refusal is not None:
                raise refusal
        length = self.request.headers.get("Content-Length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            raise _too_large()
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Collect the body."""
        self._received_bytes += len(chunk)
        if self._received_bytes > MAX_BODY_BYTES:
            raise _too_large()
        self._chunks.append(chunk)
        return None

    @property
    def body(self) -> bytes:
        """The request's body."""
        return b"".join(self._chunks)

    def answer(self, data: Any, *, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the error that was raised, as JSON."""
        error = kwargs.get("exc_info", (None, None))[1]
        refusal = _refusal(error, status_code)
        status = STATUS.get(refusal.code, 500) if not isinstance(error, HTTPError) else status_code
        data = {"error": str(refusal), "code": refusal.code, "status_code": status}
        if refusal.code == Code.RATE_LIMITED:
            self.set_header("Retry-After", str(math.ceil(refusal.details["retry_after_ms"] / 1000)))
        if refusal.details is not None:
            data["details"] = refusal.details
        self.answer(data, status=status)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what nobody expected; a refused request is not worth a traceback."""
        if isinstance(value, DATABASE_UNREACHABLE):
            logger.warning("The database can't be read: %s", value)
        elif _refusal(value, 500).code == Code.INTERNAL and not isinstance(value, HTTPError):
            logger.error(
                "%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb)
            )

    def session_id(self, text: str) -> UUID:
        """The session in the path."""
        try:
            return UUID(text)
        except ValueError:
            raise RefusedError(Code.NOT_FOUND, f"There is no session {text[:64]!r}.") from None

    async def existing(self, text: str) -> UUID:
        """The session in the path, which has to exist."""
        session_id = self.session_id(text)
        await self.directory.ask(session_id, Check())
        return session_id

    async def read(self, session_id: UUID, request: Request) -> dict[str, Any]:
        """What the session answers to a read."""
        data: dict[str, Any] = (await self.directory.ask(session_id, Answer(request))).wire
        return data


class NotFoundHandler(ApiHandler):
    """Any other path."""

    def prepare(self) -> Awaitable[None] | None:
        """Say that there is nothing here."""
        raise RefusedError(Code.NOT_FOUND, f"There is nothing at {self.request.path[:200]}.")


def _too_large() -> RefusedError:
    return RefusedError(Code.TOO_LARGE, f"The body may have {MAX_BODY_BYTES:,} bytes at most.")


def _refusal(error: object, status_code: int) -> RefusedError:
    """What the client is told about an error of any kind."""
    if isinstance(error, EXPECTED_ERRORS):
        return refusal_of(error)
    if isinstance(error, HTTPError) and status_code < 500:
        code = {404: Code.NOT_FOUND, 405: Code.INVALID_MESSAGE}.get(status_code, Code.INVALID_DATA)
        return RefusedError(code, error.log_message or error.reason or f"HTTP {status_code}")
    return RefusedError(Code.INTERNAL, "The server made a mistake. It is in its log.")
