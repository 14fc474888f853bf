"""Taking a session from one log to another: `lorewire export` and `lorewire import`."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from events.mapper import OrjsonTranscoder, TypedMapper
from events.transfer import (
    POSITION_FIELDS,
    ExportedEvent,
    ExportReader,
    Header,
    TransferError,
    write_export,
)

FETCHED_EVENTS = 500  # at a time: a session may be larger than the memory
PROGRESS_EVENTS = 10_000

_COLUMNS = "notification_id, recorded_at, originator_id, originator_version, topic, state"
_STAGED = {
    "position": "bigint",
    "recorded_at": "timestamptz",
    "stream": "uuid",
    "version": "bigint",
    "topic": "text",
    "state": "bytea",
    "rest": "bytea",
    "positions": "jsonb",
}
_TOPICS_WITH_POSITIONS = {event_class.__name__ for event_class in POSITION_FIELDS}

_NOT_MIGRATED = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction)
_SAY_MIGRATE = "The database does not have the schema of this version: run `lorewire migrate`."


@dataclass(frozen=True)
class Imported:
    """What an import has stored."""

    session_id: UUID
    events: int
    first: int  # position
    last: int  # position
    distance: int  # how far positions have moved up; 0: they are those of the export


def export_session(database_url: str, session_id: UUID, write: Callable[[bytes], object]) -> int:
    """Write all events of a session as `events.transfer` says; returns how many there are.

    All come from one snapshot of the log, which may be written to meanwhile. Raises TransferError
    where there is no such session.
    """
    try:
        with psycopg.connect(database_url) as conn:
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            conn.read_only = True
            row = conn.execute(
                "SELECT (SELECT epoch FROM lorewire_epoch), count(*)"
                " FROM lorewire_events WHERE session_id = %s",
                (session_id,),
            ).fetchone()
            assert row is not None, "a count is always there"
            if row[1] == 0:
                raise TransferError(f"There is no session {session_id}.")
            header = Header(epoch=row[0], session_id=session_id, events=row[1])
            for line in write_export(header, _stored_events(conn, session_id)):
                write(line)
    except _NOT_MIGRATED:
        raise TransferError(_SAY_MIGRATE) from None
    return header.events


def import_session(
    database_url: str, file: BinaryIO, report: Callable[[str], object] = lambda line: None
) -> Imported:
    """Store the events of an export: all of them, or, with a TransferError, none.

    The whole file is checked before the log is touched. Positions stay as they were where the log
    has none as high, and move up otherwise.
    """
    reader = ExportReader(file, TypedMapper(OrjsonTranscoder()))
    session_id = reader.header.session_id
    try:
        with psycopg.connect(database_url) as conn:
            _refuse_existing(conn, session_id)
            first, last = _stage(conn, reader, report)
            row = conn.execute("SELECT lorewire_import(%s)", (session_id,)).fetchone()
            assert row is not None, "the function returns a value"
            distance: int = row[0]
    except _NOT_MIGRATED:
        raise TransferError(_SAY_MIGRATE) from None
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name is not None:  # not ours, but that of the events' key
            raise TransferError("A stream of this export is in this log already.") from None
        raise _exists(session_id) from None
    except psycopg.errors.LockNotAvailable:
        raise TransferError("The log was busy for five seconds. Try again.") from None
    return Imported(session_id, reader.header.events, first + distance, last + distance, distance)


def export_to(database_url: str, session_id: UUID, path: Path | None) -> int:
    """Export a session to a file, or to standard output; returns the number of events.

    The file appears when it is whole, and is for its owner's eyes only.
    """
    if path is None:
        count = export_session(database_url, session_id, sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return count
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "wb", opener=_private) as file:
            count = export_session(database_url, session_id, file.write)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def import_from(database_url: str, path: str, report: Callable[[str], object]) -> Imported:
    """Import a session from a file, or from standard input where the path is `-`."""
    if path == "-":
        return import_session(database_url, sys.stdin.buffer, report)
    with open(path, "rb") as file:
        return import_session(database_url, file, report)


def read_epoch(database_url: str) -> str:
    """The name of the log."""
    return _epoch(database_url, "SELECT epoch FROM lorewire_epoch")


def new_epoch(database_url: str) -> str:
    """Give the log another name, so that no client goes on from a position of the old one."""
    return _epoch(
        database_url,
        "UPDATE lorewire_epoch SET epoch = replace(gen_random_uuid()::text, '-', ''),"
        " started_at = now() RETURNING epoch",
    )


def _epoch(database_url: str, query: LiteralString) -> str:
    try:
        with psycopg.connect(database_url) as conn:
            row = conn.execute(query).fetchone()
    except _NOT_MIGRATED:
        raise TransferError(_SAY_MIGRATE) from None
    assert row is not None, "the log has its epoch since the migration that made it"
    epoch: str = row[0]
    return epoch


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _stored_events(conn: psycopg.Connection, session_id: UUID) -> Iterator[ExportedEvent]:
    with conn.cursor("export", binary=True) as curs:  # named: the server sends it by and by
        curs.itersize = FETCHED_EVENTS
        curs.execute(
            f"SELECT {_COLUMNS} FROM lorewire_events WHERE session_id = %s"
            " ORDER BY notification_id",
            (session_id,),
        )
        for row in curs:
            yield ExportedEvent(*row)


def _refuse_existing(conn: psycopg.Connection, session_id: UUID) -> None:
    """Refuse early what would be refused under the lock."""
    found = conn.execute(
        "SELECT FROM lorewire_events WHERE session_id = %s LIMIT 1", (session_id,)
    ).fetchone()
    if found is not None:
        raise _exists(session_id)


def _stage(
    conn: psycopg.Connection, reader: ExportReader, report: Callable[[str], object]
) -> tuple[int, int]:
    """Check a file and copy it to a table of this connection; its first and last position."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
        for name, kind in _STAGED.items()
    )
    conn.execute(
        sql.SQL("CREATE TEMPORARY TABLE lorewire_imported ({}) ON COMMIT DROP").format(columns)
    )
    first = last = 0
    with (
        conn.cursor() as curs,
        curs.copy("COPY lorewire_imported FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.set_types(list(_STAGED.values()))
        for number, event in enumerate(reader, 1):
            rest, positions = None, None
            if event.topic in _TOPICS_WITH_POSITIONS:
                rest, found = event.without_positions()
                positions = Jsonb(found)
            copy.write_row((*vars(event).values(), rest, positions))
            first, last = first or event.position, event.position
            if number % PROGRESS_EVENTS == 0:
                report(f"{number:,} of {reader.header.events:,} events are read")
    return first, last


def _exists(session_id: UUID) -> TransferError:
    return TransferError(f"There is a session {session_id} in this log already.")
