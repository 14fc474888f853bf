"""Sessions divided among projectors: every event is handled once, whoever comes, goes or dies."""

import asyncio
import os
import random
import signal
import sys
import threading
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from events.knowledge import Knowledge
from events.log import Log
from events.mapper import topic_of
from events.shards import WHOLE, Shard, shards
from language.domains import load_domains
from projections.division import divide_followers
from projections.follower import Follower, Work
from projections.graph_projection import GraphProjection
from projections.membership import SHARD_LOCK, Membership
from projections.memory import MemoryProjection
from projections.positions import FOLLOWERS, MEMORY, SESSIONS, read_positions
from projections.sessions import SessionsProjection
from projections.tracking import ShardsChangedError, positions_of
from projections.updates import ViewUpdates
from tests.projections.running import caught_up, clean_rows, live_rows, make_projector, projecting
from tests.projections.scenario import Scenario, terminate_others, until

Pool = AsyncConnectionPool[Any]

PROJECT = """
import sys, threading
from tests.projections.running import make_projector
make_projector(sys.argv[1], shards=int(sys.argv[2])).run(threading.Event())
"""


@asynccontextmanager
async def projector_process(database_url: str, shards: int) -> AsyncIterator[Process]:
    """A projector in a process of its own, which is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", PROJECT, database_url, str(shards)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


def assert_everything_was_handled_once(scenario: Scenario, session_ids: list[UUID]) -> None:
    """The views hold what one projector would have written, and no turn was learned twice."""
    log = scenario.log
    for projection in (
        SessionsProjection(),
        MemoryProjection(log, load_domains(), None),
        GraphProjection(load_domains()),
    ):
        for session_id in session_ids:
            assert live_rows(log, projection, session_id) == clean_rows(log, projection, session_id)
    events = [one.event for one in scenario.recorded() if one.event.session_id in session_ids]
    learned = [
        one.source_position for one in events if isinstance(one, Knowledge.KnowledgeExtracted)
    ]
    ended = [one for one in events if type(one).__name__ == "ReplyCompleted"]
    assert len(learned) == len(set(learned)) == len(ended)


async def holders(pool: Pool) -> dict[int, int]:
    """By shard: the backend that runs it."""
    async with pool.connection() as conn:
        found = await conn.execute(
            "SELECT objid::int, pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s"
            " AND granted AND database = (SELECT oid FROM pg_database"
            " WHERE datname = current_database())",
            (SHARD_LOCK,),
        )
        return dict(await found.fetchall())


async def shared_by(pool: Pool, projectors: int, shards: int) -> dict[int, int]:
    """Wait until so many projectors run so many shards; who runs which."""
    async with asyncio.timeout(30):
        while True:
            found = await holders(pool)
            if len(found) == shards and len(set(found.values())) == projectors:
                return found
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def one_shard_afterwards(migrated_database_url: str) -> Iterator[None]:
    """Tests of one module share a database."""
    yield
    log = Log(migrated_database_url)
    with closing(log):
        divide(log, 1)


def divide(log: Log, count: int) -> None:
    projector = make_projector("")
    assert divide_followers(
        log, count, lambda shard: projector.works(log, shard), threading.Event()
    )


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_every_session_belongs_to_one_shard(count: int, log: Log, scenario: Scenario) -> None:
    session_ids = [scenario.open() for _ in range(20)]

    for session_id in session_ids:
        assert [shard.holds(session_id) for shard in shards(count)].count(True) == 1
    assert shards(1) == [WHOLE]


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_the_shards_read_every_event_once_and_end_at_the_head(
    limit: int, log: Log, scenario: Scenario
) -> None:
    for _ in range(9):
        scenario.say(scenario.open(), "One?", "Yes.")
    seen: list[int] = []
    for shard in shards(4):
        after = 0
        while (batch := log.read_batch(after=after, limit=limit, shard=shard)).upto > after:
            assert all(after < one.position <= batch.upto for one in batch.events)
            seen += [one.position for one in batch.events]
            after = batch.upto
        assert after == log.head()

    assert sorted(seen) == [one.position for one in scenario.recorded()]


def test_a_shard_reads_no_further_than_it_is_told(log: Log, scenario: Scenario) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "One?", "Yes.")
    head = log.head()

    for shard in shards(2):
        batch = log.read_batch(after=head - 3, limit=1000, shard=shard, upto=head - 1)

        assert batch.upto == head - 1
        assert all(one.position < head for one in batch.events)


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_some_kinds_of_events_are_read_up_to_the_head(
    limit: int, log: Log, scenario: Scenario
) -> None:
    session_id = scenario.open()
    for _ in range(4):
        scenario.say(session_id, "One?", "Yes.")
    kinds = ("QueryAsked", "SessionOpened")
    wanted = [one.position for one in scenario.recorded() if topic_of(one.event) in kinds]
    after, seen = 0, []

    while (batch := log.read_batch(after=after, limit=limit, topics=kinds)).upto > after:
        seen += [one.position for one in batch.events]
        after = batch.upto

    assert (seen, after) == (wanted, log.head())


async def test_a_view_is_where_its_slowest_shard_is(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    divide(log, 2)
    scenario.open()
    before = (await read_positions(pool)).views[SESSIONS]

    follow_shard(log, ViewUpdates(log, SessionsProjection(), Shard(0, 2)))
    assert (await read_positions(pool)).views[SESSIONS] == before
    follow_shard(log, ViewUpdates(log, SessionsProjection(), Shard(1, 2)))

    assert (await read_positions(pool)).views[SESSIONS] == log.head() > before


async def test_four_shards_do_what_one_does(
    scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    with projecting(migrated_database_url, shards=4):
        session_ids = talk(scenario, sessions=8, turns=3)
        await caught_up(pool)

    assert_everything_was_handled_once(scenario, session_ids)


async def test_projectors_share_the_shards_and_take_over_those_of_one_that_is_killed(
    scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    async with (
        projector_process(migrated_database_url, 4),
        projector_process(migrated_database_url, 4) as victim,
    ):
        found = await shared_by(pool, projectors=2, shards=4)
        assert sorted(Counter(found.values()).values()) == [2, 2]
        session_ids = talk(scenario, sessions=8, turns=3)
        victim.send_signal(signal.SIGKILL)
        session_ids += talk(scenario, sessions=8, turns=3)

        await shared_by(pool, projectors=1, shards=4)
        await caught_up(pool)

    assert_everything_was_handled_once(scenario, session_ids)


async def test_nobody_takes_over_the_shards_of_one_that_lives(
    pool: Pool, migrated_database_url: str
) -> None:
    with (
        closing(Membership(migrated_database_url, 2, lambda: True)) as one,
        closing(Membership(migrated_database_url, 2, lambda: True)) as other,
    ):
        given: list[int] = []
        assert one.update(given.append) == {0, 1}

        theirs = other.update(given.append)  # what falls to it is still the first one's
        assert theirs == set()
        ours = one.update(given.append)
        theirs = other.update(given.append)

        assert (len(ours), len(theirs), len(given)) == (1, 1, 1)
        assert ours | theirs == {0, 1}
        other.close()
        until(lambda: one.update(given.append) == {0, 1})


def test_a_projector_that_has_lost_its_connection_comes_back(migrated_database_url: str) -> None:
    with closing(Membership(migrated_database_url, 2, lambda: True)) as one:
        assert one.update(lambda _: None) == {0, 1}
        terminate_others(migrated_database_url)

        with pytest.raises(psycopg.OperationalError):
            one.update(lambda _: None)
        until(lambda: one.update(lambda _: None) == {0, 1})


def test_a_projector_with_another_number_of_shards_waits_until_it_is_alone(
    migrated_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    divided: list[int] = []

    def divide() -> bool:
        divided.append(3)
        return True

    with (
        closing(Membership(migrated_database_url, 2, lambda: True)) as one,
        closing(Membership(migrated_database_url, 3, divide)) as other,
    ):
        one.update(lambda _: None)

        assert other.update(lambda _: None) == set()
        assert divided == []
        assert "--shards 2" in caplog.text
        one.close()

        until(lambda: other.update(lambda _: None) == {0, 1, 2})
        assert divided == [3]


def test_shards_at_different_positions_are_brought_together_before_they_are_replaced(
    log: Log, scenario: Scenario
) -> None:
    divide(log, 3)
    session_ids = talk(scenario, sessions=6, turns=2)
    follow_shard(log, ViewUpdates(log, SessionsProjection(), Shard(1, 3)))
    head = log.head()
    assert sorted(positions_of(log, SESSIONS).values())[0] < head
    scenario.open()

    divide(log, 2)

    assert positions_of(log, SESSIONS) == {"sessions:0/2": head, "sessions:1/2": head}
    sessions = SessionsProjection()
    for session_id in session_ids:
        assert live_rows(log, sessions, session_id) == clean_rows(log, sessions, session_id)


def test_a_follower_of_shards_that_are_gone_ends_and_does_nothing(
    log: Log, scenario: Scenario
) -> None:
    divide(log, 2)
    stale: list[Work] = [
        ViewUpdates(log, SessionsProjection(), Shard(0, 2)),
        *(work for work in make_projector("").works(log, Shard(0, 2)) if work.name == "learning"),
    ]
    followers = [Follower(log, work) for work in stale]
    divide(log, 1)
    scenario.say(scenario.open(), "One?", "Yes.")
    before = {name: positions_of(log, name) for name in FOLLOWERS}

    for work in stale:
        with pytest.raises(ShardsChangedError):
            work.advance(0, scenario.recorded())
    for follower in followers:
        follower.start()
        follower.join(5)
        assert not follower.is_alive()

    assert {name: positions_of(log, name) for name in FOLLOWERS} == before


async def test_the_number_of_shards_may_change_at_any_time_without_a_gap_or_a_repeat(
    scenario: Scenario, pool: Pool, migrated_database_url: str
) -> None:
    chance = random.Random(20240531)
    session_ids: list[UUID] = []
    for count in (1, 4, 2, 3, 1):
        async with (
            projector_process(migrated_database_url, count),
            projector_process(migrated_database_url, count),
        ):
            for _ in range(3):
                session_ids += talk(scenario, sessions=2, turns=2)
                await asyncio.sleep(chance.uniform(0, 0.5))
            async with asyncio.timeout(30):  # they have begun with this number
                while len(await holders(pool)) != count:
                    await asyncio.sleep(0.02)
            session_ids += talk(scenario, sessions=2, turns=2)  # and are killed at work

    with projecting(migrated_database_url, shards=2):
        await caught_up(pool)

    assert_everything_was_handled_once(scenario, session_ids)
    assert len(positions_of(scenario.log, MEMORY)) == 2


def talk(scenario: Scenario, *, sessions: int, turns: int) -> list[UUID]:
    """New sessions, whose turns are mixed."""
    session_ids = [scenario.open(title=str(uuid4())) for _ in range(sessions)]
    for number in range(turns):
        for session_id in session_ids:
            scenario.say(session_id, f"Kira is {number}. Kira likes Bram.", "Yes.")
    return session_ids


def follow_shard(log: Log, work: Work) -> None:
    """Do the work of one shard up to the head."""
    follower = Follower(log, work, upto=log.head())
    follower.start()
    follower.join(10)
    assert not follower.is_alive()
