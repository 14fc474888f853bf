"""The Python client against a real server that it loses."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from lorewire.client import Client, Connection
from tests.harness import Server, running_server


@pytest_asyncio.fixture
async def server(migrated_database_url: str) -> AsyncIterator[Server]:
    async with running_server(migrated_database_url) as server:
        yield server


def lose(connection: Connection) -> None:
    """Cut the TCP connection under a client."""
    assert connection._socket is not None
    assert connection._socket.stream is not None
    connection._socket.stream.close()


async def test_a_reply_arrives_whole_although_the_connection_is_lost_in_the_middle(
    server: Server,
) -> None:
    server.model.say("Kira", " is", " a", " ranger.")
    server.model.hold(after=2)
    pieces: list[str] = []
    has_two = asyncio.Event()

    def take(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            has_two.set()

    async with Client(f"http://127.0.0.1:{server.port}") as client:
        session_id = await client.open_session(domain="lab_assistant")
        async with client.connect(session_id, user_id="ada") as connection:
            asking = asyncio.create_task(connection.ask("Who?", on_piece=take))
            await has_two.wait()
            lose(connection)
            while (await anext(connection)).data.get("recovered") is not True:
                pass
            server.model.release()
            reply = await asking

    assert reply.text == "Kira is a ranger."
    assert "".join(pieces) == "Kira is a ranger."
    assert len(server.model.requests) == 1


async def test_iterating_sees_every_stored_message_once(server: Server) -> None:
    async with Client(f"http://127.0.0.1:{server.port}") as client:
        session_id = await client.open_session(domain="lab_assistant")
        async with client.connect(session_id, user_id="ada") as connection:
            other = await server.connect(session_id)
            for number in range(5):
                lose(connection)
                await other.query(f"Question {number}")
                await connection.ask(f"And {number}?")
            heard: list[int] = []
            while len(heard) < 20:
                message = await anext(connection)
                if message.type != "connection_established" and message.position is not None:
                    heard.append(message.position)

            await other.until("query_response", turn_id=message.data["turn_id"], partial=False)

    assert heard == sorted(set(heard))
    assert heard == [
        message["position"]
        for message in other.seen
        if "position" in message and message["type"] != "connection_established"
    ]
