"""A graph in the formats that clients ask for."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal
from xml.etree import ElementTree as ET

from pyoxigraph import Quad, RdfFormat, serialize

from projections.graph_parts import Account, Edge, Graph, Node
from projections.graph_rdf import PREFIXES, quads

Format = Literal["json", "d3", "turtle", "json-ld", "graphml"]

_GRAPHML = "http://graphml.graphdrawing.org/xmlns"
# XML 1.0 has no way to write these.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(graph: Graph, format: Format, *, include_metadata: bool = True) -> dict[str, Any] | str:
    """The graph in one format: an object for json and d3, text for the others.

    Without metadata only ids, names, types and descriptions are left. Takes as long as the graph is
    large: not for an event loop.
    """
    match format:
        case "json":
            return to_json(graph, include_metadata=include_metadata)
        case "d3":
            answer = to_json(graph, include_metadata=include_metadata)
            answer["links"] = answer.pop("edges")
            return answer
        case "turtle":
            return _to_turtle(graph, include_metadata=include_metadata)
        case "json-ld":
            return _to_json_ld(graph, include_metadata=include_metadata)
        case "graphml":
            return _to_graphml(graph, include_metadata=include_metadata)


def to_json(graph: Graph, *, include_metadata: bool = True) -> dict[str, Any]:
    """Nodes and edges as objects, and what they are a part of."""
    answer: dict[str, Any] = {
        "nodes": [_as_object(node, include_metadata) for node in graph.nodes],
        "edges": [_as_object(edge, include_metadata) for edge in graph.edges],
    }
    if include_metadata:
        answer["metadata"] = {
            "session_id": str(graph.session_id),
            "view_position": graph.view_position,
            "total_nodes": graph.total_nodes,
            "total_edges": graph.total_edges,
        }
    return answer


def _as_object(item: Node | Edge, include_metadata: bool) -> dict[str, Any]:
    values = dict(vars(item))
    if not include_metadata:
        del values["metadata"]
    return values


def _to_turtle(graph: Graph, *, include_metadata: bool) -> str:
    """Turtle has no named graphs: facts and metadata in one."""
    triples = (quad.triple for quad in _quads(graph, include_metadata))
    return _text(serialize(triples, format=RdfFormat.TURTLE, prefixes=PREFIXES))


def _to_json_ld(graph: Graph, *, include_metadata: bool) -> str:
    """JSON-LD in its expanded form, one object for each named graph."""
    return _text(serialize(_quads(graph, include_metadata), format=RdfFormat.JSON_LD))


def _text(written: bytes | None) -> str:
    assert written is not None, "it was written nowhere else"
    return written.decode()


def _quads(graph: Graph, include_metadata: bool) -> Iterator[Quad]:
    accounts = [_account(edge) for edge in graph.edges]
    return quads(graph.session_id, graph.nodes, accounts, include_metadata=include_metadata)


def _account(edge: Edge) -> Account:
    return Account(
        edge.id,
        edge.source,
        edge.type,
        edge.target,
        polarity="yes",
        modality="fact",
        said_by=None,
        **edge.metadata,
    )


def _to_graphml(graph: Graph, *, include_metadata: bool) -> str:
    root = ET.Element("graphml", xmlns=_GRAPHML)
    content = ET.Element("graph", edgedefault="directed", id=f"session-{graph.session_id}")
    keys: dict[str, set[str]] = {"node": set(), "edge": set()}
    for node in graph.nodes:
        element = ET.SubElement(content, "node", id=node.id)
        values = _values_of(node, include_metadata)
        keys["node"] |= _add_data(element, "node", values)
    for edge in graph.edges:
        element = ET.SubElement(
            content, "edge", id=_for_xml(edge.id), source=edge.source, target=edge.target
        )
        keys["edge"] |= _add_data(element, "edge", _values_of(edge, include_metadata))
    for kind, names in keys.items():
        for name in sorted(names):
            attributes = {"for": kind, "attr.name": name, "attr.type": "string"}
            ET.SubElement(root, "key", {"id": f"{kind}-{name}", **attributes})
    root.append(content)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _values_of(item: Node | Edge, include_metadata: bool) -> dict[str, Any]:
    structure = ("id", "source", "target", "metadata")
    values = {name: value for name, value in vars(item).items() if name not in structure}
    return {**values, **item.metadata} if include_metadata else values


def _add_data(element: ET.Element, kind: str, values: dict[str, Any]) -> set[str]:
    """Write an element's attributes, those that have a value; returns their names."""
    written = {name: value for name, value in values.items() if value not in (None, "", [])}
    for name, value in written.items():
        data = ET.SubElement(element, "data", key=f"{kind}-{name}")
        data.text = _for_xml(value if isinstance(value, str) else json.dumps(value))
    return set(written)


def _for_xml(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
