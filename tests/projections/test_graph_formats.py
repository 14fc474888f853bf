"""Every format can be read back, whatever things are called."""

import json
import warnings
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib import RDF, RDFS, SKOS, Dataset, Literal, Namespace, URIRef
from rdflib import Graph as RdfGraph

from projections import graph_rdf
from projections.graph_formats import render
from projections.graph_parts import Edge, Graph, Node
from projections.graph_rdf import PREDICATE

SESSION = UUID(int=7)
GRAPH = URIRef(f"urn:session:{SESSION}")
LW = Namespace(graph_rdf.LW)
NASTY = [
    "plain",
    'quote " and \' and """ and \\',
    "line\nbreak\r\n\ttab",
    "🐉 Ünïcode",
    "<b> & ]]> </graphml>",
    "bell \x07, escape \x1b, del \x7f, \x01",
    "urn:x> <y",
    "{}|^`",
    " ",
    "%20",
]


def graph_of(name: str, predicate: str, value: str, type: str = "person") -> Graph:
    metadata = {
        "quote": name,
        "speaker": value,
        "turn_id": None,
        "said_at": "2026-05-08T12:00:00.000Z",
        "learned_at": "2026-05-08T12:00:01.000Z",
        "extractor": "test/1",
        "confidence": 0.8,
        "valid_from": None,
        "valid_to": value,
        "source_position": 3,
        "position": 5,
    }
    nodes = [
        Node("aa", name, type, "", {"aliases": [value], "position": 5}),
        Node("bb", value, "literal", "", {"aliases": [], "position": 5}),
    ]
    edges = [Edge(f"{name}:0", "aa", "bb", predicate, "A sentence.", metadata)]
    return Graph(SESSION, nodes, edges, 9, 2, 1)


def text_of(graph: Graph, format: str, *, include_metadata: bool = True) -> str:
    text = render(graph, format, include_metadata=include_metadata)  # type: ignore[arg-type]
    assert isinstance(text, str)
    return text


names = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)


@settings(deadline=None, max_examples=60)
@given(names, names, names)
def test_turtle_reads_back(name: str, predicate: str, value: str) -> None:
    graph = RdfGraph().parse(data=text_of(graph_of(name, predicate, value), "turtle"))

    entity = URIRef(f"urn:session:{SESSION}:entity:aa")
    assert graph.value(entity, RDFS.label) == Literal(name)
    assert graph.value(entity, SKOS.altLabel) == Literal(value)
    (fact,) = [
        triple for triple in graph if triple[0] == entity and str(triple[1]).startswith(PREDICATE)
    ]
    assert fact[2] == Literal(value)
    (statement,) = graph.subjects(RDF.type, RDF.Statement)
    assert graph.value(statement, LW.quote) == Literal(name)
    assert graph.value(statement, RDF.predicate) == fact[1]


@settings(deadline=None, max_examples=60)
@given(names, names, names)
def test_json_ld_reads_back_as_named_graphs(name: str, predicate: str, value: str) -> None:
    text = text_of(graph_of(name, predicate, value), "json-ld")
    dataset = Dataset()
    with warnings.catch_warnings(action="ignore"):  # rdflib's parser uses what rdflib deprecates
        dataset.parse(data=text, format="json-ld")

    facts = dataset.graph(GRAPH)
    meta = dataset.graph(URIRef(f"{GRAPH}:meta"))
    assert facts.value(None, RDFS.label, Literal(name)) is not None
    assert len(facts) == 3
    assert list(meta.objects(None, LW.quote)) == [Literal(name)]


@settings(deadline=None, max_examples=100)
@given(names, names, names)
def test_graphml_reads_back(name: str, predicate: str, value: str) -> None:
    root = ET.fromstring(text_of(graph_of(name, predicate, value), "graphml"))

    space = "{http://graphml.graphdrawing.org/xmlns}"
    node = root.find(f".//{space}node[@id='aa']")
    edge = root.find(f".//{space}edge")
    assert node is not None
    assert edge is not None
    data = {item.get("key"): item.text for item in node.iter(f"{space}data")}
    keys = {key.get("id") for key in root.iter(f"{space}key")}
    assert set(data) <= keys
    assert (edge.get("source"), edge.get("target")) == ("aa", "bb")
    if all(character >= " " and character != "\x7f" for character in name):
        assert (data["node-name"] or "").replace("\ufffd", "") == name.translate(
            {0xFFFE: None, 0xFFFF: None, 0xFFFD: None}
        )


def test_characters_that_xml_lacks_are_replaced() -> None:
    text = text_of(graph_of("bell \x07", "p", "v"), "graphml")

    assert "bell \ufffd" in text


@pytest.mark.parametrize("name", NASTY)
def test_json_and_d3_are_the_same_but_for_a_name(name: str) -> None:
    graph = graph_of(name, "owns", "v")

    as_json = render(graph, "json")
    as_d3 = render(graph, "d3")

    assert isinstance(as_json, dict)
    assert isinstance(as_d3, dict)
    assert as_json["edges"] == as_d3["links"]
    assert as_json["nodes"] == as_d3["nodes"]
    assert set(as_json["nodes"][0]) == {"id", "name", "type", "description", "metadata"}
    assert set(as_json["edges"][0]) == {
        *("id", "source", "target", "type", "description", "metadata")
    }
    assert json.loads(json.dumps(as_json)) == as_json


def test_metadata_can_be_left_out() -> None:
    graph = graph_of("Kira", "owns", "secret words")
    graph.nodes[1] = Node("bb", "Ash", "horse", "", {"aliases": [], "position": 5})

    as_json = render(graph, "json", include_metadata=False)

    assert isinstance(as_json, dict)
    assert "metadata" not in as_json
    assert all("metadata" not in item for item in as_json["nodes"] + as_json["edges"])
    for format in ("turtle", "json-ld", "graphml"):
        assert "secret words" in text_of(graph, format)
        assert "secret words" not in text_of(graph, format, include_metadata=False)
        assert "Kira" in text_of(graph, format, include_metadata=False)


@pytest.mark.parametrize("format", ["json", "d3", "turtle", "json-ld", "graphml"])
def test_an_empty_graph_has_every_format(format: str) -> None:
    empty = Graph(SESSION, [], [], 0, 0, 0)

    assert render(empty, format) is not None  # type: ignore[arg-type]
