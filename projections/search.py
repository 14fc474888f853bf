"""Searching one session's memory, in the process that holds its actor."""

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from language.embedding import Embedder
from language.stems import content_stems
from projections.memory import IndexedEntry, MemoryEntry, MemoryView, Role
from projections.ranking import Kind, Ranked, Selection, SessionIndex

MAX_CACHED_WORDS = 50_000  # of all sessions; most words of a language come again

_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")  # as `content_stems` sees words


@dataclass(frozen=True)
class Hit:
    """One entry that a search found, and why."""

    entry: MemoryEntry
    highlights: list[dict[str, int]]  # {"start", "end"}: code points of `text`, end exclusive
    relevance_score: float  # 0..1, see SessionIndex.search
    keyword_rank: int | None  # 1 is best; None: not found by its words
    semantic_rank: int | None  # 1 is best; None: not found by its meaning


@dataclass(frozen=True)
class Found:
    """A page of what a search found, best first."""

    hits: list[Hit]
    total: int  # entries that are found, on all pages
    view_position: int  # how far the memory view had read
    took_ms: float


class MemoryIndex:
    """One session's search index, made from the view's rows when it is first used.

    Every search first brings it up to the view's position.
    """

    def __init__(self, view: MemoryView, session_id: UUID, embedder: Embedder | None) -> None:
        """`embedder` None: every kind of search goes by words alone."""
        self._view = view
        self._session_id = session_id
        self._embedder = embedder
        self._index = SessionIndex(embedder.dimensions if embedder else None)
        self._position = 0
        self._lock = asyncio.Lock()
        self._index_lock = threading.Lock()  # a search that is cancelled leaves its thread running

    async def search(
        self,
        query: str,
        *,
        limit: int,
        offset: int = 0,
        kind: Kind = "hybrid",
        role: Role | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: int | None = None,
        newest: int | None = None,
    ) -> Found:
        """Find entries of the session, best first; see `SessionIndex.search` for the ranking.

        `since` and `until` are both inclusive, `as_of` is the position at which to look, and
        `newest` leaves only so many of the newest entries to be found. Without an embedder a
        semantic search is a keyword search.
        """
        started = time.perf_counter()
        selection = Selection(as_of, role, since, until, newest)
        async with self._lock:
            self._position = position = await self._view.read_indexed(
                self._session_id, self._position, self._take_in
            )
            hits, total = await asyncio.to_thread(
                self._search, query, kind, selection, limit, offset
            )
        return Found(hits, total, position, (time.perf_counter() - started) * 1000)

    async def _take_in(self, entries: Sequence[IndexedEntry]) -> None:
        if entries:
            await asyncio.to_thread(self._add, entries)

    def _add(self, entries: Sequence[IndexedEntry]) -> None:
        """Add what the index does not have: a search that was cancelled has left some there."""
        with self._index_lock:
            known = self._index.entries
            newest = _order(known[-1]) if known else (0,)
            self._index.add([one for one in entries if _order(one.entry) > newest])

    def _search(
        self, query: str, kind: Kind, selection: Selection, limit: int, offset: int
    ) -> tuple[list[Hit], int]:
        stems = content_stems(query)
        vector = self._embedder.embed([query])[0] if self._embedder else None
        with self._index_lock:
            ranked, total = self._index.search(
                stems, vector, kind=kind, selection=selection, limit=limit, offset=offset
            )
        return [self._hit(one, frozenset(stems)) for one in ranked], total

    def _hit(self, ranked: Ranked, stems: frozenset[str]) -> Hit:
        entry = self._index.entries[ranked.number]
        return Hit(
            entry,
            _highlights(entry.text, stems),
            ranked.relevance_score,
            ranked.keyword_rank,
            ranked.semantic_rank,
        )


def _highlights(text: str, stems: frozenset[str]) -> list[dict[str, int]]:
    """Where the text has words of the query, in any of their forms."""
    if not stems:
        return []
    return [
        {"start": match.start(), "end": match.end()}
        for match in _WORD.finditer(text)
        if not stems.isdisjoint(_stems_of_word(match.group()))
    ]


@lru_cache(MAX_CACHED_WORDS)
def _stems_of_word(word: str) -> frozenset[str]:
    return frozenset(content_stems(word))


def _order(entry: MemoryEntry) -> tuple[int | str, ...]:
    """What the entries of a session are sorted by."""
    return entry.position, len(entry.entry_id), entry.entry_id
