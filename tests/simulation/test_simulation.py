"""Random clients, commands, cuts, kills and restarts against real parts, from a seed.

A seed that fails is added to SEEDS, and stays there. LOREWIRE_SIMULATION_SEED and
LOREWIRE_SIMULATION_STEPS run another one, or a longer one.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from tests.faults.world import (
    Database,
    Serving,
    Told,
    caught_up,
    own_database,
    serving,
    unequal_views,
    until_sound,
)
from tests.scripted_model import ScriptedModel
from tests.simulation.people import Person, what_was_said

SEEDS = (1, 2026)
STEPS = 1_500
SESSIONS = 3
PEOPLE = 8
SETTLE_S = 60.0


class World:
    """What the steps of one simulation act upon."""

    def __init__(self, seed: int, database: Database, model: ScriptedModel) -> None:
        self.chance = random.Random(seed)
        self.database = database
        self.model = model
        self.people: list[Person] = []
        self.session_ids: list[UUID] = []
        self.trace: list[str] = []
        self._stack = AsyncExitStack()
        self._server: Serving | None = None

    @property
    def server(self) -> Serving:
        """The server, which may just be dead."""
        assert self._server is not None
        return self._server

    async def open(self) -> None:
        """Start the server, open sessions."""
        await self.start_server()
        self.session_ids = [await self.server.open_session() for _ in range(SESSIONS)]
        self.people = [
            Person(f"person{number}", self.session_ids[number % SESSIONS])
            for number in range(PEOPLE)
        ]

    async def start_server(self) -> None:
        """Start the server, or start it again."""
        await self._stack.aclose()
        self._server = await self._stack.enter_async_context(
            serving(self.database.url, self.model.url, journal_timeout_s="5", log_level="error")
        )

    async def close(self) -> None:
        """End the server."""
        await self._stack.aclose()

    def somebody(self) -> Person:
        """One of the people."""
        return self.chance.choice(self.people)

    async def step(self) -> None:
        """One of all the things that happen, most of them harmless."""
        weights = [action[1] for action in ACTIONS]
        act, _ = self.chance.choices(ACTIONS, weights)[0]
        self.trace.append(act.__name__)
        await act(self)
        await asyncio.sleep(self.chance.choice((0, 0, 0.002, 0.01)))


async def join(world: World) -> None:
    await world.somebody().join(world.server.url)


async def cut(world: World) -> None:
    world.somebody().cut()


async def leave(world: World) -> None:
    world.somebody().leave()


async def ask(world: World) -> None:
    await world.somebody().ask(f"What about the number {len(world.trace)}?")


async def cancel(world: World) -> None:
    await world.somebody().send("cancel", {})


async def search(world: World) -> None:
    await world.somebody().send("search_memory", {"query": "number"})


async def look(world: World) -> None:
    await world.somebody().send("get_graph", {})


async def talk_nonsense(world: World) -> None:
    await world.somebody().send("query", {"message": ""})


async def slow_model(world: World) -> None:
    world.model.piece_delay_s = world.chance.choice((0.0, 0.0, 0.005, 0.02))


async def bad_model(world: World) -> None:
    world.model.behave()
    world.chance.choice(
        (world.model.behave, lambda: world.model.cut_after(1), lambda: world.model.fail(500))
    )()


async def kill_server(world: World) -> None:
    await world.server.kill()
    await world.start_server()


async def restart_server(world: World) -> None:
    world.server.process.terminate()
    await world.server.process.wait()
    await world.start_server()


async def kill_database(world: World) -> None:
    await asyncio.to_thread(world.database.kill)
    await asyncio.sleep(world.chance.random())
    await asyncio.to_thread(world.database.start)


Action = Callable[[World], Awaitable[None]]
ACTIONS: list[tuple[Action, float]] = [
    (join, 30),
    (ask, 30),
    (search, 8),
    (look, 4),
    (cancel, 5),
    (cut, 8),
    (leave, 4),
    (talk_nonsense, 2),
    (slow_model, 2),
    (bad_model, 2),
    (kill_server, 0.2),
    (restart_server, 0.1),
    (kill_database, 0.2),
]


def _seeds() -> list[int]:
    chosen = os.environ.get("LOREWIRE_SIMULATION_SEED")
    return [int(chosen)] if chosen else list(SEEDS)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", _seeds())
async def test_whatever_happens_everybody_has_heard_what_is_in_the_log(seed: int) -> None:
    steps = int(os.environ.get("LOREWIRE_SIMULATION_STEPS", STEPS))
    with own_database() as database:
        async with ScriptedModel() as model:
            world = World(seed, database, model)
            try:
                await world.open()
                for _ in range(steps):
                    await world.step()
                model.behave()
                model.piece_delay_s = 0.0

                await everybody_is_up_to_date(world)
                told = [
                    Told(person.session_id, person.name, person.accepted, person.ended)
                    for person in world.people
                ]
                assert await until_sound(database.url, told) == []
                await caught_up(database.url)
                assert await asyncio.to_thread(unequal_views, database.url) == []
                assert [fault for person in world.people for fault in person.faults] == []
                heard = {person.name: person.heard for person in world.people}
                said = await asyncio.to_thread(what_was_said, database.url, world.people)
                assert heard == said
            finally:
                for person in world.people:
                    person.leave()
                await world.close()


async def everybody_is_up_to_date(world: World) -> None:
    """Let everybody join, and hear what there is."""
    async with asyncio.timeout(SETTLE_S):
        while True:
            for person in world.people:
                await person.join(world.server.url)
            await asyncio.sleep(0.2)
            said = await asyncio.to_thread(what_was_said, world.database.url, world.people)
            newest = {name: messages[-1][0] for name, messages in said.items() if messages}
            is_open = await asyncio.to_thread(until_sound_now, world)
            if not is_open and all(
                person.is_connected and person.last >= newest.get(person.name, 0)
                for person in world.people
            ):
                return


def until_sound_now(world: World) -> bool:
    """Whether a turn is still open."""
    from tests.faults.world import problems

    return any("never ended" in problem for problem in problems(world.database.url, []))
