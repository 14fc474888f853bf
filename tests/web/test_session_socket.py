"""The session socket, as a client sees it."""

import asyncio
import gc
import re
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.turns import MAX_SHOWN_TURNS, SHOWN_TURNS
from events.session import MAX_WAITING_TURNS
from tests.actors.test_protocol import BAD
from tests.harness import Server, Socket, running_server

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_the_first_message_says_where_one_is(server: Server) -> None:
    session_id = await server.open_session()

    socket = await server.dial(f"/api/v1/ws/sessions/{session_id}")
    first = await socket.receive()

    assert first is not None
    assert first["type"] == "connection_established"
    data = first["data"]
    assert set(data) == {
        "connection_id",
        "session_id",
        "timestamp",
        "protocol",
        "epoch",
        "heartbeat_interval_s",
        "heartbeat_timeout_s",
        "recovered",
    }
    assert (data["session_id"], data["protocol"]) == (str(session_id), "lorewire.v1")
    assert data["recovered"] is False
    status, events = await server.http("GET", f"/api/v1/sessions/{session_id}/events")
    assert status == 200
    opened = [one for one in events["events"] if one["type"] == "ConnectionOpened"]
    assert first["position"] == opened[0]["position"]


async def test_every_connection_sees_the_turn_and_the_asker_its_id(server: Server) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id, user_id="ada")
    bob = await server.connect(session_id, user_id="bob")
    server.model.say("Kira", " is", " a ranger.")

    await ada.send("query", {"message": "Who is Kira?", "context": {"mood": "calm"}}, id="7")
    for socket in (ada, bob):
        await socket.until("typing_stop")

    def of_turn(socket: Socket) -> list[dict[str, object]]:
        return [m for m in socket.seen if "turn_id" in m["data"] and m["type"] != "memory_updated"]

    assert [m["type"] for m in of_turn(ada)] == [
        "query_received",
        "typing_start",
        "query_response",
        "query_response",
        "query_response",
        "query_response",
        "typing_stop",
    ]
    assert [m["data"] for m in of_turn(bob)] == [m["data"] for m in of_turn(ada)]
    assert {m.get("id") for m in of_turn(ada)} == {"7"}
    assert {m.get("id") for m in of_turn(bob)} == {None}
    received, _, *responses, _ = [m["data"] for m in of_turn(ada)]
    assert received["message"] == "Who is Kira?"  # type: ignore[index]
    assert received["context"] == {"mood": "calm"}  # type: ignore[index]
    pieces = [(r["partial"], r.get("sequence"), r["message"]) for r in responses]  # type: ignore[index,attr-defined]
    assert pieces == [
        (True, 1, "Kira"),
        (True, 2, " is"),
        (True, 3, " a ranger."),
        (False, None, "Kira is a ranger."),
    ]
    final = responses[-1]
    assert final["model"] == "scripted"  # type: ignore[index]
    assert set(final["usage"]) == {"prompt_tokens", "completion_tokens"}  # type: ignore[index]
    assert isinstance(final["recalled"], list)  # type: ignore[index]


async def test_everything_has_a_time_and_the_session(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    await socket.query("Hello")
    await socket.until("memory_updated")
    await socket.ask("get_status")

    for message in socket.seen:
        assert message["data"]["session_id"] == str(session_id), message
        assert RFC3339.fullmatch(message["data"]["timestamp"]), message


async def test_positions_only_grow_and_belong_to_stored_messages(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    for number in range(5):
        await socket.query(f"Question {number}")

    positions = [m["position"] for m in socket.seen if "position" in m]
    assert positions == sorted(set(positions))
    stored = {"connection_established", "query_received", "query_response"}
    for message in socket.seen:
        is_stored = message["type"] in stored and not message["data"].get("partial")
        assert ("position" in message) == is_stored, message


async def test_a_connection_can_do_without_pieces(server: Server) -> None:
    session_id = await server.open_session()
    whole = await server.connect(session_id, stream="false")
    pieces = await server.connect(session_id)

    await pieces.query("Say three words")
    await whole.until("typing_stop")

    assert [m["data"]["partial"] for m in whole.seen if m["type"] == "query_response"] == [False]
    assert any(m["data"].get("partial") for m in pieces.seen)


async def test_a_query_can_do_without_pieces(server: Server) -> None:
    socket = await server.connect(await server.open_session())

    await socket.send("query", {"message": "Hello", "stream": False})
    await socket.until("typing_stop")

    assert [m["data"]["partial"] for m in socket.seen if m["type"] == "query_response"] == [False]


async def test_all_bad_input_is_answered_and_the_connection_stays(server: Server) -> None:
    socket = await server.connect(await server.open_session())

    for name, (payload, code, words) in BAD.items():
        await socket.send_raw(payload, binary=isinstance(payload, bytes))
        error = await socket.until("error")

        assert (error["data"]["code"], words in error["data"]["error"]) == (code, True), name
    await socket.send("ping", {"message": "still here"})
    await socket.until("pong", message="still here")


async def test_an_error_carries_the_id_of_its_request(server: Server) -> None:
    socket = await server.connect(await server.open_session())

    error = await socket.ask("query", {"message": ""}, request_id="q1")

    assert (error["type"], error["data"]["code"]) == ("error", "invalid_data")


async def test_a_frame_that_is_too_big_closes_with_1009(server: Server) -> None:
    socket = await server.connect(await server.open_session())

    await socket.send_raw('{"type":"ping","data":{"message":"%s"}}' % ("x" * 300 * 1024))

    assert (await socket.closed())[0] == 1009


async def test_an_unknown_session_closes_with_4004(server: Server) -> None:
    for name in (uuid4(), "no-uuid"):
        socket = await server.dial(f"/api/v1/ws/sessions/{name}")

        assert (await socket.closed())[0] == 4004
    assert len(server.directory) == 0


@pytest.mark.parametrize(
    ("parameters", "field"), [({"stream": "maybe"}, "`stream`"), ({"user_id": ""}, "`user_id`")]
)
async def test_a_wrong_parameter_is_said_and_closes_with_1008(
    server: Server, parameters: dict[str, str], field: str
) -> None:
    session_id = await server.open_session()

    socket = await server.dial(f"/api/v1/ws/sessions/{session_id}", **parameters)
    error = await socket.receive()

    assert error is not None
    assert (error["type"], error["data"]["code"]) == ("error", "invalid_data")
    assert field in error["data"]["error"]
    assert (await socket.closed())[0] == 1008


async def test_a_deleted_session_closes_with_4010_and_stays_closed(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)

    status, _ = await server.http("DELETE", f"/api/v1/sessions/{session_id}")
    deleted = await socket.until("session_deleted")
    late = await server.dial(f"/api/v1/ws/sessions/{session_id}")

    assert status == 200
    assert "position" in deleted
    assert (await socket.closed())[0] == 4010
    assert (await late.closed())[0] == 4010


async def test_others_learn_who_comes_and_goes(server: Server) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id, user_id="ada")

    bob = await server.connect(session_id, user_id="bob")
    joined = await ada.until("connection_joined")
    bob.close()
    left = await ada.until("connection_left")

    assert (joined["data"]["user_id"], joined["data"]["connections"]) == ("bob", 2)
    assert left["data"]["connection_id"] == joined["data"]["connection_id"]
    assert left["data"]["connections"] == 1
    assert not [m for m in bob.seen if m["type"] == "connection_joined"]


async def test_a_connection_that_is_cut_is_noticed_and_recorded(server: Server) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id)
    bob = await server.connect(session_id)

    bob.cut()
    await ada.until("connection_left")
    await ada.ask("get_status")

    _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events?limit=1000")
    assert [e["type"] for e in answer["events"]].count("ConnectionClosed") == 1


async def test_clients_that_vanish_while_they_are_written_to_leave_no_traceback(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = await server.open_session()
    watcher = await server.connect(session_id)
    server.model.piece_delay_s = 0.002
    server.model.say(*(["word "] * 100))
    leaving = [await server.connect(session_id) for _ in range(5)]
    await watcher.send("query", {"message": "Talk"})

    for socket in leaving:
        await socket.until("query_response", partial=True)
        socket.cut()
    await watcher.until("typing_stop")
    await asyncio.sleep(0.1)
    gc.collect()

    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []


async def test_pings_and_heartbeats_are_echoed_and_not_stored(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)

    pong = await socket.ask("ping", {"message": {"n": [1]}, "timestamp": 12.5})
    beat = await socket.ask("heartbeat", {"timestamp": "now"})

    assert pong["data"]["message"] == {"n": [1]}
    assert pong["data"]["client_timestamp"] == 12.5
    assert beat["type"] == "heartbeat_response"
    assert beat["data"]["connection_id"] == socket.seen[0]["data"]["connection_id"]
    _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events")
    assert {e["type"] for e in answer["events"]} <= {
        "SessionOpened",
        "ConnectionOpened",
        "KnowledgeOpened",
        "KnowledgeExtracted",
    }


async def test_a_silent_client_is_closed_with_4008(migrated_database_url: str) -> None:
    from tests.harness import running_server

    async with running_server(
        migrated_database_url, heartbeat_interval_s=30, heartbeat_timeout_s=0.3
    ) as server:
        session_id = await server.open_session()
        silent = await server.connect(session_id)
        lively = await server.connect(session_id)
        for _ in range(4):
            await asyncio.sleep(0.1)
            await lively.ask("heartbeat")

        assert (await silent.closed())[0] == 4008
        await lively.ask("ping")
        _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events?limit=1000")
        closed = [e for e in answer["events"] if e["type"] == "ConnectionClosed"]
        assert closed[0]["data"]["code"] == 4008


async def test_turns_run_one_after_the_other(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    server.model.hold()

    for number in range(3):
        await socket.send("query", {"message": f"Question {number}"})
    received = [await socket.until("query_received") for _ in range(3)]
    server.model.release()
    stopped = [await socket.until("typing_stop") for _ in range(3)]

    asked = [m["data"]["turn_id"] for m in received]
    assert [m["data"]["turn_id"] for m in stopped] == asked
    assert len(server.model.requests) == 3


async def test_the_seventeenth_waiting_query_is_refused(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    server.model.hold()
    for number in range(MAX_WAITING_TURNS + 1):  # one runs
        await socket.send("query", {"message": f"Question {number}"})

    error = await socket.ask("query", {"message": "One too many"}, request_id="late")

    assert (error["type"], error["data"]["code"]) == ("error", "conflict")
    server.model.release()
    for _ in range(MAX_WAITING_TURNS + 1):
        await socket.until("query_response", partial=False)
    assert (await socket.query("And now?"))["data"]["message"] == "You said: And now?"


async def test_a_running_turn_can_be_cancelled(server: Server) -> None:
    session_id = await server.open_session()
    asker = await server.connect(session_id)
    other = await server.connect(session_id)
    server.model.hang_after(2)
    await asker.send("query", {"message": "Tell me everything"})
    await asker.until("query_response", sequence=2)

    answer = await other.ask("cancel", {}, request_id="c")
    final = await asker.until("query_response", partial=False)
    await asker.until("typing_stop")

    assert answer["type"] == "cancel_response" or answer["type"] == "query_response"
    assert final["data"]["cancelled"] is True
    assert final["data"]["message"] == "You said:"
    assert "position" in final
    async with asyncio.timeout(5):
        while server.model.open_streams:
            await asyncio.sleep(0.01)
    server.model.behave()
    assert (await asker.query("Again"))["data"]["message"] == "You said: Again"


async def test_a_waiting_turn_can_be_cancelled(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    server.model.hold()
    await socket.send("query", {"message": "First"})
    await socket.send("query", {"message": "Second"})
    waiting = (await socket.until("query_received", message="Second"))["data"]["turn_id"]

    await socket.send("cancel", {"turn_id": waiting}, id="c")
    answer = await socket.until("cancel_response")
    server.model.release()
    await socket.until("query_response", partial=False, message="You said: First")

    assert answer["data"]["cancelled"] is True
    cancelled = [
        m for m in socket.seen if m["data"].get("cancelled") is True and "message" in m["data"]
    ]
    assert [m["data"]["turn_id"] for m in cancelled] == [waiting]
    assert len(server.model.requests) == 1


async def test_there_may_be_nothing_to_cancel(server: Server) -> None:
    socket = await server.connect(await server.open_session())

    answer = await socket.ask("cancel", {"turn_id": str(uuid4())})

    assert (answer["type"], answer["data"]["cancelled"]) == ("cancel_response", False)


async def test_a_retried_query_is_not_run_twice(server: Server) -> None:
    session_id = await server.open_session()
    first = await server.connect(session_id, user_id="ada")
    reply = await first.query("Who is Kira?", id="q1")
    second = await server.connect(session_id, user_id="ada")

    again = await second.query("Who is Kira?", id="q1")

    assert again["data"] == reply["data"]
    assert again["position"] == reply["position"]
    assert again["id"] == "q1"
    assert len(server.model.requests) == 1


async def test_a_query_that_is_retried_while_it_runs_gets_the_same_reply(server: Server) -> None:
    session_id = await server.open_session()
    lost = await server.connect(session_id, user_id="ada")
    server.model.hold()
    await lost.send("query", {"message": "Who is Kira?"}, id="q1")
    await lost.until("typing_start")
    lost.cut()
    back = await server.connect(session_id, user_id="ada")

    await back.send("query", {"message": "Who is Kira?"}, id="q1")
    await back.until("query_received")
    server.model.release()
    reply = await back.until("query_response", partial=False)

    assert reply["id"] == "q1"
    assert len(server.model.requests) == 1


@pytest.mark.parametrize(
    ("user_id", "message", "request_id"),
    [("bob", "Who is Kira?", "q1"), ("ada", "Who is Sara?", "q1"), ("ada", "Who is Kira?", "q2")],
)
async def test_another_user_message_or_id_is_another_query(
    server: Server, user_id: str, message: str, request_id: str
) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id, user_id="ada")
    await ada.query("Who is Kira?", id="q1")
    other = await server.connect(session_id, user_id=user_id)

    await other.query(message, id=request_id)

    assert len(server.model.requests) == 2


async def test_a_model_that_fails_ends_the_turn_and_the_session_lives(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    server.model.cut_after(1)

    failed = await socket.query("Hello")
    server.model.behave()
    good = await socket.query("Hello again")

    assert failed["data"]["failed"] is True
    assert failed["data"]["code"] == "model_unavailable"
    assert "gave no reply" in failed["data"]["error"]
    assert failed["data"]["message"] == "You"
    assert good["data"]["message"] == "You said: Hello again"


async def test_memory_and_graph_are_pushed_when_they_have_moved(server: Server) -> None:
    socket = await server.connect(await server.open_session(user_id="ada"), user_id="ada")
    server.model.say("Tobin Ashford owns the Silver Hammer.")

    reply = await socket.query("Kira lives in Rivermoor.")
    turn_id = reply["data"]["turn_id"]
    updates: list[dict[str, Any]] = []
    while len(entries := [e for update in updates for e in update["data"]["entries"]]) < 2:
        await socket.receive()
        moved = [m for m in socket.seen if m["type"] == "memory_updated"]
        updates = [m for m in moved if m["data"]["turn_id"] == turn_id]  # not of the seed

    assert [entry["text"] for entry in entries] == [
        "Kira lives in Rivermoor.",
        "Tobin Ashford owns the Silver Hammer.",
    ]
    assert {entry["turn_id"] for entry in entries} == {turn_id}
    assert updates[-1]["view_position"] >= entries[-1]["position"]
    await server.caught_up()
    graph = await socket.ask("get_graph")
    names = {node["name"] for node in graph["data"]["graph_data"]["nodes"]}
    assert {"Kira", "Rivermoor", "Tobin Ashford"} <= names


async def test_a_search_finds_what_was_said(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    await socket.query("The amulet is hidden under the mill.")
    await server.caught_up()

    answer = await socket.ask("search_memory", {"query": "hidden amulet"})

    assert answer["type"] == "search_response"
    best = answer["data"]["results"][0]
    assert best["text"] in (
        "The amulet is hidden under the mill.",
        "You said: The amulet is hidden under the mill.",
    )
    assert best["ranks"]["keyword"] == 1
    assert 0 < best["relevance_score"] <= 1
    shown = [best["text"][h["start"] : h["end"]].lower() for h in best["highlights"]]
    assert "amulet" in shown
    assert answer["data"]["total_results"] >= 2


async def test_what_was_said_is_recalled_in_later_turns(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    await socket.query("The amulet is hidden under the mill.")
    for number in range(8):
        await socket.query(f"Let us talk about something else, number {number}.")
    await server.caught_up()

    reply = await socket.query("Where is the amulet hidden?")

    prompt = server.model.requests[-1]["messages"]
    assert "under the mill" in prompt[0]["content"]
    assert prompt[-1] == {"role": "user", "content": "Where is the amulet hidden?"}
    assert reply["data"]["recalled"]
    _, memory = await server.http("GET", f"/api/v1/sessions/{session_id}/memory?limit=500")
    texts = {entry["entry_id"]: entry["text"] for entry in memory["data"]}
    recalled = [texts[entry_id] for entry_id in reply["data"]["recalled"]]
    assert any("under the mill" in text for text in recalled)


async def test_a_query_that_got_no_reply_is_recalled_in_the_next_turn(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    await socket.query("Where am I?")
    server.model.hang_after(2)
    await socket.send("query", {"message": "The amulet is hidden under the mill."})
    await socket.until("query_response", sequence=2)
    await socket.ask("cancel", {})
    server.model.behave()
    await server.caught_up()

    await socket.query("Where is the amulet hidden?")

    assert "under the mill" in server.model.requests[-1]["messages"][0]["content"]


async def test_the_last_turns_are_in_the_prompt_word_for_word(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    await socket.query("My name is Ada.")

    await socket.query("What is my name?")

    assert [m["role"] for m in server.model.requests[-1]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert server.model.requests[-1]["messages"][1]["content"] == "My name is Ada."


def queries_shown(server: Server) -> list[str]:
    """The queries that the model was shown last."""
    messages = server.model.requests[-1]["messages"]
    return [message["content"] for message in messages if message["role"] == "user"]


async def test_turns_that_memory_has_read_give_way_to_newer_ones(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    for number in range(SHOWN_TURNS + 3):
        await socket.query(f"Question {number}.")
    newest = f"Question {SHOWN_TURNS + 2}."
    while not any(m["type"] == "memory_updated" and newest in str(m) for m in socket.seen):
        await socket.receive()

    await socket.query("And now?")

    assert queries_shown(server) == [*(f"Question {n}." for n in range(3, 9)), "And now?"]


async def test_turns_that_memory_has_not_read_are_shown_besides(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.turn.RECALL_WAITS_S", 0.05)
    async with running_server(migrated_database_url, with_projector=False) as server:
        socket = await server.connect(await server.open_session())
        for number in range(MAX_SHOWN_TURNS + 2):
            await socket.query(f"Question {number}.")

        newest = MAX_SHOWN_TURNS + 1
        assert queries_shown(server) == [f"Question {n}." for n in range(1, newest + 1)]


@pytest.mark.parametrize("kind", ["conversations", "entities", "facts"])
async def test_memory_comes_in_pages(server: Server, kind: str) -> None:
    socket = await server.connect(await server.open_session(config={"domain": "dnd"}))
    await server.caught_up()

    whole = (await socket.ask("get_memory", {"type": kind, "limit": 500}, "a"))["data"]["data"]
    page = (await socket.ask("get_memory", {"type": kind, "limit": 2, "offset": 1}, "b"))["data"]

    assert whole["total"] == len(whole[kind]) >= 3
    assert not whole["has_more"]
    assert page["data"][kind] == whole[kind][1:3]
    assert page["data"]["has_more"] == (whole["total"] > 3)
    assert page["type"] == kind


async def test_as_of_shows_what_was_known_then(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    first = await socket.query("The first thing.")
    await server.caught_up()
    before = (await socket.ask("get_memory", {}, "a"))["data"]
    await socket.query("The second thing.")
    await server.caught_up()

    by_position = await socket.ask("get_memory", {"as_of": first["position"]}, "b")
    by_time = await socket.ask("get_memory", {"as_of": first["data"]["timestamp"]}, "c")
    future = await socket.ask("get_memory", {"as_of": "2999-01-01T00:00:00Z"}, "d")

    assert by_position["data"]["data"] == before["data"]
    assert by_time["type"] == "memory_response"
    assert (future["type"], future["data"]["code"]) == ("error", "invalid_data")
    assert "as_of" in future["data"]["error"]


@pytest.mark.parametrize("format_", ["json", "d3", "turtle", "json-ld", "graphml"])
async def test_the_graph_comes_in_every_format(server: Server, format_: str) -> None:
    socket = await server.connect(await server.open_session())
    await server.caught_up()

    answer = (await socket.ask("get_graph", {"format": format_}))["data"]

    assert answer["format"] == format_
    graph = answer["graph_data"]
    if format_ in ("json", "d3"):
        assert set(graph) == {"nodes", "edges" if format_ == "json" else "links", "metadata"}
        assert graph["nodes"]
    else:
        assert "Rivermoor" in graph


async def test_an_unknown_entity_is_said(server: Server) -> None:
    socket = await server.connect(await server.open_session())

    answer = await socket.ask("get_graph", {"entity": "Nobody Inparticular"})

    assert (answer["type"], answer["data"]["code"]) == ("error", "not_found")


async def test_the_status_tells_how_the_session_is(server: Server) -> None:
    session_id = await server.open_session(user_id="ada", title="Rivermoor")
    socket = await server.connect(session_id)
    await socket.query("Hello")
    await server.caught_up()

    status = (await socket.ask("get_status"))["data"]

    assert (status["title"], status["user_id"], status["status"]) == ("Rivermoor", "ada", "active")
    assert (status["connections"], status["turns_total"], status["turn"]) == (1, 1, None)
    assert status["agent_initialized"] is status["memory_manager_initialized"] is True
    assert status["memory_entries"] == 2
    assert status["graph"]["entities"] > 0
    assert status["model"] == "scripted"
    assert status["config"]["domain"] == "dnd"
    assert status["lag"] >= 0
    assert status["set_aside"] == []


async def test_reads_are_recorded_behind_their_answers(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    for type_, data in (
        ("search_memory", {"query": "Kira"}),
        ("get_memory", {"type": "facts"}),
        ("get_graph", {}),
        ("get_status", {}),
    ):
        await socket.ask(type_, data, request_id=type_)
    socket.close()

    async with asyncio.timeout(5):
        recorded: list[str] = []
        while "ConnectionClosed" not in recorded:
            _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events?limit=999")
            events = [e for e in answer["events"] if e["stream"] != str(session_id)]
            recorded = [e["type"] for e in events if not e["type"].startswith("Knowledge")]
            await asyncio.sleep(0.02)

    assert recorded == [
        "ConnectionOpened",
        "MemorySearched",
        "MemoryRead",
        "GraphRead",
        "StatusRead",
        "ConnectionClosed",
    ]
    search = next(e for e in events if e["type"] == "MemorySearched")
    assert search["data"]["query"] == "Kira"
    assert search["cause"]["request_id"] == "search_memory"


async def test_renaming_is_told_to_everybody(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)

    status, session = await server.http(
        "PATCH", f"/api/v1/sessions/{session_id}", {"title": "Thornwick"}
    )
    updated = await socket.until("session_updated")

    assert (status, session["title"]) == (200, "Thornwick")
    assert updated["data"]["changes"] == {"title": "Thornwick"}
    assert "position" in updated


async def test_an_idle_session_leaves_memory_and_comes_back_whole(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    await socket.query("My name is Ada.")
    socket.close()
    async with asyncio.timeout(5):
        while len(server.directory):
            await server.http("POST", "/api/v1/sessions/cleanup")

    socket = await server.connect(session_id)
    await socket.query("What is my name?")

    assert server.model.requests[-1]["messages"][1]["content"] == "My name is Ada."
    assert UUID(socket.seen[0]["data"]["session_id"]) == session_id
