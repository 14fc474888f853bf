"""The graph follows what was learned, and can be seen as it was."""

from typing import Any
from uuid import uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from projections.entity_names import entity_id_of
from projections.graph import GraphView
from projections.graph_parts import Graph, Node, UnknownEntityError
from projections.graph_projection import GraphProjection
from projections.moves import read_moves
from projections.updates import ViewUpdates
from tests.projections.scenario import Scenario, follow, statement

Pool = AsyncConnectionPool[Any]


def project(log: Log) -> None:
    follow(log, ViewUpdates(log, GraphProjection()))


def facts_of(graph: Graph) -> set[tuple[str, str, str]]:
    names = {node.id: node.name for node in graph.nodes}
    return {(names[edge.source], edge.type, names[edge.target]) for edge in graph.edges}


async def test_a_plain_fact_is_drawn_with_where_it_comes_from(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    turn_id = scenario.ask(session_id, "I am Kira, a ranger from Aldermoor.")
    source = log.head()
    learned = scenario.learn(
        session_id,
        [statement("t:0", "Kira", "lives_in", "Aldermoor", subject_type="person", quote="I am")],
        turn_id,
    )
    project(log)

    graph = await GraphView(pool).read(session_id)

    kira, aldermoor = graph.nodes
    assert kira == Node(
        entity_id_of(session_id, "kira"), "Kira", "person", "", {"aliases": [], "position": learned}
    )
    assert (aldermoor.name, aldermoor.type) == ("Aldermoor", "entity")
    (edge,) = graph.edges
    assert (edge.id, edge.source, edge.target) == ("t:0", kira.id, aldermoor.id)
    assert (edge.type, edge.description) == ("lives_in", "Kira lives in Aldermoor")
    said_at = edge.metadata.pop("said_at")
    assert said_at.endswith("Z")
    assert edge.metadata.pop("learned_at").endswith("Z")
    assert edge.metadata == {
        "quote": "I am",
        "speaker": "ada",
        "turn_id": str(turn_id),
        "extractor": "test/1",
        "confidence": 0.8,
        "valid_from": None,
        "valid_to": None,
        "source_position": source,
        "position": learned,
    }
    assert graph.view_position == log.head()


@pytest.mark.parametrize(
    "flag",
    [{"polarity": "no"}, {"modality": "plan"}, {"modality": "reported"}, {"said_by": "Bob"}],
)
async def test_what_is_no_plain_fact_is_kept_and_not_drawn(
    flag: dict[str, str], log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("t:0", "Kira", "owns", "a horse", **flag)])
    project(log)
    view = GraphView(pool)

    graph = await view.read(session_id)
    facts = await view.facts(session_id, limit=10)

    assert (graph.nodes, graph.edges) == ([], [])
    assert [fact.statement_id for fact in facts.facts] == ["t:0"]
    assert (await view.neighbourhood(session_id, "Kira", limit=5)).facts == []


async def test_names_of_one_entity_become_its_aliases(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a:0", "Sara", "commands", "the watch")])
    scenario.learn(
        session_id,
        [
            statement("b:0", "Captain Sara", "owns", "a horse", subject_type="person"),
            statement("b:1", "SARA", "owns", "a dog", subject_type="officer"),
        ],
    )
    project(log)

    graph = await GraphView(pool).read(session_id)

    sara = graph.nodes[0]
    assert (sara.name, sara.type) == ("Sara", "person")
    assert sara.metadata["aliases"] == ["Captain Sara", "SARA"]
    assert sara.description == "Also called Captain Sara, SARA."
    assert len(graph.nodes) == 4


async def test_a_literal_is_a_node_of_its_own_and_no_entity(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id,
        [
            statement("t:0", "B-14", "heated_to", "700 °C", object_is_literal=True),
            statement("t:1", "B-14", "heated_in", "700 °C", object_type="literal"),
        ],
    )
    project(log)
    view = GraphView(pool)

    graph = await view.read(session_id)
    entities = await view.entities(session_id, limit=10)

    assert sorted((node.name, node.type) for node in graph.nodes) == [
        ("700 °C", "entity"),
        ("700 °C", "literal"),
        ("B-14", "entity"),
    ]
    assert [entity.name for entity in entities.entities].count("700 °C") == 1
    assert entities.total == 2


async def test_a_fact_that_is_said_twice_is_drawn_once(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a:0", "Kira", "is", "a ranger")])
    scenario.learn(session_id, [statement("b:0", "the Kira", "is", "ranger")])
    project(log)
    view = GraphView(pool)

    graph = await view.read(session_id)

    assert [edge.id for edge in graph.edges] == ["a:0"]
    assert (await view.facts(session_id, limit=10)).total == 2


async def test_a_part_of_the_graph_around_an_entity(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    chain = [("A1", "B1"), ("B1", "C1"), ("D1", "C1"), ("D1", "E1"), ("X1", "Y1")]
    scenario.learn(
        session_id,
        [statement(f"t:{n}", one, "knows", other) for n, (one, other) in enumerate(chain)],
    )
    project(log)
    view = GraphView(pool)

    near = await view.read(session_id, entity="the b1")
    farther = await view.read(session_id, entity=entity_id_of(session_id, "B1"), depth=2)

    assert {node.name for node in near.nodes} == {"A1", "B1", "C1"}
    assert {node.name for node in farther.nodes} == {"A1", "B1", "C1", "D1"}
    assert len(farther.edges) == 3
    assert (near.total_nodes, near.total_edges) == (3, 2)
    with pytest.raises(UnknownEntityError, match="'Nobody'"):
        await view.read(session_id, entity="Nobody")


async def test_limits_keep_what_is_connected_most_and_newest(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id, [statement(f"t:{n}", "Hub", "knows", f"Spoke {n}") for n in range(12)]
    )
    scenario.learn(session_id, [statement("u:0", "Spoke 5", "knows", "Spoke 6")])
    project(log)
    view = GraphView(pool)

    few_nodes = await view.read(session_id, node_limit=3)
    few_edges = await view.read(session_id, edge_limit=2)

    assert facts_of(few_nodes) == {
        ("Hub", "knows", "Spoke 5"),
        ("Hub", "knows", "Spoke 6"),
        ("Spoke 5", "knows", "Spoke 6"),
    }
    assert [edge.id for edge in few_edges.edges] == ["t:11", "u:0"]
    assert (few_nodes.total_nodes, few_nodes.total_edges) == (13, 13)
    assert (await view.read(session_id, node_limit=0)).nodes == []


async def test_one_entity_shows_all_that_is_known_of_it(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id,
        [
            statement("t:0", "Kira", "owns", "Ash"),
            statement("t:1", "Bob", "knows", "Kira"),
            statement("t:2", "Bob", "knows", "Ash"),
        ],
    )
    project(log)
    view = GraphView(pool)

    kira = await view.entity(session_id, entity_id_of(session_id, "Kira"))

    assert kira is not None
    assert kira.node.name == "Kira"
    assert [(r.edge.id, r.other.name, r.is_outgoing) for r in kira.relationships] == [
        ("t:0", "Ash", True),
        ("t:1", "Bob", False),
    ]
    assert await view.entity(session_id, "no such id") is None


async def test_counts_of_a_graph(log: Log, scenario: Scenario, pool: Pool) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id,
        [
            statement("t:0", "Kira", "owns", "Ash", subject_type="person", object_type="horse"),
            statement("t:1", "Kira", "owns", "ash"),
            statement("t:2", "Bob", "knows", "Kira"),
            statement("t:3", "Bob", "owns", "Elm", polarity="no"),
        ],
    )
    project(log)

    stats = await GraphView(pool).stats(session_id)

    assert (stats.node_count, stats.edge_count) == (3, 2)
    assert stats.entity_types == {"person": 1, "horse": 1, "entity": 1}
    assert stats.relationship_types == {"owns": 1, "knows": 1}


async def test_facts_and_entities_come_newest_first_in_pages(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a:0", "Kira", "owns", "Ash")])
    middle = log.head()
    scenario.learn(
        session_id,
        [
            statement("b:0", "Kira", "trusts", "Bob", polarity="no"),
            statement("b:1", "Bob", "owns", "Elm"),
        ],
    )
    project(log)
    view = GraphView(pool)

    facts = await view.facts(session_id, limit=2)
    older = await view.facts(session_id, limit=2, offset=2)
    then = await view.facts(session_id, limit=10, as_of=middle)
    entities = await view.entities(session_id, limit=10)
    entities_then = await view.entities(session_id, limit=10, as_of=middle)

    assert [fact.text for fact in facts.facts] == ["Bob owns Elm", "Kira not trusts Bob"]
    assert [fact.statement_id for fact in older.facts] == ["a:0"]
    assert (facts.total, then.total, then.facts) == (3, 1, older.facts)
    assert {(e.name, e.statement_count) for e in entities.entities} == {
        ("Kira", 2),
        ("Ash", 1),
        ("Bob", 2),
        ("Elm", 1),
    }
    assert {(e.name, e.statement_count) for e in entities_then.entities} == {
        ("Kira", 1),
        ("Ash", 1),
    }
    assert (entities.total, entities_then.total) == (4, 2)


async def test_what_is_known_of_the_entities_that_a_text_names(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id,
        [
            statement("t:0", "Kira", "lives_in", "Aldermoor"),
            statement("t:1", "Captain Kira", "owns", "Ash"),
            statement("t:2", "Bob", "owns", "Elm"),
            statement("t:3", "Kira", "lives_in", "the Aldermoor"),
        ],
    )
    project(log)
    view = GraphView(pool)

    found = await view.neighbourhood(session_id, "Where does captain KIRA live?", limit=10)

    # The newest stated first, each under the id of who stated it first.
    assert found.facts == [("t:0", "Kira lives in Aldermoor"), ("t:1", "Kira owns Ash")]
    newest = await view.neighbourhood(session_id, "Where does kira live?", limit=1)
    assert newest.facts == found.facts[:1]
    assert (await view.neighbourhood(session_id, "Kirara? %_\\", limit=10)).facts == []


async def test_sessions_do_not_see_one_another(log: Log, scenario: Scenario, pool: Pool) -> None:
    one, other = scenario.open(), scenario.open()
    first = scenario.learn(one, [statement("t:0", "Kira", "owns", "Ash")])
    second = scenario.learn(other, [statement("t:0", "Kira", "owns", "Elm")])
    project(log)
    view = GraphView(pool)

    assert facts_of(await view.read(one)) == {("Kira", "owns", "Ash")}
    assert facts_of(await view.read(other)) == {("Kira", "owns", "Elm")}
    moves = (await read_moves(pool, memory=0, graph=0))["graph"]
    assert {one, other} <= set(moves.session_ids)
    moves = (await read_moves(pool, memory=0, graph=first))["graph"]
    assert (moves.session_ids, moves.position) == ([other], second)
    changes = await view.changes([one, other], first - 1, second)
    assert [node.name for node in changes[one].added_nodes] == ["Kira", "Ash"]
    assert [node.name for node in changes[other].added_nodes] == ["Kira", "Elm"]
    changes = await view.changes([other, one], first, second)
    assert changes[one].is_empty
    assert [edge.id for edge in changes[other].added_edges] == ["t:0"]


async def test_events_that_are_applied_twice_change_nothing(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a:0", "Sara", "owns", "Ash")])
    scenario.learn(session_id, [statement("b:0", "Captain Sara", "owns", "Elm")])
    project(log)
    once = await GraphView(pool).read(session_id)

    with log.recorder.datastore.transaction(commit=True) as curs:
        GraphProjection().apply(curs, scenario.recorded(), 1)

    assert await GraphView(pool).read(session_id) == once


async def test_very_long_names_and_values_are_kept(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    long = " ".join(uuid4().hex for _ in range(900))
    scenario.learn(
        session_id,
        [
            statement("t:0", long, "is", "long"),
            statement("t:1", "It", "is", long, object_is_literal=True),
            statement("t:2", "It", long, "long"),
        ],
    )
    project(log)

    assert len((await GraphView(pool).read(session_id)).edges) == 3


async def test_differences_end_where_the_view_has_read(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    project(log)
    read = log.head()
    scenario.learn(session_id, [statement("t:0", "Kira", "owns", "Ash")])
    view = GraphView(pool)

    changes = (await view.changes([session_id], read, log.head()))[session_id]

    assert changes.is_empty
    assert changes.view_position == read
    project(log)
    changes = (await view.changes([session_id], read, log.head()))[session_id]
    assert [edge.id for edge in changes.added_edges] == ["t:0"]
