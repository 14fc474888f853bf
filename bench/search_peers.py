"""What a search costs inside the same database: ts_rank for words, pgvector for meaning.

Both are asked in PostgreSQL alone, without a server in front, for ten positions of one session. The
words' index is the usual one, GIN over all sessions, beside a B-tree on the session: the planner
chooses. Vectors are compared exactly, within the session. A table with the texts beside the vectors
is for a server that finds them (`bench.peers.fastapi_server`).
"""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import psycopg

from language.embedding import Embedder

LIMIT = 10

_BY_WORDS = (
    "SELECT position FROM peer_words, to_tsquery('simple', %s) AS asked"
    " WHERE session_id = %s AND words @@ asked ORDER BY ts_rank(words, asked) DESC LIMIT %s"
)
_BY_MEANING = (
    "SELECT position FROM peer_vectors WHERE session_id = %s"
    " ORDER BY embedding <=> %s::vector LIMIT %s"
)


class Peers:
    """Tables that the peers search, made from memory's."""

    def __init__(
        self, database_url: str, sessions: Sequence[UUID], embedder: Embedder | None
    ) -> None:
        """Fill them. Takes a minute and more with a million entries."""
        self._embedder = embedder
        self._conn = psycopg.connect(database_url, autocommit=True)
        self._conn.execute("SET maintenance_work_mem = '1GB'")  # to be done sooner
        self._conn.execute(
            "CREATE UNLOGGED TABLE peer_words AS SELECT session_id, position,"
            " to_tsvector('simple', text) AS words FROM memory_entries"
        )
        self._conn.execute("CREATE INDEX ON peer_words USING gin (words)")
        self._conn.execute("CREATE INDEX ON peer_words (session_id)")
        self._conn.execute("VACUUM ANALYZE peer_words")
        found = self._conn.execute(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
        ).fetchone()
        self._has_vectors = embedder is not None and found is not None
        if embedder is not None and self._has_vectors:
            self._fill_vectors(sessions, embedder)

    def _fill_vectors(self, sessions: Sequence[UUID], embedder: Embedder) -> None:
        self._conn.execute("CREATE EXTENSION vector")
        self._conn.execute(
            "CREATE UNLOGGED TABLE peer_vectors (session_id uuid, position bigint,"
            f" embedding vector({embedder.dimensions}))"
        )
        for session_id in sessions:
            rows = self._conn.execute(
                "SELECT position, embedding FROM memory_entries WHERE session_id = %s",
                (session_id,),
            ).fetchall()
            with self._conn.cursor() as curs, curs.copy("COPY peer_vectors FROM STDIN") as copy:
                for position, data in rows:
                    vector = np.frombuffer(data, "<f4").tolist()
                    copy.write_row((session_id, position, _literal(vector)))
        self._conn.execute("CREATE INDEX ON peer_vectors (session_id)")
        self._conn.execute(
            "CREATE UNLOGGED TABLE peer_memories AS"
            " SELECT session_id, position, text, peer_vectors.embedding"
            " FROM peer_vectors JOIN memory_entries USING (session_id, position)"
        )
        self._conn.execute("CREATE INDEX ON peer_memories (session_id)")
        self._conn.execute("VACUUM ANALYZE peer_vectors, peer_memories")

    @property
    def has_vectors(self) -> bool:
        """Whether meaning can be searched for: there are pgvector and an embedder."""
        return self._has_vectors

    def words_ms(self, session_id: UUID, query: str) -> float:
        """One search by any of the query's words."""
        return self._ms(_BY_WORDS, (" | ".join(query.strip(".").split()), session_id, LIMIT))

    def meaning_ms(self, session_id: UUID, query: str) -> float | None:
        """One search by the query's vector; None: there is no pgvector, or no embedder."""
        if self._embedder is None or not self._has_vectors:
            return None
        vector = _literal(self._embedder.embed_query(query).tolist())
        return self._ms(_BY_MEANING, (session_id, vector, LIMIT))

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()

    def _ms(self, statement: str, parameters: tuple[Any, ...]) -> float:
        started = time.perf_counter()
        self._conn.execute(statement, parameters, prepare=True).fetchall()
        return (time.perf_counter() - started) * 1000


def _literal(vector: Sequence[float]) -> str:
    return f"[{','.join(map(str, vector))}]"
