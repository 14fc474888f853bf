"""How the graph's state reaches its tables, and comes back from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from events.knowledge import Knowledge, Statement
from projections.entities import Merge
from projections.session_graph import (
    Changes,
    Ending,
    Known,
    NewName,
    SessionGraph,
    Shape,
    StatementRow,
)

STATEMENT_COLUMNS = (
    *("version", "session_id", "statement_id", "from_position", "until_position"),
    *("subject_id", "object_id", "ended_reason", "ended_by", "ended_note", "ended_at"),
    *("own_subject_id", "predicate", "own_object_id", "position", "number", "quote", "turn_id"),
    *("speaker", "extractor", "polarity", "modality", "said_by", "valid_from", "valid_to"),
    *("confidence", "said_at", "source_position", "learned_at", "is_functional", "replaces"),
)
NAME_COLUMNS = (
    *("version", "session_id", "own_id", "position", "mention", "from_position"),
    *("until_position", "entity_id", "name", "type"),
)
MERGE_COLUMNS = (
    *("version", "session_id", "merge_id", "from_position", "until_position", "kept_id"),
    *("merged_id", "kept_name", "merged_name", "made_by", "user_id", "made_at", "ended_reason"),
)


def _copied(columns: Sequence[str], changed: Sequence[str]) -> str:
    """What to select for a copy of a row in which some columns are given."""
    return ", ".join(
        f"given.{column}" if column in changed else f"first.{column}" for column in columns
    )


_SPAN = (
    *("session_id", "statement_id", "from_position", "until_position", "subject_id", "object_id"),
    *("ended_reason", "ended_by", "ended_note", "ended_at"),
)
_STATEMENTS_AGAIN = f"""
    INSERT INTO graph_statements ({", ".join(STATEMENT_COLUMNS)})
    SELECT {_copied(STATEMENT_COLUMNS, _SPAN)}
    FROM unnest(
        %s::uuid[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::text[],
        %s::text[], %s::text[], %s::text[], %s::timestamptz[]
    ) AS given ({", ".join(_SPAN)})
    JOIN graph_statements AS first ON first.version = %s AND first.session_id = given.session_id
        AND first.statement_id = given.statement_id AND first.from_position = first.position
"""
_END_STATEMENTS = """
    UPDATE graph_statements AS row SET
        until_position = ended.until_position, ended_reason = ended.ended_reason,
        ended_by = ended.ended_by, ended_note = ended.ended_note, ended_at = ended.ended_at
    FROM unnest(
        %s::uuid[], %s::text[], %s::bigint[], %s::bigint[],
        %s::text[], %s::text[], %s::text[], %s::timestamptz[]
    ) AS ended (
        session_id, statement_id, from_position, until_position,
        ended_reason, ended_by, ended_note, ended_at
    )
    WHERE row.version = %s AND row.session_id = ended.session_id
        AND row.statement_id = ended.statement_id AND row.from_position = ended.from_position
"""
_NAME_SPAN = (
    *("session_id", "own_id", "position", "mention", "from_position"),
    *("until_position", "entity_id"),
)
_NAMES_AGAIN = f"""
    INSERT INTO graph_names ({", ".join(NAME_COLUMNS)})
    SELECT {_copied(NAME_COLUMNS, _NAME_SPAN)}
    FROM unnest(
        %s::uuid[], %s::text[], %s::bigint[], %s::int[], %s::bigint[], %s::bigint[], %s::text[]
    ) AS given ({", ".join(_NAME_SPAN)})
    JOIN graph_names AS first ON first.version = %s AND first.session_id = given.session_id
        AND first.own_id = given.own_id AND first.position = given.position
        AND first.mention = given.mention AND first.from_position = first.position
"""
_END_NAMES = """
    UPDATE graph_names AS row SET until_position = ended.until_position
    FROM unnest(
        %s::uuid[], %s::text[], %s::bigint[], %s::int[], %s::bigint[], %s::bigint[]
    ) AS ended (session_id, own_id, position, mention, from_position, until_position)
    WHERE row.version = %s AND row.session_id = ended.session_id AND row.own_id = ended.own_id
        AND row.position = ended.position AND row.mention = ended.mention
        AND row.from_position = ended.from_position
"""
_END_MERGES = """
    UPDATE graph_merges AS row
    SET until_position = ended.until_position, ended_reason = ended.ended_reason
    FROM unnest(%s::uuid[], %s::uuid[], %s::bigint[], %s::text[])
        AS ended (session_id, merge_id, until_position, ended_reason)
    WHERE row.version = %s AND row.session_id = ended.session_id
        AND row.merge_id = ended.merge_id AND row.until_position IS NULL
"""
_OF_SESSION = "version = %(version)s AND session_id = %(session_id)s"
_OPEN_NAMES = f"""
    SELECT own_id, position, mention, from_position, entity_id, name, type FROM graph_names
    WHERE {_OF_SESSION} AND until_position IS NULL ORDER BY position, mention
"""
_MERGES = f"SELECT * FROM graph_merges WHERE {_OF_SESSION} ORDER BY from_position"
_NEWEST_ROWS = f"""
    SELECT DISTINCT ON (statement_id) statement_id, from_position, until_position, subject_id,
        predicate, object_id, own_subject_id, own_object_id, position, number, polarity, modality,
        said_by, is_functional, replaces, ended_reason, ended_by, ended_note
    FROM graph_statements WHERE {_OF_SESSION} ORDER BY statement_id, from_position DESC
"""


@dataclass
class Span:
    """What changes from row to row of one statement."""

    until_position: int | None
    subject_id: str
    object_id: str
    ended_reason: str | None = None
    ended_by: str | None = None
    ended_note: str | None = None
    ended_at: datetime | None = None

    def end(self, position: int, ending: Ending | None, at: datetime) -> None:
        """The row holds until here; None: another one goes on."""
        self.until_position = position
        if ending is not None:
            self.ended_reason, self.ended_by = ending.reason, ending.by
            self.ended_note, self.ended_at = ending.note, at

    @property
    def values(self) -> tuple[Any, ...]:
        """In the order of STATEMENT_COLUMNS."""
        return (
            *(self.until_position, self.subject_id, self.object_id),
            *(self.ended_reason, self.ended_by, self.ended_note, self.ended_at),
        )


StatementKey = tuple[UUID, str, int]  # session, statement, from_position
NameRowKey = tuple[UUID, str, int, int, int]  # session, own id, position, mention, from_position


@dataclass
class GraphRows:
    """The rows that one batch of events makes and ends, until they are written.

    What a batch both begins and ends is written once, so that rows do not tell of batches.
    """

    version: int
    _learned: dict[StatementKey, tuple[Any, ...]] = field(default_factory=dict)
    _spans: dict[StatementKey, Span] = field(default_factory=dict)  # new rows
    _ended: dict[StatementKey, tuple[int, Ending | None, datetime]] = field(default_factory=dict)
    _named: dict[NameRowKey, NewName] = field(default_factory=dict)
    _name_spans: dict[NameRowKey, list[Any]] = field(default_factory=dict)  # until, entity
    _names_ended: dict[NameRowKey, int] = field(default_factory=dict)
    _merges: dict[tuple[UUID, UUID], list[Any]] = field(default_factory=dict)  # by session and id
    _merge_rows: list[list[Any]] = field(default_factory=list)
    _merges_ended: dict[tuple[UUID, UUID], tuple[int, str]] = field(default_factory=dict)

    def add(self, graph: SessionGraph, changes: Changes, event: Knowledge.Event) -> None:
        """Take up what one event has changed."""
        session_id, position, at = graph.session_id, graph.position, event.timestamp
        for known, statement in changes.learned:
            assert isinstance(event, Knowledge.KnowledgeExtracted)
            key = session_id, known.statement_id, position
            self._learned[key] = _content(known, statement, event)
        for statement_id, row_from, ending in changes.closed:
            self._close(session_id, statement_id, row_from, position, ending, at)
        for row in changes.opened:
            self._open(session_id, row, at)
        for name in changes.named:
            self._named[session_id, name.own_id, name.position, name.mention, position] = name
        for own_id, its_position, mention, row_from in changes.names_closed:
            name_key = session_id, own_id, its_position, mention, row_from
            if (span := self._name_spans.get(name_key)) is not None:
                span[0] = position
            else:
                self._names_ended[name_key] = position
        for new in changes.names_opened:
            name_key = session_id, new.own_id, new.position, new.mention, new.from_position
            self._name_spans[name_key] = [None, new.entity_id]
        self._add_merges(graph, changes, event)

    def write(self, curs: Cursor[DictRow]) -> None:
        """Store it all."""
        self._end_statements(curs)
        self._end_names(curs)
        self._end_merges(curs)
        self._insert_new(curs)
        self._insert_again(curs)
        _copy(curs, "graph_merges", MERGE_COLUMNS, self._merge_rows)

    def _open(self, session_id: UUID, row: StatementRow, at: datetime) -> None:
        span = Span(None, row.shape.subject_id, row.shape.object_id)
        if row.shape.ending is not None:
            span.end(row.from_position, row.shape.ending, at)
        self._spans[session_id, row.statement_id, row.from_position] = span

    def _close(
        self,
        session_id: UUID,
        statement_id: str,
        row_from: int,
        position: int,
        ending: Ending | None,
        at: datetime,
    ) -> None:
        key = session_id, statement_id, row_from
        if (span := self._spans.get(key)) is not None:
            span.end(position, ending, at)
        else:
            self._ended[key] = position, ending, at

    def _add_merges(self, graph: SessionGraph, changes: Changes, event: Knowledge.Event) -> None:
        session_id, position = graph.session_id, graph.position
        for merge_id, why in changes.merges_ended.items():
            key = session_id, merge_id
            if (row := self._merges.pop(key, None)) is not None:
                row[4], row[12] = position, why
            else:
                self._merges_ended[key] = position, why
        for merge in changes.merged:
            kept_name = graph.entities.name_of(merge.kept_id)
            merged_name = graph.entities.name_of(merge.merged_id)
            user_id = None
            if isinstance(event, Knowledge.EntitiesMerged):
                kept_name, merged_name = event.kept_name, event.merged_name
                user_id = event.cause.user_id
            row = [
                *(self.version, session_id, merge.merge_id, position, None),
                *(merge.kept_id, merge.merged_id, kept_name, merged_name),
                *(merge.made_by, user_id, event.timestamp, None),
            ]
            self._merges[session_id, merge.merge_id] = row
            self._merge_rows.append(row)

    def _insert_new(self, curs: Cursor[DictRow]) -> None:
        _copy(
            curs,
            "graph_statements",
            STATEMENT_COLUMNS,
            (
                (self.version, *key, *self._spans[key].values, *content)
                for key, content in self._learned.items()
            ),
        )
        _copy(
            curs,
            "graph_names",
            NAME_COLUMNS,
            (
                (self.version, *key, *self._name_spans[key], name.name, name.type)
                for key, name in self._named.items()
            ),
        )

    def _insert_again(self, curs: Cursor[DictRow]) -> None:
        """Rows of what has rows already: a copy of the first one, from here on."""
        again = [
            (*key, *span.values) for key, span in self._spans.items() if key not in self._learned
        ]
        if again:
            curs.execute(_STATEMENTS_AGAIN, [*_columns(again), self.version])
        names = [(*key, *span) for key, span in self._name_spans.items() if key not in self._named]
        if names:
            curs.execute(_NAMES_AGAIN, [*_columns(names), self.version])

    def _end_statements(self, curs: Cursor[DictRow]) -> None:
        if self._ended:
            rows = []
            for key, ended in self._ended.items():
                span = Span(None, "", "")
                span.end(*ended)
                rows.append((*key, span.until_position, *span.values[3:]))
            curs.execute(_END_STATEMENTS, [*_columns(rows), self.version])

    def _end_names(self, curs: Cursor[DictRow]) -> None:
        if self._names_ended:
            rows = [(*key, position) for key, position in self._names_ended.items()]
            curs.execute(_END_NAMES, [*_columns(rows), self.version])

    def _end_merges(self, curs: Cursor[DictRow]) -> None:
        if self._merges_ended:
            rows = [(*key, *ended) for key, ended in self._merges_ended.items()]
            curs.execute(_END_MERGES, [*_columns(rows), self.version])


def _content(known: Known, one: Statement, event: Knowledge.KnowledgeExtracted) -> tuple[Any, ...]:
    """What never changes about a statement, in the order of STATEMENT_COLUMNS."""
    position, number = known.order
    return (
        *(known.subject, one.predicate, known.object, position, number, one.quote, event.turn_id),
        *(one.speaker, event.extractor, one.polarity, one.modality, one.said_by),
        *(one.valid_from, one.valid_to, one.confidence, event.said_at or event.timestamp),
        *(event.source_position, event.timestamp, known.is_functional, known.replaces),
    )


def load(curs: Cursor[DictRow], session_id: UUID, version: int, position: int) -> SessionGraph:
    """The state of a session's graph as its rows tell it."""
    graph = SessionGraph(session_id)
    parameters = {"version": version, "session_id": session_id}
    curs.execute(_OPEN_NAMES, parameters)
    shown_as: dict[str, str] = {}
    for row in curs.fetchall():
        own_id = row["own_id"]
        name = NewName(own_id, row["position"], row["mention"], row["name"], row["type"])
        graph.restore_name(name, row["from_position"])
        if row["entity_id"] != own_id:
            shown_as[own_id] = row["entity_id"]
    curs.execute(_MERGES, parameters)
    merges = curs.fetchall()
    graph.entities.restore(
        [_merge(row) for row in merges if row["until_position"] is None],
        [
            row["merge_id"]
            for row in merges
            if row["ended_reason"] == "split" and row["made_by"] != "person"
        ],
        shown_as,
    )
    curs.execute(_NEWEST_ROWS, parameters)
    for row in sorted(curs.fetchall(), key=lambda row: (row["position"], row["number"])):
        graph.restore_statement(_known(row))
    graph.position = position
    return graph


def _merge(row: DictRow) -> Merge:
    return Merge(
        row["merge_id"],
        row["kept_id"],
        row["merged_id"],
        row["made_by"],
        (row["from_position"], 0),
    )


def _known(row: DictRow) -> Known:
    ending = None
    if row["ended_reason"] is not None:
        ending = Ending(row["ended_reason"], row["ended_by"], row["ended_note"])
    shape = Shape(row["subject_id"], row["object_id"], ending)
    return Known(
        row["statement_id"],
        (row["position"], row["number"]),
        row["own_subject_id"],
        row["predicate"],
        row["own_object_id"],
        is_denied=row["polarity"] == "no",
        is_assertion=row["modality"] == "fact" and row["said_by"] is None,
        is_functional=row["is_functional"],
        replaces=row["replaces"],
        shape=shape,
        written=shape,
        row_from=row["from_position"] if row["until_position"] is None else None,
    )


def _copy(
    curs: Cursor[DictRow], table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write rows with COPY, several times as fast as INSERT."""
    rows = list(rows)
    if not rows:
        return
    with curs.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
