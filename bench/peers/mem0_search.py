"""mem0 with its default store, Qdrant in the same process: searches among one user's memories.

    python -m bench.peers.mem0_search QUESTIONS.json

The file is an object of `texts` and `queries`. The embedder is Lorewire's default one and no model
is asked, as with `infer=False`. The memories are put into the store in batches and kept in RAM:
added one by one, each with its commit to disk, 100,000 would take hours. Then the line
`search` is answered with the milliseconds of every query, as JSON, and any other one with null.
"""

import json
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from uuid import UUID

FILES = tempfile.TemporaryDirectory(prefix="lorewire-bench-")
os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": FILES.name}  # read by the import

from mem0 import Memory  # noqa: E402
from mem0.embeddings.base import EmbeddingBase  # noqa: E402
from qdrant_client import QdrantClient  # noqa: E402

from bench.common import answer_lines  # noqa: E402
from language.embedding import DIMENSIONS, WordLlamaEmbedder  # noqa: E402

USER = "ada"
LIMIT = 10
WARM_UP = 2
BATCH = 1_000
SAID_AT = "2026-01-01T00:00:00+00:00"


class WordLlamaEmbedding(EmbeddingBase):  # type: ignore[misc]
    """What mem0 has its texts embedded by."""

    def __init__(self) -> None:
        super().__init__()
        self.embedder = WordLlamaEmbedder()

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """One vector."""
        vector: list[float] = self.embedder.embed_query(text).tolist()
        return vector


def open_memory(embedding: WordLlamaEmbedding) -> Any:
    """An empty memory."""
    store = {"client": QdrantClient(":memory:"), "embedding_model_dims": DIMENSIONS}
    # mem0 wants a key of its default provider, though it is never asked.
    provider = {"provider": "openai", "config": {"api_key": "none"}}
    memory = Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "llm": provider,
            "embedder": provider,
            "history_db_path": f"{FILES.name}/history.db",
        }
    )
    memory.embedding_model = embedding
    return memory


def fill(memory: Any, embedding: WordLlamaEmbedding, texts: list[str]) -> None:
    """Store the texts as memories of one user."""
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        memory.vector_store.insert(
            vectors=embedding.embedder.embed(batch).tolist(),
            ids=[str(UUID(int=start + n)) for n in range(len(batch))],
            payloads=[
                {"data": text, "user_id": USER, "hash": str(start + n), "created_at": SAID_AT}
                for n, text in enumerate(batch)
            ],
        )


def search_ms(memory: Any, query: str) -> float:
    """Milliseconds of one search."""
    started = time.perf_counter()
    found = memory.search(query, filters={"user_id": USER}, top_k=LIMIT)["results"]
    took_ms = (time.perf_counter() - started) * 1000
    if not found:
        raise SystemExit(f"mem0 finds nothing for {query!r}")
    return took_ms


def main(path: str) -> None:
    """Fill, then answer."""
    logging.disable(logging.WARNING)  # of packages that are not there, and that are not wanted
    warnings.simplefilter("ignore")  # local Qdrant has no payload indexes
    asked = json.loads(Path(path).read_text())
    embedding = WordLlamaEmbedding()
    memory = open_memory(embedding)
    fill(memory, embedding, asked["texts"])
    queries = asked["queries"]

    def answer(line: str) -> list[float] | None:
        if line != "search":
            return None
        return [search_ms(memory, query) for query in queries[:WARM_UP] + queries][WARM_UP:]

    answer_lines(answer)


if __name__ == "__main__":
    main(sys.argv[1])
