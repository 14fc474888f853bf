"""One table from the errors that are expected to what clients are told."""

from collections.abc import Sequence
from uuid import UUID

from eventsourcing.persistence import InterfaceError, OperationalError

from actors.patience import VIEWS_UNREACHABLE
from actors.protocol import Code, RefusedError
from events.journal import LogUnavailableError, StreamConflictError
from events.knowledge import CurationError
from events.session import SessionIsDeletedError, TooManyTurnsError, UnknownTurnError
from projections.as_of import AsOfError
from projections.corrections import UnknownMergeError, UnknownStatementError
from projections.graph_parts import UnknownEntityError
from projections.sparql import SparqlError


class NoSuchSessionError(Exception):
    """There is no session with this id in the log."""

    def __init__(self, session_id: UUID) -> None:
        super().__init__(f"There is no session {session_id}.")


DATABASE_UNREACHABLE = (OperationalError, InterfaceError, *VIEWS_UNREACHABLE)

# The first class that fits counts. Their texts are sentences for clients, but the database's own.
ERROR_CODES: Sequence[tuple[type[Exception], str]] = (
    (NoSuchSessionError, Code.NOT_FOUND),
    (SessionIsDeletedError, Code.NOT_FOUND),
    (UnknownTurnError, Code.NOT_FOUND),
    (UnknownEntityError, Code.NOT_FOUND),
    (UnknownStatementError, Code.NOT_FOUND),
    (UnknownMergeError, Code.NOT_FOUND),
    (CurationError, Code.CONFLICT),
    (TooManyTurnsError, Code.CONFLICT),
    (StreamConflictError, Code.CONFLICT),
    (AsOfError, Code.INVALID_DATA),
    (SparqlError, Code.INVALID_DATA),
    (LogUnavailableError, Code.UNAVAILABLE),
    *((error, Code.UNAVAILABLE) for error in DATABASE_UNREACHABLE),
)

EXPECTED_ERRORS: tuple[type[Exception], ...] = (
    RefusedError,
    *(error for error, _ in ERROR_CODES),
)


def refusal_of(error: Exception) -> RefusedError:
    """An expected error as what a client is told; raises any other."""
    if isinstance(error, RefusedError):
        return error
    for error_class, code in ERROR_CODES:
        if isinstance(error, error_class):
            sentence = str(error)
            if isinstance(error, SparqlError):
                sentence = f"`query`: {sentence}"
            elif isinstance(error, DATABASE_UNREACHABLE):
                sentence = "The database does not answer. Try again in a moment."
            return RefusedError(code, sentence)
    raise error
