"""What is asked of the graph's tables, and how."""

import asyncio
from typing import Any
from uuid import UUID

from psycopg import AsyncCursor

from projections import positions
from projections.entity_names import entity_id_of
from projections.graph_building import ACCOUNT_FIELDS, edges_of, nodes_of
from projections.graph_parts import Edge, Moment, Node, UnknownEntityError, UpdateType
from projections.positions import ViewAt, view_at

RECENT_STATEMENTS = 200  # about an entity: what recall looks at
FETCHED_AT_ONCE = 500  # rows, which take some milliseconds to decode

Row = dict[str, Any]
Cursor = AsyncCursor[Row]

OF_SESSION = "version = %(version)s AND session_id = %(session_id)s"
# Conditions on the rows of statements and names. Negated, planned, possible and reported things are
# kept as statements, and never drawn as if they were so.
STANDS = (
    f"{OF_SESSION} AND from_position <= %(at)s"
    " AND (until_position IS NULL OR until_position > %(at)s)"
)
IS_DRAWN = f"{STANDS} AND polarity = 'yes' AND modality = 'fact' AND said_by IS NULL"
OLDEST_FIRST = "position, number"
NEWEST_FIRST = "position DESC, number DESC"
# What an entity was called first is what it is called; names of what was merged into it come after.
FIRST_NAME = "own_id <> entity_id, position, mention"
NAME_OF = (
    f"(SELECT name FROM graph_names WHERE {STANDS} AND entity_id = {{}}"
    f" ORDER BY {FIRST_NAME} LIMIT 1)"
)
SUBJECT = NAME_OF.format("subject_id")
OBJECT = NAME_OF.format("object_id")

BEGAN = "from_position > %(after)s AND from_position <= %(at)s"
ENDED = "until_position > %(after)s AND until_position <= %(at)s"
EDGE_COLUMNS = (
    "statement_id, subject_id, predicate, object_id, quote, speaker, turn_id, said_at, extractor,"
    " confidence, valid_from, valid_to, source_position, position, number, learned_at"
)
ACCOUNT_COLUMNS = ", ".join([*ACCOUNT_FIELDS, "number"])
# Of those that state a fact, the one that is drawn.
FIRST_OF_FACT = (
    f"(SELECT {{}} FROM graph_statements WHERE {IS_DRAWN} AND subject_id = fact.subject_id"
    " AND predicate = fact.predicate AND object_id = fact.object_id"
    f" ORDER BY {OLDEST_FIRST} LIMIT 1)"
)
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
    FROM fact, LATERAL {FIRST_OF_FACT.format("statement_id")} AS first
    ORDER BY fact.stated_last DESC
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


async def read_touched(
    curs: Cursor, between: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str], bool]:
    """What may differ between two positions: facts (as columns of their parts), and entities.

    And whether anything was learned between them.
    """
    await curs.execute(
        "SELECT subject_id, predicate, object_id, from_position = position AS is_learned"
        f" FROM graph_statements WHERE {OF_SESSION} AND {BEGAN}"
        " UNION SELECT subject_id, predicate, object_id, false"
        f" FROM graph_statements WHERE {OF_SESSION} AND {ENDED}",
        between,
    )
    rows = await fetch_all(curs)
    touched = {(row["subject_id"], row["predicate"], row["object_id"]) for row in rows}
    facts = {
        "subjects": [subject for subject, _, _ in touched],
        "predicates": [predicate for _, predicate, _ in touched],
        "objects": [object_ for _, _, object_ in touched],
    }
    await curs.execute(
        f"SELECT entity_id FROM graph_names WHERE {OF_SESSION} AND {BEGAN}"
        f" UNION SELECT entity_id FROM graph_names WHERE {OF_SESSION} AND {ENDED}",
        between,
    )
    named = [row["entity_id"] for row in await fetch_all(curs)]
    is_learned = any(row["is_learned"] for row in rows)
    return facts, list({*facts["subjects"], *facts["objects"], *named}), is_learned


async def read_correction(curs: Cursor, between: dict[str, Any]) -> UpdateType:
    """What happened between two positions where nothing was learned; one thing of perhaps more."""
    merges = f"SELECT FROM graph_merges WHERE {OF_SESSION}"
    await curs.execute(
        "SELECT CASE"
        f" WHEN EXISTS ({merges} AND {BEGAN} AND made_by = 'person') THEN 'entities_merged'"
        f" WHEN EXISTS ({merges} AND {ENDED} AND ended_reason = 'split') THEN 'entities_split'"
        f" WHEN EXISTS (SELECT FROM graph_statements WHERE {OF_SESSION} AND {ENDED}"
        "  AND ended_reason = 'retracted') THEN 'statement_retracted'"
        " ELSE 'knowledge_extracted' END AS update_type",
        between,
    )
    row = await curs.fetchone()
    assert row is not None
    update_type: UpdateType = row["update_type"]
    return update_type


async def read_part(
    curs: Cursor, looked_at: dict[str, Any], facts: dict[str, list[str]], entities: list[str]
) -> tuple[dict[str, Node], dict[str, Edge]]:
    """Those of the facts and entities that are drawn as of a position, by id."""
    looked_at = looked_at | {"entities": entities, **facts}
    await curs.execute(
        "SELECT first.* FROM"
        " unnest(%(subjects)s::text[], %(predicates)s::text[], %(objects)s::text[])"
        " AS fact (subject_id, predicate, object_id),"
        f" LATERAL {FIRST_OF_FACT.format(EDGE_COLUMNS)} AS first",
        looked_at,
    )
    edge_rows = await fetch_all(curs)
    name_rows = await read_names(curs, looked_at, "AND entity_id = ANY(%(entities)s)")
    drawn = {id for row in edge_rows for id in (row["subject_id"], row["object_id"])}
    if others := [entity for entity in entities if entity not in drawn]:
        # Not EXISTS, for which all statements may be hashed.
        has = f"(SELECT true FROM graph_statements WHERE {IS_DRAWN} AND {{}} = entity_id LIMIT 1)"
        await curs.execute(
            "SELECT entity_id FROM unnest(%(others)s::text[]) AS touched (entity_id)"
            f" WHERE {has.format('subject_id')} OR {has.format('object_id')}",
            looked_at | {"others": others},
        )
        drawn |= {row["entity_id"] for row in await curs.fetchall()}
    nodes = {node.id: node for node in nodes_of(name_rows)}
    edges = {edge.id: edge for edge in edges_of(edge_rows, nodes)}
    return {id: node for id, node in nodes.items() if id in drawn}, edges


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
