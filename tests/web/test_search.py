"""Searching over the socket: pages, filters, looking back, and what nobody should send."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.harness import Server, Socket

TOLD = ["The amulet is under the mill.", "Garrick sells swords.", "The amulet is cursed."]


async def told(server: Server) -> tuple[UUID, Socket]:
    """A session in which three things were said."""
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    for text in TOLD:
        await socket.query(text)
    await server.caught_up()
    return session_id, socket


async def found(socket: Socket, query: str = "amulet", **data: Any) -> dict[str, Any]:
    """The data of the answer to a search."""
    answer = await socket.ask("search_memory", {"query": query, **data})
    assert answer["type"] == "search_response", answer
    data_of_answer: dict[str, Any] = answer["data"]
    return data_of_answer


async def refusal(socket: Socket, **data: Any) -> str:
    """The sentence with which a search is refused."""
    answer = await socket.ask("search_memory", {"query": "amulet", **data})
    assert answer["type"] == "error", answer
    assert answer["data"]["code"] == "invalid_data"
    sentence: str = answer["data"]["error"]
    return sentence


async def test_pages_of_a_search_are_its_results_in_order(server: Server) -> None:
    _, socket = await told(server)

    everything = await found(socket)
    pages = [await found(socket, limit=1, offset=n) for n in range(everything["total_results"] + 1)]

    assert everything["total_results"] >= 4
    assert [hit for page in pages for hit in page["results"]] == everything["results"]
    assert pages[-1]["results"] == []
    scores = [hit["relevance_score"] for hit in everything["results"]]
    assert scores == sorted(scores, reverse=True)


async def test_a_long_text_has_its_highlights(server: Server) -> None:
    socket = await server.connect(await server.open_session())
    text = 800 * "It rains in Thornwick. " + "The amulet is under the mill."
    await socket.query(text)
    await server.caught_up()

    (hit,) = [hit for hit in (await found(socket, limit=100))["results"] if hit["role"] == "user"]

    assert hit["text"] == text
    shown = [hit["text"][h["start"] : h["end"]] for h in hit["highlights"]]
    assert shown == ["amulet"]


async def test_filters_and_looking_back_leave_out_what_they_should(server: Server) -> None:
    _, socket = await told(server)
    everything = (await found(socket, limit=100))["results"]
    positions = sorted(hit["position"] for hit in everything)
    times = sorted(hit["timestamp"] for hit in everything)

    of_users = await found(socket, filters={"role": "user"})
    late = await found(socket, filters={"since": times[-1]})
    then = await found(socket, as_of=positions[1])
    at_a_time = await found(socket, as_of=datetime.now(UTC).isoformat())

    assert {hit["role"] for hit in of_users["results"]} == {"user"}
    assert {hit["timestamp"] for hit in late["results"]} == {times[-1]}
    assert sorted(hit["position"] for hit in then["results"]) == positions[:2]
    assert at_a_time["results"] == (await found(socket))["results"]


async def test_each_kind_is_answered_without_an_embedder(server: Server) -> None:
    _, socket = await told(server)

    answers = {kind: await found(socket, type=kind) for kind in ("hybrid", "semantic", "keyword")}

    assert {kind: answer["meaning"] for kind, answer in answers.items()} == {
        "hybrid": "none",
        "semantic": "none",
        "keyword": "not_asked",
    }
    assert answers["hybrid"]["results"] == answers["keyword"]["results"]


async def test_a_query_without_a_word_finds_nothing(server: Server) -> None:
    _, socket = await told(server)

    for query in ("the of and", "\U0001f409", "\u200b", "%_\\'\"", "\ufffd", "?" * 2000):
        answer = await found(socket, query)

        assert (answer["results"], answer["total_results"]) == ([], 0), query


async def test_a_query_of_2000_characters_is_answered_and_a_longer_one_refused(
    server: Server,
) -> None:
    _, socket = await told(server)
    longest = ("amulet under the mill " * 100)[:2000]

    answer = await found(socket, longest)

    assert answer["results"]
    assert "query" in await refusal(socket, query=longest + "x")
    assert "query" in await refusal(socket, query="")


async def test_no_past_to_look_at_is_refused_by_name(server: Server) -> None:
    _, socket = await told(server)
    too_early, too_late = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    texts = ("yesterday", "", "2026-01-31T12:00:00", "2026-13-31T12:00:00Z", too_early, too_late)

    others: list[Any] = [-1, 10**12, 2**63, 2**70, 1.5, True, {}]

    for as_of in (*others, *texts, tomorrow):
        assert "as_of" in await refusal(socket, as_of=as_of), as_of

    assert (await found(socket))["results"]  # the connection goes on


async def test_what_is_no_option_is_refused_by_name(server: Server) -> None:
    _, socket = await told(server)

    for field, value in (
        *(("limit", 0), ("limit", 101), ("limit", "ten")),
        *(("offset", -1), ("offset", 2**31)),
        ("type", "fuzzy"),
        *(("filters", {"role": "god"}), ("filters", {"since": "noon"}), ("filters", [])),
    ):
        assert field in await refusal(socket, **{field: value}), value
