"""SPARQL reads one session's graph, and nothing can be done with it but that."""

import asyncio
import os
import signal
import socket
import threading
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from projections.graph_parts import Account, Edge, Graph, History, Moment, Node
from projections.sparql import SparqlEngine, SparqlError
from tests.projections.test_graph_formats import SESSION, graph_of

ENDLESS = "SELECT (COUNT(*) AS ?n) {" + "".join(f"?a{n} ?b{n} ?c{n} . " for n in range(12)) + "}"


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[SparqlEngine]:
    engine = SparqlEngine(time_limit_s=1.0)
    yield engine
    await engine.close()


def wide_graph(count: int) -> Graph:
    one = graph_of("Kira", "owns", "v")
    nodes = [one.nodes[0]] + [
        Node(f"n{n}", f"Thing {n}", "thing", "", {"aliases": [], "position": 5})
        for n in range(count)
    ]
    edges = [Edge(f"t:{n}", "aa", f"n{n}", "owns", "", one.edges[0].metadata) for n in range(count)]
    return Graph(SESSION, nodes, edges, 9, len(nodes), len(edges))


async def ask(engine: SparqlEngine, graph: Graph, query: str) -> dict[str, Any]:
    """The answer to a query over a graph in which nothing has ended."""
    accounts = [
        Account(
            edge.id,
            edge.source,
            edge.type,
            edge.target,
            polarity="yes",
            modality="fact",
            said_by=None,
            **edge.metadata,
        )
        for edge in graph.edges
    ]
    # Another graph is another moment.
    moment = Moment(graph.session_id, 1, 0, zlib.crc32(repr(graph).encode()))

    async def read() -> History:
        return History(moment, graph.nodes, accounts)

    return await engine.query(query, moment=moment, read=read)


def values(answer: dict[str, Any], name: str) -> list[str]:
    return [row[name]["value"] for row in answer["results"]["bindings"]]


async def test_select_ask_and_construct_are_answered(engine: SparqlEngine) -> None:
    graph = graph_of("Kira", "lives in", "Aldermoor")

    selected = await ask(
        engine, graph, "SELECT ?name ?where {?s p:lives%20in ?where; rdfs:label ?name; a t:person}"
    )
    asked = await ask(engine, graph, "ASK {?s rdfs:label 'Kira'}")
    constructed = await ask(
        engine, graph, "CONSTRUCT {?s lw:called ?name} WHERE {?s rdfs:label ?name}"
    )

    assert selected["head"]["vars"] == ["name", "where"]
    assert (values(selected, "name"), values(selected, "where")) == (["Kira"], ["Aldermoor"])
    assert asked["boolean"] is True
    (subject,) = constructed["@graph"]
    assert subject["@id"] == f"urn:session:{SESSION}:entity:aa"
    assert subject["urn:lorewire:term:called"][0]["@value"] == "Kira"


async def test_where_a_fact_comes_from_is_in_the_second_graph(engine: SparqlEngine) -> None:
    graph = graph_of("Kira", "owns", "Ash")

    answer = await ask(
        engine,
        graph,
        f"SELECT ?quote {{GRAPH <urn:session:{SESSION}:meta> {{"
        "?f rdf:predicate p:owns; lw:quote ?quote; lw:position ?at} FILTER(?at = 5)}",
    )

    assert values(answer, "quote") == ["Kira"]


async def test_each_query_sees_its_own_graph(engine: SparqlEngine) -> None:
    query = "SELECT ?name {?s rdfs:label ?name}"

    for name in ("Kira", "Bob", "Kira"):
        assert values(await ask(engine, graph_of(name, "p", "v"), query), "name") == [name]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("INSERT DATA {<urn:a> <urn:b> <urn:c>}", "update"),
        ("DELETE WHERE {?s ?p ?o}", "update"),
        ("LOAD <file:///etc/passwd>", "update"),
        ("CLEAR ALL", "update"),
        ("DESCRIBE ?s {?s ?p ?o}", "Only SELECT"),
        ("SELECT * {SERVICE <http://127.0.0.1/> {?s ?p ?o}}", "SERVICE"),
        ("SELECT * {{SELECT * {OPTIONAL {service silent ?x {?s ?p ?o}}}}}", "SERVICE"),
        ("SELECT * {FILTER EXISTS {SERVICE <urn:x> {?s ?p ?o}}}", "SERVICE"),
        ("SELECT * {\\u0053ERVICE <urn:x> {?s ?p ?o}}", "SERVICE"),
        ("SELECT * FROM <file:///etc/passwd> {?s ?p ?o}", "FROM"),
        ("SELECT * FROM NAMED <http://127.0.0.1/> {?s ?p ?o}", "FROM"),
        ("SELECT", "not SPARQL"),
        ("", "not SPARQL"),
        ("((((" * 1000, "not SPARQL|can't be answered"),
        ("SELECT ?x {?x nobody:knows ?y}", "can't be answered"),
        ("SELECT * {" + "{" * 3000 + "}" * 3000 + "}", "can't be answered|stopped"),
    ],
)
async def test_anything_else_is_refused_with_a_reason(
    query: str, reason: str, engine: SparqlEngine
) -> None:
    graph = graph_of("Kira", "owns", "Ash")

    with pytest.raises(SparqlError, match=reason):
        await ask(engine, graph, query)

    assert (await ask(engine, graph, "ASK {?s ?p ?o}"))["boolean"] is True


async def test_a_service_that_is_hidden_from_the_check_reaches_nobody(
    engine: SparqlEngine,
) -> None:
    """A carriage return ends a comment for Oxigraph, and not for the parser that checks."""
    called = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        called.set()
        conn.close()

    thread = threading.Thread(target=listen)
    thread.start()
    port = listener.getsockname()[1]

    with pytest.raises(SparqlError):
        await ask(
            engine,
            graph_of("Kira", "owns", "Ash"),
            f"SELECT * {{?s ?p ?o #\r SERVICE <http://127.0.0.1:{port}/> {{?x ?y ?z}}\n}}",
        )

    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)
    assert not called.is_set()


async def test_an_endless_query_is_stopped_and_the_next_is_answered(engine: SparqlEngine) -> None:
    graph = wide_graph(300)
    await ask(engine, graph, "ASK {?s ?p ?o}")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    with pytest.raises(SparqlError, match="after 1 seconds"):
        await ask(engine, graph, ENDLESS)
    ticking.cancel()

    assert ticks > 50  # the loop was free meanwhile
    assert (await ask(engine, graph, "ASK {?s ?p ?o}"))["boolean"] is True


async def test_too_many_rows_are_refused(engine: SparqlEngine) -> None:
    graph = wide_graph(120)
    product = "?a p:owns ?b. ?c p:owns ?d"

    with pytest.raises(SparqlError, match="10000 rows"):
        await ask(engine, graph, f"SELECT * {{{product}}}")
    with pytest.raises(SparqlError, match="10000 triples"):
        await ask(engine, graph, f"CONSTRUCT {{?b lw:near ?d}} {{{product}}}")

    answer = await ask(engine, graph, f"SELECT * {{{product}}} LIMIT 10000")
    assert len(answer["results"]["bindings"]) == 10_000


async def test_a_query_whose_asker_has_gone_harms_nobody(engine: SparqlEngine) -> None:
    graph = wide_graph(300)
    asked = asyncio.create_task(ask(engine, graph, ENDLESS))
    await asyncio.sleep(0.8)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)

    assert values(await ask(engine, graph, "SELECT (1 AS ?n) {}"), "n") == ["1"]


async def test_a_process_that_died_is_replaced(engine: SparqlEngine) -> None:
    graph = graph_of("Kira", "owns", "Ash")
    await ask(engine, graph, "ASK {?s ?p ?o}")
    assert engine._process is not None
    os.kill(engine._process.pid, signal.SIGKILL)

    with pytest.raises(SparqlError):
        await ask(engine, graph, "ASK {?s ?p ?o}")

    assert (await ask(engine, graph, "ASK {?s ?p ?o}"))["boolean"] is True
