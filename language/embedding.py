"""Embeddings: texts as vectors whose inner product says how near their meanings are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 256  # what WordLlama ships; 64 would find as much, and 256 take 1 KiB an entry


class EmbedderMissingError(Exception):
    """The embedder's package is not installed; the text says what to do."""


class Embedder(Protocol):
    """Turns texts into vectors, always the same ones."""

    @property
    def name(self) -> str:
        """The model's name; vectors of different names must not be compared."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text, shape (texts, dimensions), L2-normalised. Blocks."""


class WordLlamaEmbedder:
    """WordLlama: token vectors from a language model, averaged. Some 10,000 texts a second."""

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
        self._model: Any = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, disable_download=True, dim=DIMENSIONS
        )

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text; a text without any known token is a row of zeros."""
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        vectors = np.asarray(self._model.embed(list(texts)), dtype=np.float32)
        vectors = np.nan_to_num(vectors)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)


def load_embedder(name: str) -> Embedder | None:
    """The embedder that a setting names: "wordllama", or "none" for None. Blocks for 0.3 s."""
    if name == "none":
        return None
    if name == "wordllama":
        return WordLlamaEmbedder()
    raise ValueError(f"The embedder {name!r} is not known. Known are wordllama and none.")
