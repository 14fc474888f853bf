"""Embeddings: vectors whose nearness is nearness of meaning."""

from pathlib import Path

import numpy as np
import pytest
import wordllama

from language.embedding import Embedder, WordLlamaEmbedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return WordLlamaEmbedder()


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

    assert np.array_equal(embedder.embed(["short"])[0], together[0])
    assert np.array_equal(embedder.embed_query("short"), together[0])


def test_the_vectors_are_those_of_the_package(embedder: Embedder) -> None:
    package = wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )
    texts = ["a boat on the sea", "Kira the ranger carries a lantern.", "\U0001f409 dragon"]

    expected = package.embed(texts)[:, : embedder.dimensions]

    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(embedder.embed(texts), expected, atol=1e-6)


@pytest.mark.parametrize("text", ["", " ", "\U0001f409", "x" * 50_000])
def test_odd_texts_have_finite_vectors(embedder: Embedder, text: str) -> None:
    assert np.isfinite(embedder.embed([text])).all()


def test_no_texts_are_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)
