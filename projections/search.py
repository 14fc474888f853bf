"""Searching one session's memory, in the process that holds its actor."""

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from language.embedding import Embedder, EmbeddingUnavailableError
from language.passages import Span
from language.stems import content_stems
from projections.memory import IndexedEntry, IndexedUpTo, MemoryEntry, MemoryView, Role
from projections.positions import ViewAt
from projections.ranking import Kind, Selection, SessionIndex

FEW_STEMS = 4_000  # in characters: are added sooner than a thread can be woken to do it
# To wake a thread and to wait for it costs as much as a search among some hundred passages.
FEW_PASSAGES = 5_000  # are searched in less than a millisecond
SHORT_QUERY = 300  # characters; stems of words that are new to the process take 3 us each
MAX_CACHED_WORDS = 50_000  # of all sessions; most words of a language come again

_WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")  # as `content_stems` sees words

# What part meaning took in a search: "used"; "not_asked", by the kind of search, or by a query
# without a word; "none": there is no embedder, or nothing to find; "rebuild_needed": what was said
# has another embedder's vectors, or none; "unavailable": the embedder does not answer.
Meaning = Literal["used", "not_asked", "none", "rebuild_needed", "unavailable"]


class Hit(NamedTuple):
    """One entry that a search found, and why."""

    entry: MemoryEntry
    passage: Span | None  # the part of a long text that was found; None: the text is one part
    relevance_score: float  # 0..1, see SessionIndex.search
    keyword_rank: int | None  # 1 is best; None: not found by its words
    semantic_rank: int | None  # 1 is best; None: not found by its meaning
    asked: frozenset[str]  # the stems of the query

    @property
    def highlights(self) -> list[dict[str, int]]:
        """Where the text has words of the query: {"start", "end"}, code points, end exclusive.

        Found when asked for: it takes longer than the search, and recall does not look at it.
        """
        return _highlights(self.entry.text, self.asked)


@dataclass(frozen=True)
class Found:
    """A page of what a search found, best first."""

    hits: list[Hit]
    total: int  # entries that are found, on all pages
    view_position: int  # how far the memory view had read
    took_ms: float
    meaning: Meaning


class MemoryIndex:
    """One session's search index, made from the view's rows when it is first used.

    A search first brings it up to the view's position, and begins anew where a rebuild has
    replaced the rows; one that can do with less says so.
    """

    def __init__(self, view: MemoryView, session_id: UUID, embedder: Embedder | None) -> None:
        """`embedder` None: every kind of search goes by words alone."""
        self._view = view
        self._session_id = session_id
        self._embedder = embedder
        self._index = self._empty()
        self._seen: ViewAt | None = None  # the view when the index was last brought up to it
        self._rebuilt_at = -1  # where the view was when its rows were last known to be replaced
        self._generation: int | None = None  # of what the index has taken in
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
        at_least: int | None = None,
        ranks: bool = True,
    ) -> Found:
        """Find entries of the session, best first; see `SessionIndex.search` for the ranking.

        `since` and `until` are both inclusive, `as_of` is the position at which to look, and
        `newest` leaves only so many of the newest entries to be found. With `at_least`, entries
        after that position may be left out: the view is not asked where the index has those before
        it. Without `ranks` the hits tell no places, which are a fifth of the work. Where meaning
        can take no part, as `meaning` of the answer says, any search goes by words alone.
        """
        started = time.perf_counter()
        selection = Selection(as_of, role, since, until, newest)
        async with self._lock:
            view = self._seen
            if view is None or at_least is None or view.position < max(at_least, self._rebuilt_at):
                view = await self._look()
            asked = query, kind, view, selection, limit, offset, ranks
            if self._is_quick(query):
                hits, total, meaning = self._search(*asked)
            else:
                hits, total, meaning = await asyncio.to_thread(self._search, *asked)
        took_ms = (time.perf_counter() - started) * 1000
        return Found(hits, total, view.position, took_ms, meaning)

    def note_rebuilt(self, position: int) -> None:
        """Rows of the view were replaced, at or before this position of it."""
        self._rebuilt_at = position + 1

    async def _look(self) -> ViewAt:
        """Bring the index up to the view."""
        seen = self._seen
        self._seen = await self._view.read_indexed(
            self._session_id,
            IndexedUpTo(seen.generation, seen.position) if seen else None,
            self._take_in,
            embedder=self._embedder.name if self._embedder else None,
        )
        return self._seen

    def _empty(self) -> SessionIndex:
        if self._embedder is None:
            return SessionIndex(None)
        return SessionIndex(self._embedder.dimensions, min_cosine=self._embedder.min_cosine)

    async def _take_in(self, view: ViewAt, entries: Sequence[IndexedEntry]) -> None:
        if not entries and view.generation == self._generation:
            return
        size = sum(len(one.stems) for one in entries)
        if size <= FEW_STEMS and not self._index_lock.locked():
            self._add(view.generation, entries)
        else:
            await asyncio.to_thread(self._add, view.generation, entries)

    def _add(self, generation: int, entries: Sequence[IndexedEntry]) -> None:
        """Add what the index does not have: a search that was cancelled has left some there."""
        with self._index_lock:
            if generation != self._generation:
                self._index = self._empty()
                self._generation = generation
            known = self._index.entries
            newest = _order(known[-1]) if known else (0,)
            self._index.add([one for one in entries if _order(one.entry) > newest])

    def _is_quick(self, query: str) -> bool:
        """Whether a search takes less time than the loop may stand still."""
        return (
            len(self._index) <= FEW_PASSAGES
            and len(query) <= SHORT_QUERY
            and (self._embedder is None or self._embedder.is_quick)
            and not self._index_lock.locked()
        )

    def _search(
        self,
        query: str,
        kind: Kind,
        view: ViewAt,
        selection: Selection,
        limit: int,
        offset: int,
        ranks: bool,
    ) -> tuple[list[Hit], int, Meaning]:
        stems = content_stems(query)
        if not stems:  # stop words, signs: whatever is near to them is so by chance
            return [], 0, "not_asked"
        vector, meaning = self._vector_of(query, kind, view.made_with)
        with self._index_lock:
            ranked, total = self._index.search(
                stems,
                vector,
                kind=kind,
                selection=selection,
                limit=limit,
                offset=offset,
                ranks=ranks,
            )
            entries, asked = self._index.entries, frozenset(stems)
            hits = [
                Hit(
                    entries[one.number],
                    one.passage,
                    one.relevance_score,
                    one.keyword_rank,
                    one.semantic_rank,
                    asked,
                )
                for one in ranked
            ]
            return hits, total, meaning

    def _vector_of(
        self, query: str, kind: Kind, made_with: str | None
    ) -> tuple[NDArray[np.float32] | None, Meaning]:
        if kind == "keyword":
            return None, "not_asked"
        if self._embedder is None or not self._index.entries:
            return None, "none"
        if made_with != self._embedder.name:
            return None, "rebuild_needed"
        try:
            return self._embedder.embed_query(query), "used"
        except EmbeddingUnavailableError:
            return None, "unavailable"


def _highlights(text: str, stems: frozenset[str]) -> list[dict[str, int]]:
    """Where the text has words of the query, in any of their forms."""
    # To find a word's stem takes longer than all else here, and most words begin with other letters
    # than any stem. Stemming changes their ends alone, except that "dying" becomes "die".
    beginnings = {b for stem in stems for b in (stem[:2], stem[:2].replace("i", "y"))}
    has_short = any(len(stem) == 1 for stem in stems)
    lowered = text.lower()
    if len(lowered) != len(text):  # one letter, a Turkish one, becomes two
        lowered, has_short = text, True
    return [
        {"start": match.start(), "end": match.end()}
        for match in _WORD.finditer(lowered)
        if ((word := match.group())[:2] in beginnings or has_short or not word.isalnum())
        and not stems.isdisjoint(_stems_of_word(word))
    ]


@lru_cache(MAX_CACHED_WORDS)
def _stems_of_word(word: str) -> frozenset[str]:
    return frozenset(content_stems(word))


def _order(entry: MemoryEntry) -> tuple[int | str, ...]:
    """What the entries of a session are sorted by."""
    return entry.position, len(entry.entry_id), entry.entry_id
