"""Embeddings: texts as vectors whose inner product says how near their meanings are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

DIMENSIONS = 128  # of WordLlama's 256, which were trained to be cut: these find as much
BATCH_TEXTS = 256  # tokenised at once, on all cores; their tokens take some MB


class EmbedderMissingError(Exception):
    """The embedder's package is not installed; the text says what to do."""


class EmbeddingUnavailableError(Exception):
    """No vectors can be had now, whatever the text; this text says why, and what to look at."""


class Embedder(Protocol):
    """Turns texts into vectors. For use by any thread."""

    @property
    def name(self) -> str:
        """Names model and dimensions; vectors of different names must not be compared."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""

    @property
    def min_cosine(self) -> float:
        """Texts that have nothing to do with each other stay below."""

    @property
    def is_quick(self) -> bool:
        """Whether a short query takes some microseconds, so that an event loop can wait for it."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text, shape (texts, dimensions), L2-normalised. Blocks.

        Raises EmbeddingUnavailableError.
        """

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of what is searched, for somebody who waits. Blocks.

        Raises EmbeddingUnavailableError.
        """


class WordLlamaEmbedder:
    """WordLlama: token vectors from a language model, averaged."""

    is_quick = True
    min_cosine = 0.2  # of 440 pairs that have nothing in common, 3 in 100 are above

    def __init__(self) -> None:
        try:
            import wordllama
        except ImportError as error:
            raise EmbedderMissingError(
                "The embedder WordLlama is not installed. Run `pip install 'lorewire[embedded]'`, "
                "or set LOREWIRE_EMBEDDER=none: search then goes by words alone."
            ) from error
        self.name = f"wordllama-{DIMENSIONS}"
        self.dimensions = DIMENSIONS
        # The weights are in the package; by itself it looks in the wrong folder, then online.
        model = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, disable_download=True
        )
        self._vectors: Vectors = np.ascontiguousarray(model.embedding[:, :DIMENSIONS], np.float32)
        self._tokenizer: Any = model.tokenizer
        self._tokenizer.no_padding()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text; a text without any known token is a row of zeros.

        The package does the same more slowly, and with numbers that depend on the other texts: it
        pads all to one length. A rebuild has to give the same ones to the last digit.
        """
        sums = np.zeros((len(texts), self.dimensions), np.float32)
        for first in range(0, len(texts), BATCH_TEXTS):
            batch = list(texts[first : first + BATCH_TEXTS])
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for row, encoding in enumerate(encodings, first):
                if encoding.ids:
                    self._vectors.take(encoding.ids, axis=0, mode="clip").sum(axis=0, out=sums[row])
        return normalised(sums)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a text."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector


def normalised(vectors: Vectors) -> Vectors:
    """The rows at length 1; what is no direction becomes zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)
