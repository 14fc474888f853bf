"""Embeddings: vectors whose nearness is nearness of meaning."""

import numpy as np
import pytest

from language.embedding import Embedder, load_embedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    embedder = load_embedder("wordllama")
    assert embedder is not None
    return embedder


def test_every_text_becomes_one_vector_of_length_one(embedder: Embedder) -> None:
    vectors = embedder.embed(["a dragon", "Kira the ranger", "solar cells"])

    assert vectors.shape == (3, embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_near_meanings_are_near(embedder: Embedder) -> None:
    boat, ship, perovskite = embedder.embed(["a boat on the sea", "a ship at sea", "perovskite"])

    assert boat @ ship > boat @ perovskite


def test_a_text_has_the_same_vector_alone_and_in_company(embedder: Embedder) -> None:
    together = embedder.embed(["short", "a much longer text about dragons and their gold"])

    assert np.allclose(embedder.embed(["short"])[0], together[0], atol=1e-5)


@pytest.mark.parametrize("text", ["", " ", "\U0001f409", "x" * 50_000])
def test_odd_texts_have_finite_vectors(embedder: Embedder, text: str) -> None:
    assert np.isfinite(embedder.embed([text])).all()


def test_no_texts_are_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_there_may_be_no_embedder() -> None:
    assert load_embedder("none") is None
    with pytest.raises(ValueError, match="Known are wordllama and none"):
        load_embedder("word2vec")
