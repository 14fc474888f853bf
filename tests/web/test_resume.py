"""A client that comes back misses nothing and hears nothing twice."""

import asyncio
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from actors.resume import PAGE
from events.log import Log
from tests.harness import PATIENCE_S, Server, Socket, running_server
from tests.projections.scenario import Scenario

Heard = list[tuple[int, str]]


def stored(socket: Socket) -> Heard:
    """The stored messages that a client has heard, without its `connection_established`."""
    return [
        (message["position"], message["type"])
        for message in socket.seen
        if "position" in message and message["type"] != "connection_established"
    ]


async def come_back(server: Server, session_id: UUID, after: int, **parameters: str) -> Socket:
    """A connection that resumes; its first message is the last that was seen of it."""
    epoch = server.directory.services.epoch
    return await server.connect(session_id, after=str(after), epoch=epoch, **parameters)


def draw(graph: dict[str, Any], update: dict[str, Any]) -> None:
    """What a client does with `graph_updated`."""
    if update["update_type"] == "graph_rebuilt":
        graph["nodes"].clear()
        graph["edges"].clear()
    for kind in ("nodes", "edges"):
        for gone in update["removed"][kind]:
            graph[kind].pop(gone, None)
        for one in update["added"][kind]:
            graph[kind][one["id"]] = one


async def graph_of(socket: Socket) -> tuple[dict[str, Any], int]:
    """The whole graph by ids, and its view position."""
    data = (await socket.ask("get_graph"))["data"]
    kinds = ("nodes", "edges")
    graph = {kind: {one["id"]: one for one in data["graph_data"][kind]} for kind in kinds}
    return graph, data["view_position"]


async def test_what_was_missed_comes_once_and_in_order_and_then_all_that_follows(
    server: Server,
) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id, user_id="ada")
    bob = await server.connect(session_id, user_id="bob")
    await bob.query("One")
    last = stored(bob)[-1][0]
    bob.cut()
    await ada.query("Two")
    await server.http("PATCH", f"/api/v1/sessions/{session_id}", {"title": "Three"})
    await ada.until("session_updated")

    back = await come_back(server, session_id, last, user_id="bob")
    await ada.query("Four")

    assert back.seen[0]["data"]["recovered"] is True
    while stored(back)[-1:] != stored(ada)[-1:]:
        await back.receive()
    assert stored(back) == [one for one in stored(ada) if one[0] > last]
    assert [type_ for _, type_ in stored(back)] == [
        *("query_received", "query_response"),
        "session_updated",
        *("query_received", "query_response"),
    ]


async def test_a_client_that_has_missed_nothing_gets_nothing_again(server: Server) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id)
    await ada.query("One")
    last = stored(ada)[-1][0]
    ada.cut()

    back = await come_back(server, session_id, last)
    await back.query("Two")

    assert [type_ for _, type_ in stored(back)] == ["query_received", "query_response"]


@pytest.mark.parametrize("change", [{"after": 10**9}, {"epoch": "another"}])
async def test_positions_of_another_log_recover_nothing(
    server: Server, change: dict[str, Any]
) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id)
    await ada.query("One")
    known = {"after": "1", "epoch": server.directory.services.epoch}

    back = await server.connect(
        session_id, **{name: str(value) for name, value in (known | change).items()}
    )
    await back.query("Two")

    assert back.seen[0]["data"]["recovered"] is False
    assert back.seen[0]["position"] > stored(ada)[-1][0]
    assert [type_ for _, type_ in stored(back)] == ["query_received", "query_response"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"after": "7"}, "epoch"),
        ({"after": "seven", "epoch": "e"}, "after"),
        ({"after": "-1", "epoch": "e"}, "after"),
        ({"after": "1", "epoch": "e", "graph_after": "x"}, "graph_after"),
    ],
)
async def test_a_wrong_place_to_resume_is_named(
    server: Server, parameters: dict[str, str], field: str
) -> None:
    session_id = await server.open_session()

    socket = await server.dial(f"/api/v1/ws/sessions/{session_id}", **parameters)
    error = await socket.receive()

    assert error is not None
    assert (error["type"], error["data"]["code"]) == ("error", "invalid_data")
    assert f"`{field}`" in error["data"]["error"]
    assert (await socket.closed())[0] == 1008


async def test_a_running_turn_goes_on_arriving_with_the_text_so_far(server: Server) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id)
    server.model.say("Kira", " is", " a", " ranger.")
    server.model.hold(after=2)
    await ada.send("query", {"message": "Who?"})
    await ada.until("query_response", message=" is", partial=True)
    last = stored(ada)[-1][0]
    ada.cut()

    back = await come_back(server, session_id, last)
    new = await server.connect(session_id)
    mute = await server.connect(session_id, stream="false")
    server.model.release()

    for socket in (back, new):
        await socket.until("typing_start")
        so_far = await socket.until("query_response")
        assert so_far["data"]["message"] == "Kira is"
        assert (so_far["data"]["first_sequence"], so_far["data"]["sequence"]) == (1, 2)
        assert (await socket.until("query_response"))["data"]["partial"] in (True, False)
    whole = await mute.until("query_response")
    assert whole["data"]["partial"] is False
    assert [m["type"] for m in mute.seen[1:] if "turn_id" in m["data"]][:2] == [
        "typing_start",
        "query_response",
    ]


async def test_a_query_that_is_sent_again_after_a_cut_is_run_once_and_answered(
    server: Server,
) -> None:
    session_id = await server.open_session()
    ada = await server.connect(session_id, user_id="ada")
    server.model.say("Kira", " is", " a", " ranger.")
    server.model.hold(after=2)
    await ada.send("query", {"message": "Who?"}, id="7")
    await ada.until("query_response", message=" is", partial=True)
    last = stored(ada)[-1][0]
    ada.cut()

    back = await come_back(server, session_id, last, user_id="ada")
    await back.send("query", {"message": "Who?"}, id="7")
    await back.until("query_received")
    so_far = await back.until("query_response")
    server.model.release()
    await back.until("query_response", partial=False)

    assert (so_far["id"], so_far["data"]["message"]) == ("7", "Kira is")
    assert back.seen[-1]["id"] == "7"
    assert len(server.model.requests) == 1


async def test_the_graph_is_brought_up_to_date_by_its_difference(server: Server) -> None:
    session_id = await server.open_session(config={"domain": "lab_assistant"})
    ada = await server.connect(session_id)
    await ada.query("Kira lives in Rivermoor.")
    await server.caught_up()
    graph, graph_after = await graph_of(ada)
    last = stored(ada)[-1][0]
    bob = await server.connect(session_id)
    ada.cut()
    await bob.query("Tobin owns the Silver Hammer. Kira lives in Stonebridge.")
    await server.caught_up()
    now, view_position = await graph_of(bob)
    while server.directory.services.told["graph"] < view_position:
        await asyncio.sleep(0.01)

    back = await come_back(server, session_id, last, graph_after=str(graph_after))
    moved = await back.until("memory_updated")
    update = await back.until("graph_updated")

    draw(graph, update["data"])
    assert graph == now
    assert update["data"]["update_type"] == "knowledge_extracted"
    assert (moved["data"]["turn_id"], moved["data"]["entries"]) == (None, [])
    assert update["view_position"] >= view_position
    assert back.seen.index(moved) > len(stored(back))


@pytest.mark.parametrize("is_rebuilt", [True, False])
async def test_a_graph_that_a_view_has_forgotten_comes_whole(
    server: Server, migrated_database_url: str, is_rebuilt: bool
) -> None:
    session_id = await server.open_session(config={"domain": "lab_assistant"})
    ada = await server.connect(session_id)
    await ada.query("Kira lives in Rivermoor.")
    await server.caught_up()
    now, view_position = await graph_of(ada)
    while server.directory.services.told["graph"] < view_position:
        await asyncio.sleep(0.01)
    if is_rebuilt:
        with psycopg.connect(server.database_url) as conn:
            conn.execute(
                "UPDATE lorewire_views SET rebuilt_position = %s WHERE name = 'graph'",
                (view_position,),
            )
    graph_after = view_position - 1 if is_rebuilt else 10**9

    back = await come_back(server, session_id, stored(ada)[-1][0], graph_after=str(graph_after))
    update = await back.until("graph_updated")

    graph: dict[str, Any] = {"nodes": {"old": {}}, "edges": {"old": {}}}
    draw(graph, update["data"])
    assert update["data"]["update_type"] == "graph_rebuilt"
    assert graph == now


class Reluctant:
    """A client that reads when it is told to; its socket holds next to nothing."""

    def __init__(self, sock: sockets.socket) -> None:
        self._sock = sock

    async def read(self, size: int) -> bytes:
        """At most so many bytes."""
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.get_running_loop().sock_recv(self._sock, size)


@asynccontextmanager
async def reluctant(
    server: Server, session_id: UUID, **parameters: str
) -> AsyncIterator[Reluctant]:
    """A client that has shaken hands, and has not read more."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    loop = asyncio.get_running_loop()
    with sockets.socket() as sock:
        sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        await loop.sock_sendall(
            sock,
            f"GET /api/v1/ws/sessions/{session_id}?{query} HTTP/1.1\r\nHost: x\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n".encode(),
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await loop.sock_recv(sock, 1)
        yield Reluctant(sock)


async def test_a_long_history_comes_at_the_pace_of_its_reader(
    migrated_database_url: str,
) -> None:
    log = Log(migrated_database_url)
    scenario = Scenario(log)
    session_id = scenario.open(domain="lab_assistant")
    for number in range(2 * PAGE):  # two messages each
        scenario.say(session_id, f"Question {number} " + 40 * "?", 1000 * "x")
    epoch, head = log.epoch(), log.head()
    log.close()
    async with running_server(migrated_database_url, with_projector=False) as server:
        async with reluctant(server, session_id, after="1", epoch=epoch) as reader:
            ada = await server.connect(session_id)
            await ada.query("Is anybody slow?")
            heard = await reader.read(1024)

        assert heard
        slow = await come_back(server, session_id, 1)
        while len(stored(slow)) < 4 * PAGE + 2:
            await slow.receive()

    positions = [position for position, _ in stored(slow)]
    assert positions == sorted(set(positions))
    assert positions[4 * PAGE - 1] <= head < positions[4 * PAGE]


async def test_one_who_does_not_read_is_cut_off_and_nobody_else_notices(
    migrated_database_url: str,
) -> None:
    limit = 64 * 1024
    async with running_server(migrated_database_url, max_outgoing_bytes=limit) as server:
        session_id = await server.open_session(config={"domain": "lab_assistant"})
        ada = await server.connect(session_id)
        async with reluctant(server, session_id, user_id="slow"):
            await ada.until("connection_joined")
            while not (left := [m for m in ada.seen if m["type"] == "connection_left"]):
                await ada.query("What do I see? " + 30_000 * "\u4e2d")
            assert left[0]["data"]["user_id"] == "slow"
            closed = await closings(server, session_id)
    assert (closed[0]["data"]["code"], closed[0]["data"]["reason"]) == (4009, "reads too slowly")


async def closings(server: Server, session_id: UUID) -> list[Any]:
    """The connections of a session that are closed, as soon as there is one."""
    path = f"/api/v1/sessions/{session_id}/events?limit=500"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            _, answer = await server.http("GET", path)
            closed = [one for one in answer["events"] if one["type"] == "ConnectionClosed"]
            if closed:
                return closed


async def test_one_who_reads_late_within_the_bound_hears_all(migrated_database_url: str) -> None:
    async with running_server(migrated_database_url) as server:
        session_id = await server.open_session(config={"domain": "lab_assistant"})
        ada = await server.connect(session_id)
        async with reluctant(server, session_id) as reader:
            for number in range(3):
                await ada.query(f"What about {number}? " + 30_000 * "x")
            data = b""
            while data.count(b'"partial":false') < 3:
                data += await reader.read(65536)

    assert data.count(b'"type":"query_received"') == 3
