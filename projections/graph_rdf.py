"""A session's graph as RDF: the facts in one named graph, where they come from in another."""

from collections.abc import Iterable, Iterator
from urllib.parse import quote
from uuid import UUID

from rdflib import RDF, RDFS, SKOS, XSD, Literal, Namespace, URIRef
from rdflib.term import Node as Term

from projections.graph import Edge, Graph, Node
from projections.graph_projection import LITERAL

LW = Namespace("urn:lorewire:term:")  # our own terms
PREDICATE = Namespace("urn:lorewire:predicate:")
TYPE = Namespace("urn:lorewire:type:")
PREFIXES = {"lw": LW, "p": PREDICATE, "t": TYPE}

Triple = tuple[Term, Term, Term]

_TERMS = {  # of a statement's metadata, by its key
    "quote": (LW.quote, None),
    "speaker": (LW.speaker, None),
    "turn_id": (LW.turn, None),
    "said_at": (LW.saidAt, XSD.dateTime),
    "extractor": (LW.extractor, None),
    "confidence": (LW.confidence, XSD.double),
    "valid_from": (LW.validFrom, None),
    "valid_to": (LW.validTo, None),
    "source_position": (LW.sourcePosition, XSD.integer),
    "position": (LW.position, XSD.integer),
}


def named_graphs(graph: Graph, *, include_metadata: bool) -> dict[URIRef, Iterable[Triple]]:
    """The triples of a graph, by the name of the graph that they belong to.

    `urn:session:<id>` has the facts, with rdfs:label and rdf:type of every entity. With metadata
    `urn:session:<id>:meta` has an rdf:Statement for each fact, and the aliases. IRIs are made from
    ids, or percent-encoded from predicates and types; names are labels only.
    """
    iri = graph_iri(graph.session_id)
    terms = {node.id: _term(iri, node) for node in graph.nodes}
    named: dict[URIRef, Iterable[Triple]] = {iri: _facts(graph, terms)}
    if include_metadata:
        named[iri + ":meta"] = _metadata(graph, terms)
    return named


def graph_iri(session_id: UUID) -> URIRef:
    """The name of a session's graph."""
    return URIRef(f"urn:session:{session_id}")


def _facts(graph: Graph, terms: dict[str, Term]) -> Iterator[Triple]:
    for node in graph.nodes:
        if node.type != LITERAL:
            yield terms[node.id], RDFS.label, Literal(node.name)
            yield terms[node.id], RDF.type, TYPE[quote(node.type, safe="")]
    for edge in graph.edges:
        yield terms[edge.source], _predicate(edge), terms[edge.target]


def _metadata(graph: Graph, terms: dict[str, Term]) -> Iterator[Triple]:
    for node in graph.nodes:
        if node.type != LITERAL:
            for alias in node.metadata["aliases"]:
                yield terms[node.id], SKOS.altLabel, Literal(alias)
    for edge in graph.edges:
        statement = graph_iri(graph.session_id) + f":statement:{quote(edge.id, safe='')}"
        yield statement, RDF.type, RDF.Statement
        yield statement, RDF.subject, terms[edge.source]
        yield statement, RDF.predicate, _predicate(edge)
        yield statement, RDF.object, terms[edge.target]
        for key, (term, datatype) in _TERMS.items():
            if edge.metadata[key] is not None:
                yield statement, term, Literal(edge.metadata[key], datatype=datatype)


def _term(iri: URIRef, node: Node) -> Term:
    if node.type == LITERAL:
        return Literal(node.name)
    return iri + f":entity:{quote(node.id, safe='')}"


def _predicate(edge: Edge) -> URIRef:
    return PREDICATE[quote(edge.type, safe="")]
