"""The knowledge graph of a session, as it is or as it was at a position."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncCursor
from psycopg_pool import AsyncConnectionPool

from projections import positions
from projections.entity_names import entity_id_of, is_named_in
from projections.graph_projection import LITERAL
from projections.positions import LIVE_VERSION, ViewAt, view_at
from projections.reading import snapshot

ENTITY = "entity"  # the type of a node of which nobody said what it is

Row = dict[str, Any]
Cursor = AsyncCursor[Row]


class UnknownEntityError(Exception):
    """The session's graph has no such entity; the text is a sentence for the client."""

    def __init__(self, entity: str) -> None:
        super().__init__(f"The graph has no entity {entity!r}: give an id or a name that it shows.")


@dataclass(frozen=True)
class Node:
    """An entity, or a literal, that some edge touches."""

    id: str
    name: str  # the first that it was called
    type: str
    description: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    """A plain fact: the earliest statement that stands for it."""

    id: str  # of the statement
    source: str
    target: str
    type: str  # the predicate
    description: str  # the fact as a sentence
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """What a session knows, or a part of it."""

    session_id: UUID
    nodes: list[Node]  # in the order in which they were first named
    edges: list[Edge]  # in the order in which they were learned
    view_position: int  # how far the graph view had read
    total_nodes: int  # before any limit
    total_edges: int


@dataclass(frozen=True)
class GraphChanges:
    """What turns a graph of one position into that of a later one.

    Remove what is removed, then put what is added, in place of anything with the same id: a node
    that got another alias or type is added again.
    """

    added_nodes: list[Node]
    added_edges: list[Edge]
    removed_nodes: list[str]
    removed_edges: list[str]
    view_position: int  # the later position

    @property
    def is_empty(self) -> bool:
        """Whether both graphs are the same."""
        return not (
            self.added_nodes or self.added_edges or self.removed_nodes or self.removed_edges
        )


@dataclass(frozen=True)
class GraphStats:
    """What a graph consists of."""

    node_count: int
    edge_count: int
    entity_types: dict[str, int]
    relationship_types: dict[str, int]


@dataclass(frozen=True)
class Relationship:
    """An edge as seen from one of its nodes."""

    edge: Edge
    other: Node
    is_outgoing: bool


@dataclass(frozen=True)
class EntityDetail:
    """One entity with everything that is known about it."""

    node: Node
    relationships: list[Relationship]


@dataclass(frozen=True)
class Fact:
    """One statement that stands, drawn or not."""

    statement_id: str
    subject: str
    predicate: str
    object: str
    text: str  # as a sentence
    polarity: str
    modality: str
    said_by: str | None
    valid_from: str | None
    valid_to: str | None
    quote: str
    speaker: str
    turn_id: UUID | None
    extractor: str
    confidence: float
    said_at: datetime
    position: int  # of the event by which it was learned


@dataclass(frozen=True)
class FactPage:
    """Part of the statements of a session, newest first."""

    facts: list[Fact]
    total: int
    view_position: int


@dataclass(frozen=True)
class Entity:
    """One entity that was named, drawn or not."""

    entity_id: str
    name: str
    type: str
    aliases: list[str]
    statement_count: int  # statements that stand and name it
    position: int  # of the event that named it first


@dataclass(frozen=True)
class EntityPage:
    """Part of the entities of a session, the newest first."""

    entities: list[Entity]
    total: int
    view_position: int


_IS_LIVE = f"version = {LIVE_VERSION.format(positions.GRAPH)}"
# Conditions on graph_statements. Negated, planned, possible and reported things are kept as
# statements, and never drawn as if they were so.
_STANDS = (
    "version = %(version)s AND session_id = %(session_id)s AND from_position <= %(at)s"
    " AND (until_position IS NULL OR until_position > %(at)s)"
)
_IS_DRAWN = f"{_STANDS} AND polarity = 'yes' AND modality = 'fact' AND said_by IS NULL"
_OLDEST_FIRST = "from_position, length(statement_id), statement_id"
_NEWEST_FIRST = "from_position DESC, length(statement_id) DESC, statement_id DESC"
# What an entity was called first is what it is called.
_NAME_OF = (
    "(SELECT name FROM graph_names WHERE graph_names.version = graph_statements.version"
    " AND graph_names.session_id = graph_statements.session_id AND entity_id = {}"
    " ORDER BY from_position, mention LIMIT 1)"
)
_SUBJECT = _NAME_OF.format("subject_id")
_OBJECT = _NAME_OF.format("object_id")


_FACT_COLUMNS = [field.name for field in fields(Fact) if field.name not in ("text", "position")]


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
            looked_at = _looking(session_id, view, as_of)
            edges = await _read_edges(curs, looked_at)
            names = await _read_names(curs, looked_at)
        graph = await asyncio.to_thread(_build_graph, session_id, edges, names, view.position)
        if entity is not None:
            graph = _around(graph, entity, depth)
        return _limited(graph, node_limit, edge_limit)

    async def changes(self, session_id: UUID, after: int, upto: int) -> GraphChanges:
        """The difference between the graphs as of two positions.

        A client that holds `read` as of `after` and applies it holds `read` as of `upto`, or as far
        as the view has read.
        """
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            upto = min(upto, view.position)
            before, now = _looking(session_id, view, after), _looking(session_id, view, upto)
            facts, entities = await _read_touched(curs, now | {"after": after})
            old_nodes, old_edges = await _read_part(curs, before, facts, entities)
            nodes, edges = await _read_part(curs, now, facts, entities)
        return GraphChanges(
            [node for node in nodes.values() if old_nodes.get(node.id) != node],
            [edge for edge in edges.values() if old_edges.get(edge.id) != edge],
            [id for id in old_nodes if id not in nodes],
            [id for id in old_edges if id not in edges],
            upto,
        )

    async def moved_since(self, position: int) -> dict[UUID, int]:
        """The sessions whose statements changed after a position, and where each changed last."""
        async with snapshot(self._pool) as curs:
            await curs.execute(
                "SELECT session_id, max(position) AS position FROM ("
                " SELECT session_id, from_position AS position FROM graph_statements"
                f"  WHERE {_IS_LIVE} AND from_position > %(position)s"
                " UNION ALL SELECT session_id, until_position FROM graph_statements"
                f"  WHERE {_IS_LIVE} AND until_position > %(position)s"
                ") AS moved GROUP BY session_id",
                {"position": position},
            )
            return {row["session_id"]: row["position"] for row in await curs.fetchall()}

    async def stats(self, session_id: UUID) -> GraphStats:
        """Counts of the graph as it is."""
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            looked_at = _looking(session_id, view) | {"entity": ENTITY}
            relationship_types = await _read_counts(
                curs,
                "SELECT predicate AS type, count(*) FROM"
                " (SELECT DISTINCT subject_id, predicate, object_id"
                f"  FROM graph_statements WHERE {_IS_DRAWN}) AS facts GROUP BY predicate",
                looked_at,
            )
            entity_types = await _read_counts(
                curs,
                "SELECT coalesce((SELECT type FROM graph_names"
                "  WHERE version = %(version)s AND session_id = %(session_id)s"
                "  AND graph_names.entity_id = drawn.entity_id AND type <> ''"
                "  ORDER BY from_position, mention LIMIT 1), %(entity)s) AS type,"
                " count(*) FROM"
                f" (SELECT subject_id AS entity_id FROM graph_statements WHERE {_IS_DRAWN}"
                f"  UNION SELECT object_id FROM graph_statements WHERE {_IS_DRAWN}) AS drawn"
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
        try:
            graph = await self.read(session_id, entity=entity, depth=1)
        except UnknownEntityError:
            return None
        nodes = {node.id: node for node in graph.nodes}
        node = nodes.get(entity) or nodes[entity_id_of(session_id, entity)]
        return EntityDetail(
            node,
            [
                Relationship(edge, nodes[edge.target], True)
                if edge.source == node.id
                else Relationship(edge, nodes[edge.source], False)
                for edge in graph.edges
                if node.id in (edge.source, edge.target)
            ],
        )

    async def facts(
        self, session_id: UUID, *, limit: int, offset: int = 0, as_of: int | None = None
    ) -> FactPage:
        """A page of the statements that stand, drawn or not, newest first."""
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            parameters = _looking(session_id, view, as_of) | {"limit": limit, "offset": offset}
            total = await _count(curs, f"graph_statements WHERE {_STANDS}", parameters)
            await curs.execute(
                f"SELECT *, {_SUBJECT} AS subject, {_OBJECT} AS object"
                f" FROM graph_statements WHERE {_STANDS}"
                f" ORDER BY {_NEWEST_FIRST} LIMIT %(limit)s OFFSET %(offset)s",
                parameters,
            )
            facts = [_fact(row) for row in await curs.fetchall()]
        return FactPage(facts, total, view.position)

    async def entities(
        self, session_id: UUID, *, limit: int, offset: int = 0, as_of: int | None = None
    ) -> EntityPage:
        """A page of the entities that were named (literals are none), the newest first."""
        named = (
            "graph_names WHERE version = %(version)s AND session_id = %(session_id)s"
            " AND from_position <= %(at)s AND type IS DISTINCT FROM %(literal)s"
        )
        async with snapshot(self._pool) as curs:
            view = await view_at(curs, positions.GRAPH)
            parameters = _looking(session_id, view, as_of) | {
                "literal": LITERAL,
                "limit": limit,
                "offset": offset,
            }
            total = await _count(
                curs, f"(SELECT DISTINCT entity_id FROM {named}) AS entities", parameters
            )
            await curs.execute(
                "SELECT entity_id, min(from_position) AS position,"
                " array_agg(name ORDER BY from_position, mention) AS names,"
                " array_agg(type ORDER BY from_position, mention) AS types,"
                f" (SELECT count(*) FROM graph_statements WHERE {_STANDS}"
                "   AND entity_id IN (subject_id, object_id)) AS statement_count"
                f" FROM {named} GROUP BY entity_id"
                " ORDER BY position DESC, entity_id LIMIT %(limit)s OFFSET %(offset)s",
                parameters,
            )
            entities = [_entity(row) for row in await curs.fetchall()]
        return EntityPage(entities, total, view.position)

    async def neighbourhood(
        self, session_id: UUID, text: str, *, limit: int
    ) -> list[tuple[str, str]]:
        """Facts about the entities whose names the text contains, newest first.

        Pairs of a statement's id and a sentence, as ("...:3", "Kira is a ranger").
        """
        async with snapshot(self._pool) as curs:
            looked_at = _looking(session_id, await view_at(curs, positions.GRAPH))
            await curs.execute(
                "SELECT DISTINCT entity_id, name FROM graph_names"
                " WHERE version = %(version)s AND session_id = %(session_id)s"
                " AND type IS DISTINCT FROM %(literal)s"
                " AND strpos(lower(%(text)s), lower(name)) > 0",
                looked_at | {"literal": LITERAL, "text": text},
            )
            named = {
                row["entity_id"] for row in await curs.fetchall() if is_named_in(row["name"], text)
            }
            if not named:
                return []
            await curs.execute(
                f"SELECT * FROM ("
                "  SELECT DISTINCT ON (subject_id, predicate, object_id) *,"
                f"  {_SUBJECT} AS subject, {_OBJECT} AS object"
                f" FROM graph_statements WHERE {_IS_DRAWN}"
                "   AND (subject_id = ANY(%(named)s) OR object_id = ANY(%(named)s))"
                f" ORDER BY subject_id, predicate, object_id, {_OLDEST_FIRST}"
                f") AS facts ORDER BY {_NEWEST_FIRST} LIMIT %(limit)s",
                looked_at | {"named": list(named), "limit": limit},
            )
            return [
                (row["statement_id"], sentence(row["subject"], row["predicate"], row["object"]))
                for row in await curs.fetchall()
            ]


def _looking(session_id: UUID, view: ViewAt, as_of: int | None = None) -> dict[str, Any]:
    """The parameters of every query about a session's graph as of a position."""
    return {
        "version": view.version,
        "session_id": session_id,
        "at": view.position if as_of is None else as_of,
    }


async def _read_edges(curs: Cursor, looked_at: dict[str, Any], more: str = "") -> list[Row]:
    """The statements that are drawn: of equal ones the earliest that stands."""
    await curs.execute(
        "SELECT DISTINCT ON (subject_id, predicate, object_id) *"
        f" FROM graph_statements WHERE {_IS_DRAWN} {more}"
        f" ORDER BY subject_id, predicate, object_id, {_OLDEST_FIRST}",
        looked_at,
    )
    return await curs.fetchall()


async def _read_names(curs: Cursor, looked_at: dict[str, Any], more: str = "") -> list[Row]:
    """Names and types that entities have had by then, in the order in which they came."""
    await curs.execute(
        "SELECT entity_id, from_position, name, type FROM graph_names"
        " WHERE version = %(version)s AND session_id = %(session_id)s"
        f" AND from_position <= %(at)s {more}"
        " ORDER BY from_position, mention",
        looked_at,
    )
    return await curs.fetchall()


async def _read_touched(
    curs: Cursor, between: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str]]:
    """What may differ between two positions: facts (as columns of their parts), and entities."""
    await curs.execute(
        "SELECT DISTINCT subject_id, predicate, object_id FROM graph_statements"
        " WHERE version = %(version)s AND session_id = %(session_id)s"
        " AND (from_position > %(after)s AND from_position <= %(at)s"
        "  OR until_position > %(after)s AND until_position <= %(at)s)",
        between,
    )
    rows = await curs.fetchall()
    facts = {
        "subjects": [row["subject_id"] for row in rows],
        "predicates": [row["predicate"] for row in rows],
        "objects": [row["object_id"] for row in rows],
    }
    # Whatever gets a new name or type gets it from a statement that is among these.
    return facts, list({*facts["subjects"], *facts["objects"]})


async def _read_part(
    curs: Cursor, looked_at: dict[str, Any], facts: dict[str, list[str]], entities: list[str]
) -> tuple[dict[str, Node], dict[str, Edge]]:
    """Those of the facts and entities that are drawn as of a position, by id."""
    looked_at = looked_at | {"entities": entities, **facts}
    edge_rows = await _read_edges(
        curs,
        looked_at,
        "AND (subject_id, predicate, object_id) IN (SELECT * FROM unnest("
        "%(subjects)s::text[], %(predicates)s::text[], %(objects)s::text[]))",
    )
    name_rows = await _read_names(curs, looked_at, "AND entity_id = ANY(%(entities)s)")
    await curs.execute(
        "SELECT entity_id FROM unnest(%(entities)s::text[]) AS touched (entity_id) WHERE"
        f" EXISTS (SELECT FROM graph_statements WHERE {_IS_DRAWN} AND subject_id = entity_id) OR"
        f" EXISTS (SELECT FROM graph_statements WHERE {_IS_DRAWN} AND object_id = entity_id)",
        looked_at,
    )
    drawn = {row["entity_id"] for row in await curs.fetchall()}
    nodes = {node.id: node for node in _nodes(name_rows)}
    edges = {edge.id: edge for edge in _edges(edge_rows, nodes)}
    return {id: node for id, node in nodes.items() if id in drawn}, edges


async def _read_counts(curs: Cursor, query: str, parameters: dict[str, Any]) -> dict[str, int]:
    """How often each type comes, the most frequent first."""
    await curs.execute(f"{query} ORDER BY count DESC, type", parameters)
    return {row["type"]: row["count"] for row in await curs.fetchall()}


async def _count(curs: Cursor, source: str, parameters: dict[str, Any]) -> int:
    await curs.execute(f"SELECT count(*) AS total FROM {source}", parameters)
    row = await curs.fetchone()
    assert row is not None
    total: int = row["total"]
    return total


def _build_graph(
    session_id: UUID, edge_rows: Sequence[Row], name_rows: Sequence[Row], position: int
) -> Graph:
    named = {node.id: node for node in _nodes(name_rows)}
    edges = _edges(edge_rows, named)
    drawn = {id for edge in edges for id in (edge.source, edge.target)}
    nodes = [node for node in named.values() if node.id in drawn]
    return Graph(session_id, nodes, edges, position, len(nodes), len(edges))


def _nodes(name_rows: Sequence[Row]) -> list[Node]:
    """What entities were called, one node for each, in the order in which they were first named."""
    named: defaultdict[str, list[Row]] = defaultdict(list)
    for row in name_rows:
        named[row["entity_id"]].append(row)
    return [_node(entity_id, rows) for entity_id, rows in named.items()]


def _node(entity_id: str, rows: Sequence[Row]) -> Node:
    name, *aliases = dict.fromkeys(row["name"] for row in rows)
    return Node(
        entity_id,
        name,
        next((row["type"] for row in rows if row["type"]), ENTITY),
        f"Also called {', '.join(aliases)}." if aliases else "",
        {"aliases": aliases, "position": rows[0]["from_position"]},
    )


def _edges(rows: Sequence[Row], named: Mapping[str, Node]) -> list[Edge]:
    edges = [_edge(row, named) for row in rows]
    return sorted(edges, key=lambda edge: (edge.metadata["position"], len(edge.id), edge.id))


def _edge(row: Row, named: Mapping[str, Node]) -> Edge:
    subject, object = named[row["subject_id"]], named[row["object_id"]]
    return Edge(
        row["statement_id"],
        subject.id,
        object.id,
        row["predicate"],
        sentence(subject.name, row["predicate"], object.name),
        {
            "quote": row["quote"],
            "speaker": row["speaker"],
            "turn_id": row["turn_id"] and str(row["turn_id"]),
            "said_at": _rfc3339(row["said_at"]),
            "extractor": row["extractor"],
            "confidence": row["confidence"],
            "valid_from": row["valid_from"],
            "valid_to": row["valid_to"],
            "source_position": row["source_position"],
            "position": row["from_position"],
        },
    )


def _fact(row: Row) -> Fact:
    words = ("not " if row["polarity"] == "no" else "") + row["predicate"]
    return Fact(
        text=sentence(row["subject"], words, row["object"]),
        position=row["from_position"],
        **{name: row[name] for name in _FACT_COLUMNS},
    )


def _entity(row: Row) -> Entity:
    name, *aliases = dict.fromkeys(row["names"])
    return Entity(
        row["entity_id"],
        name,
        next((type for type in row["types"] if type), ENTITY),
        aliases,
        row["statement_count"],
        row["position"],
    )


def sentence(subject: str, predicate: str, object: str) -> str:
    """A statement in words: ("Kira", "lives_in", "Aldermoor") is "Kira lives in Aldermoor"."""
    return f"{subject} {predicate.replace('_', ' ').replace('-', ' ')} {object}"


def _around(graph: Graph, entity: str, depth: int) -> Graph:
    """The nodes within `depth` edges of one, whatever their direction."""
    ids = {node.id for node in graph.nodes}
    start = entity if entity in ids else entity_id_of(graph.session_id, entity)
    if start not in ids:
        raise UnknownEntityError(entity)
    reached = {start}
    for _ in range(depth):
        reached |= {
            id
            for edge in graph.edges
            if edge.source in reached or edge.target in reached
            for id in (edge.source, edge.target)
        }
    return _only(graph, reached)


def _limited(graph: Graph, node_limit: int | None, edge_limit: int | None) -> Graph:
    if node_limit is not None and len(graph.nodes) > node_limit:
        degrees = Counter(id for edge in graph.edges for id in (edge.source, edge.target))
        kept = sorted(graph.nodes, key=lambda node: -degrees[node.id])[:node_limit]
        graph = _only(graph, {node.id for node in kept})
    if edge_limit is not None:
        graph = replace(graph, edges=graph.edges[max(0, len(graph.edges) - edge_limit) :])
    return graph


def _only(graph: Graph, ids: Collection[str]) -> Graph:
    return replace(
        graph,
        nodes=[node for node in graph.nodes if node.id in ids],
        edges=[edge for edge in graph.edges if edge.source in ids and edge.target in ids],
    )


def _rfc3339(time: datetime) -> str:
    """UTC with milliseconds, as "2023-05-08T13:56:00.000Z"."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
