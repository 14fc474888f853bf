"""Whose vectors memory has: one embedder's, whatever happens to the setting and the endpoint."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from psycopg_pool import AsyncConnectionPool

from events.log import Log
from language import embedding_endpoint
from language.domains import load_domains
from language.embedding import Embedder
from language.embedding_endpoint import EndpointEmbedder
from projections.follower import Follower, NotYetError, stored_position
from projections.memory import MemoryProjection, MemoryView
from projections.positions import MEMORY
from projections.rebuild import begun
from projections.search import Found, MemoryIndex
from projections.updates import ViewUpdates
from tests.embedding_server import MODEL, EmbeddingServer, embedding_server
from tests.projections.scenario import Scenario, follow, forget_memory, until

Pool = AsyncConnectionPool[Any]

DIMENSIONS = 64


@pytest.fixture(autouse=True)
def empty_memory(log: Log) -> None:
    forget_memory(log)


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server(DIMENSIONS) as server:
        yield server


@pytest.fixture
def embedder(server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedder]:
    monkeypatch.setattr(embedding_endpoint, "RETRIES", 0)
    monkeypatch.setattr(embedding_endpoint, "QUERY_PAUSE_S", 0.0)
    yield from _embedder(server, MODEL)


@pytest.fixture
def another(server: EmbeddingServer) -> Iterator[Embedder]:
    yield from _embedder(server, "another")


def _embedder(server: EmbeddingServer, model: str) -> Iterator[Embedder]:
    embedder = EndpointEmbedder(
        base_url=server.url, model=model, dimensions=DIMENSIONS, api_key=None, min_cosine=0.1
    )
    yield embedder
    embedder.close()


def memory(log: Log, embedder: Embedder | None) -> MemoryProjection:
    return MemoryProjection(log, load_domains(), embedder)


def project(log: Log, embedder: Embedder | None) -> None:
    follow(log, ViewUpdates(log, memory(log, embedder)))


def rebuild(log: Log, embedder: Embedder | None) -> None:
    with begun(log, memory(log, embedder)) as rebuilt:
        assert rebuilt.fill(lambda _progress: None, threading.Event())
        rebuilt.switch()


def vectors_of(log: Log, session_id: UUID) -> list[bytes | None]:
    """As readers see them, oldest first."""
    with log.recorder.datastore.transaction(commit=False) as curs:
        rows = curs.execute(
            "SELECT embedding FROM memory_entries JOIN lorewire_views USING (version)"
            " WHERE name = 'memory' AND session_id = %s ORDER BY position",
            (session_id,),
        ).fetchall()
    return [None if row["embedding"] is None else bytes(row["embedding"]) for row in rows]


async def search(pool: Pool, session_id: UUID, embedder: Embedder | None, **more: Any) -> Found:
    """In an index of its own, of all that there is."""
    return await MemoryIndex(MemoryView(pool), session_id, embedder).search(
        "Where is the lever?", limit=10, **more
    )


async def test_after_a_change_search_goes_by_words_until_memory_is_rebuilt(
    log: Log,
    scenario: Scenario,
    pool: Pool,
    embedder: Embedder,
    another: Embedder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Where is the lever?", "Behind the loose stone.")
    project(log, embedder)
    before = await search(pool, session_id, embedder)

    scenario.say(session_id, "Is the lever iron?", "It is brass.")
    project(log, another)
    changed = await search(pool, session_id, another)
    by_words = await search(pool, session_id, None)
    only_meaning = await search(pool, session_id, another, kind="semantic")
    vectors = vectors_of(log, session_id)
    rebuild(log, another)
    after = await search(pool, session_id, another)

    assert before.meaning == "used"
    assert changed.meaning == only_meaning.meaning == "rebuild_needed"
    assert changed.hits == only_meaning.hits == by_words.hits
    assert all(hit.semantic_rank is None for hit in changed.hits)
    assert [vector is not None for vector in vectors] == [True, True, False, False]
    assert "lorewire rebuild memory" in caplog.text
    assert after.meaning == "used"
    assert None not in vectors_of(log, session_id)


async def test_an_index_that_is_in_use_takes_the_vectors_of_a_rebuild(
    log: Log, scenario: Scenario, pool: Pool, embedder: Embedder, another: Embedder
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Where is the lever?", "Behind the loose stone.")
    project(log, embedder)
    index = MemoryIndex(MemoryView(pool), session_id, another)
    before = await index.search("lever", limit=10)

    rebuild(log, another)
    after = await index.search("lever", limit=10)

    assert (before.meaning, after.meaning) == ("rebuild_needed", "used")
    assert after.hits[0].semantic_rank == 1


async def test_an_embedder_that_is_switched_on_later_needs_a_rebuild_too(
    log: Log, scenario: Scenario, pool: Pool, embedder: Embedder
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Where is the lever?", "Behind the loose stone.")
    project(log, None)

    scenario.say(session_id, "Is the lever iron?", "It is brass.")
    project(log, embedder)
    switched_on = await search(pool, session_id, embedder)
    vectors = vectors_of(log, session_id)
    rebuild(log, embedder)

    assert switched_on.meaning == "rebuild_needed"
    assert vectors == [None] * 4
    assert (await search(pool, session_id, embedder)).meaning == "used"


async def test_without_an_embedder_every_kind_of_search_goes_by_words(
    log: Log, scenario: Scenario, pool: Pool
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Where is the lever?", "Behind the loose stone.")
    project(log, None)

    hybrid = await search(pool, session_id, None)
    semantic = await search(pool, session_id, None, kind="semantic")
    keyword = await search(pool, session_id, None, kind="keyword")

    assert (hybrid.meaning, semantic.meaning, keyword.meaning) == ("none", "none", "not_asked")
    assert hybrid.hits == semantic.hits == keyword.hits
    assert len(hybrid.hits) == 2


async def test_an_endpoint_that_is_gone_leaves_search_by_words(
    log: Log, scenario: Scenario, pool: Pool, embedder: Embedder, server: EmbeddingServer
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Where is the lever?", "Behind the loose stone.")
    project(log, embedder)
    server.status = 503

    meanwhile = await search(pool, session_id, embedder)
    server.status = 200
    afterwards = await search(pool, session_id, embedder)

    assert meanwhile.meaning == "unavailable"
    assert meanwhile.hits == (await search(pool, session_id, None)).hits
    assert afterwards.meaning == "used"


@pytest.mark.parametrize("fault", ["wrong size", "an error"])
def test_what_an_endpoint_can_not_embed_is_not_half_written(
    fault: str, log: Log, scenario: Scenario, embedder: Embedder, server: EmbeddingServer
) -> None:
    session_id = scenario.open()
    project(log, embedder)
    before = stored_position(log, MEMORY)
    scenario.say(session_id, "Where is the lever?", "Behind the loose stone.")
    if fault == "wrong size":
        server.dimensions = DIMENSIONS - 1
    else:
        server.status = 500

    with pytest.raises(NotYetError, match=r"LOREWIRE_EMBEDDING_DIMENSIONS|HTTP 500"):
        project(log, embedder)

    assert vectors_of(log, session_id) == []
    assert stored_position(log, MEMORY) == before
    server.dimensions, server.status = DIMENSIONS, 200
    project(log, embedder)
    assert len(vectors_of(log, session_id)) == 2
    assert stored_position(log, MEMORY) == log.head()


def test_a_follower_waits_visibly_for_an_endpoint_that_answers_wrongly(
    log: Log,
    scenario: Scenario,
    embedder: Embedder,
    server: EmbeddingServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session_id = scenario.open()
    scenario.say(session_id, "Where is the lever?", "Behind the loose stone.")
    server.dimensions = DIMENSIONS - 1
    follower = Follower(log, ViewUpdates(log, memory(log, embedder)))
    follower.start()

    until(lambda: follower.failures > 1)
    written = vectors_of(log, session_id)
    server.dimensions = DIMENSIONS
    until(lambda: stored_position(log, MEMORY) == log.head())
    follower.stop()
    follower.join(10)

    assert written == []
    assert f"vectors of {DIMENSIONS - 1} numbers" in caplog.text
    assert "set aside" not in caplog.text  # the event is as good as any
    assert None not in vectors_of(log, session_id)


def test_vectors_of_an_endpoint_have_length_one_and_a_line_for_each_passage(
    log: Log, scenario: Scenario, embedder: Embedder
) -> None:
    session_id = scenario.open()
    scenario.ask(session_id, "\n\n".join(f"Lever {n} moves. " * 60 for n in range(5)))
    project(log, embedder)

    (data,) = vectors_of(log, session_id)

    assert data is not None
    vectors = np.frombuffer(data, "<f4").reshape(-1, DIMENSIONS)
    assert len(vectors) == 5
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
