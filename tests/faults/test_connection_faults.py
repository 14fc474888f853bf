"""Connections to PostgreSQL that are cut after COMMIT was sent, or that are deaf."""

import asyncio
from typing import Any

import psycopg
import pytest

from events.journal import JournalActor
from tests.faults.postgres_proxy import PostgresProxy, proxied
from tests.faults.world import Told, caught_up, problems, unequal_views, until_sound
from tests.harness import Socket, running_server

MESSAGE = "Who owns the Silver Horn?"


async def lose_the_answer_to_a_commit(
    socket: Socket, proxy: PostgresProxy, database_url: str
) -> dict[str, Any]:
    """Ask; the query is committed, the answer never arrives; what the client is told."""
    proxy.hold_answers()
    await socket.send("query", {"message": MESSAGE}, id="q1")
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(count_queries, database_url):
            await asyncio.sleep(0.01)
    proxy.cut()
    while (message := await socket.receive()) is not None:
        if message.get("id") == "q1":
            return message
    raise AssertionError("the connection was closed")


def count_queries(database_url: str) -> int:
    with psycopg.connect(database_url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM lorewire_events WHERE topic = 'QueryAsked'"
        ).fetchone()
    assert row is not None
    count: int = row[0]
    return count


async def test_a_commit_whose_answer_is_lost_is_acknowledged_and_there_once(
    migrated_database_url: str,
) -> None:
    with proxied(migrated_database_url) as proxy:
        async with running_server(proxy.url) as server:
            session_id = await server.open_session()
            socket = await server.connect(session_id, user_id="ada")

            said = await lose_the_answer_to_a_commit(socket, proxy, migrated_database_url)
            reply = await socket.until("query_response", partial=False)

            told = Told(session_id, "ada", {MESSAGE: said["position"]})
            told.ended[reply["data"]["turn_id"]] = reply["position"]
            assert said["type"] == "query_received"
            assert await until_sound(migrated_database_url, [told]) == []
            assert count_queries(migrated_database_url) == 1
            await caught_up(migrated_database_url)
            assert await asyncio.to_thread(unequal_views, migrated_database_url) == []


async def test_a_journal_that_does_not_look_up_what_it_has_stored_is_found_out(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the same lost answer, and nobody asks the log what became of the commit."""
    with psycopg.connect(migrated_database_url) as conn:
        conn.execute("TRUNCATE lorewire_events")
    monkeypatch.setattr(JournalActor, "_without_decided", lambda _self, batch: batch)
    with proxied(migrated_database_url) as proxy:
        async with running_server(proxy.url, with_projector=False) as server:
            session_id = await server.open_session()
            socket = await server.connect(session_id, user_id="ada")

            with pytest.raises(AssertionError, match="closed"):  # instead of being told
                await lose_the_answer_to_a_commit(socket, proxy, migrated_database_url)

            assert count_queries(migrated_database_url) == 1
            assert problems(migrated_database_url, []) != []


async def test_views_move_and_are_pushed_although_notifications_are_lost(
    database_url: str, migrated_database_url: str
) -> None:
    with proxied(migrated_database_url) as proxy:
        proxy.is_deaf = True
        async with running_server(proxy.url) as server:
            socket = await server.connect(await server.open_session(), user_id="ada")

            await socket.query(MESSAGE)

            pushed = await socket.until("memory_updated")
            assert pushed["data"]["entries"]


async def test_lost_notifications_without_polling_are_found_out(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: deaf, and nobody looks by themselves."""
    monkeypatch.setattr("projections.follower.POLL_S", 3600.0)
    monkeypatch.setattr("actors.view_watch.POLL_S", 3600.0)
    with proxied(migrated_database_url) as proxy:
        async with running_server(proxy.url) as server:
            session_id = await server.open_session()
            await server.caught_up()
            socket = await server.connect(session_id, user_id="ada")
            proxy.is_deaf = True

            await socket.query(MESSAGE)

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.0):
                    await socket.until("memory_updated")
