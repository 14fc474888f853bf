"""The graph can be seen as of every position, and followed by differences from any to any."""

import random
from collections import Counter
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from events.aggregate import Cause
from events.knowledge import Knowledge, knowledge_id
from events.log import Log, Recorded
from language.domains import FUNCTIONAL_RELATIONS
from projections.graph import GraphView
from projections.graph_parts import Edge, Graph, GraphChanges, Node
from projections.graph_projection import GraphProjection
from projections.session_graph import relation
from projections.updates import ViewUpdates
from tests.projections.scenario import Scenario, follow
from tests.projections.test_session_graph import CLASSES, Story, steps

ADA = Cause(user_id="ada")
OTHER_VERSION = 99  # of the view's rows

Held = tuple[dict[str, Node], dict[str, Edge]]


def applied(held: Held, changes: GraphChanges) -> None:
    """What a client does with `graph_updated`."""
    nodes, edges = held
    for id in changes.removed_nodes:
        del nodes[id]
    for id in changes.removed_edges:
        del edges[id]
    nodes.update((node.id, node) for node in changes.added_nodes)
    edges.update((edge.id, edge) for edge in changes.added_edges)


def held_by(graph: Graph) -> Held:
    """What a client holds that has fetched a graph."""
    return {node.id: node for node in graph.nodes}, {edge.id: edge for edge in graph.edges}


def append(log: Log, session_id: UUID, what: str, values: dict[str, Any]) -> int:
    """Store an event of a session's knowledge, whatever the aggregate would say to it."""
    knowledge = log.load(Knowledge, knowledge_id(session_id)) or Knowledge.open(session_id)
    if what == "learn":
        values = {
            "turn_id": None,
            "source_position": 1,
            "extractor": "test/1",
            "error": None,
            "said_at": None,
            **values,
        }
    knowledge.trigger_event(CLASSES[what], cause=ADA, **values)
    log.save(knowledge)
    return log.head()


def project(log: Log, projection: GraphProjection) -> None:
    follow(log, ViewUpdates(log, projection))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps, seed=st.integers(0, 10_000))
async def test_every_position_can_be_seen_and_reached_by_differences(
    steps: list[tuple[str, Any]],
    seed: int,
    log: Log,
    scenario: Scenario,
    pool: AsyncConnectionPool[Any],
) -> None:
    dice = random.Random(seed)
    session_id = scenario.open()
    opened = log.head()
    story = Story(session_id)
    story.naive.functional = _default_functional()
    view = GraphView(pool)
    projection = GraphProjection()
    project(log, projection)
    then = [(log.head(), await view.read(session_id))]
    for step in steps:
        if dice.random() < 0.3:
            projection = GraphProjection()  # as after a restart: everything is read from the rows
        position = append(log, session_id, step[0], story.event(step))
        (recorded,) = log.read(after=position - 1, limit=1)
        assert isinstance(recorded, Recorded)
        assert isinstance(recorded.event, Knowledge.Event)
        story.naive.apply(position, recorded.event)
        project(log, projection)
        graph = await view.read(session_id)
        assert {(e.source, e.type, e.target): e.id for e in graph.edges} == story.naive.drawn()
        facts = await view.facts(session_id, limit=100)
        assert [fact.statement_id for fact in facts.facts] == [
            one.statement_id for _, one in reversed(story.naive.standing())
        ]
        then.append((position, graph))

    _assert_batches_do_not_matter(log, session_id, opened, dice)
    stats = await view.stats(session_id)
    newest = then[-1][1]
    assert (stats.node_count, stats.edge_count) == (len(newest.nodes), len(newest.edges))
    assert stats.entity_types == Counter(node.type for node in newest.nodes)
    assert stats.relationship_types == Counter(edge.type for edge in newest.edges)
    for position, graph in then:
        looked_back = await view.read(session_id, as_of=position)
        assert (looked_back.nodes, looked_back.edges) == (graph.nodes, graph.edges)
    at, graph = then[dice.randrange(len(then))]
    held = held_by(graph)
    for position, graph in then:
        if position > at and dice.random() < 0.6:  # a client may miss some and get them in one
            applied(held, (await view.changes([session_id], at, position))[session_id])
            at = position
            assert held == held_by(graph)


def _default_functional() -> frozenset[str]:
    return frozenset(relation(name) for name in FUNCTIONAL_RELATIONS)


def _assert_batches_do_not_matter(
    log: Log, session_id: UUID, opened: int, dice: random.Random
) -> None:
    """Fill another version with other batches, some of them twice: the rows are the same."""
    recorded = [one for one in log.read(after=opened - 1, limit=1000) if isinstance(one, Recorded)]
    projection = GraphProjection()
    with log.recorder.datastore.transaction(commit=True) as curs:
        while recorded:
            size = dice.randint(1, len(recorded))
            for _ in range(dice.randint(1, 2)):
                projection.apply(curs, recorded[:size], OTHER_VERSION)
            recorded = recorded[size:]
        for table in GraphProjection.tables:
            rows = []
            for version in (1, OTHER_VERSION):
                curs.execute(
                    f"SELECT * FROM {table} WHERE version = %s AND session_id = %s",
                    (version, session_id),
                )
                rows.append(sorted(str({**row, "version": 0}) for row in curs.fetchall()))
            assert rows[0] == rows[1]


async def test_a_transaction_that_failed_leaves_nothing_behind(
    log: Log, scenario: Scenario, pool: AsyncConnectionPool[Any]
) -> None:
    """The projection's memory was ahead of the rows; the rows decide."""
    session_id = scenario.open()
    story = Story(session_id)
    values = {"subject": "Sara", "predicate": "knows", "object": "Kira"}
    append(log, session_id, "learn", story.event(("learn", [values])))
    projection = GraphProjection()
    project(log, projection)
    lost = append(log, session_id, "retract", {"statement_id": "s:0", "reason": None})
    recorded = [one for one in log.read(after=lost - 1, limit=1) if isinstance(one, Recorded)]
    with log.recorder.datastore.transaction(commit=False) as curs:
        assert projection.apply(curs, recorded, 1)

    held = await GraphView(pool).read(session_id)
    project(log, projection)

    assert [edge.id for edge in held.edges] == ["s:0"]
    assert (await GraphView(pool).read(session_id)).edges == []
