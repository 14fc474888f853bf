"""What a graph of one position has become at a later one, for many sessions at once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from projections.graph_building import edges_of, nodes_of
from projections.graph_parts import Edge, GraphChanges, Node, UpdateType
from projections.graph_queries import (
    EDGE_COLUMNS,
    FIRST_NAME,
    OF_SESSION,
    Cursor,
    Row,
    fetch_all,
    first_of_fact,
    is_drawn,
    stands,
)
from projections.positions import ViewAt

_OF_SESSIONS = "version = %(version)s AND session_id = ANY(%(session_ids)s)"
_BEGAN = "from_position > %(after)s AND from_position <= %(upto)s"
_ENDED = "until_position > %(after)s AND until_position <= %(upto)s"
_BOTH = "(VALUES (%(after)s::bigint), (%(upto)s::bigint)) AS seen (at)"

# What may differ: facts, and entities, which are subjects without a predicate.
_TOUCHED = f"""
    SELECT session_id, subject_id, predicate, object_id, from_position = position AS is_learned
    FROM graph_statements WHERE {_OF_SESSIONS} AND {_BEGAN}
    UNION SELECT session_id, subject_id, predicate, object_id, false
    FROM graph_statements WHERE {_OF_SESSIONS} AND {_ENDED}
    UNION SELECT session_id, entity_id, NULL, NULL, false
    FROM graph_names WHERE {_OF_SESSIONS} AND {_BEGAN}
    UNION SELECT session_id, entity_id, NULL, NULL, false
    FROM graph_names WHERE {_OF_SESSIONS} AND {_ENDED}
"""
_EDGES = f"""
    SELECT fact.session_id, seen.at, first.*
    FROM unnest(%(sessions)s::uuid[], %(subjects)s::text[], %(predicates)s::text[],
            %(objects)s::text[]) AS fact (session_id, subject_id, predicate, object_id),
        {_BOTH},
        LATERAL {first_of_fact(EDGE_COLUMNS, session_id="fact.session_id", at="seen.at")} AS first
"""
_NAMES = f"""
    SELECT touched.session_id, seen.at, named.*
    FROM unnest(%(sessions)s::uuid[], %(entities)s::text[]) AS touched (session_id, id),
        {_BOTH},
        LATERAL (
            SELECT entity_id, own_id, position, mention, name, type FROM graph_names
            WHERE {stands(session_id="touched.session_id", at="seen.at")}
                AND entity_id = touched.id
        ) AS named
    ORDER BY {FIRST_NAME}
"""
_DRAWN = is_drawn(session_id="touched.session_id", at="touched.at")
# Not EXISTS, for which all statements may be hashed.
_IS_END = f"(SELECT true FROM graph_statements WHERE {_DRAWN} AND {{}} = touched.entity_id LIMIT 1)"
_ENDS = f"""
    SELECT session_id, at, entity_id
    FROM unnest(%(sessions)s::uuid[], %(ats)s::bigint[], %(entities)s::text[])
        AS touched (session_id, at, entity_id)
    WHERE {_IS_END.format("subject_id")} OR {_IS_END.format("object_id")}
"""
_MERGES = f"SELECT FROM graph_merges WHERE {OF_SESSION}"
# One thing of perhaps more.
_CORRECTION = f"""
    SELECT CASE
        WHEN EXISTS ({_MERGES} AND {_BEGAN} AND made_by = 'person') THEN 'entities_merged'
        WHEN EXISTS ({_MERGES} AND {_ENDED} AND ended_reason = 'split') THEN 'entities_split'
        WHEN EXISTS (
            SELECT FROM graph_statements WHERE {OF_SESSION} AND {_ENDED}
                AND ended_reason = 'retracted'
        ) THEN 'statement_retracted'
        ELSE 'knowledge_extracted' END AS update_type
"""

At = tuple[UUID, int]  # a session, as of a position


@dataclass(frozen=True)
class _Part:
    """Some nodes and edges of one graph as of one position, by id."""

    nodes: dict[str, Node]
    edges: dict[str, Edge]


async def read_changes(
    curs: Cursor, view: ViewAt, session_ids: Sequence[UUID], after: int, upto: int
) -> dict[UUID, GraphChanges]:
    """The difference of each session's graph between two positions that the view has read."""
    between = {"version": view.version, "after": after, "upto": upto}
    await curs.execute(_TOUCHED, between | {"session_ids": list(session_ids)})
    touched = await fetch_all(curs)
    learned = {row["session_id"] for row in touched if row["is_learned"]}
    parts = await _read_parts(curs, between, touched)
    changes: dict[UUID, GraphChanges] = {}
    for session_id in session_ids:
        update_type: UpdateType = "knowledge_extracted"
        if session_id not in learned:
            update_type = await _read_correction(curs, between | {"session_id": session_id})
        old, new = parts[session_id, after], parts[session_id, upto]
        changes[session_id] = GraphChanges(
            [node for node in new.nodes.values() if old.nodes.get(node.id) != node],
            [edge for edge in new.edges.values() if old.edges.get(edge.id) != edge],
            [id for id in old.nodes if id not in new.nodes],
            [id for id in old.edges if id not in new.edges],
            upto,
            update_type,
        )
    return changes


async def _read_correction(curs: Cursor, between: dict[str, Any]) -> UpdateType:
    """What happened between two positions where nothing was learned."""
    await curs.execute(_CORRECTION, between)
    row = await curs.fetchone()
    assert row is not None
    update_type: UpdateType = row["update_type"]
    return update_type


async def _read_parts(
    curs: Cursor, between: dict[str, Any], touched: Sequence[Row]
) -> defaultdict[At, _Part]:
    """Those of what was touched that are drawn, as of both positions."""
    facts = {
        (row["session_id"], row["subject_id"], row["predicate"], row["object_id"])
        for row in touched
        if row["predicate"] is not None
    }
    entities = {
        (row["session_id"], id) for row in touched for id in (row["subject_id"], row["object_id"])
    }
    entities = {(session_id, id) for session_id, id in entities if id is not None}
    parts: defaultdict[At, _Part] = defaultdict(lambda: _Part({}, {}))
    if not touched:
        return parts
    columns = zip(*facts, strict=True) if facts else ((),) * 4
    sessions, subjects, predicates, objects = map(list, columns)
    await curs.execute(
        _EDGES,
        between
        | {
            "sessions": sessions,
            "subjects": subjects,
            "predicates": predicates,
            "objects": objects,
        },
    )
    edge_rows = _by_graph(await fetch_all(curs))
    sessions, ids = map(list, zip(*entities, strict=True))
    await curs.execute(_NAMES, between | {"sessions": sessions, "entities": ids})
    name_rows = _by_graph(await fetch_all(curs))
    drawn = {
        (*graph, id)
        for graph, rows in edge_rows.items()
        for row in rows
        for id in (row["subject_id"], row["object_id"])
    }
    named = {(*graph, row["entity_id"]) for graph, rows in name_rows.items() for row in rows}
    drawn |= await _read_ends(curs, between, named - drawn)
    for graph, rows in name_rows.items():
        nodes = {node.id: node for node in nodes_of(rows)}
        edges = {edge.id: edge for edge in edges_of(edge_rows[graph], nodes)}
        seen = {id: node for id, node in nodes.items() if (*graph, id) in drawn}
        parts[graph] = _Part(seen, edges)
    return parts


async def _read_ends(
    curs: Cursor, between: dict[str, Any], entities: set[tuple[UUID, int, str]]
) -> set[tuple[UUID, int, str]]:
    """Those of some entities that any edge touches."""
    if not entities:
        return set()
    sessions, ats, ids = map(list, zip(*entities, strict=True))
    await curs.execute(_ENDS, between | {"sessions": sessions, "ats": ats, "entities": ids})
    return {(row["session_id"], row["at"], row["entity_id"]) for row in await fetch_all(curs)}


def _by_graph(rows: Sequence[Row]) -> defaultdict[At, list[Row]]:
    found: defaultdict[At, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["session_id"], row["at"]].append(row)
    return found
