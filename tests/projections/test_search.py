"""Searching a session, from the log to the hits."""

import asyncio
import re
import unicodedata
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from language.domains import load_domains
from language.embedding import Embedder, WordLlamaEmbedder
from language.stems import content_stems
from projections.memory import MemoryProjection, MemoryView
from projections.search import Found, MemoryIndex, _highlights
from projections.updates import ViewUpdates
from tests.projections.scenario import Scenario, follow, forget_memory

Pool = AsyncConnectionPool[Any]

TURNS = [
    ("I search the gatehouse for traps.", "You find a hidden lever behind a loose stone."),
    ("Who sells swords?", "Garrick the blacksmith, in the market square of Thornwick."),
    ("I pull the levers.", "The portcullis rises with a groan."),
]


HIGHLIGHTED = [
    *(
        "Levers",
        "lever",
        "the",
        "B-14",
        "B",
        "14",
        "flies",
        "flying",
        "dying",
        "die",
        "Kira\u2019s",
    ),
    *("O'Brien", "brien", "\u00c9clair", "\u00e9clairs", "\u0130zmir", "SHOP-482", "_x_", "42"),
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return WordLlamaEmbedder()


@pytest.fixture
def told(log: Log, scenario: Scenario) -> UUID:
    session_id = scenario.open()
    for message, text in TURNS:
        scenario.say(session_id, message, text)
    return session_id


@pytest.fixture(autouse=True)
def empty_memory(log: Log) -> None:
    """The first entries decide whose vectors there are."""
    forget_memory(log)


def project(log: Log, embedder: Embedder | None) -> None:
    follow(log, ViewUpdates(log, MemoryProjection(log, load_domains(), embedder)))


def texts(found: Found) -> list[str]:
    return [hit.entry.text for hit in found.hits]


async def index_that_is_behind(
    log: Log, session_id: UUID, scenario: Scenario, pool: Pool
) -> tuple[MemoryIndex, int]:
    """An index, and the position that it was at before a dragon was spoken of."""
    index = MemoryIndex(MemoryView(pool), session_id, None)
    project(log, None)
    before = (await index.search("dragon", limit=10)).view_position
    scenario.say(session_id, "Is that a dragon?", "It is.")
    project(log, None)
    return index, before


async def test_hits_come_best_first_with_the_words_that_matched(
    log: Log, told: UUID, pool: Pool
) -> None:
    project(log, None)

    found = await MemoryIndex(MemoryView(pool), told, None).search("hidden levers", limit=10)

    best = found.hits[0]
    assert best.entry.text == TURNS[0][1]
    assert [best.entry.text[h["start"] : h["end"]] for h in best.highlights] == ["hidden", "lever"]
    assert (best.keyword_rank, best.semantic_rank) == (1, None)
    assert found.view_position == log.head()
    assert found.took_ms > 0


async def test_a_search_sees_what_the_view_has_taken_in_since_the_last(
    log: Log, told: UUID, scenario: Scenario, pool: Pool
) -> None:
    index = MemoryIndex(MemoryView(pool), told, None)
    project(log, None)
    assert (await index.search("dragon", limit=10)).total == 0
    before = log.head()

    scenario.say(told, "Is that a dragon?", "It is.")
    project(log, None)

    assert texts(await index.search("dragon", limit=1)) == ["Is that a dragon?"]
    assert (await index.search("dragon", limit=10, as_of=before)).total == 0


async def test_a_search_that_needs_no_more_than_it_has_does_not_look_at_the_view(
    log: Log, told: UUID, scenario: Scenario, pool: Pool
) -> None:
    index, before = await index_that_is_behind(log, told, scenario, pool)

    without = await index.search("dragon", limit=10, at_least=before)
    needed = await index.search("dragon", limit=1, at_least=log.head())

    assert (without.total, without.view_position) == (0, before)
    assert texts(needed) == ["Is that a dragon?"]


async def test_a_search_looks_at_the_view_when_its_rows_were_replaced(
    log: Log, told: UUID, scenario: Scenario, pool: Pool
) -> None:
    index, before = await index_that_is_behind(log, told, scenario, pool)

    index.note_rebuilt(before)

    found = await index.search("dragon", limit=1, at_least=before)
    assert texts(found) == ["Is that a dragon?"]


async def test_as_of_gives_what_was_found_when_that_position_was_the_newest(
    log: Log, scenario: Scenario, pool: Pool, embedder: Embedder
) -> None:
    session_id = scenario.open(seed=("The keep of Aldermoor fell.", "Garrick is a blacksmith."))
    then: list[tuple[int, Found]] = []
    for message, text in TURNS:
        scenario.say(session_id, message, text)
        project(log, embedder)
        index = MemoryIndex(MemoryView(pool), session_id, embedder)
        then.append((log.head(), await index.search("lever of the blacksmith", limit=10)))

    index = MemoryIndex(MemoryView(pool), session_id, embedder)

    for position, found in then:
        again = await index.search("lever of the blacksmith", limit=10, as_of=position)
        assert (again.hits, again.total) == (found.hits, found.total)


async def test_meaning_finds_what_words_do_not(
    log: Log, told: UUID, pool: Pool, embedder: Embedder
) -> None:
    project(log, embedder)
    index = MemoryIndex(MemoryView(pool), told, embedder)

    by_words = await index.search("weapons merchant", limit=10, kind="keyword")
    by_meaning = await index.search("weapons merchant", limit=10, kind="semantic")
    by_both = await index.search("weapons merchant", limit=10)

    assert by_words.total == 0
    closest = min(by_meaning.hits, key=lambda hit: hit.semantic_rank or 99)
    assert closest.entry.text in TURNS[1]
    assert closest.semantic_rank == 1
    assert by_both.hits[0].keyword_rank is None
    assert texts(by_both) == texts(by_meaning)


async def test_filters_leave_out_what_was_said_by_others_and_at_other_times(
    log: Log, told: UUID, pool: Pool
) -> None:
    project(log, None)
    index = MemoryIndex(MemoryView(pool), told, None)
    everything = await index.search("lever sword portcullis", limit=10)
    times = sorted(hit.entry.said_at for hit in everything.hits)

    of_users = await index.search("lever sword portcullis", limit=10, role="user")
    late = await index.search("lever sword portcullis", limit=10, since=times[2])
    early = await index.search("lever sword portcullis", limit=10, until=times[2])
    never = await index.search("lever", limit=10, until=times[0] - timedelta(days=1))
    newest = await index.search("lever sword portcullis", limit=10, newest=2)

    assert {hit.entry.role for hit in of_users.hits} == {"user"}
    assert {hit.entry.said_at for hit in late.hits} == set(times[2:])
    assert {hit.entry.said_at for hit in early.hits} == set(times[:3])
    assert never.total == 0
    assert set(texts(newest)) == set(TURNS[2])


@pytest.mark.parametrize(
    "query", ["the of and", "🎉", "xyzzy qwertyuiop", "\\%_'\"", "?", "\t", "((((("]
)
@pytest.mark.parametrize("has_embedder", [True, False])
async def test_a_query_that_says_nothing_finds_nothing(
    query: str, has_embedder: bool, log: Log, told: UUID, pool: Pool, embedder: Embedder
) -> None:
    project(log, embedder)
    index = MemoryIndex(MemoryView(pool), told, embedder if has_embedder else None)

    assert (await index.search(query, limit=10)).total == 0


async def test_a_long_query_is_answered(
    log: Log, told: UUID, pool: Pool, embedder: Embedder
) -> None:
    project(log, embedder)
    query = ("Who sells the hidden lever in the market square? " * 60)[:2000]

    found = await MemoryIndex(MemoryView(pool), told, embedder).search(query, limit=3)

    assert len(found.hits) == 3


async def test_an_unknown_session_has_nothing_to_find(log: Log, pool: Pool) -> None:
    project(log, None)

    found = await MemoryIndex(MemoryView(pool), UUID(int=1), None).search("lever", limit=10)

    assert (found.hits, found.total, found.view_position) == ([], 0, log.head())


async def test_searches_at_the_same_time_and_cancelled_ones_leave_the_index_whole(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open(seed=tuple(f"The lever {n} moves." for n in range(1500)))
    project(log, None)
    index = MemoryIndex(MemoryView(pool), session_id, None)
    tasks = [asyncio.create_task(index.search("lever", limit=1)) for _ in range(20)]
    for step, task in enumerate(tasks[:15]):
        await asyncio.sleep(0.002 * step)
        task.cancel()

    await asyncio.gather(*tasks, return_exceptions=True)

    assert (await index.search("lever", limit=1)).total == 1500


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(HIGHLIGHTED), max_size=12).map(" ".join) | st.text(max_size=30),
    st.lists(st.sampled_from(HIGHLIGHTED), min_size=1, max_size=3).map(" ".join),
)
def test_every_word_that_shares_a_stem_with_the_query_is_highlighted(text: str, query: str) -> None:
    text = unicodedata.normalize("NFC", text)
    stems = frozenset(content_stems(query))

    found = {(one["start"], one["end"]) for one in _highlights(text, stems)}

    words = [match.span() for match in re.finditer(r"[^\W_]+(?:['\u2019.\-][^\W_]+)*", text)]
    assert found == {
        (start, end) for start, end in words if stems & set(content_stems(text[start:end]))
    }
