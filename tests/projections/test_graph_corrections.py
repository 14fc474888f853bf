"""Statements end for a reason, are kept, and stand again when what ended them was wrong."""

import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from language.domains import load_domains
from projections.corrections import read_entity, read_merge, read_merges, read_statement
from projections.entity_names import entity_id_of
from projections.graph import GraphView
from projections.graph_parts import Account, Moment
from projections.graph_projection import GraphProjection
from projections.sparql import SparqlEngine
from projections.updates import ViewUpdates
from tests.projections.scenario import Scenario, follow, statement
from tests.projections.test_graph_history import append

Pool = AsyncConnectionPool[Any]

ROOT = Path(__file__).parents[2]


def project(log: Log) -> None:
    follow(log, ViewUpdates(log, GraphProjection(load_domains())))


def retract(log: Log, session_id: UUID, statement_id: str, reason: str | None = None) -> int:
    return append(log, session_id, "retract", {"statement_id": statement_id, "reason": reason})


def merge(log: Log, session_id: UUID, kept: str, merged: str) -> UUID:
    merge_id = uuid4()
    values = {
        "merge_id": merge_id,
        "kept_id": entity_id_of(session_id, kept),
        "merged_id": entity_id_of(session_id, merged),
        "kept_name": kept,
        "merged_name": merged,
    }
    append(log, session_id, "merge", values)
    return merge_id


async def standing(pool: Pool, session_id: UUID, as_of: int | None = None) -> list[str]:
    """The statements that stand, oldest first."""
    facts = await GraphView(pool).facts(session_id, limit=100, as_of=as_of)
    return [fact.statement_id for fact in reversed(facts.facts)]


async def accounts(pool: Pool, session_id: UUID, as_of: int | None = None) -> dict[str, Account]:
    history = await GraphView(pool).history(session_id, as_of=as_of)
    return {account.statement_id: account for account in history.accounts}


async def test_where_one_lives_later_ends_where_one_lived_before(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    first = scenario.learn(session_id, [statement("a", "Kira", "lives_in", "Aldermoor")])
    then = scenario.learn(session_id, [statement("b", "Kira", "lives_in", "Rivermoor")])
    project(log)

    ended = (await accounts(pool, session_id))["a"]

    assert await standing(pool, session_id) == ["b"]
    assert await standing(pool, session_id, as_of=first) == ["a"]
    assert (ended.ended_reason, ended.ended_by, ended.until_position) == ("functional", "b", then)
    assert ended.ended_at is not None
    assert (await accounts(pool, session_id, as_of=first))["a"].ended_reason is None


@pytest.mark.parametrize(
    "more",
    [
        {"modality": "plan"},
        {"modality": "wish"},
        {"polarity": "no"},
        {"said_by": "Bob"},
        {"subject": "Bob"},
        {"predicate": "likes"},
        {"object": "the Aldermoor"},
    ],
)
async def test_nothing_but_another_fact_of_the_same_relation_ends_one(
    more: dict[str, str], log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Kira", "lives_in", "Aldermoor")])
    later = {"subject": "Kira", "predicate": "lives_in", "object": "Rivermoor", **more}
    scenario.learn(session_id, [statement("b", **later)])
    project(log)

    assert await standing(pool, session_id) == ["a", "b"]


async def test_the_opposite_of_a_statement_ends_it(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Kira", "owns", "Ash")])
    scenario.learn(session_id, [statement("b", "Kira", "owns", "Ash", polarity="no")])
    scenario.learn(session_id, [statement("c", "Kira", "owns", "Ash")])
    project(log)

    known = await accounts(pool, session_id)

    assert await standing(pool, session_id) == ["c"]
    assert (known["a"].ended_reason, known["a"].ended_by) == ("contradicted", "b")
    assert (known["b"].ended_reason, known["b"].ended_by) == ("contradicted", "c")


@pytest.mark.parametrize("replaces", ["a", "the horse in Aldermoor is not", "Aldermoor"])
async def test_a_statement_says_what_it_replaces(
    replaces: str, log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id,
        [statement("a", "Kira", "visits", "Aldermoor"), statement("x", "Kira", "visits", "Elm")],
    )
    scenario.learn(session_id, [statement("b", "Kira", "visits", "Oak", replaces=replaces)])
    project(log)

    known = await accounts(pool, session_id)

    assert await standing(pool, session_id) == ["x", "b"]
    assert (known["a"].ended_reason, known["a"].ended_by) == ("replaced", "b")


async def test_what_replaces_nothing_that_is_known_ends_nothing(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Kira", "visits", "Aldermoor")])
    scenario.learn(session_id, [statement("b", "Kira", "visits", "Oak", replaces="Rivermoor")])
    project(log)

    assert await standing(pool, session_id) == ["a", "b"]


async def test_a_domain_says_which_relations_have_one_object_at_a_time(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    domain = load_domains()["dnd"].model_copy(update={"functional_relations": ("Wears",)})
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Kira", "wears", "a hat")])
    scenario.learn(session_id, [statement("b", "Kira", "wears", "a helmet")])
    scenario.learn(session_id, [statement("c", "Kira", "lives_in", "Aldermoor")])
    scenario.learn(session_id, [statement("d", "Kira", "lives_in", "Rivermoor")])
    follow(log, ViewUpdates(log, GraphProjection({"dnd": domain})))

    assert await standing(pool, session_id) == ["b", "c", "d"]


async def test_what_a_retracted_statement_had_ended_stands_again(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Kira", "lives_in", "Aldermoor")])
    wrong = scenario.learn(session_id, [statement("b", "Kira", "lives_in", "Rivermoor")])
    retracted = retract(log, session_id, "b", "She was joking.")
    project(log)

    known = await accounts(pool, session_id)

    assert await standing(pool, session_id) == ["a"]
    assert await standing(pool, session_id, as_of=wrong) == ["b"]
    assert await standing(pool, session_id, as_of=retracted) == ["a"]
    assert (known["b"].ended_reason, known["b"].ended_note) == ("retracted", "She was joking.")
    assert known["a"].ended_reason is None


async def test_what_a_later_statement_contradicts_too_does_not_stand_again(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    for id, place in (("a", "Aldermoor"), ("b", "Rivermoor"), ("c", "Elm")):
        scenario.learn(session_id, [statement(id, "Kira", "lives_in", place)])
    before = log.head()
    retract(log, session_id, "b")
    project(log)

    assert await standing(pool, session_id) == ["c"]
    assert (await accounts(pool, session_id, as_of=before))["a"].ended_by == "b"
    assert (await accounts(pool, session_id))["a"].ended_by == "c"


async def test_corrections_of_what_is_not_there_change_nothing(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Kira", "owns", "Ash")])
    project(log)
    before = await GraphView(pool).read(session_id)
    retract(log, session_id, "nothing")
    merge(log, session_id, "Kira", "Nobody")
    merge(log, session_id, "Kira", "Kira")
    append(log, session_id, "split", {"merge_id": uuid4()})
    project(log)

    after = await GraphView(pool).read(session_id)

    assert (after.nodes, after.edges) == (before.nodes, before.edges)
    assert (await read_merges(pool, session_id, limit=10)).total == 0


async def test_what_two_entities_say_of_one_another_s_home_is_settled_by_a_merge(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Stranger", "lives_in", "Aldermoor")])
    apart = scenario.learn(session_id, [statement("b", "Corvin", "lives_in", "Rivermoor")])
    merge_id = merge(log, session_id, "Corvin", "Stranger")
    merged = log.head()
    append(log, session_id, "split", {"merge_id": merge_id})
    project(log)

    assert await standing(pool, session_id, as_of=apart) == ["a", "b"]
    assert await standing(pool, session_id, as_of=merged) == ["b"]
    assert await standing(pool, session_id) == ["a", "b"]
    known = await accounts(pool, session_id, as_of=merged)
    assert known["a"].subject_id == entity_id_of(session_id, "Corvin")
    assert (known["a"].ended_reason, known["a"].ended_by) == ("functional", "b")


async def test_merges_form_chains_and_each_can_be_taken_back(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    for name in ("One", "Two", "Three"):
        scenario.learn(session_id, [statement(name, name, "knows", "Kira")])
    first = merge(log, session_id, "Two", "One")
    merge(log, session_id, "Three", "Two")
    project(log)
    view = GraphView(pool)
    (edge,) = (await view.read(session_id)).edges
    chained = await view.read(session_id, entity="One")

    append(log, session_id, "split", {"merge_id": first})
    project(log)

    assert edge.description == "Three knows Kira"
    assert chained.edges == [edge]
    assert [node.metadata["aliases"] for node in chained.nodes if node.name == "Three"] == [
        ["One", "Two"]
    ]
    after = {edge.description for edge in (await view.read(session_id)).edges}
    assert after == {"One knows Kira", "Three knows Kira"}


async def test_a_short_name_is_one_with_the_long_one_until_there_are_two(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id, [statement("a", "Sara Holt", "leads", "the watch", subject_type="person")]
    )
    one = scenario.learn(session_id, [statement("b", "Captain Sara", "owns", "Ash")])
    scenario.learn(
        session_id, [statement("c", "Sara Blackwood", "owns", "Elm", subject_type="person")]
    )
    project(log)
    view = GraphView(pool)

    then = {edge.description for edge in (await view.read(session_id, as_of=one)).edges}
    now = {edge.description for edge in (await view.read(session_id)).edges}

    assert then == {"Sara Holt leads the watch", "Sara Holt owns Ash"}
    assert now == {
        *("Sara Holt leads the watch", "Captain Sara owns Ash", "Sara Blackwood owns Elm")
    }


async def test_what_corrections_look_up(log: Log, scenario: Scenario, pool: Pool) -> None:
    session_id = scenario.open()
    scenario.learn(session_id, [statement("a", "Stranger", "is", "old", object_is_literal=True)])
    scenario.learn(session_id, [statement("b", "Corvin", "owns", "Ash")])
    merge_id = merge(log, session_id, "Corvin", "Stranger")
    retract(log, session_id, "a")
    project(log)

    shown = await read_entity(pool, session_id, "the stranger")
    by_id = await read_entity(pool, session_id, entity_id_of(session_id, "Stranger"))
    standing_, retracted = [await read_statement(pool, session_id, id) for id in ("b", "a")]
    merged = await read_merge(pool, session_id, merge_id)

    assert shown == by_id
    assert shown is not None
    assert (shown.name, shown.is_literal) == ("Corvin", False)
    assert standing_ is not None
    assert standing_.ended_reason is None
    assert retracted is not None
    assert retracted.ended_reason == "retracted"
    assert merged is not None
    assert (merged.made_by, merged.is_standing, merged.user_id) == ("person", True, "ada")
    for read in (read_entity, read_statement):
        assert await read(pool, session_id, "Nobody") is None
    assert await read_merge(pool, session_id, uuid4()) is None


async def test_the_update_says_what_happened(log: Log, scenario: Scenario, pool: Pool) -> None:
    session_id = scenario.open()
    start = log.head()
    learned = scenario.learn(
        session_id,
        [statement("a", "Kira", "owns", "Ash"), statement("b", "Corvin", "owns", "Elm")],
    )
    retracted = retract(log, session_id, "a")
    merge_id = merge(log, session_id, "Corvin", "Kira")
    merged = log.head()
    split = append(log, session_id, "split", {"merge_id": merge_id})
    project(log)
    view = GraphView(pool)

    between = [
        *((start, learned), (learned, retracted), (retracted, merged), (merged, split)),
        *((start, split), (learned, split)),
    ]
    found = [await view.changes([session_id], *pair) for pair in between]

    assert [changes[session_id].update_type for changes in found] == [
        *("knowledge_extracted", "statement_retracted", "entities_merged", "entities_split"),
        *("knowledge_extracted", "entities_merged"),
    ]


async def test_equal_moments_are_equal_graphs(log: Log, scenario: Scenario, pool: Pool) -> None:
    session_id, other = scenario.open(), scenario.open()
    first = scenario.learn(session_id, [statement("a", "Kira", "owns", "Ash")])
    project(log)
    view = GraphView(pool)
    moment = await view.moment(session_id)
    scenario.learn(other, [statement("a", "Kira", "owns", "Elm")])
    project(log)

    assert moment == Moment(session_id, 1, 0, first)
    assert await view.moment(session_id) == moment
    assert await view.moment(session_id, as_of=log.head()) == moment
    assert await view.moment(session_id, as_of=first - 1) != moment
    scenario.learn(session_id, [statement("b", "Kira", "owns", "Elm")])
    project(log)
    assert await view.moment(session_id) != moment


async def test_the_queries_of_the_documentation_are_answered(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.learn(
        session_id, [statement("a", "Kira", "lives_in", "Aldermoor", quote="I live in Aldermoor.")]
    )
    first = log.head()
    scenario.learn(
        session_id,
        [
            statement("b", "Kira", "lives_in", "Rivermoor", quote="I moved.", speaker="kim"),
            statement("c", "Kira", "owns", "Ash", polarity="no", quote="No horse."),
            statement("d", "Bob", "owns", "Elm", modality="plan", quote="He wants one."),
        ],
    )
    retract(log, session_id, "d", "Gossip.")
    project(log)
    view = GraphView(pool)
    text = (ROOT / "docs" / "graph.md").read_text(encoding="utf-8")
    homes, ended, sources, unsure = re.findall(r"```sparql\n(.*?)```", text, re.DOTALL)
    engine = SparqlEngine()

    async def rows(query: str, as_of: int | None = None) -> list[tuple[str, ...]]:
        answer = await engine.query(
            query,
            moment=await view.moment(session_id, as_of=as_of),
            read=lambda: view.history(session_id, as_of=as_of),
        )
        names = [name for name in answer["head"]["vars"] if name != "when"]
        return [
            tuple(row[name]["value"] if name in row else "" for name in names)
            for row in answer["results"]["bindings"]
        ]

    try:
        assert await rows(homes) == [("Kira", "Rivermoor")]
        assert await rows(homes, as_of=first) == [("Kira", "Aldermoor")]
        assert await rows(ended) == [
            ("I live in Aldermoor.", "functional", "I moved."),
            ("He wants one.", "retracted", ""),
        ]
        assert await rows(ended, as_of=first) == []
        assert await rows(sources) == [
            ("ada", "I live in Aldermoor.", "test/1"),
            ("kim", "I moved.", "test/1"),
            ("ada", "No horse.", "test/1"),
        ]
        assert await rows(unsure) == [("He wants one.", "yes", "plan"), ("No horse.", "no", "fact")]
    finally:
        await engine.close()
