"""Embeddings from a server: what it must answer, and what is said where it does not."""

from collections.abc import Iterator

import numpy as np
import pytest

from language import embedding_endpoint
from language.embedding import EmbeddingUnavailableError
from language.embedding_endpoint import BATCH_TEXTS, EndpointEmbedder, WrongDimensionsError
from tests.embedding_server import MODEL, EmbeddingServer, embedding_server

DIMENSIONS = 8


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server(DIMENSIONS) as server:
        yield server


@pytest.fixture
def embedder(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EndpointEmbedder]:
    monkeypatch.setattr(embedding_endpoint, "RETRIES", 0)
    embedder = make(server.url)
    yield embedder
    embedder.close()


def make(url: str, *, dimensions: int = DIMENSIONS) -> EndpointEmbedder:
    return EndpointEmbedder(
        base_url=url, model=MODEL, dimensions=dimensions, api_key=None, min_cosine=0.2
    )


def test_every_text_gets_its_own_vector_at_length_one(
    server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    texts = [f"text {n}" for n in range(2 * BATCH_TEXTS + 3)]

    vectors = embedder.embed(texts)

    expected = np.array([server.vector(text) for text in texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(vectors, expected, atol=1e-6)
    assert len(server.requests) == 3
    assert {request["dimensions"] for request in server.requests} == {DIMENSIONS}
    assert np.allclose(embedder.embed_query("text 1"), expected[1], atol=1e-6)
    assert embedder.embed([]).shape == (0, DIMENSIONS)


def test_a_server_that_does_not_know_the_option_is_asked_without(
    server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    server.knows_dimensions = False

    embedder.embed(["one"])
    embedder.embed(["two"])

    assert ["dimensions" in request for request in server.requests] == [True, False, False]


def test_vectors_of_another_size_are_refused_with_what_to_do(server: EmbeddingServer) -> None:
    embedder = make(server.url, dimensions=DIMENSIONS + 1)

    with pytest.raises(WrongDimensionsError) as raised:
        embedder.embed(["one"])
    problem = embedder.check()
    embedder.close()

    assert "vectors of 8 numbers, and LOREWIRE_EMBEDDING_DIMENSIONS is 9" in str(raised.value)
    assert "lorewire rebuild memory" in str(raised.value)
    assert problem == str(raised.value)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "LOREWIRE_EMBEDDING_KEY"),
        (404, "LOREWIRE_EMBEDDING_MODEL"),
        (429, "HTTP 429"),
        (500, "HTTP 500"),
    ],
)
def test_an_error_says_what_to_look_at(
    status: int, hint: str, server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    server.status = status

    with pytest.raises(EmbeddingUnavailableError, match=hint):
        embedder.embed(["one"])


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b"[]",
        b"null",
        b'{"data": []}',
        b'{"data": [{"index": 1, "embedding": [1, 2, 3, 4, 5, 6, 7, 8]}]}',
        b'{"data": [{"index": 0, "embedding": ["a", 2, 3, 4, 5, 6, 7, 8]}]}',
        b'{"data": [{"index": 0, "embedding": [null, 2, 3, 4, 5, 6, 7, 8]}]}',
        b'{"data": [{"index": 0, "embedding": [1e60, 2, 3, 4, 5, 6, 7, 8]}]}',
        b'{"data": [{"index": 0, "embedding": "AAAA"}]}',
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_an_answer_that_is_no_list_of_vectors_is_refused(
    body: bytes, server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    server.body = body

    with pytest.raises(EmbeddingUnavailableError):
        embedder.embed(["one"])


def test_a_server_that_is_gone_is_said_without_what_its_url_hides() -> None:
    with embedding_server() as gone:
        url = gone.url
    embedder = make(url.replace("http://", "http://ada:secret@") + "?key=secret")

    problem = embedder.check()
    embedder.close()

    assert problem is not None
    assert "can't be reached" in problem
    assert "Check LOREWIRE_EMBEDDING_URL" in problem
    assert "secret" not in problem


def test_a_text_that_is_too_long_for_the_server_is_embedded_in_part(
    server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    server.max_characters = 1000
    long = "dragon " * 400

    first, second = embedder.embed([long, "short"])

    assert first @ embedder.embed_query("dragon") == pytest.approx(1)
    assert second @ embedder.embed_query("short") == pytest.approx(1)


def test_a_request_with_too_many_texts_is_made_in_parts(
    server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    server.max_texts = 10
    texts = [f"text {n}" for n in range(50)]

    vectors = embedder.embed(texts)

    assert all(vectors[n] @ embedder.embed_query(texts[n]) > 0.999 for n in range(50))


def test_one_text_that_is_refused_holds_up_no_others(
    server: EmbeddingServer, embedder: EndpointEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused_words = {"unspeakable"}

    first, second = embedder.embed(["an unspeakable thing", "a thing"])

    assert not first.any()
    assert second @ embedder.embed_query("a thing") == pytest.approx(1)
    assert "has no vector" in caplog.text
    assert "unspeakable" not in caplog.text  # what people say stays out of the log


def test_a_server_that_refuses_everything_is_unavailable(
    server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    server.status = 400

    with pytest.raises(EmbeddingUnavailableError, match="HTTP 400"):
        embedder.embed(["an unspeakable thing", "a thing"])


def test_what_came_before_a_failure_is_not_asked_again(
    server: EmbeddingServer, embedder: EndpointEmbedder
) -> None:
    texts = [f"text {n}" for n in range(2 * BATCH_TEXTS)]
    server.fail_after = 1
    with pytest.raises(EmbeddingUnavailableError):
        embedder.embed(texts)
    server.fail_after = None
    server.requests.clear()

    vectors = embedder.embed(texts)

    assert [request["input"][0] for request in server.requests] == [texts[BATCH_TEXTS]]
    assert vectors[0] @ embedder.embed_query(texts[0]) == pytest.approx(1)


def test_after_a_failure_searches_do_not_wait_for_the_server_again(
    server: EmbeddingServer, embedder: EndpointEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 503
    for _ in range(3):
        with pytest.raises(EmbeddingUnavailableError):
            embedder.embed_query("one")
    asked = len(server.requests)
    server.status = 200
    monkeypatch.setattr(embedding_endpoint, "QUERY_PAUSE_S", 0.0)

    vector = embedder.embed_query("one")

    assert asked == 1
    assert vector.any()


@pytest.mark.parametrize("text", ["", " ", "\U0001f409", "\ud800 half a pair", "x" * 32_000])
def test_odd_texts_have_finite_vectors(embedder: EndpointEmbedder, text: str) -> None:
    assert np.isfinite(embedder.embed([text])).all()
    assert np.isfinite(embedder.embed_query(text)).all()
