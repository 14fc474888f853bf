"""A session's graph as RDF: the facts in one named graph, where they come from in another."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from urllib.parse import quote
from uuid import UUID

from pyoxigraph import Literal, NamedNode, Quad

from projections.graph_parts import Account, Node
from projections.session_graph import LITERAL

LW = "urn:lorewire:term:"  # our own terms
PREDICATE = "urn:lorewire:predicate:"
TYPE = "urn:lorewire:type:"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_RDFS = "http://www.w3.org/2000/01/rdf-schema#"
_SKOS = "http://www.w3.org/2004/02/skos/core#"
_PROV = "http://www.w3.org/ns/prov#"
_XSD = "http://www.w3.org/2001/XMLSchema#"
PREFIXES = {
    "lw": LW,
    "p": PREDICATE,
    "t": TYPE,
    "rdf": _RDF,
    "rdfs": _RDFS,
    "skos": _SKOS,
    "prov": _PROV,
    "xsd": _XSD,
}

Term = NamedNode | Literal
Property = tuple[NamedNode, Term]

_A = NamedNode(_RDF + "type")
_LABEL = NamedNode(_RDFS + "label")
_ALT_LABEL = NamedNode(_SKOS + "altLabel")
_STATEMENT = NamedNode(_RDF + "Statement")
_SUBJECT, _PREDICATE, _OBJECT = (
    NamedNode(_RDF + name) for name in ("subject", "predicate", "object")
)
_TEXTS = {  # of an account, as they are
    "quote": "quote",
    "speaker": "speaker",
    "said_by": "saidBy",
    "turn_id": "turn",
    "extractor": "extractor",
    "polarity": "polarity",
    "modality": "modality",
    "valid_from": "validFrom",
    "valid_to": "validTo",
    "ended_reason": "endedReason",
    "ended_note": "endedNote",
}
_NUMBERS = {  # with their datatypes
    "confidence": ("confidence", "double"),
    "source_position": ("sourcePosition", "integer"),
    "position": ("position", "integer"),
    "until_position": ("untilPosition", "integer"),
}


def graph_iri(session_id: UUID) -> str:
    """The name of a session's graph."""
    return f"urn:session:{session_id}"


def meta_iri(session_id: UUID) -> str:
    """The name of the graph that says where a session's facts come from."""
    return f"{graph_iri(session_id)}:meta"


def quads(
    session_id: UUID,
    nodes: Sequence[Node],
    accounts: Sequence[Account],
    *,
    include_metadata: bool,
) -> Iterator[Quad]:
    """A graph, or a history, as quads.

    `urn:session:<id>` has the facts that are drawn, with rdfs:label and rdf:type of their entities.
    With metadata `urn:session:<id>:meta` has an rdf:Statement for each account, drawn or not,
    standing or ended, with its provenance in terms of PROV-O, and the other names of entities. IRIs
    are made from ids, or percent-encoded from predicates and types; names are labels only.
    """
    base = graph_iri(session_id)
    facts = NamedNode(base)
    terms = {node.id: _term(base, node) for node in nodes}
    drawn = [account for account in accounts if account.is_drawn]
    touched = {id for account in drawn for id in (account.subject_id, account.object_id)}
    meta = NamedNode(meta_iri(session_id))
    for node in nodes:
        term = terms[node.id]
        if isinstance(term, Literal) or not (include_metadata or node.id in touched):
            continue
        graph = facts if node.id in touched else meta
        yield Quad(term, _LABEL, Literal(node.name), graph)
        yield Quad(term, _A, NamedNode(TYPE + quote(node.type, safe="")), graph)
    for account in drawn:
        subject = terms[account.subject_id]
        assert isinstance(subject, NamedNode), "a literal is the subject of nothing"
        yield Quad(subject, _predicate(account.predicate), terms[account.object_id], facts)
    if include_metadata:
        for about, property, value in _metadata(base, nodes, accounts, terms):
            yield Quad(about, property, value, meta)


def _metadata(
    base: str, nodes: Iterable[Node], accounts: Iterable[Account], terms: dict[str, Term]
) -> Iterator[tuple[NamedNode, NamedNode, Term]]:
    for node in nodes:
        term = terms[node.id]
        if isinstance(term, NamedNode):
            for alias in node.metadata["aliases"]:
                yield term, _ALT_LABEL, Literal(alias)
    seen: set[NamedNode] = set()
    for account in accounts:
        statement = _statement(base, account.statement_id)
        source = NamedNode(f"{base}:event:{account.source_position}")
        speaker = NamedNode(f"{base}:speaker:{quote(account.speaker, safe='')}")
        run = NamedNode(f"{base}:extraction:{account.position}")
        yield statement, _A, _STATEMENT
        yield statement, _SUBJECT, terms[account.subject_id]
        yield statement, _PREDICATE, _predicate(account.predicate)
        yield statement, _OBJECT, terms[account.object_id]
        for property, value in _properties(base, account):
            yield statement, property, value
        yield statement, _prov("wasDerivedFrom"), source
        yield statement, _prov("wasAttributedTo"), speaker
        yield statement, _prov("wasGeneratedBy"), run
        if source not in seen:
            seen.add(source)
            yield source, _A, _prov("Entity")
            yield source, _prov("generatedAtTime"), _time(account.said_at)
            yield source, _lw("position"), _number(account.source_position, "integer")
        if speaker not in seen:
            seen.add(speaker)
            yield speaker, _A, _prov("Agent")
            yield speaker, _LABEL, Literal(account.speaker)
        if run not in seen:
            seen.add(run)
            yield run, _A, _prov("Activity")
            yield run, _prov("used"), source
            yield run, _prov("endedAtTime"), _time(account.learned_at)
            yield run, _lw("extractor"), Literal(account.extractor)


def _properties(base: str, account: Account) -> Iterator[Property]:
    """What an account says of its statement, as far as it says anything."""
    for name, term in _TEXTS.items():
        if (text := getattr(account, name)) is not None:
            yield _lw(term), Literal(text)
    for name, (term, datatype) in _NUMBERS.items():
        if (number := getattr(account, name)) is not None:
            yield _lw(term), _number(number, datatype)
    yield _lw("saidAt"), _time(account.said_at)
    yield _prov("generatedAtTime"), _time(account.learned_at)
    if account.ended_at is not None:
        yield _prov("invalidatedAtTime"), _time(account.ended_at)
    if account.ended_by is not None:
        yield _lw("endedBy"), _statement(base, account.ended_by)


def _term(base: str, node: Node) -> Term:
    if node.type == LITERAL:
        return Literal(node.name)
    return NamedNode(f"{base}:entity:{quote(node.id, safe='')}")


def _statement(base: str, statement_id: str) -> NamedNode:
    return NamedNode(f"{base}:statement:{quote(statement_id, safe='')}")


@lru_cache(1000)
def _predicate(name: str) -> NamedNode:
    return NamedNode(PREDICATE + quote(name, safe=""))


@lru_cache(100)
def _lw(name: str) -> NamedNode:
    return NamedNode(LW + name)


@lru_cache(100)
def _prov(name: str) -> NamedNode:
    return NamedNode(_PROV + name)


@lru_cache(10)
def _xsd(name: str) -> NamedNode:
    return NamedNode(_XSD + name)


def _number(value: float, datatype: str) -> Literal:
    return Literal(str(value), datatype=_xsd(datatype))


def _time(text: str) -> Literal:
    return Literal(text, datatype=_xsd("dateTime"))
