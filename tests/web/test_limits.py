"""Limits: on connections, messages and queries. Who keeps to them notices nothing."""

from prometheus_client import REGISTRY

from tests.harness import Server, Socket, running_server

CONNECT = "/api/v1/ws/sessions/{}"
SLOW = 0.001  # a second: one in a test


def refusals(reason: str) -> float:
    """How many refusals there were in this process."""
    return REGISTRY.get_sample_value("lorewire_refusals_total", {"reason": reason}) or 0.0


async def refused(server: Server, path: str, **parameters: str) -> tuple[int | None, str | None]:
    """What a connection is closed with that gets nothing else."""
    socket = await server.dial(path, **parameters)
    closed = await socket.closed()
    assert socket.seen == []
    return closed


async def close_and_wait(socket: Socket, monitor: Socket) -> None:
    socket.close()
    await monitor.until("connection_closed")


async def test_a_full_server_closes_new_connections_with_1013(migrated_database_url: str) -> None:
    before = refusals("server_connections")
    async with running_server(migrated_database_url, max_connections=3) as server:
        first, second = await server.open_session(), await server.open_session()
        monitor = await server.dial("/api/v1/ws/monitor")
        socket = await server.connect(first)
        await server.connect(second)

        assert await refused(server, CONNECT.format(first)) == (
            1013,
            "the server has as many connections as it takes",
        )
        assert (await refused(server, "/api/v1/ws/monitor"))[0] == 1013
        assert refusals("server_connections") == before + 2

        # A place that becomes free is given away.
        await close_and_wait(socket, monitor)
        assert await server.connect(second)


async def test_a_user_and_a_session_have_so_many_connections(migrated_database_url: str) -> None:
    async with running_server(
        migrated_database_url, max_connections_per_user=2, max_connections_per_session=3
    ) as server:
        first, second = await server.open_session(), await server.open_session()
        monitor = await server.dial("/api/v1/ws/monitor")
        socket = await server.connect(first, user_id="ada")
        await server.connect(second, user_id="ada")

        code, reason = await refused(server, CONNECT.format(second), user_id="ada")
        assert (code, reason) == (1013, "this user has as many connections as one may have")

        await server.connect(first, user_id="bob")
        await server.connect(first, user_id="eve")
        code, reason = await refused(server, CONNECT.format(first), user_id="kim")
        assert (code, reason) == (1013, "this session has as many connections as one may have")

        # Those who were refused took no place, and those who have left have none.
        await close_and_wait(socket, monitor)
        assert await server.connect(first, user_id="ada")


async def test_a_connection_that_was_refused_by_its_session_takes_no_place(
    migrated_database_url: str,
) -> None:
    async with running_server(migrated_database_url, max_connections=1) as server:
        nobody = "00000000-0000-4000-8000-000000000000"

        for _ in range(3):
            assert (await refused(server, CONNECT.format(nobody)))[0] == 4004


async def test_messages_beyond_the_rate_are_refused_and_the_connection_stays(
    migrated_database_url: str,
) -> None:
    before = refusals("message_rate")
    async with running_server(migrated_database_url, messages_per_s=SLOW) as server:
        session_id = await server.open_session()  # takes one of anonymous' tokens
        ada = await server.connect(session_id, user_id="ada")
        bob = await server.connect(session_id, user_id="bob")

        assert (await ada.ask("ping", {"message": "first"}))["type"] == "pong"
        second = await ada.ask("ping", {"message": "second"}, "2")
        await ada.send_raw("not JSON")
        third = await ada.until("error", code="invalid_json")

        assert second["type"] == "error"
        assert second["id"] == "2"
        assert second["data"]["code"] == "rate_limited"
        assert 0 < second["data"]["details"]["retry_after_ms"] <= 1_000_000
        assert third
        assert refusals("message_rate") == before + 2
        assert (await bob.ask("ping"))["type"] == "pong"

        # It is the user who is limited, not the connection; and the connection still hears.
        again = await server.connect(session_id, user_id="ada")
        assert (await again.ask("ping"))["data"]["code"] == "rate_limited"
        await bob.send("query", {"message": "Who is there?"})
        await bob.until("error", code="rate_limited")


async def test_queries_have_a_rate_of_their_own_on_sockets_and_over_http(
    migrated_database_url: str,
) -> None:
    async with running_server(migrated_database_url, queries_per_s=SLOW) as server:
        session_id = await server.open_session()
        path = f"/api/v1/sessions/{session_id}/query?user_id=ada"
        socket = await server.connect(session_id, user_id="ada")

        reply = await socket.query("Hello")
        refused = await socket.ask("query", {"message": "Hello again"}, "2")
        over_http = await server.fetch("POST", path, {"message": "And again"})

        assert reply["data"]["message"]
        assert refused["data"]["code"] == "rate_limited"
        assert over_http.code == 429
        assert 0 < int(over_http.headers["Retry-After"]) <= 1_000
        assert (await socket.ask("ping"))["type"] == "pong"
        assert (await server.http("GET", "/metrics"))[0] == 200
        events = (await server.http("GET", f"/api/v1/sessions/{session_id}/events?user_id=eve"))[1][
            "events"
        ]
        assert [e["type"] for e in events].count("QueryAsked") == 1


async def test_who_watches_has_a_rate_too(migrated_database_url: str) -> None:
    async with running_server(migrated_database_url, messages_per_s=SLOW) as server:
        monitor = await server.dial("/api/v1/ws/monitor")

        assert (await monitor.ask("ping"))["type"] == "pong"
        assert (await monitor.ask("ping"))["data"]["code"] == "rate_limited"
