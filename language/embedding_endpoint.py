"""Embeddings from any OpenAI-compatible server."""

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
from numpy.typing import NDArray

from language.embedding import EmbeddingUnavailableError, Vectors, normalised

logger = logging.getLogger(__name__)

BATCH_TEXTS = 128  # in one request
CONNECT_TIMEOUT_S = 5.0
RETRIES = 2  # of a request that fails; after that, who asked decides
QUERY_TIMEOUT_S = 2.0  # somebody waits, and words alone find most of it
QUERY_PAUSE_S = 5.0  # after a failure, searches do not wait for the endpoint again
MIN_CHARACTERS = 200  # a shorter text that is refused is not refused for its length
PROBE = "Lorewire"  # what any embedding model takes
MAX_KEPT = 4096  # vectors from a call that broke off, for when it is tried again

_REFUSED = frozenset({400, 413, 422})  # the request itself
_HINTS = {
    401: " Check LOREWIRE_EMBEDDING_KEY.",
    403: " Check LOREWIRE_EMBEDDING_KEY.",
    404: " Check LOREWIRE_EMBEDDING_MODEL, and LOREWIRE_EMBEDDING_URL, which mostly ends in /v1.",
}


class WrongDimensionsError(EmbeddingUnavailableError):
    """The endpoint's vectors are of another size than the setting says."""

    def __init__(self, who: str, expected: int, found: int) -> None:
        super().__init__(
            f"{who} answers with vectors of {found} numbers, and LOREWIRE_EMBEDDING_DIMENSIONS is "
            f"{expected}. Set it to {found}, or name the model that is meant in "
            "LOREWIRE_EMBEDDING_MODEL; then run `lorewire rebuild memory`."
        )
        self.found = found


class EndpointEmbedder:
    """One embedding model of one server. For use by any thread."""

    is_quick = False  # it waits for a server

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        dimensions: int,
        api_key: str | None,
        min_cosine: float,
        timeout_s: float = 30.0,
    ) -> None:
        """`base_url` ends in `/v1` with most servers. Connects when it is first used."""
        self.name = f"{model}@{dimensions}"
        self.dimensions = dimensions
        self.min_cosine = min_cosine
        self._model = model
        parts = urlsplit(base_url)  # some servers take a key in the query
        at = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        self._who = f"The embedding model {model!r} at {at.geturl()}"
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # servers that need none accept any
            max_retries=RETRIES,
            timeout=openai.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        )
        self._for_queries = self._client.with_options(
            max_retries=0, timeout=openai.Timeout(QUERY_TIMEOUT_S, connect=QUERY_TIMEOUT_S)
        )
        self._says_dimensions = True  # until the server does not know the option
        self._kept: dict[bytes, NDArray[np.float32]] = {}
        self._keeping = threading.Lock()
        self._failed_at: float | None = None  # a query, on the monotonic clock

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text. Raises EmbeddingUnavailableError.

        What had come before an error is kept: the next call with the same texts asks for the rest.
        A text that the server refuses, though it takes others, is a row of zeros.
        """
        rows: list[NDArray[np.float32]] = []
        for first in range(0, len(texts), BATCH_TEXTS):
            rows.append(self._embed_batch(texts[first : first + BATCH_TEXTS]))
        with self._keeping:
            self._kept.clear()
        return np.concatenate(rows) if rows else np.zeros((0, self.dimensions), np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query. Raises EmbeddingUnavailableError, soon."""
        if not text.strip():
            return np.zeros(self.dimensions, np.float32)
        now = time.monotonic()
        if self._failed_at is not None and now - self._failed_at < QUERY_PAUSE_S:
            raise EmbeddingUnavailableError(f"{self._who} has just failed.")
        try:
            vector: NDArray[np.float32] = self._ask(self._for_queries, [text])[0]
        except EmbeddingUnavailableError as error:
            self._failed_at = time.monotonic()
            logger.warning("A search goes by words alone: %s", error)
            raise
        self._failed_at = None
        return vector

    def check(self) -> str | None:
        """None where the endpoint does what the settings say, else a sentence about what is wrong.

        Blocks for as long as a query may.
        """
        try:
            self._ask(self._for_queries, [PROBE])
        except EmbeddingUnavailableError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _embed_batch(self, texts: Sequence[str]) -> Vectors:
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        with self._keeping:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            known |= zip(missing, self._ask(self._client, list(missing.values())), strict=True)
        with self._keeping:
            if len(self._kept) < MAX_KEPT:
                self._kept |= known
        return np.stack([known[key] for key in keys])

    def _ask(self, client: openai.OpenAI, texts: Sequence[str]) -> Vectors:
        """The vectors of some texts; those that the server refuses for their length, of a part."""
        try:
            return self._request(client, texts)
        except _RefusedError as refused:
            if len(texts) > 1:
                middle = len(texts) // 2
                halves = self._ask(client, texts[:middle]), self._ask(client, texts[middle:])
                return np.concatenate(halves)
            if len(texts[0]) < MIN_CHARACTERS:
                self._blame(client, texts[0], refused)
                return np.zeros((1, self.dimensions), np.float32)
            return self._ask(client, [texts[0][: len(texts[0]) // 2]])

    def _blame(self, client: openai.OpenAI, text: str, refused: "_RefusedError") -> None:
        """A text was refused. Raises EmbeddingUnavailableError where any text is."""
        if client is self._for_queries:
            raise EmbeddingUnavailableError(str(refused)) from refused
        try:
            self._request(client, [PROBE])
        except _RefusedError:
            raise EmbeddingUnavailableError(str(refused)) from refused
        logger.warning("A text of %s characters has no vector: %s", len(text), refused)

    def _request(self, client: openai.OpenAI, texts: Sequence[str]) -> Vectors:
        try:
            if self._says_dimensions:
                try:
                    return self._vectors_in(self._post(client, texts, self.dimensions), texts)
                except (openai.BadRequestError, openai.UnprocessableEntityError):
                    # Many servers do not know the option. If it was something else, it fails again.
                    vectors = self._vectors_in(self._post(client, texts, None), texts)
                    self._says_dimensions = False
                    return vectors
            return self._vectors_in(self._post(client, texts, None), texts)
        except EmbeddingUnavailableError:
            raise
        except openai.APIStatusError as error:
            said = f"{self._who} answers HTTP {error.status_code} ({_first_line(error.message)})."
            if error.status_code in _REFUSED:
                raise _RefusedError(said) from error
            hint = _HINTS.get(error.status_code, "")
            raise EmbeddingUnavailableError(said + hint) from error
        except openai.APIConnectionError as error:
            raise EmbeddingUnavailableError(
                f"{self._who} can't be reached ({_first_line(error.__cause__ or error)}). Check "
                "LOREWIRE_EMBEDDING_URL and that it runs."
            ) from error
        except Exception as error:  # whatever a server sends, it is no list of vectors
            raise EmbeddingUnavailableError(
                f"What {self._who} sends is no list of vectors ({_first_line(error)}). Check "
                "LOREWIRE_EMBEDDING_URL, which mostly ends in /v1."
            ) from error

    def _post(self, client: openai.OpenAI, texts: Sequence[str], dimensions: int | None) -> Any:
        return client.embeddings.create(
            model=self._model,
            input=[text.encode("utf-8", "replace").decode() for text in texts],
            encoding_format="float",
            dimensions=openai.omit if dimensions is None else dimensions,
        )

    def _vectors_in(self, answer: Any, texts: Sequence[str]) -> Vectors:
        items = sorted(answer.data, key=lambda item: item.index)
        if [item.index for item in items] != list(range(len(texts))):
            raise ValueError(f"{len(items)} vectors for {len(texts)} texts")
        for item in items:
            if len(item.embedding) != self.dimensions:
                raise WrongDimensionsError(self._who, self.dimensions, len(item.embedding))
        vectors = np.array([item.embedding for item in items], np.float32)
        if not np.isfinite(vectors).all():
            raise ValueError("a number that is none")
        return normalised(vectors.reshape(len(texts), self.dimensions))


class _RefusedError(Exception):
    """The server does not take these texts."""


def _first_line(error: object) -> str:
    text = str(error).replace("\0", "").strip() or type(error).__name__
    return text.splitlines()[0][:200]
