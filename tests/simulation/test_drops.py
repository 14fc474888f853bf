"""Connections lost at random points of random conversations: everybody hears what is in the log."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import PATIENCE_S, Server, running_server
from tests.simulation.people import Person, what_was_said

PEOPLE = 3

who = st.integers(0, PEOPLE - 1)
steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "cancel", "cut", "leave", "join", "join", "wait"]), who
    ),
    min_size=4,
    max_size=30,
)


async def converse(server: Server, plan: list[tuple[str, int]]) -> None:
    """Do what the plan says in a session of its own, then compare."""
    session_id = await server.open_session(config={"domain": "lab_assistant"})
    people = [Person(f"person{number}", session_id) for number in range(PEOPLE)]
    url = f"http://127.0.0.1:{server.port}"
    for person in people:
        await person.join(url)
    for number, (act, index) in enumerate(plan):
        person = people[index]
        match act:
            case "ask":
                await person.ask(f"What about {number}?")
            case "cancel":
                await person.send("cancel", {})
            case "cut":
                person.cut()
            case "leave":
                person.leave()
            case "join":
                await person.join(url)
            case "wait":
                await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE_S):
        await until_all_have_heard(server, url, people)

    assert [fault for person in people for fault in person.faults] == []
    for person in people:
        person.leave()
        await person.gone()


async def until_all_have_heard(server: Server, url: str, people: list[Person]) -> None:
    """Let everybody come back until nothing is left to hear."""
    while True:
        for person in people:
            await person.join(url)
        await asyncio.sleep(0.02)
        said = await asyncio.to_thread(what_was_said, server.database_url, people)
        if not is_open(said) and {person.name: person.heard for person in people} == said:
            return


def is_open(said: dict[str, list[tuple[int, str]]]) -> bool:
    """Whether a query waits for its end."""
    types = [type_ for _, type_ in said["person0"]]
    return types.count("query_received") > types.count("query_response")


@pytest.mark.timeout(300)
def test_whatever_is_lost_and_when_everybody_hears_all_of_it_once(
    migrated_database_url: str,
) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Server:
            server = await stack.enter_async_context(running_server(migrated_database_url))
            server.model.piece_delay_s = 0.002
            return server

        server = runner.run(start())

        @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(steps)
        def check(plan: list[tuple[str, int]]) -> None:
            runner.run(converse(server, plan))

        try:
            check()
        finally:
            runner.run(stack.aclose())
