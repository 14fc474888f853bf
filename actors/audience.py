"""Who hears what a session says: its connections, and those who wait for a turn over HTTP."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from actors.connection import Connection
from actors.protocol import Message, RefusedError, error_message, session_message

Listener = Callable[[Message], None]


class Audience:
    """The connections of one session. Owned by its actor, which alone calls it."""

    def __init__(self, session_id: UUID) -> None:
        self._session_id = session_id
        self._connections: dict[UUID, Connection] = {}
        self._behind: set[UUID] = set()  # connections that still get what they have missed
        self._askers: dict[UUID, dict[UUID, str]] = {}  # turn -> connection -> its request id
        self._listeners: dict[UUID, list[Listener]] = {}  # by turn
        self._is_held = False

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connections.values()))

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for a turn over HTTP."""
        return bool(self._listeners)

    def __contains__(self, connection: Connection) -> bool:
        return connection.id in self._connections

    def join(self, connection: Connection, *, is_behind: bool = False) -> None:
        """A connection belongs to the session from now on; the others are told.

        One that is behind hears nothing of the session until it has caught up.
        """
        self._connections[connection.id] = connection
        if is_behind:
            self._behind.add(connection.id)
        self._tell_others("connection_joined", connection)

    def has_caught_up(self, connection: Connection) -> None:
        """A connection that was behind hears everything from now on."""
        self._behind.discard(connection.id)

    def leave(self, connection: Connection) -> bool:
        """A connection is gone; False where it had left before."""
        if self._connections.pop(connection.id, None) is None:
            return False
        self._behind.discard(connection.id)
        for askers in self._askers.values():
            askers.pop(connection.id, None)
        self._tell_others("connection_left", connection)
        return True

    def expects(self, turn_id: UUID, connection: Connection, request_id: str | None) -> None:
        """What is said about this turn answers a request of this connection."""
        if request_id is not None:
            self._askers.setdefault(turn_id, {})[connection.id] = request_id

    def request_of(self, turn_id: UUID | None, connection: Connection) -> str | None:
        """The id of the request by which a connection has asked for a turn, where it has."""
        return self._askers.get(turn_id, {}).get(connection.id) if turn_id else None

    def listen(self, turn_id: UUID, listener: Listener) -> None:
        """Let somebody without a connection hear what is said about a turn."""
        self._listeners.setdefault(turn_id, []).append(listener)

    def stop_listening(self, listener: Listener) -> None:
        """Whoever listened is gone."""
        for turn_id, listeners in list(self._listeners.items()):
            left = [other for other in listeners if other != listener]
            if left:
                self._listeners[turn_id] = left
            else:
                del self._listeners[turn_id]

    def forget_turn(self, turn_id: UUID) -> None:
        """Nothing more is said about this turn."""
        self._askers.pop(turn_id, None)
        self._listeners.pop(turn_id, None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What connections are sent within goes out at once. Nothing may be awaited within."""
        if self._is_held:
            yield
            return
        held = list(self._connections.values())
        self._is_held = True
        for connection in held:
            connection.hold()
        try:
            yield
        finally:
            self._is_held = False
            for connection in held:
                connection.release()

    def send(
        self, message: Message, turn_id: UUID | None = None, *, is_partial: bool = False
    ) -> None:
        """Send to every connection; those that asked get the id of their request with it."""
        askers = self._askers.get(turn_id, {}) if turn_id else {}
        for connection in self._connections.values():
            if connection.id in self._behind or (is_partial and not connection.stream_partials):
                continue
            connection.send(message, askers.get(connection.id))
        for listener in self._listeners.get(turn_id, ()) if turn_id else ():
            listener(message)

    def refuse_listeners(self, refusal: RefusedError) -> None:
        """Whoever still waits for a turn gets an error."""
        message = error_message(refusal, self._session_id)
        for listeners in self._listeners.values():
            for listener in listeners:
                listener(message)
        self._listeners.clear()

    def _tell_others(self, type_: str, about: Connection) -> None:
        """Presence: nobody's history, so it has no position."""
        message = session_message(
            self._session_id,
            type_,
            connection_id=about.id,
            user_id=about.user_id,
            connections=len(self._connections),
        )
        for connection in self._connections.values():
            if connection is not about:
                connection.send(message)
