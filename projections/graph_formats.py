"""A graph in the formats that clients ask for."""

import json
import re
from collections.abc import Iterable
from typing import Any, Literal
from xml.etree import ElementTree as ET

from rdflib import RDF, BNode
from rdflib import Graph as RdfGraph
from rdflib import Literal as RdfLiteral
from rdflib.term import Node as Term

from projections.graph import Edge, Graph, Node
from projections.graph_rdf import PREFIXES, Triple, named_graphs

Format = Literal["json", "d3", "turtle", "json-ld", "graphml"]

_GRAPHML = "http://graphml.graphdrawing.org/xmlns"
# XML 1.0 has no way to write these.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(graph: Graph, format: Format, *, include_metadata: bool = True) -> dict[str, Any] | str:
    """The graph in one format: an object for json and d3, text for the others.

    Without metadata only ids, names, types and descriptions are left. Takes some 0.1 ms an edge for
    turtle and json-ld: not for an event loop.
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
    together = RdfGraph()
    for prefix, namespace in PREFIXES.items():
        together.bind(prefix, namespace)
    for triples in named_graphs(graph, include_metadata=include_metadata).values():
        for triple in triples:
            together.add(triple)
    return together.serialize(format="turtle")


def _to_json_ld(graph: Graph, *, include_metadata: bool) -> str:
    """JSON-LD in its expanded form, one object for each named graph."""
    named = named_graphs(graph, include_metadata=include_metadata)
    return json.dumps([json_ld_graph(triples, iri) for iri, triples in named.items()])


def json_ld_graph(triples: Iterable[Triple], iri: str | None = None) -> dict[str, Any]:
    """Triples as a JSON-LD graph object in expanded form, with a name where `iri` gives one."""
    subjects: dict[Term, dict[str, Any]] = {}
    for subject, predicate, object in triples:
        properties = subjects.setdefault(subject, {"@id": _json_ld_id(subject)})
        if predicate == RDF.type:
            properties.setdefault("@type", []).append(_json_ld_id(object))
        else:
            properties.setdefault(str(predicate), []).append(_json_ld_value(object))
    name = {} if iri is None else {"@id": str(iri)}
    return {**name, "@graph": list(subjects.values())}


def _json_ld_id(term: Term) -> str:
    return f"_:{term}" if isinstance(term, BNode) else str(term)


def _json_ld_value(term: Term) -> dict[str, str]:
    if not isinstance(term, RdfLiteral):
        return {"@id": _json_ld_id(term)}
    value = {"@value": str(term)}
    if term.language:
        value["@language"] = term.language
    elif term.datatype:
        value["@type"] = str(term.datatype)
    return value


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
