"""The knowledge graph of a session, as it is or as it was at a position."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from projections import positions
from projections.entity_names import is_named_in
from projections.graph_building import (
    edges_of,
    entity_of,
    fact_of,
    graph_of,
    history_of,
    limited,
    nodes_of,
)
from projections.graph_differences import read_changes
from projections.graph_parts import (
    ENTITY,
    EntityDetail,
    EntityPage,
    FactPage,
    Graph,
    GraphChanges,
    GraphStats,
    History,
    Moment,
    Neighbourhood,
    Relationship,
    sentence,
)
from projections.graph_queries import (
    ACCOUNT_COLUMNS,
    BETWEEN,
    FIRST_NAME,
    IS_DRAWN,
    NAMED_IN,
    NEWEST_FIRST,
    OBJECT,
    OF_SESSION,
    STANDS,
    SUBJECT,
    TOUCHING,
    count_rows,
    fetch_all,
    find_entity,
    looking,
    read_counts,
    read_edges,
    read_moment,
    read_names,
    read_newest_facts,
    walk,
)
from projections.positions import LIVE_VERSION, view_at
from projections.reading import snapshot
from projections.session_graph import LITERAL


class GraphView:
    """Reads knowledge graphs. Every method is for an event loop.

    `as_of` is the position at which to look; None: as far as the view has read.
    """

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def read(
        self,
        session_id: UUID,
        *,
        as_of: int | None = None,
        entity: str | None = None,
        depth: int = 1,
        node_limit: int | None = None,
        edge_limit: int | None = None,
    ) -> Graph:
        """The whole graph, or what is within `depth` edges of one entity (an id or a name).

        A limit keeps the nodes that most edges touch, or the newest edges; an edge goes with its
        nodes. Raises UnknownEntityError.
        """
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            looked_at = looking(session_id, view, as_of)
            if entity is None:
                edges = await read_edges(curs, looked_at)
                names = await read_names(curs, looked_at)
            else:
                reached = await walk(curs, looked_at, entity, depth)
                among = looked_at | {"entities": list(reached)}
                edges = await read_edges(curs, among, BETWEEN)
                names = await read_names(curs, among, "AND entity_id = ANY(%(entities)s)")
        graph = await asyncio.to_thread(graph_of, session_id, edges, names, view.position)
        return limited(graph, node_limit, edge_limit)

    async def moment(self, session_id: UUID, *, as_of: int | None = None) -> Moment:
        """Which state of the graph there is to look at; costs next to nothing."""
        async with snapshot(self._pool) as curs:
            return await read_moment(curs, session_id, as_of)

    async def rebuilt_position(self) -> int:
        """How far the view had read when a rebuild replaced its rows last; 0: never."""
        async with snapshot(self._pool) as curs:
            return (await view_at(curs, positions.GRAPH)).rebuilt_position

    async def history(self, session_id: UUID, *, as_of: int | None = None) -> History:
        """All statements that were known, with those that had ended by then."""
        async with snapshot(self._pool) as curs:
            moment = await read_moment(curs, session_id, as_of)
            looked_at = {
                "version": moment.version,
                "session_id": session_id,
                "at": moment.position,
            }
            await curs.execute(
                f"SELECT DISTINCT ON (statement_id) {ACCOUNT_COLUMNS} FROM graph_statements"
                f" WHERE {OF_SESSION} AND from_position <= %(at)s"
                " ORDER BY statement_id, from_position DESC",
                looked_at,
            )
            account_rows = await fetch_all(curs)
            name_rows = await read_names(curs, looked_at)
        return await asyncio.to_thread(history_of, moment, account_rows, name_rows)

    async def changes(
        self, session_ids: Sequence[UUID], after: int, upto: int
    ) -> dict[UUID, GraphChanges]:
        """The differences between sessions' graphs as of two positions, for each of them.

        A client that holds `read` as of `after` and applies it holds `read` as of `upto`, or as far
        as the view has read.
        """
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            return await read_changes(curs, view, session_ids, after, min(upto, view.position))

    async def positions_of(self, session_id: UUID, statement_ids: Sequence[str]) -> dict[str, int]:
        """The positions of the events that statements come from; without those that are unknown."""
        async with snapshot(self._pool) as curs:
            await curs.execute(
                "SELECT statement_id, min(from_position) AS position FROM graph_statements"
                f" WHERE version = {LIVE_VERSION.format(positions.GRAPH)} AND session_id = %s"
                " AND statement_id = ANY(%s) GROUP BY statement_id",
                (session_id, list(statement_ids)),
            )
            return {row["statement_id"]: row["position"] for row in await curs.fetchall()}

    async def stats(self, session_id: UUID) -> GraphStats:
        """Counts of the graph as it is."""
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            looked_at = looking(session_id, view) | {"entity": ENTITY}
            relationship_types = await read_counts(
                curs,
                "SELECT predicate AS type, count(*) FROM"
                " (SELECT DISTINCT subject_id, predicate, object_id"
                f"  FROM graph_statements WHERE {IS_DRAWN}) AS facts GROUP BY predicate",
                looked_at,
            )
            entity_types = await read_counts(
                curs,
                "SELECT coalesce((SELECT type FROM graph_names"
                f"  WHERE {STANDS} AND graph_names.entity_id = drawn.entity_id AND type <> ''"
                f"  ORDER BY {FIRST_NAME} LIMIT 1), %(entity)s) AS type,"
                " count(*) FROM"
                f" (SELECT subject_id AS entity_id FROM graph_statements WHERE {IS_DRAWN}"
                f"  UNION SELECT object_id FROM graph_statements WHERE {IS_DRAWN}) AS drawn"
                " GROUP BY 1",
                looked_at,
            )
        return GraphStats(
            sum(entity_types.values()),
            sum(relationship_types.values()),
            entity_types,
            relationship_types,
        )

    async def entity(self, session_id: UUID, entity: str) -> EntityDetail | None:
        """One node of the graph (by its id or a name) with all its edges; None: there is none."""
        async with snapshot(self._pool) as curs:
            looked_at = looking(session_id, await view_at(curs, positions.GRAPH))
            entity_id = await find_entity(curs, looked_at, entity)
            if entity_id is None:
                return None
            touching = looked_at | {"entities": [entity_id]}
            edge_rows = await read_edges(curs, touching, TOUCHING)
            ends = {id for row in edge_rows for id in (row["subject_id"], row["object_id"])}
            named = looked_at | {"entities": list(ends)}
            name_rows = await read_names(curs, named, "AND entity_id = ANY(%(entities)s)")
        nodes = {node.id: node for node in nodes_of(name_rows)}
        if entity_id not in nodes:
            return None
        return EntityDetail(
            nodes[entity_id],
            [
                Relationship(edge, nodes[edge.target], True)
                if edge.source == entity_id
                else Relationship(edge, nodes[edge.source], False)
                for edge in edges_of(edge_rows, nodes)
            ],
        )

    async def facts(
        self, session_id: UUID, *, limit: int, offset: int = 0, as_of: int | None = None
    ) -> FactPage:
        """A page of the statements that stand, drawn or not, newest first."""
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            parameters = looking(session_id, view, as_of) | {"limit": limit, "offset": offset}
            total = await count_rows(curs, f"graph_statements WHERE {STANDS}", parameters)
            await curs.execute(
                f"SELECT *, {SUBJECT} AS subject, {OBJECT} AS object"
                f" FROM graph_statements WHERE {STANDS}"
                f" ORDER BY {NEWEST_FIRST} LIMIT %(limit)s OFFSET %(offset)s",
                parameters,
            )
            facts = [fact_of(row) for row in await curs.fetchall()]
        return FactPage(facts, total, view.position)

    async def entities(
        self, session_id: UUID, *, limit: int, offset: int = 0, as_of: int | None = None
    ) -> EntityPage:
        """A page of the entities that were named (literals are none), the newest first."""
        named = f"graph_names WHERE {STANDS} AND type IS DISTINCT FROM %(literal)s"
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            parameters = looking(session_id, view, as_of) | {
                "literal": LITERAL,
                "limit": limit,
                "offset": offset,
            }
            total = await count_rows(
                curs, f"(SELECT DISTINCT entity_id FROM {named}) AS entities", parameters
            )
            await curs.execute(
                "SELECT entity_id, min(position) AS position,"
                f" array_agg(name ORDER BY {FIRST_NAME}) AS names,"
                f" array_agg(type ORDER BY {FIRST_NAME}) AS types,"
                f" (SELECT count(*) FROM graph_statements WHERE {STANDS}"
                "   AND entity_id IN (subject_id, object_id)) AS statement_count"
                f" FROM {named} GROUP BY entity_id"
                " ORDER BY position DESC, entity_id LIMIT %(limit)s OFFSET %(offset)s",
                parameters,
            )
            entities = [entity_of(row) for row in await curs.fetchall()]
        return EntityPage(entities, total, view.position)

    async def neighbourhood(self, session_id: UUID, text: str, *, limit: int) -> Neighbourhood:
        """Facts about the entities whose names the text contains, the newest stated first.

        Of each entity, those that its newest RECENT_STATEMENTS state: so it costs the same however
        much is known.

        Pairs of a statement's id and a sentence, as ("...:3", "Kira is a ranger"). Whoever looks as
        of the position that comes with them finds them in the same words.
        """
        parameters = {"session_id": session_id, "literal": LITERAL, "text": text}
        async with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as curs:
            await curs.execute(NAMED_IN, parameters)
            rows = await curs.fetchall()
            view_position = rows[0]["view_position"]
            named = {
                row["entity_id"] for row in rows if row["name"] and is_named_in(row["name"], text)
            }
            if not named:
                return Neighbourhood([], view_position)
            # Without a transaction, as positions say all: only a rebuild that takes these rows away
            # in between would leave this prompt without them.
            looked_at = parameters | {"version": rows[0]["version"], "at": view_position}
            facts = [
                (row["statement_id"], sentence(row["subject"], row["predicate"], row["object"]))
                for row in await read_newest_facts(curs, looked_at, list(named), limit)
            ]
        return Neighbourhood(facts, view_position)
