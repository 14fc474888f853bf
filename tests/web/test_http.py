"""The HTTP endpoints, as a script sees them."""

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from tests.harness import Server


async def test_a_session_can_be_opened_listed_renamed_and_deleted(server: Server) -> None:
    title = f"Rivermoor {uuid4().hex}"

    session_id = str(await server.open_session(user_id="ada", title=title))
    listed = (await server.http("GET", f"/api/v1/sessions?q={title[-8:]}"))[1]
    one = (await server.http("GET", f"/api/v1/sessions/{session_id}"))[1]
    renamed = (await server.http("PATCH", f"/api/v1/sessions/{session_id}", {"title": "T"}))[1]
    deleted = await server.http("DELETE", f"/api/v1/sessions/{session_id}")
    again = await server.http("DELETE", f"/api/v1/sessions/{session_id}")
    gone = (await server.http("GET", f"/api/v1/sessions?q={title[-8:]}"))[1]

    assert listed["total"] == 1
    assert listed["sessions"][0]["session_id"] == session_id
    assert set(listed["sessions"][0]) == set(one) == {
        "session_id", "user_id", "title", "status", "created_at", "last_activity", "config",
    }  # fmt: skip
    assert (one["title"], one["user_id"], one["status"]) == (title, "ada", "active")
    assert renamed["title"] == "T"
    assert deleted == (
        200,
        {"status": "deleted", "message": f"Session {session_id} is deleted."},
    )
    assert (again[0], again[1]["code"]) == (404, "not_found")
    assert gone == {"sessions": [], "total": 0}


async def test_a_session_has_the_configuration_it_was_given(server: Server) -> None:
    config = {
        "domain": "lab_assistant",
        "llm_model": "tiny",
        "enable_graph": False,
        "max_memory_size": 100,
        "custom_config": {"bench": [1, 2]},
    }
    session_id = await server.open_session(config=config)

    session = (await server.http("GET", f"/api/v1/sessions/{session_id}"))[1]
    changed = (
        await server.http(
            "PATCH", f"/api/v1/sessions/{session_id}", {"config": {"enable_graph": True}}
        )
    )[1]

    assert session["config"] == config
    assert changed["config"] == {**config, "enable_graph": True}


async def test_an_empty_body_opens_a_session_with_defaults(server: Server) -> None:
    status, answer = await server.http("POST", "/api/v1/sessions", raw=b"")

    assert (status, answer["status"]) == (201, "active")


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"{", 400, "invalid_json", "not JSON"),
        (b"[]", 400, "invalid_message", "object"),
        (b"\xff", 400, "invalid_json", "not JSON"),
        (b'{"title": 3}', 422, "invalid_data", "`title`"),
        (b'{"title": ""}', 422, "invalid_data", "`title`"),
        (b'{"title": "a\\u0000"}', 422, "invalid_data", "`title`"),
        (b'{"title": "\\ud800"}', 400, "invalid_json", "JSON"),
        (b'{"user_id": ""}', 422, "invalid_data", "`user_id`"),
        (b'{"colour": "red"}', 422, "invalid_data", "`colour`"),
        (b'{"config": {"domain": "chess"}}', 422, "invalid_data", "dnd"),
        (b'{"config": {"domain": 1}}', 422, "invalid_data", "`config.domain`"),
        (b'{"config": {"max_memory_size": 0}}', 422, "invalid_data", "`config.max_memory_size`"),
        (b'{"config": {"enable_graph": "no"}}', 422, "invalid_data", "`config.enable_graph`"),
        (
            b'{"config": {"custom_config": {"a": ' + b"[" * 100 + b"]" * 100 + b"}}}",
            422,
            "invalid_data",
            "`config.custom_config`",
        ),
    ],
)
async def test_bad_bodies_are_refused_with_the_field(
    server: Server, body: bytes, status: int, code: str, words: str
) -> None:
    got, answer = await server.http("POST", "/api/v1/sessions", raw=body)

    assert (got, answer["status_code"], answer["code"]) == (status, status, code)
    assert words in answer["error"]


async def test_a_body_of_ten_megabytes_is_refused(server: Server) -> None:
    status, answer = await server.http("POST", "/api/v1/sessions", raw=b"x" * 10_000_000)

    assert (status, answer["code"]) == (413, "too_large")
    assert "1,048,576 bytes" in answer["error"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/sessions?limit=x", 422, "`limit`"),
        ("/api/v1/sessions?limit=0", 422, "`limit`"),
        ("/api/v1/sessions?offset=-1", 422, "`offset`"),
        ("/api/v1/sessions/nothing", 404, "nothing"),
        ("/api/v1/sessions/00000000-0000-4000-8000-000000000000", 404, "no session"),
        ("/api/v1/sessions/00000000-0000-4000-8000-000000000000/status", 404, "no session"),
        ("/api/v1/sessions/00000000-0000-4000-8000-000000000000/events", 404, "no session"),
        ("/api/v1/sessions/00000000-0000-4000-8000-000000000000/graph/stats", 404, "no session"),
        ("/api/v1/domains/chess", 404, "chess"),
        ("/nowhere", 404, "/nowhere"),
    ],
)
async def test_wrong_paths_and_parameters_are_said(
    server: Server, path: str, status: int, words: str
) -> None:
    got, answer = await server.http("GET", path)

    assert (got, answer["status_code"]) == (status, status)
    assert words in answer["error"]
    assert "Traceback" not in answer["error"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=501", "`limit`"),
        ("offset=-1", "`offset`"),
        ("type=dreams", "`type`"),
        ("as_of=yesterday", "`as_of`"),
        ("as_of=-3", "`as_of`"),
        ("as_of=999999999999", "`as_of`"),
    ],
)
async def test_bad_memory_parameters_are_said(server: Server, query: str, words: str) -> None:
    session_id = await server.open_session()

    status, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/memory?{query}")

    assert (status, answer["code"]) == (422, "invalid_data")
    assert words in answer["error"]


async def test_a_query_is_answered_when_its_reply_is_stored(server: Server) -> None:
    session_id = await server.open_session()
    watcher = await server.connect(session_id)

    status, answer = await server.http(
        "POST", f"/api/v1/sessions/{session_id}/query", {"message": "Hello"}
    )
    seen = await watcher.until("query_response", partial=False)

    assert (status, answer["response"]) == (200, "You said: Hello")
    assert (answer["turn_id"], answer["position"]) == (seen["data"]["turn_id"], seen["position"])


async def test_a_query_can_stream_server_sent_events(server: Server) -> None:
    session_id = await server.open_session()
    server.model.say("One", " two")

    response = await server.fetch(
        "POST", f"/api/v1/sessions/{session_id}/query", {"message": "Count", "stream": True}
    )

    assert response.headers["Content-Type"] == "text/event-stream"
    events = [block.split("\n") for block in response.body.decode().strip().split("\n\n")]
    names = [lines[0].removeprefix("event: ") for lines in events]
    messages: list[Any] = [orjson.loads(lines[1].removeprefix("data: ")) for lines in events]
    assert names == ["query_received", "typing_start", *["query_response"] * 3]
    assert [m["data"]["message"] for m in messages[2:]] == ["One", " two", "One two"]


async def test_a_failing_model_is_an_error_over_http(server: Server) -> None:
    session_id = await server.open_session()
    server.model.fail(500)

    status, answer = await server.http(
        "POST", f"/api/v1/sessions/{session_id}/query", {"message": "Hello"}
    )

    assert (status, answer["code"]) == (503, "model_unavailable")


async def test_an_idempotency_key_makes_a_query_retryable(server: Server) -> None:
    session_id = await server.open_session()
    path = f"/api/v1/sessions/{session_id}/query"
    headers = {"Idempotency-Key": "k1"}

    first = await server.http("POST", path, {"message": "Hello"}, headers=headers)
    second = await server.http("POST", path, {"message": "Hello"}, headers=headers)

    assert first == second
    assert len(server.model.requests) == 1


async def test_an_idempotency_key_that_is_too_long_is_refused(server: Server) -> None:
    session_id = await server.open_session()

    status, answer = await server.http(
        "POST",
        f"/api/v1/sessions/{session_id}/query",
        {"message": "Hello"},
        headers={"Idempotency-Key": "k" * 65},
    )

    assert (status, answer["code"]) == (422, "invalid_data")
    assert "`Idempotency-Key`" in answer["error"]


async def test_whoever_hangs_up_does_not_stop_the_turn(server: Server) -> None:
    session_id = await server.open_session()
    watcher = await server.connect(session_id)
    server.model.hold()
    asking = asyncio.create_task(
        server.fetch("POST", f"/api/v1/sessions/{session_id}/query", {"message": "Hello"})
    )
    await watcher.until("typing_start")

    asking.cancel()
    server.model.release()

    final = await watcher.until("query_response", partial=False)
    assert final["data"]["message"] == "You said: Hello"


async def test_status_memory_search_and_stats(server: Server) -> None:
    session_id = await server.open_session(user_id="ada")
    path = f"/api/v1/sessions/{session_id}"
    await server.http("POST", f"{path}/query", {"message": "The amulet is under the mill."})
    await server.caught_up()

    status = (await server.http("GET", f"{path}/status"))[1]
    memory = (await server.http("GET", f"{path}/memory?limit=1"))[1]
    found = (await server.http("POST", f"{path}/memory/search", {"query": "amulet mill"}))[1]
    stats = (await server.http("GET", f"{path}/memory/stats"))[1]

    assert status["session_id"] == str(session_id)
    assert status["memory_entries"] == 2
    assert memory["pagination"] == {"limit": 1, "offset": 0, "has_more": True}
    assert memory["data"][0]["text"] == "You said: The amulet is under the mill."
    assert len(found["results"]) == len(found["relevance_scores"])
    assert "amulet" in found["results"][0]["text"].lower()
    assert stats["conversation_count"] == 2
    assert stats["total_memory_size"] > 50


async def test_the_graph_over_http(server: Server) -> None:
    session_id = await server.open_session()
    path = f"/api/v1/sessions/{session_id}/graph"
    await server.caught_up()

    graph = (await server.http("GET", path))[1]
    limited = (await server.http("GET", f"{path}?node_limit=2&include_metadata=false"))[1]
    turtle = await server.fetch("GET", path, headers={"Accept": "text/turtle"})
    stats = (await server.http("GET", f"{path}/stats"))[1]
    node = graph["nodes"][0]
    entity = (await server.http("GET", f"{path}/entity/{node['id']}"))[1]
    unknown = await server.http("GET", f"{path}/entity/nobody")

    assert graph["stats"] == {"nodes": len(graph["nodes"]), "edges": len(graph["edges"])}
    assert len(limited["nodes"]) == 2
    assert not limited["nodes"][0].get("metadata")
    assert turtle.headers["Content-Type"].startswith("text/turtle")
    assert (stats["node_count"], stats["edge_count"]) == tuple(graph["stats"].values())
    assert (entity["entity_id"], entity["properties"]["name"]) == (node["id"], node["name"])
    assert entity["relationships"]
    assert (unknown[0], unknown[1]["code"]) == (404, "not_found")


async def test_sparql_reads_and_nothing_else(server: Server) -> None:
    session_id = await server.open_session()
    path = f"/api/v1/sessions/{session_id}/graph/sparql"
    await server.caught_up()

    rows = await server.http("POST", path, {"query": "SELECT ?s ?p ?o WHERE { ?s ?p ?o } LIMIT 3"})
    text = await server.http(
        "POST",
        path,
        raw=b"ASK { ?s ?p ?o }",
        headers={"Content-Type": "application/sparql-query"},
    )
    update = await server.http("POST", path, {"query": "DELETE WHERE { ?s ?p ?o }"})
    service = await server.http(
        "POST", path, {"query": "SELECT * { SERVICE <http://127.0.0.1/> { ?s ?p ?o } }"}
    )
    wrong = await server.http("POST", path, {"query": "SELEKT"})

    assert len(rows[1]["results"]["bindings"]) == 3
    assert text[1]["boolean"] is True
    for status, answer in (update, service, wrong):
        assert (status, answer["code"]) == (422, "invalid_data")
        assert answer["error"].startswith("`query`")


async def test_the_audit_view_has_every_event_in_order(server: Server) -> None:
    session_id = await server.open_session(user_id="ada")
    socket = await server.connect(session_id, user_id="bob")
    await socket.query("Hello", id="q1")
    await server.caught_up()
    path = f"/api/v1/sessions/{session_id}/events"

    events = (await server.http("GET", f"{path}?limit=1000"))[1]["events"]
    page = (await server.http("GET", f"{path}?limit=2&after={events[0]['position']}"))[1]

    positions = [event["position"] for event in events]
    assert positions == sorted(positions)
    types = [event["type"] for event in events if not event["type"].startswith("Knowledge")]
    assert types == [
        "SessionOpened",
        "ConnectionOpened",
        "QueryAsked",
        "ReplyStarted",
        "ReplyCompleted",
    ]
    asked = next(event for event in events if event["type"] == "QueryAsked")
    assert asked["cause"]["user_id"] == "bob"
    assert asked["cause"]["request_id"] == "q1"
    assert asked["data"]["message"] == "Hello"
    assert page["events"] == events[1:3]
    assert page["has_more"] is True


async def test_domains_can_be_looked_at(server: Server) -> None:
    domains = (await server.http("GET", "/api/v1/domains"))[1]["domains"]
    dnd = (await server.http("GET", "/api/v1/domains/dnd"))[1]

    assert {"dnd", "lab_assistant", "user_story"} <= {domain["name"] for domain in domains}
    assert dnd in domains


async def test_health_and_metrics(server: Server) -> None:
    await server.connect(await server.open_session())

    status, health = await server.http("GET", "/health")
    text = (await server.http("GET", "/metrics"))[1]

    assert (status, health["status"], health["version"]) == (200, "healthy", "test")
    assert health["checks"] == {"event_store": "ok", "model": "ok", "draining": "ok"}
    assert (health["connection_count"], health["session_count"] > 0) == (1, True)
    for name in (
        "lorewire_connections 1.0",
        "lorewire_session_actors 1.0",
        "lorewire_journal_batch_events_count",
        'lorewire_view_lag{view="memory"}',
        'lorewire_view_set_aside{view="memory"} 0.0',
        "lorewire_learning_waiting 0.0",
        'lorewire_learning_calls{outcome="failed"} 0.0',
    ):
        assert name in text


async def test_a_model_that_is_gone_is_a_check_and_not_a_disease(server: Server) -> None:
    server.model.fail(500)

    status, health = await server.http("GET", "/health")

    assert (status, health["status"]) == (200, "healthy")
    assert "HTTP 500" in health["checks"]["model"]
