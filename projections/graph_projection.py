"""The graph's rows: statements with their provenance, and the names of what they are about."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from events.knowledge import Knowledge, Statement
from events.log import Recorded
from projections import positions
from projections.entity_names import entity_id_of, literal_id_of

LITERAL = "literal"  # the type of a node that is a date, a number or a text

_INSERT_STATEMENT = """
    INSERT INTO graph_statements (
        version, session_id, statement_id, subject_id, predicate, object_id, quote, turn_id,
        speaker, extractor, polarity, modality, said_by, valid_from, valid_to, confidence,
        said_at, source_position, from_position
    ) VALUES (
        %(version)s, %(session_id)s, %(statement_id)s, %(subject_id)s, %(predicate)s,
        %(object_id)s, %(quote)s, %(turn_id)s, %(speaker)s, %(extractor)s, %(polarity)s,
        %(modality)s, %(said_by)s, %(valid_from)s, %(valid_to)s, %(confidence)s, %(said_at)s,
        %(source_position)s, %(from_position)s
    ) ON CONFLICT (version, session_id, statement_id) DO NOTHING
"""
_INSERT_NAME = """
    INSERT INTO graph_names (version, session_id, entity_id, from_position, mention, name, type)
    VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

Name = tuple[UUID, str, str, str | None]  # session, entity, name, type
NameRow = tuple[UUID, str, int, int, str, str | None]


class GraphProjection:
    """Writes what was learned in all sessions.

    Names that are spelled alike mean one entity (`entity_names`): its id follows from the spelling,
    so that every rebuild finds the same.
    """

    name = positions.GRAPH
    tables = ("graph_names", "graph_statements")

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """Add the statements that these events hold."""
        learned = [
            (one.position, one.event)
            for one in recorded
            if isinstance(one.event, Knowledge.KnowledgeExtracted) and one.event.statements
        ]
        if not learned:
            return False
        times = _times_of(curs, {event.source_position for _, event in learned})
        _insert_names(curs, [row for one in learned for row in _name_rows(*one)], version)
        curs.executemany(
            _INSERT_STATEMENT,
            [
                _statement_row(position, event, statement, times) | {"version": version}
                for position, event in learned
                for statement in event.statements
            ],
        )
        return True


def _statement_row(
    position: int,
    event: Knowledge.KnowledgeExtracted,
    statement: Statement,
    times: dict[int, datetime],
) -> dict[str, Any]:
    return vars(statement) | {
        "session_id": event.session_id,
        "subject_id": entity_id_of(event.session_id, statement.subject),
        "object_id": _object_id(event.session_id, statement),
        "turn_id": event.turn_id,
        "extractor": event.extractor,
        "said_at": times.get(event.source_position, event.timestamp),
        "source_position": event.source_position,
        "from_position": position,
    }


def _name_rows(position: int, event: Knowledge.KnowledgeExtracted) -> Iterable[NameRow]:
    session_id = event.session_id
    mention = 0
    for one in event.statements:
        subject_id, object_id = entity_id_of(session_id, one.subject), _object_id(session_id, one)
        subject_type, object_type = _type_of(one.subject_type), _type_of(one.object_type)
        if one.object_is_literal:
            object_type = LITERAL
        yield session_id, subject_id, position, mention, one.subject, subject_type
        yield session_id, object_id, position, mention + 1, one.object, object_type
        mention += 2


def _insert_names(curs: Cursor[DictRow], rows: Sequence[NameRow], version: int) -> None:
    """Keep names and types that their entities have not had before."""
    curs.execute(
        "SELECT session_id, entity_id, name, type FROM graph_names JOIN"
        " unnest(%s::uuid[], %s::text[]) AS wanted (session_id, entity_id)"
        " USING (session_id, entity_id) WHERE version = %s",
        ([row[0] for row in rows], [row[1] for row in rows], version),
    )
    known: set[Name] = {
        (row["session_id"], row["entity_id"], row["name"], row["type"]) for row in curs.fetchall()
    }
    fresh: dict[Name, NameRow] = {}
    for row in rows:
        name = row[0], row[1], row[4], row[5]
        if name not in known:
            fresh.setdefault(name, row)
    curs.executemany(_INSERT_NAME, [(version, *row) for row in fresh.values()])


def _times_of(curs: Cursor[DictRow], positions: set[int]) -> dict[int, datetime]:
    curs.execute(
        "SELECT notification_id, recorded_at FROM lorewire_events WHERE notification_id = ANY(%s)",
        (list(positions),),
    )
    return {row["notification_id"]: row["recorded_at"] for row in curs.fetchall()}


def _type_of(hint: str | None) -> str | None:
    return None if hint == LITERAL else hint


def _object_id(session_id: UUID, statement: Statement) -> str:
    if statement.object_is_literal:
        return literal_id_of(session_id, statement.object)
    return entity_id_of(session_id, statement.object)
