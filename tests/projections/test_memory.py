"""Memory follows the log: one entry for each thing said."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from events.session import SessionConfig
from language.domains import load_domains
from language.embedding import Embedder
from language.stems import content_stems
from projections.memory import (
    BATCH_ENTRIES,
    IndexedEntry,
    IndexedUpTo,
    MemoryEntry,
    MemoryProjection,
    MemoryStats,
    MemoryView,
    indexed_text,
)
from projections.moves import read_moves
from projections.positions import ViewAt
from projections.updates import ViewUpdates
from tests.projections.scenario import ADA, Scenario, follow, forget_memory

Pool = AsyncConnectionPool[Any]


class Lengths:
    """The simplest embedder there is: as long as the text, as wide as it has words."""

    name = "lengths-2"
    dimensions = 2
    min_cosine = 0.0
    is_quick = True

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Two numbers for each text."""
        rows = [(len(text), len(text.split())) for text in texts]
        vectors = np.array(rows, np.float32).reshape(-1, 2)
        norms: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / norms

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The same of one."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector


@pytest.fixture(autouse=True)
def empty_memory(log: Log) -> None:
    """The first entries decide whose vectors there are."""
    forget_memory(log)


def project(log: Log, embedder: Embedder | None = None) -> None:
    follow(log, ViewUpdates(log, MemoryProjection(log, load_domains(), embedder)))


async def entries_of(pool: Pool, session_id: UUID) -> list[MemoryEntry]:
    """Oldest first."""
    return (await MemoryView(pool).entries(session_id, limit=100)).entries[::-1]


async def indexed(
    pool: Pool, session_id: UUID, *, after: IndexedUpTo | None = None, embedder: str | None = None
) -> tuple[list[list[IndexedEntry]], ViewAt]:
    """The batches that an index is given, and where the view was."""
    batches: list[list[IndexedEntry]] = []

    async def take_in(_view: ViewAt, batch: list[IndexedEntry]) -> None:
        batches.append(batch)

    view = await MemoryView(pool).read_indexed(session_id, after, take_in, embedder=embedder)
    return batches, view


async def test_what_was_said_is_remembered_with_who_said_it(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    turn_id = scenario.ask(session_id, "Who am I?", user_id="bob")
    scenario.reply(session_id, "You are Kira.")

    project(log)

    query, reply = await entries_of(pool, session_id)
    asked, _, replied = scenario.recorded()[-3:]
    agent_name = load_domains()["dnd"].agent_name
    assert query == MemoryEntry(
        *(f"q-{turn_id}", "user", "bob", "Who am I?", turn_id),
        *(asked.position, asked.event.timestamp),
    )
    assert reply == MemoryEntry(
        *(f"r-{turn_id}", "agent", agent_name, "You are Kira.", turn_id),
        *(replied.position, replied.event.timestamp),
    )


async def test_a_reply_that_broke_off_is_remembered_as_far_as_it_came(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, "One?")
    failed = scenario.fail(session_id, "Well")
    scenario.ask(session_id, "Two?")
    scenario.fail(session_id, " \n")
    cancelled = scenario.ask(session_id, "Three?")
    session = scenario.change(session_id)
    session.start_reply()
    session.cancel_reply(cancelled, text="Let me", cause=ADA)
    scenario.save(session_id)

    project(log)

    replies = [entry for entry in await entries_of(pool, session_id) if entry.role == "agent"]
    assert [(entry.turn_id, entry.text) for entry in replies] == [
        (failed, "Well"),
        (cancelled, "Let me"),
    ]


async def test_a_seed_is_remembered_paragraph_by_paragraph(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    paragraphs = tuple(f"Paragraph {n}." for n in range(12))
    session_id = scenario.open(seed=paragraphs)

    project(log)

    entries = await entries_of(pool, session_id)
    assert [entry.entry_id for entry in entries] == [f"s-{n}" for n in range(12)]
    assert tuple(entry.text for entry in entries) == paragraphs
    assert {(entry.role, entry.speaker, entry.turn_id) for entry in entries} == {
        ("seed", load_domains()["dnd"].title, None)
    }
    view = MemoryView(pool)
    assert await view.entries_between([session_id], 0, log.head()) == {session_id: entries}
    assert await view.stats(session_id) == MemoryStats(12, 0, sum(len(p) for p in paragraphs))


async def test_the_agent_has_the_name_of_the_domain_at_that_time(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open(domain="dnd")
    scenario.say(session_id, "One?", "Yes.")
    for domain in ("lab_assistant", "no longer there"):
        scenario.change(session_id).reconfigure(title=None, config=SessionConfig(domain), cause=ADA)
        scenario.save(session_id)
        scenario.say(session_id, "One?", "Yes.")
    domains = load_domains()
    expected = [domains["dnd"].agent_name, domains["lab_assistant"].agent_name, "Agent"]

    project(log)
    at_once = [e.speaker for e in await entries_of(pool, session_id) if e.role == "agent"]
    with log.recorder.datastore.transaction(commit=True) as curs:
        curs.execute("DELETE FROM memory_entries")
        for one in reversed(scenario.recorded()):  # nothing at hand from the events before
            MemoryProjection(log, domains, None).apply(curs, [one], 1)
    singly = [e.speaker for e in await entries_of(pool, session_id) if e.role == "agent"]

    assert at_once == expected
    assert singly == expected


async def test_date_and_speaker_are_searched_with_the_text(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, "Where are the horses?")
    project(log, Lengths())

    ((one,),), _ = await indexed(pool, session_id, embedder="lengths-2")

    time = one.entry.said_at
    text = f"({time.day} {time:%B} {time.year}) ada: Where are the horses?"
    assert indexed_text(one.entry) == text
    assert one.stems.split() == content_stems(text)
    assert one.embedding is not None
    assert np.array_equal(np.frombuffer(one.embedding, "<f4"), Lengths().embed([text])[0])


async def test_pages_are_newest_first_and_cut_at_a_position(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open(seed=("A", "B"))
    scenario.say(session_id, "C?", "D.")
    project(log)
    view = MemoryView(pool)
    middle = log.head()
    then = await view.entries(session_id, limit=3)
    scenario.say(session_id, "E?", "F.")
    project(log)

    now = await view.entries(session_id, limit=3, offset=1)
    back_then = await view.entries(session_id, limit=3, as_of=middle)

    assert ([entry.text for entry in now.entries], now.total) == (["E?", "D.", "C?"], 6)
    assert ([entry.text for entry in then.entries], then.total) == (["D.", "C?", "B"], 4)
    assert (back_then.entries, back_then.total) == (then.entries, then.total)
    assert (then.view_position, now.view_position) == (middle, log.head())
    between = (await view.entries_between([session_id], middle, log.head()))[session_id]
    assert [entry.text for entry in between] == ["E?", "F."]


async def test_moved_sessions_are_found_by_the_position_of_their_newest_entry(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    before = scenario.open(seed=("A",))
    project(log)
    start = log.head()
    first, second = scenario.open(), scenario.open()
    scenario.ask(first, "One?")
    scenario.ask(second, "Two?")
    scenario.ask(first, "Three?")
    project(log)

    moves = (await read_moves(pool, memory=start, graph=0))["memory"]

    assert sorted(moves.session_ids) == sorted([first, second])
    assert before not in moves.session_ids
    assert moves.position == log.head()


async def test_entries_for_an_index_come_in_batches_oldest_first(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    paragraphs = tuple(f"{n}." for n in range(BATCH_ENTRIES + 12))
    session_id = scenario.open(seed=paragraphs)
    seeded = log.head()
    scenario.ask(session_id, "And?")
    project(log)

    batches, view = await indexed(pool, session_id)
    up_to = IndexedUpTo(view.generation, view.position)
    newer, _ = await indexed(pool, session_id, after=replace(up_to, position=seeded))
    nothing, _ = await indexed(pool, session_id, after=up_to)
    another, _ = await indexed(pool, session_id, after=replace(up_to, generation=-1))

    assert [len(batch) for batch in batches] == [BATCH_ENTRIES, 13]
    texts = [one.entry.text for batch in batches for one in batch]
    assert texts == [*paragraphs, "And?"]
    assert view.position == log.head()
    assert [[one.entry.text for one in batch] for batch in newer] == [["And?"]]
    assert nothing == [[]]
    assert [one.entry.text for batch in another for one in batch] == texts


@pytest.mark.parametrize("text", ["🐉" * 10, "the of and", "?" * 2000, "a\tb\r\n<b>"])
async def test_any_text_can_be_remembered(
    text: str, log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, text)

    project(log, Lengths())

    assert [entry.text for entry in await entries_of(pool, session_id)] == [text]
