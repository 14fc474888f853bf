"""Servers that share a log know which of them are dead, and close what those have left open."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest

from actors.servers import ABNORMAL, SERVER_DIED, Presence, look_for_dead_servers
from events.aggregate import Cause
from events.connection import Connection
from events.journal import Journal
from events.log import Log, Recorded


@pytest.fixture
def log(migrated_database_url: str) -> Iterator[Log]:
    with closing(Log(migrated_database_url)) as log:
        yield log


class World:
    """A log, a journal, and what is asked of them."""

    def __init__(self, database_url: str, log: Log) -> None:
        self.database_url = database_url
        self.log = log
        self.journal = Journal(log, timeout_s=10)

    async def server(self) -> Presence:
        presence = Presence(self.database_url)
        await presence.enter()
        return presence

    async def connection_on(self, presence: Presence) -> Connection:
        connection = Connection.open(
            session_id=uuid4(),
            user_id="ada",
            stream=True,
            remote="127.0.0.1",
            user_agent="",
            server=presence.number,
        )
        await self.journal.append(connection.collect_events())
        return connection

    async def look(self) -> None:
        await look_for_dead_servers(self.database_url, self.log, self.journal)

    def ends(self, connection: Connection) -> list[tuple[int, str]]:
        events = self.log.read_session(connection.session_id, limit=100)
        return [
            (one.event.code, one.event.reason)
            for one in events
            if isinstance(one, Recorded) and isinstance(one.event, Connection.ConnectionClosed)
        ]

    def numbers(self) -> set[int]:
        with psycopg.connect(self.database_url) as conn:
            return {row[0] for row in conn.execute("SELECT number FROM lorewire_servers")}


@pytest.fixture
def world(migrated_database_url: str, log: Log) -> Iterator[World]:
    world = World(migrated_database_url, log)
    yield world
    world.journal.stop()


async def test_only_connections_of_dead_servers_are_closed(world: World) -> None:
    dead, alive = await world.server(), await world.server()
    left_open = [await world.connection_on(dead) for _ in range(3)]
    living = await world.connection_on(alive)
    await dead.leave()

    await world.look()

    assert [world.ends(one) for one in left_open] == [[(ABNORMAL, SERVER_DIED)]] * 3
    assert world.ends(living) == []
    assert dead.number not in world.numbers()
    assert alive.number in world.numbers()
    await alive.leave()


async def test_whoever_looks_at_the_same_time_closes_nothing_twice(world: World) -> None:
    dead = await world.server()
    left_open = [await world.connection_on(dead) for _ in range(20)]
    await dead.leave()

    await asyncio.gather(*(world.look() for _ in range(4)))
    await world.look()

    assert [len(world.ends(one)) for one in left_open] == [1] * 20


async def test_what_a_server_has_closed_itself_stays_as_it_is(world: World) -> None:
    server = await world.server()
    connection = await world.connection_on(server)
    connection.close(
        code=1000,
        reason="",
        received=1,
        sent=2,
        duration_ms=3,
        cause=Cause("ada", connection.id),
    )
    await world.journal.append(connection.collect_events())
    await server.leave()

    await world.look()

    assert world.ends(connection) == [(1000, "")]


async def test_a_server_that_was_cut_off_takes_its_number_again_or_another_one(
    world: World,
) -> None:
    server = await world.server()
    first = server.number

    await server.leave()
    await server.enter()
    kept = server.number
    await server.leave()
    await world.look()  # somebody has taken it for dead
    await server.enter()

    assert kept == first
    assert server.number in world.numbers()
    connection = await world.connection_on(server)
    await world.look()
    assert world.ends(connection) == []
    await server.leave()


async def test_connections_from_before_there_were_numbers_are_closed(world: World) -> None:
    with psycopg.connect(world.database_url) as conn:
        conn.execute(
            "INSERT INTO lorewire_servers (number, started_position) VALUES (0, 0)"
            " ON CONFLICT DO NOTHING"
        )
    old = await world.connection_on(Presence(world.database_url))

    await world.look()

    assert world.ends(old) == [(ABNORMAL, SERVER_DIED)]
    assert 0 not in world.numbers()
