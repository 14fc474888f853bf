"""Ranking what was said against a query: words, meaning, and how the two are joined.

The formula and its constants were measured on LoCoMo, conversations of two people with questions
about them (Maharana and others, 2024, "Evaluating Very Long-Term Conversational Memory of LLM
Agents"): of what a question needs, 73 % is among the first ten, against 63 % for BM25 alone.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from projections.buffers import GrowingArray
from projections.memory import IndexedEntry, MemoryEntry

K1 = 0.9  # BM25: how fast a repeated word stops counting
B = 0.4  # BM25: how much a long entry is held back; turns are short, so less than the usual .75
FROM_PREVIOUS = 0.5  # an answer often lacks the words of the question before it
FROM_NEXT = 0.2
SITTING_GAP = timedelta(hours=1)  # what was said after a longer pause does not continue a thought
FEEDBACK_ENTRIES = 5
FEEDBACK_STEMS = 8
FEEDBACK_WEIGHT = 0.2
LENGTH_PRIOR = 0.15  # without it short entries crowd the top of the semantic side
LENGTH_PRIOR_STEMS = 20  # longer entries gain nothing more
KEYWORD_WEIGHT = 0.5
SEMANTIC_WEIGHT = 0.5
QUESTION_PENALTY = 0.05  # who searches wants what was answered, not what was asked
MIN_COSINE = 0.15  # WordLlama: texts that have nothing to do with each other stay below
MAX_SEMANTIC = 1 + LENGTH_PRIOR * math.log1p(LENGTH_PRIOR_STEMS)

ROLES = ("user", "agent", "seed")

Kind = Literal["hybrid", "keyword", "semantic"]
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_NO_POSTINGS = np.empty((0, 2), np.int32)


@dataclass(frozen=True)
class Ranked:
    """One entry that was found."""

    number: int  # in the index, oldest is 0
    relevance_score: float  # 0..1
    keyword_rank: int | None  # 1 is best; None: not found by its words
    semantic_rank: int | None  # 1 is best; None: not found by its meaning


@dataclass(frozen=True)
class Selection:
    """Which entries may be found."""

    as_of: int | None = None  # nothing after this position exists
    role: str | None = None
    since: datetime | None = None  # said at this time or later
    until: datetime | None = None  # said at this time or earlier
    newest: int | None = None  # only so many, counted from the end


class SessionIndex:
    """Everything said in one session: an inverted index, and a matrix of embeddings.

    Entries are only ever appended, in the order of their positions, so that the session as it was
    at a position is a prefix of every array. Not safe for threads: one at a time.
    """

    def __init__(self, dimensions: int | None) -> None:
        """`dimensions` of the embeddings; None: there is no semantic side."""
        self.entries: list[MemoryEntry] = []
        self._stems: list[str] = []
        self._postings: defaultdict[str, GrowingArray] = defaultdict(
            lambda: GrowingArray(np.int32, 2)  # number of the entry, times that it has the stem
        )
        self._lengths = GrowingArray(np.float64)  # stems of an entry
        self._positions = GrowingArray(np.int64)
        self._said_at_us = GrowingArray(np.int64)
        self._roles = GrowingArray(np.int8)
        self._is_question = GrowingArray(np.bool_)
        self._continues = GrowingArray(np.bool_)  # the sitting of the entry before it
        self._dimensions = dimensions
        self._embeddings = GrowingArray(np.float32, dimensions or 0)

    def add(self, indexed: Sequence[IndexedEntry]) -> None:
        """Append entries, all newer than those before."""
        if not indexed:
            return
        fresh: defaultdict[str, list[int]] = defaultdict(list)
        lengths: list[int] = []
        for number, one in enumerate(indexed, len(self.entries)):
            counts = Counter(one.stems.split())
            lengths.append(counts.total())
            for stem, count in counts.items():
                fresh[stem] += (number, count)
        for stem, flat in fresh.items():
            self._postings[stem].extend(np.array(flat, np.int32).reshape(-1, 2))
        entries = [one.entry for one in indexed]
        previous = [*self.entries[-1:], *entries]
        continues = [_is_same_sitting(*pair) for pair in pairwise(previous)]
        if not self.entries:
            continues.insert(0, False)
        self._continues.extend(np.array(continues))
        self._lengths.extend(np.array(lengths))
        self._positions.extend(np.array([entry.position for entry in entries]))
        self._said_at_us.extend(np.array([_microseconds(entry.said_at) for entry in entries]))
        self._roles.extend(np.array([ROLES.index(entry.role) for entry in entries]))
        self._is_question.extend(np.array([e.text.rstrip().endswith("?") for e in entries]))
        if self._dimensions is not None:
            self._embeddings.extend(
                np.array([_vector(one.embedding, self._dimensions) for one in indexed])
            )
        self._stems += [one.stems for one in indexed]
        self.entries += entries

    def search(
        self,
        stems: Sequence[str],
        vector: NDArray[np.float32] | None,
        *,
        kind: Kind,
        selection: Selection,
        limit: int,
        offset: int,
    ) -> tuple[list[Ranked], int]:
        """A page of what is found for a query, best first, and how many entries are found in all.

        The score of an entry is

            .5 B / max B + .5 (cosine + .15 ln(1 + min(length, 20))) - .05 [it ends in "?"]

        where B is BM25 of the query's stems, and of the stems that the best entries share at weight
        .2, plus .5 and .2 times that of the entries before and after it in the same sitting. `kind`
        leaves one side out. Statistics are those of the session as of the selected position.

        An entry is found by its words where it or such a neighbour has one of the query's stems, by
        its meaning where its cosine is at least MIN_COSINE. `relevance_score` is the score divided
        by the highest that the sides taking part allow, at least 0: 1.0 is the best match by words
        that also says the same as the query.
        """
        size = self._size_as_of(selection.as_of)
        if kind == "keyword":
            vector = None
        if kind == "semantic" and vector is not None:
            stems = ()
        selected = self._select(selection, size)
        if not selected.any() or (not stems and vector is None):
            return [], 0
        scores = -QUESTION_PENALTY * self._is_question.view(size)
        best_score = 0.0
        by_words = by_meaning = np.zeros(size, np.bool_)
        keyword = semantic = np.zeros(size)
        if stems:
            keyword, matched = self._keyword_side(stems, size)
            by_words = matched & selected
            scores += KEYWORD_WEIGHT * keyword / (keyword[selected].max() or 1.0)
            best_score += KEYWORD_WEIGHT
        if vector is not None:
            semantic, cosines = self._semantic_side(vector, size)
            by_meaning = (cosines >= MIN_COSINE) & selected
            scores += SEMANTIC_WEIGHT * semantic
            best_score += SEMANTIC_WEIGHT * MAX_SEMANTIC
        found = by_words | by_meaning
        numbers = _best(scores, found, offset + limit)[offset:]
        ranked = [
            Ranked(
                number,
                min(1.0, max(0.0, float(scores[number]) / best_score)),
                _rank(keyword, by_words, number),
                _rank(semantic, by_meaning, number),
            )
            for number in numbers
        ]
        return ranked, int(np.count_nonzero(found))

    def _size_as_of(self, as_of: int | None) -> int:
        if as_of is None:
            return len(self.entries)
        return int(np.searchsorted(self._positions.view(), as_of, side="right"))

    def _select(self, selection: Selection, size: int) -> Mask:
        selected = np.ones(size, np.bool_)
        if selection.newest is not None:
            selected[: max(0, size - selection.newest)] = False
        if selection.role is not None:
            selected &= self._roles.view(size) == ROLES.index(selection.role)
        if selection.since is not None:
            selected &= self._said_at_us.view(size) >= _microseconds(selection.since)
        if selection.until is not None:
            selected &= self._said_at_us.view(size) <= _microseconds(selection.until)
        return selected

    def _keyword_side(self, stems: Sequence[str], size: int) -> tuple[Scores, Mask]:
        """B of every entry, and which entries the query's own stems reach."""
        asked = list(dict.fromkeys(stems))
        own = self._bm25(asked, size)
        smooth = self._smooth(own)
        feedback = self._bm25(self._feedback_stems(asked, own, size), size)
        return smooth + FEEDBACK_WEIGHT * self._smooth(feedback), smooth > 0

    def _bm25(self, stems: Sequence[str], size: int) -> Scores:
        """BM25 of the first entries, with their own statistics.

        Source: Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and
        Beyond", with the inverse document frequency that is never negative.
        """
        lengths = self._lengths.view(size)
        norms = K1 * (1 - B + B * lengths / (lengths.mean() or 1.0))
        scores = np.zeros(size)
        for stem in stems:
            numbers, counts = self._postings_of(stem, size)
            scores[numbers] += (
                _idf(len(numbers), size) * counts * (K1 + 1) / (counts + norms[numbers])
            )
        return scores

    def _postings_of(self, stem: str, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
        postings = self._postings.get(stem)
        rows = _NO_POSTINGS if postings is None else postings.view()
        if size < len(self.entries):
            rows = rows[: np.searchsorted(rows[:, 0], size)]
        return rows[:, 0], rows[:, 1]

    def _smooth(self, scores: Scores) -> Scores:
        """Let entries share their scores with their neighbours in the same sitting."""
        continues = self._continues.view(len(scores))[1:]
        smooth = scores.copy()
        smooth[1:] += FROM_PREVIOUS * scores[:-1] * continues
        smooth[:-1] += FROM_NEXT * scores[1:] * continues
        return smooth

    def _feedback_stems(self, asked: Sequence[str], scores: Scores, size: int) -> list[str]:
        """What the best entries share beyond the query: stems by their sum of count times idf."""
        weights: defaultdict[str, float] = defaultdict(float)
        for number in _best(scores, scores > 0, FEEDBACK_ENTRIES):
            for stem, count in Counter(self._stems[number].split()).items():
                weights[stem] += count * _idf(len(self._postings_of(stem, size)[0]), size)
        for stem in asked:
            weights.pop(stem, None)
        return sorted(weights, key=lambda stem: (-weights[stem], stem))[:FEEDBACK_STEMS]

    def _semantic_side(self, vector: NDArray[np.float32], size: int) -> tuple[Scores, Scores]:
        """Cosine with the length prior, and the cosine alone, of every entry."""
        cosines = (self._embeddings.view(size) @ vector).astype(np.float64)
        lengths = np.minimum(self._lengths.view(size), LENGTH_PRIOR_STEMS)
        return cosines + LENGTH_PRIOR * np.log1p(lengths), cosines


def _idf(entries_with: int, entries: int) -> float:
    return math.log1p((entries - entries_with + 0.5) / (entries_with + 0.5))


def _best(scores: Scores, among: Mask, count: int) -> list[int]:
    """Numbers of the highest scores, best first, of equal ones the newest first."""
    numbers = np.flatnonzero(among)
    if len(numbers) > count:
        threshold = np.partition(scores[numbers], len(numbers) - count)[len(numbers) - count]
        numbers = numbers[scores[numbers] >= threshold]
    order = np.lexsort((-numbers, -scores[numbers]))
    best: list[int] = numbers[order[:count]].tolist()
    return best


def _rank(scores: Scores, among: Mask, number: int) -> int | None:
    """The place of one entry among others, 1 is best; equal ones share it."""
    if not among[number]:
        return None
    return 1 + int(np.count_nonzero(scores[among] > scores[number]))


def _is_same_sitting(previous: MemoryEntry, entry: MemoryEntry) -> bool:
    is_seed = entry.role == "seed"
    if is_seed or previous.role == "seed":
        return is_seed and previous.role == "seed"
    return entry.said_at - previous.said_at <= SITTING_GAP


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _vector(embedding: bytes | None, dimensions: int) -> NDArray[np.float32]:
    """The stored vector; zeros for an entry that has none, or one of another embedder's size."""
    if embedding is None or len(embedding) != 4 * dimensions:
        return np.zeros(dimensions, np.float32)
    return np.frombuffer(embedding, "<f4")
