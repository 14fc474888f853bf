import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from tornado.testing import bind_unused_port

from lorewire.client import (
    Client,
    ClientError,
    ConnectionLostError,
    Message,
    NotAllowedError,
    RequestRefusedError,
    ServerUnreachableError,
    SessionGoneError,
)
from tests.lorewire.small_server import SmallServer, small_server


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorewire.connection.FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr("lorewire.connection.MAX_BACKOFF_S", 0.1)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SmallServer]:
    async with small_server() as server:
        yield server


@pytest_asyncio.fixture
async def client(server: SmallServer) -> AsyncIterator[Client]:
    async with Client(server.url) as client:
        yield client


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_connection_is_established_before_anything_else(client: Client) -> None:
    async with client.connect("s1") as connection:
        first = await anext(connection)

    assert first.type == "connection_established"
    assert connection.session_id == "s1"
    assert connection.connection_id == first.data["connection_id"]


async def test_ask_gives_the_pieces_as_they_come_and_then_the_whole_reply(client: Client) -> None:
    pieces: list[str] = []
    async with client.connect("s1") as connection:
        reply = await connection.ask("hello", on_piece=pieces.append)

    assert pieces == ["You said ", "hello"]
    assert reply.text == "You said hello"
    assert reply.position == 2
    assert reply.recalled == ("m1",)
    assert not reply.failed
    assert not reply.cancelled


async def test_requests_made_at_once_each_get_their_own_answer(client: Client) -> None:
    async with client.connect("s1") as connection:
        found = await asyncio.gather(*(connection.search(f"word {n}") for n in range(20)))
        reply = await connection.ask("hello")

    assert [one["query"] for one in found] == [f"word {n}" for n in range(20)]
    assert reply.text == "You said hello"


async def test_iterating_sees_every_message_also_those_that_answer_requests(
    client: Client,
) -> None:
    async with client.connect("s1") as connection:
        await connection.ask("hello")
        await connection.ping("there")
        seen = [await anext(connection) for _ in range(6)]

    assert [message.type for message in seen] == [
        "connection_established",
        "query_received",
        "query_response",
        "query_response",
        "query_response",
        "pong",
    ]
    assert [message.position for message in seen] == [0, 1, None, None, 2, None]


async def test_iterating_ends_when_the_connection_is_closed_from_here(client: Client) -> None:
    seen: list[Message] = []

    async def iterate() -> None:
        async for message in connection:
            seen.append(message)

    async with client.connect("s1") as connection:
        task = asyncio.create_task(iterate())
        await connection.ping()
    await asyncio.wait_for(task, 1)

    assert [message.type for message in seen] == ["connection_established", "pong"]


async def test_a_refused_request_raises_its_code_and_sentence(client: Client) -> None:
    async with client.connect("s1") as connection:
        with pytest.raises(RequestRefusedError, match="`query` is empty") as raised:
            await connection.search("")

    assert raised.value.code == "invalid_data"


async def test_what_the_callers_function_raises_goes_to_the_caller(client: Client) -> None:
    def fail(piece: str) -> None:
        raise ZeroDivisionError(piece)

    async with client.connect("s1") as connection:
        with pytest.raises(ZeroDivisionError):
            await connection.ask("hello", on_piece=fail)
        again = await connection.ask("hello")

    assert again.text == "You said hello"


@pytest.mark.parametrize("code", [1011, 1012, 1013, 4008, 4009])
async def test_a_connection_comes_back_after_a_close_code_that_allows_it(
    code: int, server: SmallServer, client: Client
) -> None:
    async with client.connect("s1") as connection:
        first = connection.connection_id
        server.sockets[0].close(code, "as told")
        await eventually(lambda: connection.connection_id != first)
        answer = await connection.ping("again")

    assert answer["message"] == "again"
    assert server.opened == 2


async def test_a_query_survives_a_cut_connection(server: SmallServer, client: Client) -> None:
    async with client.connect("s1") as connection:
        first = await connection.ask("hello")
        reply = await connection.ask("go away")

    assert reply.text == "You said go away"
    sent = [one for one in server.received if one["data"].get("message") == "go away"]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert server.resumed == [[], [str(first.position)]]


async def test_other_requests_under_way_fail_with_the_connection(
    server: SmallServer, client: Client
) -> None:
    async with client.connect("s1") as connection:
        with pytest.raises(ConnectionLostError, match="1006"):
            await connection.request("cut")
        reply = await connection.ask("hello")

    assert reply.text == "You said hello"


async def test_another_connection_goes_on_where_an_earlier_one_was(
    server: SmallServer, client: Client
) -> None:
    async with client.connect("s1") as connection:
        reply = await connection.ask("hello")
    async with client.connect("s1", resume=connection.resume) as again:
        first = await anext(again)

    assert first.data["recovered"] is True
    assert server.resumed[1] == [str(reply.position)]


async def test_a_connection_waits_for_a_server_that_refuses_for_a_while(
    server: SmallServer, client: Client
) -> None:
    async with client.connect("s1") as connection:
        server.refuse_with = 1013
        server.sockets[0].close(1012, "restarting")
        await eventually(lambda: server.opened >= 4)
        answer = asyncio.create_task(connection.ping("back?"))
        await asyncio.sleep(0.05)
        was_done = answer.done()
        server.refuse_with = None

        assert (await answer)["message"] == "back?"
        assert not was_done


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (4001, NotAllowedError),
        (4003, NotAllowedError),
        (4004, SessionGoneError),
        (4010, SessionGoneError),
    ],
)
async def test_a_final_close_code_ends_the_connection_for_good(
    code: int, error: type[ClientError], server: SmallServer, client: Client
) -> None:
    async with client.connect("s1") as connection:
        asking = asyncio.create_task(connection.ask("never mind"))
        await eventually(lambda: bool(server.received))
        server.sockets[0].close(code, "as told")

        with pytest.raises(error, match="as told"):
            await asking
        with pytest.raises(error):
            await connection.ping()
        with pytest.raises(error):
            async for _ in connection:
                pass

    assert server.opened == 1


async def test_entering_raises_where_the_session_does_not_exist(
    server: SmallServer, client: Client
) -> None:
    server.refuse_with = 4004

    with pytest.raises(SessionGoneError) as raised:
        async with client.connect("nowhere"):
            pass

    assert raised.value.code == 4004


async def test_a_connection_that_shall_not_come_back_raises(
    server: SmallServer, client: Client
) -> None:
    async with client.connect("s1", reconnect=False) as connection:
        server.sockets[0].close(1012, "restarting")

        with pytest.raises(ConnectionLostError, match="1012"):
            async for _ in connection:
                pass

    assert server.opened == 1


async def test_closing_while_the_server_is_away_does_not_wait_for_it(
    server: SmallServer, client: Client
) -> None:
    async with client.connect("s1") as connection:
        server.refuse_with = 1013
        server.sockets[0].close(1012, "restarting")
        await eventually(lambda: server.opened >= 2)

        async with asyncio.timeout(1):
            await connection.close()


async def test_messages_that_nobody_reads_are_not_kept_for_ever(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorewire.connection.MAX_UNREAD", 3)
    async with client.connect("s1") as connection:
        for number in range(10):
            await connection.ping(number)
        newest = [(await anext(connection)).data["message"] for _ in range(3)]

    assert newest == [7, 8, 9]


async def test_without_a_server_the_error_says_where_it_was_looked_for() -> None:
    socket, port = bind_unused_port()
    socket.close()
    async with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ServerUnreachableError, match=str(port)):
            await client.sessions()
        with pytest.raises(ServerUnreachableError, match=str(port)):
            async with client.connect("s1"):
                pass


async def test_another_server_is_recognised(server: SmallServer) -> None:
    async with Client(f"{server.url}/elsewhere") as client:
        with pytest.raises(ServerUnreachableError, match="no Lorewire server"):
            await client.sessions()


async def test_sessions_over_http(server: SmallServer, client: Client) -> None:
    session_id = await client.open_session(domain="dnd", title="A test", user_id="ada")
    session = await client.session(session_id)
    page = await client.sessions(q="test")
    await client.delete(session_id)
    events = await client.events(session_id, after=2, limit=2)

    assert server.bodies == [{"config": {"domain": "dnd"}, "title": "A test", "user_id": "ada"}]
    assert session["title"] == "A test"
    assert page["total"] == 1
    assert [event["position"] for event in events["events"]] == [3, 4]
    with pytest.raises(RequestRefusedError, match="no session 'gone'"):
        await client.session("gone")


async def test_a_url_without_a_scheme_is_refused() -> None:
    with pytest.raises(ClientError, match="http://"):
        Client("localhost:8000")
