"""What can go wrong for a client."""

from collections.abc import Mapping


class ClientError(Exception):
    """What a client of Lorewire has to expect."""


class ServerUnreachableError(ClientError):
    """No Lorewire server answers."""


class RequestRefusedError(ClientError):
    """The server answered with an error; `code` is one of the protocol's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConnectionClosedError(ClientError):
    """The connection is closed; `code` is the WebSocket close code."""

    sentence = "The connection was closed"

    def __init__(self, code: int, reason: str) -> None:
        why = f"{code}, {reason.rstrip('.')}" if reason else str(code)
        super().__init__(f"{self.sentence} ({why}).")
        self.code = code
        self.reason = reason


class ConnectionLostError(ConnectionClosedError):
    """Closed for a reason that allows coming back.

    A request that was under way may have reached the server: a query may be asked again with the
    same id, and is then not run twice.
    """

    sentence = "The connection was lost"


class NotAllowedError(ConnectionClosedError):
    """Closed for good: the server does not know us, or not what we ask for."""

    sentence = "The server does not let us in"


class SessionGoneError(ConnectionClosedError):
    """Closed for good: there is no such session, or it has been deleted."""

    sentence = "The session is gone"


FINAL_CODES: Mapping[int, type[ConnectionClosedError]] = {
    1008: NotAllowedError,
    4001: NotAllowedError,
    4003: NotAllowedError,
    4004: SessionGoneError,
    4010: SessionGoneError,
}
