"""From a reply to the exact messages and statements that it was given, and back."""

from typing import Any
from uuid import UUID

import pytest

from tests.harness import Server, Socket

SEED = 3  # paragraphs of the domain below, at least


async def talk(server: Server) -> tuple[UUID, Socket]:
    """A session in which a reply was given memories and facts."""
    session_id = await server.open_session(config={"domain": "dnd"})
    socket = await server.connect(session_id, user_id="ada")
    await socket.query("Captain Brannoc owns the Copper Bell.")
    for number in range(7):  # so that the first turn is not shown word for word any more
        await socket.query(f"What about the weather, number {number}?")
    await server.caught_up()
    await socket.query("What does Captain Brannoc own?")
    await server.caught_up()
    return session_id, socket


async def audit(server: Server, session_id: UUID, **parameters: str) -> list[dict[str, Any]]:
    """All events that are asked for, page by page."""
    events: list[dict[str, Any]] = []
    while True:
        after = str(events[-1]["position"]) if events else "0"
        query = "&".join(
            f"{k}={v}" for k, v in ({"limit": "7", "after": after} | parameters).items()
        )
        status, page = await server.http("GET", f"/api/v1/sessions/{session_id}/events?{query}")
        assert status == 200, page
        events += page["events"]
        if not page["has_more"]:
            return events


async def test_a_reply_leads_to_the_words_and_statements_it_was_given_and_back(
    server: Server,
) -> None:
    session_id, _ = await talk(server)
    prompt = server.model.requests[-1]["messages"][0]["content"]
    everything = {event["position"]: event for event in await audit(server, session_id)}

    reply = (await audit(server, session_id, type="ReplyCompleted"))[-1]
    given = reply["links"]["rests_on"]

    assert [one["id"] for one in given] == [*reply["data"]["recalled"], *reply["data"]["facts"]]
    assert reply["data"]["recalled"]
    assert reply["data"]["facts"]
    for one in given:
        source = everything[one["position"]]
        assert one["id"] in source["links"]["made"]
        assert words_of(source, one["id"]) in prompt
        about = await audit(server, session_id, about=one["id"])
        assert source in about
        assert reply in about


def words_of(source: dict[str, Any], id: str) -> str:
    """What the prompt shows of an entry, or the object of a statement."""
    data = source["data"]
    match source["type"]:
        case "SessionOpened":
            paragraph: str = data["seed"][int(id.removeprefix("s-"))]
            return paragraph[:40]
        case "QueryAsked":
            return str(data["message"])
        case "ReplyCompleted":
            return str(data["text"])
    statement = data["statements"][source["links"]["made"].index(id)]
    return str(statement["object"])


async def test_a_reply_was_given_what_its_links_name_and_nothing_else(server: Server) -> None:
    session_id, _ = await talk(server)
    prompt = server.model.requests[-1]["messages"][0]["content"]

    reply = (await audit(server, session_id, type="ReplyCompleted"))[-1]

    notes = [line for line in prompt.splitlines() if line.startswith("- ")]
    assert len(notes) == len(reply["links"]["rests_on"])


async def test_the_facts_of_a_reply_read_later_as_they_did_then(server: Server) -> None:
    session_id, socket = await talk(server)
    prompt = server.model.requests[-1]["messages"][0]["content"]
    data = (await audit(server, session_id, type="ReplyCompleted"))[-1]["data"]

    await socket.ask("retract_statement", {"statement_id": data["facts"][0]})
    await socket.ask("merge_entities", {"kept": "Copper Bell", "merged": "Captain Brannoc"})
    await server.caught_up()
    then = await facts(server, session_id, f"&as_of={data['graph_position']}")
    now = await facts(server, session_id)

    _, _, known = prompt.partition("Known facts:\n")
    assert [f"- {then[id]}" for id in data["facts"]] == known.split("\n\n")[0].splitlines()
    assert data["facts"][0] not in now


async def facts(server: Server, session_id: UUID, more: str = "") -> dict[str, str]:
    """The sentences of all statements by their ids."""
    path = f"/api/v1/sessions/{session_id}/memory?type=facts&limit=500{more}"
    status, page = await server.http("GET", path)
    assert status == 200, page
    return {fact["statement_id"]: fact["text"] for fact in page["data"]}


async def test_a_reply_tells_its_clients_where_it_looked(server: Server) -> None:
    session_id, socket = await talk(server)

    told = await socket.query("And the Copper Bell?")
    stored = (await audit(server, session_id, type="ReplyCompleted"))[-1]

    names = ("recalled", "facts", "memory_position", "graph_position")
    assert {name: told["data"][name] for name in names} == {
        name: stored["data"][name] for name in names
    }
    assert 0 < told["data"]["graph_position"] < told["position"]


async def test_a_paragraph_of_the_seed_leads_to_the_replies_that_were_given_it(
    server: Server,
) -> None:
    session_id = await server.open_session(config={"domain": "dnd"})
    await server.caught_up()
    socket = await server.connect(session_id, user_id="ada")
    reply = await socket.query("What does Tobin Ashford do?")
    seed = next(id for id in reply["data"]["recalled"] if id.startswith("s-"))

    about = await audit(server, session_id, about=seed)
    others = await audit(server, session_id, about="s-999999")

    assert [event["type"] for event in about] == ["SessionOpened", "ReplyCompleted"]
    assert about[-1]["position"] == reply["position"]
    assert others == []


async def test_a_merge_is_found_by_its_id_with_what_took_it_back(server: Server) -> None:
    session_id, socket = await talk(server)
    merged = await socket.ask("merge_entities", {"kept": "Brannoc", "merged": "Copper Bell"})
    merge_id = merged["data"]["merge_id"]
    await server.caught_up()
    await socket.ask("split_entities", {"merge_id": merge_id})

    about = await audit(server, session_id, about=merge_id)

    assert [event["type"] for event in about] == ["EntitiesMerged", "EntitiesSplit"]


async def test_what_was_retracted_can_still_be_found(server: Server) -> None:
    session_id, socket = await talk(server)
    reply = (await audit(server, session_id, type="ReplyCompleted"))[-1]
    statement_id = reply["data"]["facts"][0]

    await socket.ask("retract_statement", {"statement_id": statement_id, "reason": "a joke"})
    await server.caught_up()
    about = await audit(server, session_id, about=statement_id)

    assert about[0]["type"] == "KnowledgeExtracted"
    assert about[-1]["type"] == "StatementRetracted"
    assert reply["position"] in [event["position"] for event in about]


async def test_the_links_of_a_deleted_session_lead_where_they_led(server: Server) -> None:
    session_id, _ = await talk(server)
    before = (await audit(server, session_id, type="ReplyCompleted"))[-1]

    status, _ = await server.http("DELETE", f"/api/v1/sessions/{session_id}")
    await server.caught_up()
    after = (await audit(server, session_id, type="ReplyCompleted"))[-1]

    assert status == 200
    assert after["links"] == before["links"]
    assert all(one["position"] for one in after["links"]["rests_on"])


async def test_a_search_is_about_what_it_has_found(server: Server) -> None:
    session_id, socket = await talk(server)
    found = await socket.ask("search_memory", {"query": "Copper Bell"})
    entry_id = found["data"]["results"][0]["entry_id"]

    while True:  # a read is stored behind its answer
        about = await audit(server, session_id, about=entry_id)
        if about[-1]["type"] == "MemorySearched":
            break

    assert about[0]["links"]["made"] == [entry_id]


async def test_a_turn_is_all_that_happened_in_it(server: Server) -> None:
    session_id, _ = await talk(server)
    turn_id = (await audit(server, session_id, type="QueryAsked"))[0]["data"]["turn_id"]

    about = await audit(server, session_id, about=turn_id)

    assert [event["type"] for event in about] == [
        "QueryAsked",
        "ReplyStarted",
        "ReplyCompleted",
        "KnowledgeExtracted",
    ]
    source = {link["id"]: link["position"] for link in about[-1]["links"]["rests_on"]}
    assert source == {
        f"q-{turn_id}": about[0]["position"],
        f"r-{turn_id}": about[2]["position"],
    }


async def test_kinds_can_be_combined(server: Server) -> None:
    session_id, _ = await talk(server)

    events = await audit(server, session_id, type="QueryAsked&type=ReplyCompleted")

    assert {event["type"] for event in events} == {"QueryAsked", "ReplyCompleted"}
    assert len(events) == 18


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("type=HexCast", "type"),
        ("about=", "about"),
        ("about=x-1", "about"),
        ("about=s-one", "about"),
        ("about=%00", "about"),
        ("limit=0", "limit"),
        ("after=-1", "after"),
    ],
)
async def test_bad_questions_name_the_field(server: Server, query: str, field: str) -> None:
    session_id = await server.open_session()

    status, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events?{query}")

    assert (status, answer["code"]) == (422, "invalid_data")
    assert answer["error"].startswith(f"`{field}`")
