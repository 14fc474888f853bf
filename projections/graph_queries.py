"""What is asked of the graph's tables, and how."""

import asyncio
from typing import Any
from uuid import UUID

from psycopg import AsyncCursor

from projections import positions
from projections.entity_names import entity_id_of
from projections.graph_building import ACCOUNT_FIELDS
from projections.graph_parts import Moment, UnknownEntityError
from projections.positions import POSITION_OF, ViewAt, view_at

RECENT_STATEMENTS = 200  # about an entity: what recall looks at
FETCHED_AT_ONCE = 500  # rows, which take some milliseconds to decode

OLDEST_FIRST = "position, number"
NEWEST_FIRST = "position DESC, number DESC"

Row = dict[str, Any]
Cursor = AsyncCursor[Row]


def stands(
    *, version: str = "%(version)s", session_id: str = "%(session_id)s", at: str = "%(at)s"
) -> str:
    """The condition on rows of statements and names that they are of a session, and stand.

    The arguments are SQL: by default the query's parameters, or a column of a row beside.
    """
    return (
        f"version = {version} AND session_id = {session_id} AND from_position <= {at}"
        f" AND (until_position IS NULL OR until_position > {at})"
    )


def is_drawn(*, session_id: str = "%(session_id)s", at: str = "%(at)s") -> str:
    """The condition on rows of statements that they stand and are drawn.

    Negated, planned, possible and reported things are kept as statements, and never drawn as if
    they were so.
    """
    return (
        f"{stands(session_id=session_id, at=at)}"
        " AND polarity = 'yes' AND modality = 'fact' AND said_by IS NULL"
    )


def first_of_fact(columns: str, *, session_id: str = "%(session_id)s", at: str = "%(at)s") -> str:
    """Of the statements that state a `fact` (a row beside), the one that is drawn."""
    return (
        f"(SELECT {columns} FROM graph_statements WHERE {is_drawn(session_id=session_id, at=at)}"
        " AND subject_id = fact.subject_id AND predicate = fact.predicate"
        f" AND object_id = fact.object_id ORDER BY {OLDEST_FIRST} LIMIT 1)"
    )


OF_SESSION = "version = %(version)s AND session_id = %(session_id)s"
STANDS = stands()
IS_DRAWN = is_drawn()
# What an entity was called first is what it is called; names of what was merged into it come after.
FIRST_NAME = "own_id <> entity_id, position, mention"
NAME_OF = (
    f"(SELECT name FROM graph_names WHERE {STANDS} AND entity_id = {{}}"
    f" ORDER BY {FIRST_NAME} LIMIT 1)"
)
SUBJECT = NAME_OF.format("subject_id")
OBJECT = NAME_OF.format("object_id")

EDGE_COLUMNS = (
    "statement_id, subject_id, predicate, object_id, quote, speaker, turn_id, said_at, extractor,"
    " confidence, valid_from, valid_to, source_position, position, number, learned_at"
)
ACCOUNT_COLUMNS = ", ".join([*ACCOUNT_FIELDS, "number"])
_ABOUT = (
    f"(SELECT subject_id, predicate, object_id, {OLDEST_FIRST} FROM graph_statements"
    f" WHERE {IS_DRAWN} AND {{}} = named.entity_id ORDER BY {NEWEST_FIRST} LIMIT %(recent)s)"
)
_NEWEST_FACTS = f"""
    WITH fact AS (
        SELECT subject_id, predicate, object_id, max(ARRAY[position, number]) AS stated_last
        FROM unnest(%(named)s::text[]) AS named (entity_id),
            LATERAL ({_ABOUT.format("subject_id")} UNION ALL {_ABOUT.format("object_id")}) AS about
        GROUP BY subject_id, predicate, object_id ORDER BY stated_last DESC LIMIT %(limit)s
    )
    SELECT first.statement_id, fact.predicate,
        {NAME_OF.format("fact.subject_id")} AS subject,
        {NAME_OF.format("fact.object_id")} AS object
    FROM fact, LATERAL {first_of_fact("statement_id")} AS first
    ORDER BY fact.stated_last DESC
"""
# Entities whose names a text may contain, with the view that they are of; of none, that alone.
NAMED_IN = f"""
    SELECT view.position AS view_position, view.version, named.entity_id, named.name
    FROM (
        SELECT {POSITION_OF.replace("%s", "'graph'")} AS position, version
        FROM lorewire_views WHERE name = 'graph'
    ) AS view
    LEFT JOIN LATERAL (
        SELECT DISTINCT entity_id, name FROM graph_names
        WHERE {stands(version="view.version", at="view.position")}
            AND type IS DISTINCT FROM %(literal)s AND strpos(lower(%(text)s), lower(name)) > 0
    ) AS named ON true
"""
TOUCHING = "AND (subject_id = ANY(%(entities)s) OR object_id = ANY(%(entities)s))"
BETWEEN = "AND subject_id = ANY(%(entities)s) AND object_id = ANY(%(entities)s)"


def looking(session_id: UUID, view: ViewAt, as_of: int | None = None) -> dict[str, Any]:
    """The parameters of every query about a session's graph as of a position."""
    return {
        "version": view.version,
        "session_id": session_id,
        "at": view.position if as_of is None else as_of,
    }


async def fetch_all(curs: Cursor) -> list[Row]:
    """All rows, with a breath for the event loop now and then: they are decoded here."""
    rows: list[Row] = []
    while some := await curs.fetchmany(FETCHED_AT_ONCE):
        rows += some
        await asyncio.sleep(0)
    return rows


async def read_edges(curs: Cursor, looked_at: dict[str, Any], more: str = "") -> list[Row]:
    """The statements that are drawn: of equal ones the earliest that stands."""
    await curs.execute(
        f"SELECT DISTINCT ON (subject_id, predicate, object_id) {EDGE_COLUMNS}"
        f" FROM graph_statements WHERE {IS_DRAWN} {more}"
        f" ORDER BY subject_id, predicate, object_id, {OLDEST_FIRST}",
        looked_at,
    )
    return await fetch_all(curs)


async def read_newest_facts(
    curs: Cursor, looked_at: dict[str, Any], named: list[str], limit: int
) -> list[Row]:
    """The facts about these entities that were stated last, with names; the newest first."""
    await curs.execute(
        _NEWEST_FACTS, looked_at | {"named": named, "recent": RECENT_STATEMENTS, "limit": limit}
    )
    return await curs.fetchall()


async def read_names(curs: Cursor, looked_at: dict[str, Any], more: str = "") -> list[Row]:
    """What entities are called, and their types, what comes first first."""
    await curs.execute(
        "SELECT entity_id, position, name, type FROM graph_names"
        f" WHERE {STANDS} {more} ORDER BY {FIRST_NAME}",
        looked_at,
    )
    return await fetch_all(curs)


async def find_entity(curs: Cursor, looked_at: dict[str, Any], entity: str) -> str | None:
    """As which entity one is shown that is given by its id or by a name; None: nobody is."""
    if "\0" in entity:
        return None  # PostgreSQL's text can't hold it
    named = entity_id_of(looked_at["session_id"], entity)
    await curs.execute(
        f"SELECT entity_id FROM graph_names WHERE {STANDS} AND own_id IN (%(id)s, %(named)s)"
        " ORDER BY own_id <> %(id)s LIMIT 1",
        looked_at | {"id": entity, "named": named},
    )
    row = await curs.fetchone()
    return None if row is None else row["entity_id"]


async def walk(curs: Cursor, looked_at: dict[str, Any], entity: str, depth: int) -> set[str]:
    """The entities within `depth` edges of one, whatever their direction."""
    start = await find_entity(curs, looked_at, entity)
    reached = {start} if start is not None else set()
    outermost = reached
    for _ in range(depth):
        await curs.execute(
            "SELECT DISTINCT subject_id, object_id FROM graph_statements"
            f" WHERE {IS_DRAWN} {TOUCHING}",
            looked_at | {"entities": list(outermost)},
        )
        rows = await fetch_all(curs)
        if not rows and len(reached) <= 1:
            raise UnknownEntityError(entity)
        outermost = {id for row in rows for id in (row["subject_id"], row["object_id"])} - reached
        reached = reached | outermost
    return reached


async def read_counts(curs: Cursor, query: str, parameters: dict[str, Any]) -> dict[str, int]:
    """How often each type comes, the most frequent first."""
    await curs.execute(f"{query} ORDER BY count DESC, type", parameters)
    return {row["type"]: row["count"] for row in await curs.fetchall()}


async def count_rows(curs: Cursor, source: str, parameters: dict[str, Any]) -> int:
    """How many rows there are."""
    await curs.execute(f"SELECT count(*) AS total FROM {source}", parameters)
    row = await curs.fetchone()
    assert row is not None
    total: int = row["total"]
    return total


async def read_moment(curs: Cursor, session_id: UUID, as_of: int | None) -> Moment:
    """Which state of a session's graph there is to look at."""
    view = await view_at(curs, positions.GRAPH)
    await curs.execute(
        f"SELECT position FROM graph_sessions WHERE {OF_SESSION}", looking(session_id, view)
    )
    row = await curs.fetchone()
    position = 0 if row is None else row["position"]
    if as_of is not None:
        position = min(position, as_of)
    return Moment(session_id, view.version, view.generation, position)
