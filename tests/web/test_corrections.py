"""People correct what a session has learned, over the socket and over HTTP, and all are told."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from events.knowledge import Knowledge, Statement, knowledge_id
from lorewire.client import Client
from lorewire.client_errors import RequestRefusedError
from projections.entity_names import entity_id_of
from tests.harness import Server, running_server
from tests.projections.scenario import statement


@pytest_asyncio.fixture
async def server(migrated_database_url: str) -> AsyncIterator[Server]:
    async with running_server(migrated_database_url) as server:
        yield server


async def learned(server: Server, *statements: Statement) -> UUID:
    """A session that knows these."""
    session_id = await server.open_session(config={"domain": "dnd", "enable_graph": False})
    await learn(server, session_id, *statements)
    return session_id


async def learn(server: Server, session_id: UUID, *statements: Statement) -> None:
    """Have a session learn something, as the learning policy would."""
    log = server.directory.services.log
    knowledge = log.load(Knowledge, knowledge_id(session_id)) or Knowledge.open(session_id)
    knowledge.learn(
        turn_id=None, source_position=1, extractor="test/1", statements=tuple(statements)
    )
    log.save(knowledge)
    await server.caught_up()


async def graph_of(server: Server, session_id: UUID, **parameters: Any) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    status, graph = await server.http("GET", f"/api/v1/sessions/{session_id}/graph?{query}")
    assert status == 200, graph
    answer: dict[str, Any] = graph
    return answer


def names_of(graph: dict[str, Any]) -> list[str]:
    return sorted(node["name"] for node in graph["nodes"])


async def test_a_retracted_statement_is_gone_for_all_and_can_still_be_seen_as_it_was(
    server: Server,
) -> None:
    session_id = await learned(server, statement("t:0", "Kira", "knows", "Bob"))
    before = (await graph_of(server, session_id))["view_position"]
    asker, other = await server.connect(session_id), await server.connect(session_id)

    answer = await asker.ask("retract_statement", {"statement_id": "t:0", "reason": "A joke."})

    assert answer["type"] == "retract_statement_response"
    assert (answer["data"]["statement_id"], answer["data"]["retracted"]) == ("t:0", True)
    for socket in (asker, other):
        update = await socket.until("graph_updated")
        assert update["data"]["update_type"] == "statement_retracted"
        assert update["data"]["removed"]["edges"] == ["t:0"]
        assert update["view_position"] == answer["position"]
    assert (await graph_of(server, session_id))["edges"] == []
    assert len((await graph_of(server, session_id, as_of=before))["edges"]) == 1


async def test_merged_entities_are_one_until_they_are_split(server: Server) -> None:
    session_id = await learned(
        server,
        statement("t:0", "the Stranger", "owns", "a lute"),
        statement("t:1", "Corvin", "knows", "Kira"),
    )
    socket = await server.connect(session_id)

    merged = await socket.ask("merge_entities", {"kept": "Corvin", "merged": "the Stranger"})
    update = await socket.until("graph_updated")
    as_one = await graph_of(server, session_id)
    split = await socket.ask("split_entities", {"merge_id": merged["data"]["merge_id"]})
    update_back = await socket.until("graph_updated")

    assert merged["type"] == "merge_entities_response"
    corvin = {"id": entity_id_of(session_id, "Corvin"), "name": "Corvin"}
    assert merged["data"]["kept"] == corvin
    assert merged["data"]["merged"]["name"] == "the Stranger"
    assert update["data"]["update_type"] == "entities_merged"
    assert names_of(as_one) == ["Corvin", "Kira", "a lute"]
    (kept,) = [node for node in as_one["nodes"] if node["name"] == "Corvin"]
    assert kept["metadata"]["aliases"] == ["the Stranger"]
    assert (split["type"], split["data"]["split"]) == ("split_entities_response", True)
    assert update_back["data"]["update_type"] == "entities_split"
    assert names_of(await graph_of(server, session_id)) == [
        *("Corvin", "Kira", "a lute", "the Stranger")
    ]


async def test_a_new_name_of_a_merged_entity_is_the_kept_one(server: Server) -> None:
    session_id = await learned(
        server,
        statement("t:0", "Stranger", "owns", "a lute"),
        statement("t:1", "Corvin", "is", "old"),
    )
    socket = await server.connect(session_id)
    await socket.ask("merge_entities", {"kept": "Corvin", "merged": "Stranger"})

    await learn(server, session_id, statement("u:0", "the Stranger", "sings", "a song"))

    graph = await graph_of(server, session_id, entity="stranger")
    assert {edge["description"] for edge in graph["edges"]} == {
        *("Corvin owns a lute", "Corvin is old", "Corvin sings a song")
    }


async def test_corrections_over_http_do_the_same(server: Server) -> None:
    session_id = await learned(
        server,
        statement("t:0", "Stranger", "owns", "a lute"),
        statement("t:1", "Corvin", "knows", "Kira"),
    )
    path = f"/api/v1/sessions/{session_id}/graph"

    status, merged = await server.http(
        "POST", f"{path}/merges?user_id=ada", {"kept": "Corvin", "merged": "Stranger"}
    )
    assert status == 201, merged
    await server.caught_up()
    _, listed = await server.http("GET", f"{path}/merges")
    status, split = await server.http("DELETE", f"{path}/merges/{merged['merge_id']}")
    assert status == 200, split
    await server.caught_up()
    _, listed_after = await server.http("GET", f"{path}/merges")
    _, listed_then = await server.http("GET", f"{path}/merges?as_of={merged['position']}")
    status, retracted = await server.http("DELETE", f"{path}/statements/t:0?reason=No")
    assert status == 200, retracted
    await server.caught_up()

    (merge,) = listed["merges"]
    assert (merge["merge_id"], merge["kept"]["name"]) == (merged["merge_id"], "Corvin")
    assert (merge["made_by"], merge["user_id"]) == ("person", "ada")
    assert (listed["total"], listed_after["total"]) == (1, 0)
    assert listed_then["merges"] == [merge]
    assert retracted["retracted"]
    assert [edge["id"] for edge in (await graph_of(server, session_id))["edges"]] == ["t:1"]


async def test_a_merge_of_a_rule_is_listed_and_can_be_split_for_good(server: Server) -> None:
    session_id = await learned(
        server,
        statement("t:0", "Sara Holt", "leads", "the watch", subject_type="person"),
        statement("t:1", "Sara", "knows", "Kira"),
    )
    path = f"/api/v1/sessions/{session_id}/graph"
    _, listed = await server.http("GET", f"{path}/merges")
    (merge,) = listed["merges"]

    status, _ = await server.http("DELETE", f"{path}/merges/{merge['merge_id']}")
    await learn(server, session_id, statement("t:2", "Sara", "owns", "a lute"))

    assert (merge["made_by"], merge["user_id"]) == ("part_of_name", None)
    assert status == 200
    assert "Sara" in names_of(await graph_of(server, session_id))
    assert "Sara Holt" in names_of(await graph_of(server, session_id))


async def test_nonsense_is_refused_and_nothing_is_stored(server: Server) -> None:
    session_id = await learned(
        server,
        statement("t:0", "Corvin", "owns", "a lute"),
        statement("t:1", "Corvin", "has_age", "40", object_is_literal=True),
    )
    socket = await server.connect(session_id)
    merge_id = str(uuid4())
    head = server.directory.services.log.head()

    for type_, data, code in [
        ("retract_statement", {"statement_id": "t:9"}, "not_found"),
        ("retract_statement", {}, "invalid_data"),
        ("retract_statement", {"statement_id": ""}, "invalid_data"),
        ("retract_statement", {"statement_id": "t:\0"}, "invalid_data"),
        ("merge_entities", {"kept": "Corvin", "merged": "Corvin"}, "conflict"),
        ("merge_entities", {"kept": "Corvin", "merged": "the corvin"}, "conflict"),
        ("merge_entities", {"kept": "Corvin", "merged": "Nobody"}, "not_found"),
        ("merge_entities", {"kept": "Corvin"}, "invalid_data"),
        ("merge_entities", {"kept": "Corvin", "merged": 7}, "invalid_data"),
        ("split_entities", {"merge_id": merge_id}, "not_found"),
        ("split_entities", {"merge_id": "x"}, "invalid_data"),
    ]:
        answer = await socket.ask(type_, data)
        assert (answer["type"], answer["data"].get("code")) == ("error", code), (type_, data)
    literal = next(
        node["id"]
        for node in (await graph_of(server, session_id))["nodes"]
        if node["type"] == "literal"
    )
    answer = await socket.ask("merge_entities", {"kept": "Corvin", "merged": literal})
    assert answer["data"]["code"] == "invalid_data"
    path = f"/api/v1/sessions/{session_id}/graph"
    for method, url, body, status in [
        ("DELETE", f"{path}/statements/t:9", None, 404),
        ("DELETE", f"{path}/statements/%00", None, 422),
        ("DELETE", f"{path}/merges/{merge_id}", None, 404),
        ("DELETE", f"{path}/merges/x", None, 422),
        ("POST", f"{path}/merges", {"kept": "Corvin", "merged": "Corvin"}, 409),
        ("POST", f"{path}/merges", {}, 422),
        ("GET", f"{path}/merges?as_of=99999999", None, 422),
        ("GET", f"{path}/merges?limit=0", None, 422),
        ("GET", f"/api/v1/sessions/{uuid4()}/graph/merges", None, 404),
        ("DELETE", f"/api/v1/sessions/{uuid4()}/graph/statements/t:0", None, 404),
    ]:
        answered, answer = await server.http(method, url, body)
        assert answered == status, (method, url, answer)

    assert server.directory.services.log.head() == head


async def test_sparql_looks_back_as_the_graph_does(server: Server) -> None:
    session_id = await learned(server, statement("t:0", "Kira", "lives_in", "Aldermoor"))
    path = f"/api/v1/sessions/{session_id}/graph/sparql"
    before = server.directory.services.log.head()
    await learn(server, session_id, statement("t:1", "Kira", "lives_in", "Rivermoor"))
    query = "SELECT ?name {?kira p:lives_in ?place. ?place rdfs:label ?name}"

    for as_of, name in ((None, "Rivermoor"), (before, "Aldermoor")):
        status, answer = await server.http("POST", path, {"query": query, "as_of": as_of})
        assert status == 200, answer
        (row,) = answer["results"]["bindings"]
        assert row["name"]["value"] == name
    for wrong in (10**9, -1, "yesterday", "2999-01-01T00:00:00Z", True):
        status, answer = await server.http("POST", path, {"query": query, "as_of": wrong})
        assert (status, answer["code"]) == (422, "invalid_data"), answer


async def test_the_client_of_python_corrects(server: Server) -> None:
    session_id = await learned(
        server,
        statement("t:0", "Stranger", "owns", "a lute"),
        statement("t:1", "Corvin", "knows", "Kira"),
    )
    client = Client(f"http://127.0.0.1:{server.port}")

    async with client, client.connect(str(session_id)) as connection:
        merged = await connection.merge("Corvin", "Stranger")
        split = await connection.split(merged["merge_id"])
        retracted = await connection.retract("t:0", reason="No.")
        with pytest.raises(RequestRefusedError, match="is retracted already"):
            await connection.retract("t:0")

    assert merged["kept"]["name"] == "Corvin"
    assert (split["split"], retracted["retracted"]) == (True, True)


async def test_the_same_correction_twice_is_refused(server: Server) -> None:
    session_id = await learned(
        server,
        statement("t:0", "Stranger", "owns", "a lute"),
        statement("t:1", "Corvin", "knows", "Kira"),
    )
    socket = await server.connect(session_id)
    merged = await socket.ask("merge_entities", {"kept": "Corvin", "merged": "Stranger"})

    again = await socket.ask("merge_entities", {"kept": "Corvin", "merged": "Stranger"})
    split = await socket.ask("split_entities", {"merge_id": merged["data"]["merge_id"]})
    split_again = await socket.ask("split_entities", {"merge_id": merged["data"]["merge_id"]})
    retracted = await socket.ask("retract_statement", {"statement_id": "t:0"})
    retracted_again = await socket.ask("retract_statement", {"statement_id": "t:0"})

    assert (split["type"], retracted["type"]) == (
        *("split_entities_response", "retract_statement_response"),
    )
    for answer in (again, split_again, retracted_again):
        assert answer["data"]["code"] == "conflict", answer


async def test_a_correction_beside_the_learning_policy_decides_again(server: Server) -> None:
    """Both write the same stream: the one who comes second loads it again."""
    session_id = await learned(server, statement("t:0", "Kira", "knows", "Bob"))
    log = server.directory.services.log
    stale = log.load(Knowledge, knowledge_id(session_id))
    assert stale is not None
    await learn(server, session_id, statement("t:1", "Kira", "knows", "Elm"))
    loads: list[object] = [stale]
    load = log.load

    def load_stale_first(*arguments: Any) -> Any:
        return loads.pop() if loads and arguments[0] is Knowledge else load(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "load", load_stale_first)
        socket = await server.connect(session_id)
        answer = await socket.ask("retract_statement", {"statement_id": "t:0"})

    assert loads == []
    assert answer["type"] == "retract_statement_response", answer
    await server.caught_up()
    assert [edge["id"] for edge in (await graph_of(server, session_id))["edges"]] == ["t:1"]
