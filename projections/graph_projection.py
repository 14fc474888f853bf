"""The projection that keeps the graph: what was learned, and what people corrected."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from events.knowledge import Knowledge
from events.log import Recorded
from events.session import Session
from language.domains import FUNCTIONAL_RELATIONS, Domain
from projections import graph_rows, positions
from projections.graph_rows import GraphRows
from projections.session_graph import Changes, SessionGraph, relation

MAX_CACHED = 100_000  # statements and names of all sessions; what is forgotten is loaded again

Configured = Session.SessionOpened | Session.SessionReconfigured
Corrected = Knowledge.StatementRetracted | Knowledge.EntitiesMerged | Knowledge.EntitiesSplit


@dataclass
class Head:
    """How far a session's graph has come, and what it is about."""

    position: int = 0  # of the last event that changed it
    domain: str | None = None
    configured_position: int = 0


class GraphProjection:
    """Writes the graphs of all sessions.

    The state of the sessions that change is kept at hand. What is at hand counts as long as it has
    come as far as the rows have, so a transaction that fails, or another projector, does no harm.
    """

    name = positions.GRAPH
    tables = ("graph_sessions", "graph_names", "graph_merges", "graph_statements")
    topics = (
        *("SessionOpened", "SessionReconfigured", "KnowledgeExtracted"),
        *("StatementRetracted", "EntitiesMerged", "EntitiesSplit"),
    )

    def __init__(self, domains: Mapping[str, Domain] | None = None) -> None:
        """`domains` say which relations have one object at a time; others go by the default."""
        self._functional = {
            name: _relations(domain.functional_relations)
            for name, domain in (domains or {}).items()
        }
        self._cache: OrderedDict[tuple[int, UUID], SessionGraph] = OrderedDict()
        self._cached = 0

    def apply(self, curs: Cursor[DictRow], recorded: Sequence[Recorded], version: int) -> bool:
        """Write what these events change."""
        relevant = [one for one in recorded if _is_relevant(one)]
        if not relevant:
            return False
        heads = _read_heads(curs, version, {one.event.session_id for one in relevant})
        rows = GraphRows(version)
        has_changed = False
        for one in relevant:
            event, head = one.event, heads[one.event.session_id]
            if isinstance(event, Configured):
                if one.position > head.configured_position:
                    head.domain, head.configured_position = event.config.domain, one.position
            elif one.position > head.position:
                graph = self._graph(curs, version, event.session_id, head.position)
                rows.add(graph, self._change(graph, one, head.domain), event)
                head.position = graph.position
                has_changed = True
        rows.write(curs)
        _write_heads(curs, version, heads)
        self._forget_oldest()
        return has_changed

    def _change(self, graph: SessionGraph, one: Recorded, domain: str | None) -> Changes:
        position, event = one.position, one.event
        before = len(graph)
        match event:
            case Knowledge.KnowledgeExtracted():
                functional = self._functional.get(domain or "", _DEFAULT)
                changes = graph.learn(position, event.statements, functional)
            case Knowledge.StatementRetracted():
                changes = graph.retract(position, event.statement_id, event.reason)
            case Knowledge.EntitiesMerged():
                changes = graph.merge(position, event.merge_id, event.kept_id, event.merged_id)
            case Knowledge.EntitiesSplit():
                changes = graph.split(position, event.merge_id)
            case _:
                raise TypeError(f"{type(event).__name__} is not about the graph")
        self._cached += len(graph) - before
        return changes

    def _graph(
        self, curs: Cursor[DictRow], version: int, session_id: UUID, position: int
    ) -> SessionGraph:
        """The state of a session as its rows have it."""
        key = version, session_id
        graph = self._cache.get(key)
        if graph is None or graph.position != position:
            if graph is not None:
                self._cached -= len(graph)
            graph = (
                graph_rows.load(curs, session_id, version, position)
                if position
                else SessionGraph(session_id)
            )
            self._cached += len(graph)
            self._cache[key] = graph
        self._cache.move_to_end(key)
        return graph

    def _forget_oldest(self) -> None:
        while self._cached > MAX_CACHED and len(self._cache) > 1:
            _, graph = self._cache.popitem(last=False)
            self._cached -= len(graph)


def _is_relevant(one: Recorded) -> bool:
    event = one.event
    if isinstance(event, Knowledge.KnowledgeExtracted):
        return bool(event.statements)
    if isinstance(event, Session.SessionReconfigured):
        return "config" in event.changed
    return isinstance(event, (Session.SessionOpened, *Corrected.__args__))


def _relations(names: Sequence[str]) -> frozenset[str]:
    return frozenset(relation(name) for name in names)


_DEFAULT = _relations(FUNCTIONAL_RELATIONS)


def _read_heads(curs: Cursor[DictRow], version: int, sessions: set[UUID]) -> dict[UUID, Head]:
    curs.execute(
        "SELECT session_id, position, domain, configured_position FROM graph_sessions"
        " WHERE version = %s AND session_id = ANY(%s)",
        (version, list(sessions)),
    )
    heads = {session_id: Head() for session_id in sessions}
    for row in curs.fetchall():
        heads[row["session_id"]] = Head(row["position"], row["domain"], row["configured_position"])
    return heads


def _write_heads(curs: Cursor[DictRow], version: int, heads: dict[UUID, Head]) -> None:
    curs.execute(
        "INSERT INTO graph_sessions (version, session_id, position, domain, configured_position)"
        " SELECT %s, * FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bigint[])"
        " ON CONFLICT (version, session_id) DO UPDATE SET position = EXCLUDED.position,"
        " domain = EXCLUDED.domain, configured_position = EXCLUDED.configured_position",
        (
            version,
            list(heads),
            [head.position for head in heads.values()],
            [head.domain for head in heads.values()],
            [head.configured_position for head in heads.values()],
        ),
    )
