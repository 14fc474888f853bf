"""The process that answers SPARQL queries: it can be killed, and has no files and no network.

Reads requests from standard input and writes answers to standard output, each as JSON after its
length. It keeps the graphs that were asked last. A query that takes too long ends the process;
`sparql.SparqlEngine` starts another one.
"""

import json
import resource
import signal
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast
from uuid import UUID

from oxrdflib import OxigraphStore
from pyoxigraph import Store
from pyparsing import ParseBaseException, ParseResults
from rdflib import RDF, BNode, Dataset, Literal
from rdflib import Graph as RdfGraph
from rdflib.plugins.sparql.parser import parseQuery, parseUpdate
from rdflib.plugins.sparql.parserutils import CompValue
from rdflib.query import Result
from rdflib.term import Node as Term

from projections.graph_parts import Account, Node
from projections.graph_rdf import PREFIXES, graph_iri, quads

LENGTH_BYTES = 8
MAX_GRAPHS = 2  # kept at hand
MAX_ROWS = 10_000
MAX_MEMORY_BYTES = 4 * 1024**3  # address space, for the graphs and what a query makes of them

Triple = tuple[Term, Term, Term]

ANSWERED = frozenset({"SelectQuery", "AskQuery", "ConstructQuery"})


class RefusedQueryError(Exception):
    """The query is not answered; the text is a sentence for the client."""


def main() -> None:
    """Answer requests until standard input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints must not get between the answers
    warnings.simplefilter("ignore")
    graph = _load({"session_id": str(UUID(int=0)), "nodes": [], "accounts": []})
    for query in ("SELECT * {?s ?p ?o}", "ASK {?s ?p ?o}", "CONSTRUCT {?s ?p ?o} {?s ?p ?o}"):
        _answer(graph, query)  # loads what is loaded when first used, while files can be opened
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    graphs: OrderedDict[int, RdfGraph] = OrderedDict()
    while (request := _read(requests)) is not None:
        number = request["number"]
        if request["history"] is not None:
            while len(graphs) >= MAX_GRAPHS:
                graphs.popitem(last=False)
            graphs[number] = _load(request["history"])
        graph = graphs[number]
        graphs.move_to_end(number)
        signal.setitimer(signal.ITIMER_REAL, request["time_limit_s"])
        try:
            answer: dict[str, Any] = {"answer": _answer(graph, request["query"])}
        except RefusedQueryError as error:
            answer = {"error": str(error)}
        except Exception as error:
            answer = {"error": f"The query can't be answered: {error or type(error).__name__}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(answers, answer)


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    return cast(dict[str, Any], json.loads(stream.read(int.from_bytes(head, "big"))))


def _write(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    stream.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    stream.flush()


def _load(history: dict[str, Any]) -> RdfGraph:
    """The facts of a session in an Oxigraph store that has the metadata in its other graph."""
    session_id = UUID(history["session_id"])
    nodes = [Node(**node) for node in history["nodes"]]
    accounts = [Account(**account) for account in history["accounts"]]
    store = Store()
    store.bulk_extend(quads(session_id, nodes, accounts, include_metadata=True))
    dataset = Dataset(store=OxigraphStore(store=store))
    for prefix, namespace in PREFIXES.items():
        dataset.bind(prefix, namespace)
    return dataset.graph(graph_iri(session_id))


def _answer(graph: RdfGraph, query: str) -> dict[str, Any]:
    _refuse_all_but_reading(query)
    result = graph.query(query)
    if result.type == "CONSTRUCT":
        assert result.graph is not None
        if len(result.graph) > MAX_ROWS:
            raise _too_many("triples")
        return _json_ld(result.graph)
    if result.type == "SELECT":
        _fetch(result)
    serialized = result.serialize(format="json")
    assert serialized is not None
    return cast(dict[str, Any], json.loads(serialized))


def _json_ld(triples: Iterable[Triple]) -> dict[str, Any]:
    """Triples as a JSON-LD graph object in expanded form."""
    subjects: dict[Term, dict[str, Any]] = {}
    for subject, predicate, object in triples:
        properties = subjects.setdefault(subject, {"@id": _json_ld_id(subject)})
        if predicate == RDF.type:
            properties.setdefault("@type", []).append(_json_ld_id(object))
        else:
            properties.setdefault(str(predicate), []).append(_json_ld_value(object))
    return {"@graph": list(subjects.values())}


def _json_ld_id(term: Term) -> str:
    return f"_:{term}" if isinstance(term, BNode) else str(term)


def _json_ld_value(term: Term) -> dict[str, str]:
    if not isinstance(term, Literal):
        return {"@id": _json_ld_id(term)}
    value = {"@value": str(term)}
    if term.language:
        value["@language"] = term.language
    elif term.datatype:
        value["@type"] = str(term.datatype)
    return value


def _fetch(result: Result) -> None:
    for number, _ in enumerate(result, 1):
        if number > MAX_ROWS:
            raise _too_many("rows")


def _too_many(what: str) -> RefusedQueryError:
    return RefusedQueryError(f"The query gives more than {MAX_ROWS} {what}: add a LIMIT.")


def _refuse_all_but_reading(query: str) -> None:
    """Say why a query is not run. That none reaches beyond the graph, the limits see to."""
    try:
        _, parsed = parseQuery(query)
    except ParseBaseException as error:
        if _is_update(query):
            raise RefusedQueryError(
                "The query is an update. The graph follows from what was said and is only read."
            ) from None
        raise RefusedQueryError(f"The query is not SPARQL: {error}.") from None
    if parsed.name not in ANSWERED:
        raise RefusedQueryError("Only SELECT, ASK and CONSTRUCT are answered.")
    if any(part.name == "ServiceGraphPattern" for part in _parts_of(parsed)):
        raise RefusedQueryError("SERVICE is refused: a query reads the session's graph alone.")
    if "datasetClause" in parsed:
        raise RefusedQueryError("FROM is refused: a query reads the session's graph alone.")


def _is_update(query: str) -> bool:
    try:
        return bool(parseUpdate(query).request)  # an empty text is an update of nothing
    except ParseBaseException:
        return False


def _parts_of(parsed: Any) -> Iterator[CompValue]:
    if isinstance(parsed, CompValue):
        yield parsed
        parsed = parsed.values()
    elif not isinstance(parsed, (list, ParseResults)):
        return
    for part in parsed:
        yield from _parts_of(part)


if __name__ == "__main__":
    main()
