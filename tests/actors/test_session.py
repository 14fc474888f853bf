"""The session's actor, where things go wrong."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from events.aggregate import Cause
from events.log import Recorded
from events.session import Session
from tests.databases import allow_connections, kill_connections, refuse_connections
from tests.harness import Server, running_server


@pytest.fixture
async def server(migrated_database_url: str) -> AsyncIterator[Server]:
    async with running_server(migrated_database_url, journal_timeout_s=0.5) as server:
        yield server


async def versions(server: Server, session_id: UUID) -> list[int]:
    """The versions of the session's own stream, in the order of positions."""
    log = server.directory.services.log
    stored = await asyncio.to_thread(log.read_session, session_id, limit=10_000)
    return [
        one.event.originator_version
        for one in stored
        if isinstance(one, Recorded) and one.event.originator_id == session_id
    ]


async def test_an_unexpected_error_closes_with_1011_and_the_next_message_starts_afresh(
    server: Server,
) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    await socket.query("Hello")

    server.directory.tell(session_id, object())  # nothing that a session understands

    assert (await socket.closed())[0] == 1011
    again = await server.connect(session_id)
    assert (await again.query("Still there?"))["data"]["message"] == "You said: Still there?"


async def test_an_unexpected_error_in_mid_turn_ends_the_turn_as_failed(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    server.model.hang_after(1)
    await socket.send("query", {"message": "Hello"})
    await socket.until("query_response", partial=True)

    server.directory.tell(session_id, object())
    await socket.closed()
    server.model.behave()
    back = await server.connect(session_id)
    await back.query("And now?")

    _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events?limit=1000")
    types = [e["type"] for e in answer["events"] if e["stream"] == str(session_id)]
    assert types[1:] == [
        "QueryAsked",
        "ReplyStarted",
        "ReplyFailed",
        "QueryAsked",
        "ReplyStarted",
        "ReplyCompleted",
    ]


async def test_a_query_waits_for_the_database_and_is_then_refused(
    server: Server, migrated_database_url: str
) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    await asyncio.to_thread(refuse_connections, migrated_database_url)
    try:
        refused = await socket.ask("query", {"message": "Hello"}, request_id="q1")
        pong = await socket.ask("ping", {}, request_id="p")
        search = await socket.ask("search_memory", {"query": "x"}, request_id="s")
        status, health = await server.http("GET", "/health")
    finally:
        await asyncio.to_thread(allow_connections, migrated_database_url)

    assert (refused["type"], refused["data"]["code"]) == ("error", "unavailable")
    assert pong["type"] == "pong"
    assert (search["type"], search["data"]["code"]) == ("error", "unavailable")
    assert (status, health["status"]) == (503, "unhealthy")
    reply = await socket.query("Hello", id="q1")
    assert reply["data"]["message"] == "You said: Hello"
    assert await versions(server, session_id) == [1, 2, 3, 4]


async def test_a_reply_that_comes_while_the_database_is_gone_is_stored_when_it_is_back(
    server: Server, migrated_database_url: str
) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    server.model.hold()
    await socket.send("query", {"message": "Hello"})
    while not server.model.requests:  # what it recalls has been read
        await asyncio.sleep(0.01)
    await asyncio.to_thread(refuse_connections, migrated_database_url)
    server.model.release()
    await asyncio.sleep(1.0)  # longer than an append waits
    await asyncio.to_thread(allow_connections, migrated_database_url)

    reply = await socket.until("query_response", partial=False)

    assert reply["data"]["message"] == "You said: Hello"
    assert await versions(server, session_id) == [1, 2, 3, 4]


async def test_connections_to_the_database_that_are_cut_under_load_lose_nothing(
    migrated_database_url: str,
) -> None:
    async with running_server(migrated_database_url) as server:
        await _cut_connections_under_load(server, migrated_database_url)


async def _cut_connections_under_load(server: Server, database_url: str) -> None:
    session_ids = [await server.open_session() for _ in range(5)]
    sockets = [await server.connect(session_id) for session_id in session_ids]
    acknowledged: dict[UUID, set[int]] = {session_id: set() for session_id in session_ids}

    async def talk(number: int) -> None:
        for turn in range(8):
            reply = await sockets[number].query(f"Question {turn}", id=f"{turn}")
            acknowledged[session_ids[number]].add(reply["position"])

    async def cut() -> None:
        for _ in range(8):
            await asyncio.sleep(0.05)
            await asyncio.to_thread(kill_connections, database_url)

    await asyncio.gather(cut(), *(talk(number) for number in range(5)))

    for session_id in session_ids:
        _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events?limit=1000")
        own = [e for e in answer["events"] if e["stream"] == str(session_id)]
        assert [e["version"] for e in own] == list(range(1, len(own) + 1))
        ended = [e for e in own if e["type"] in ("ReplyCompleted", "ReplyFailed")]
        assert {e["position"] for e in ended} == acknowledged[session_id]
        assert len(ended) == 8


async def test_another_writer_of_the_session_is_noticed_and_the_command_decided_again(
    server: Server,
) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    log = server.directory.services.log

    def rename_elsewhere() -> None:
        session = log.load(Session, session_id)
        assert session is not None
        session.reconfigure(title="Elsewhere", config=None, cause=Cause("eve"))
        log.save(session)

    await asyncio.to_thread(rename_elsewhere)
    await socket.query("Hello")
    status = await socket.ask("get_status")

    assert status["data"]["title"] == "Elsewhere"
    assert status["data"]["position"] >= max(m.get("position", 0) for m in socket.seen)
    assert await versions(server, session_id) == [1, 2, 3, 4, 5]
    stored = [m for m in socket.seen[1:] if "position" in m]
    assert [m["type"] for m in stored] == ["session_updated", "query_received", "query_response"]
    assert stored == sorted(stored, key=lambda m: int(m["position"]))


async def test_waiting_queries_are_run_after_a_restart(migrated_database_url: str) -> None:
    async with running_server(migrated_database_url) as server:
        session_id = await server.open_session()
        log = server.directory.services.log

        def leave_a_turn_open() -> None:
            session = log.load(Session, session_id)
            assert session is not None
            for number in range(2):
                turn_id = UUID(int=number)
                session.ask_query(turn_id, f"Q{number}", {}, stream=True, cause=Cause("ada"))
            session.start_reply()
            log.save(session)

        await asyncio.to_thread(leave_a_turn_open)  # as a server that was killed would

    async with running_server(migrated_database_url) as server:
        async with asyncio.timeout(10):
            events: list[dict[str, Any]] = []
            while not any(e["type"] == "ReplyCompleted" for e in events):
                await asyncio.sleep(0.05)
                _, answer = await server.http("GET", f"/api/v1/sessions/{session_id}/events")
                events = answer["events"]

    ends = [(e["type"], e["data"]["turn_id"]) for e in events if e["type"].startswith("Reply")]
    assert ends == [
        ("ReplyStarted", str(UUID(int=0))),
        ("ReplyFailed", str(UUID(int=0))),
        ("ReplyStarted", str(UUID(int=1))),
        ("ReplyCompleted", str(UUID(int=1))),
    ]


async def test_a_server_that_stops_ends_its_running_turn(migrated_database_url: str) -> None:
    async with running_server(migrated_database_url) as server:
        session_id = await server.open_session()
        socket = await server.connect(session_id)
        server.model.hang_after(1)
        await socket.send("query", {"message": "Hello"})
        await socket.until("query_response", partial=True)

        await server.directory.shutdown()

        failed = await socket.until("query_response", partial=False)
        assert failed["data"]["failed"] is True
        assert (await socket.closed())[0] == 1012


async def test_a_snapshot_keeps_loading_short(server: Server) -> None:
    session_id = await server.open_session()
    socket = await server.connect(session_id)
    for number in range(34):
        await socket.query(f"Question {number}")

    log = server.directory.services.log
    assert log.snapshots is not None
    async with asyncio.timeout(5):
        snapshots: list[Any] = []
        while not snapshots:
            await asyncio.sleep(0.02)
            snapshots = await asyncio.to_thread(lambda: list(log.snapshots.get(session_id)))  # type: ignore[union-attr]
    assert snapshots[0].originator_version >= 100
    loaded = await asyncio.to_thread(log.load, Session, session_id)
    assert loaded is not None
    assert loaded.turns_total == 34
