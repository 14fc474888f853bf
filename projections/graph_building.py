"""From the rows of the graph to its parts."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from projections.graph_parts import (
    ENTITY,
    Account,
    Edge,
    Entity,
    Fact,
    Graph,
    History,
    Moment,
    Node,
    sentence,
)

Row = dict[str, Any]

ACCOUNT_FIELDS = [field.name for field in fields(Account)]
ENDING_FIELDS = ("ended_reason", "ended_by", "ended_note", "ended_at", "until_position")
FACT_COLUMNS = [field.name for field in fields(Fact) if field.name not in ("text", "position")]


def history_of(moment: Moment, account_rows: Sequence[Row], name_rows: Sequence[Row]) -> History:
    """All that the rows of statements and names tell at a moment."""
    rows = sorted(account_rows, key=lambda row: (row["position"], row["number"]))
    return History(moment, nodes_of(name_rows), [account_of(row, moment.position) for row in rows])


def account_of(row: Row, at: int) -> Account:
    """A statement as it was at a position: what ended it later is not said."""
    values = {name: row[name] for name in ACCOUNT_FIELDS}
    if row["until_position"] is None or row["until_position"] > at:  # it had not ended then
        values |= dict.fromkeys(ENDING_FIELDS)
    for name in ("said_at", "learned_at", "ended_at"):
        values[name] = values[name] and rfc3339(values[name])
    values["turn_id"] = values["turn_id"] and str(values["turn_id"])
    return Account(**values)


def graph_of(
    session_id: UUID, edge_rows: Sequence[Row], name_rows: Sequence[Row], position: int
) -> Graph:
    """The graph that these rows draw."""
    named = {node.id: node for node in nodes_of(name_rows)}
    edges = edges_of(edge_rows, named)
    drawn = {id for edge in edges for id in (edge.source, edge.target)}
    nodes = [node for node in named.values() if node.id in drawn]
    return Graph(session_id, nodes, edges, position, len(nodes), len(edges))


def nodes_of(name_rows: Sequence[Row]) -> list[Node]:
    """What entities were called, one node for each, in the order in which they were first named."""
    named: defaultdict[str, list[Row]] = defaultdict(list)
    for row in name_rows:
        named[row["entity_id"]].append(row)
    return [node_of(entity_id, rows) for entity_id, rows in named.items()]


def node_of(entity_id: str, rows: Sequence[Row]) -> Node:
    """One entity with all its names, the first of which is its own."""
    name, *aliases = dict.fromkeys(row["name"] for row in rows)
    return Node(
        entity_id,
        name,
        next((row["type"] for row in rows if row["type"]), ENTITY),
        f"Also called {', '.join(aliases)}." if aliases else "",
        {"aliases": aliases, "position": rows[0]["position"]},
    )


def edges_of(rows: Sequence[Row], named: Mapping[str, Node]) -> list[Edge]:
    return [
        edge_of(row, named)
        for row in sorted(rows, key=lambda row: (row["position"], row["number"]))
    ]


def edge_of(row: Row, named: Mapping[str, Node]) -> Edge:
    """One fact with where it comes from."""
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
            "said_at": rfc3339(row["said_at"]),
            "learned_at": rfc3339(row["learned_at"]),
            "extractor": row["extractor"],
            "confidence": row["confidence"],
            "valid_from": row["valid_from"],
            "valid_to": row["valid_to"],
            "source_position": row["source_position"],
            "position": row["position"],
        },
    )


def fact_of(row: Row) -> Fact:
    """One statement as it is listed."""
    words = ("not " if row["polarity"] == "no" else "") + row["predicate"]
    return Fact(
        text=sentence(row["subject"], words, row["object"]),
        position=row["position"],
        **{name: row[name] for name in FACT_COLUMNS},
    )


def entity_of(row: Row) -> Entity:
    """One entity as it is listed."""
    name, *aliases = dict.fromkeys(row["names"])
    return Entity(
        row["entity_id"],
        name,
        next((type for type in row["types"] if type), ENTITY),
        aliases,
        row["statement_count"],
        row["position"],
    )


def limited(graph: Graph, node_limit: int | None, edge_limit: int | None) -> Graph:
    """The nodes that most edges touch, or the newest edges."""
    if node_limit is not None and len(graph.nodes) > node_limit:
        degrees = Counter(id for edge in graph.edges for id in (edge.source, edge.target))
        kept = sorted(graph.nodes, key=lambda node: -degrees[node.id])[:node_limit]
        graph = only(graph, {node.id for node in kept})
    if edge_limit is not None:
        graph = replace(graph, edges=graph.edges[max(0, len(graph.edges) - edge_limit) :])
    return graph


def only(graph: Graph, ids: Collection[str]) -> Graph:
    """A part of a graph: these nodes, and the edges between them."""
    return replace(
        graph,
        nodes=[node for node in graph.nodes if node.id in ids],
        edges=[edge for edge in graph.edges if edge.source in ids and edge.target in ids],
    )


def rfc3339(time: datetime) -> str:
    """UTC with milliseconds, as "2023-05-08T13:56:00.000Z"."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
