"""Ranking what was said against a query: words, meaning, and how the two are joined.

The formula and its constants were found on LoCoMo, conversations of two people with questions
about them (Maharana and others, 2024, "Evaluating Very Long-Term Conversational Memory of LLM
Agents"). `python -m bench.retrieval` measures it there.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from language.passages import Span
from projections.buffers import GrowingArray
from projections.entry_list import EntryList
from projections.memory import IndexedEntry, MemoryEntry
from projections.postings import Postings

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
FEW_SCORES = 1_500  # are compared with all of a page at once sooner than with one after the other
GROUP = 16  # scores, of which only the highest is looked at
MAX_SEMANTIC = 1 + LENGTH_PRIOR * math.log1p(LENGTH_PRIOR_STEMS)

ROLES = ("user", "agent", "seed")

Kind = Literal["hybrid", "keyword", "semantic"]
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_NOT_FOUND = -np.inf


class Ranked(NamedTuple):
    """One entry that was found."""

    number: int  # in the index, oldest is 0
    passage: Span | None  # the best part of a long text; None: the text has one part
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

    What is indexed are passages: a long entry has several, all others one. Entries are only ever
    appended, in the order of their positions, so that the session as it was at a position is a
    prefix of every array. Not safe for threads: one at a time.
    """

    def __init__(self, dimensions: int | None, *, min_cosine: float = 0.0) -> None:
        """`dimensions` of the embeddings; None: there is no semantic side.

        `min_cosine`: entries below it are not found by their meaning.
        """
        self.entries = EntryList()
        self._positions = GrowingArray(np.int64)
        self._said_at_us = GrowingArray(np.int64)
        self._roles = GrowingArray(np.int8)
        self._first_passages = GrowingArray(np.int64)  # the number of an entry's first passage
        # One for each passage.
        self._entry_of = GrowingArray(np.int64)
        self._spans: list[Span | None] = []
        self._stems: list[str] = []
        self._postings = Postings()
        self._lengths = GrowingArray(np.float64)  # stems of a passage
        self._priors = GrowingArray(np.float64)  # what its length adds on the semantic side
        self._is_question = GrowingArray(np.bool_)
        self._continues = GrowingArray(np.bool_)  # the sitting of the passage before it
        self._dimensions = dimensions
        self._min_cosine = min_cosine
        self._embeddings = GrowingArray(np.float32, dimensions or 0)

    def __len__(self) -> int:
        """How many passages there are."""
        return len(self._stems)

    def add(self, indexed: Sequence[IndexedEntry]) -> None:
        """Append entries, all newer than those before."""
        if not indexed:
            return
        entries = [one.entry for one in indexed]
        stems = [one.stems.split("\n") for one in indexed]  # of each entry's passages
        counts = np.array([len(one) for one in stems])
        firsts = len(self._stems) + np.cumsum(counts) - counts
        self._first_passages.extend(firsts)
        self._entry_of.extend(np.arange(len(entries)).repeat(counts) + len(self.entries))
        self._positions.extend(np.array([entry.position for entry in entries]))
        self._said_at_us.extend(np.array([_microseconds(entry.said_at) for entry in entries]))
        self._roles.extend(np.array([ROLES.index(entry.role) for entry in entries]))
        previous = [self.entries[-1], *entries] if self.entries else entries
        continues = np.ones(counts.sum(), np.bool_)  # the parts of one text do
        continues[firsts[len(entries) - len(previous) + 1 :] - len(self._stems)] = [
            _is_same_sitting(*pair) for pair in pairwise(previous)
        ]
        if not self.entries:
            continues[0] = False
        self._continues.extend(continues)
        spans = [span for one in indexed for span in one.passages or (None,)]
        texts = [
            one.entry.text if span is None else one.entry.text[slice(*span)]
            for one in indexed
            for span in one.passages or (None,)
        ]
        self._is_question.extend(np.array([text.rstrip().endswith("?") for text in texts]))
        if self._dimensions is not None:
            self._embeddings.extend(self._vectors_of(indexed, counts))
        self._add_stems([of_passage for of_entry in stems for of_passage in of_entry])
        self._spans += spans
        self.entries.extend(entries)

    def _add_stems(self, stems: list[str]) -> None:
        split = [of_passage.split() for of_passage in stems]
        self._postings.add(len(self._stems), split)
        lengths = np.array([len(of_passage) for of_passage in split])
        self._lengths.extend(lengths)
        self._priors.extend(LENGTH_PRIOR * np.log1p(np.minimum(lengths, LENGTH_PRIOR_STEMS)))
        self._stems += stems

    def _vectors_of(
        self, indexed: Sequence[IndexedEntry], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """The vectors of all passages; zeros for an entry that has none."""
        width = 4 * (self._dimensions or 0)
        data = b"".join(
            one.embedding
            if one.embedding is not None and len(one.embedding) == width * count
            else bytes(width * count)
            for one, count in zip(indexed, counts.tolist(), strict=True)
        )
        return np.frombuffer(data, "<f4").reshape(-1, self._dimensions or 0)

    def search(
        self,
        stems: Sequence[str],
        vector: NDArray[np.float32] | None,
        *,
        kind: Kind,
        selection: Selection,
        limit: int,
        offset: int,
        ranks: bool = True,
    ) -> tuple[list[Ranked], int]:
        """A page of what is found for a query, best first, and how many entries are found in all.

        The score of an entry is

            .5 B / max B + .5 (cosine + .15 ln(1 + min(length, 20))) - .05 [it ends in "?"]

        where B is BM25 of the query's stems, and of the stems that the best entries share at weight
        .2, plus .5 and .2 times that of the entries before and after it in the same sitting. `kind`
        leaves one side out. Statistics are those of the session as of the selected position.

        An entry is found by its words where it or such a neighbour has one of the query's stems, by
        its meaning where its cosine is at least `min_cosine`. `relevance_score` is the score
        divided by the highest that the sides taking part allow, at least 0: 1.0 is the best match
        by words that also says the same as the query.

        All of this holds for passages, with "entry" read as "passage", those of one text being in
        one sitting. An entry is found where one of its passages is. Its score is the best one that
        such a passage has, and its place on each side that of its best passage there; without
        `ranks`, nobody looks for the places.
        """
        entries = self._entries_as_of(selection.as_of)
        size = self._passages_of_first(entries)
        if kind == "keyword":
            vector = None
        if kind == "semantic" and vector is not None:
            stems = ()
        may_be_found = self._select(selection, entries)
        if not may_be_found.any() or (not stems and vector is None):
            return [], 0
        selected = may_be_found if size == entries else may_be_found[self._entry_of.view(size)]
        scores = -QUESTION_PENALTY * self._is_question.view(size)
        best_score = 0.0
        found = np.zeros(size, np.bool_)
        by_words = by_meaning = None
        if stems:
            keyword, matched = self._keyword_side(stems, size)
            matched &= selected
            found |= matched
            if ranks:
                by_words = self._best_of_entries(keyword, matched, entries)
            scores += keyword * (KEYWORD_WEIGHT / (keyword[selected].max() or 1.0))
            best_score += KEYWORD_WEIGHT
        if vector is not None:
            semantic, cosines = self._semantic_side(vector, size)
            near = (cosines >= self._min_cosine) & selected
            found |= near
            if ranks:
                by_meaning = self._best_of_entries(semantic, near, entries)
            scores += SEMANTIC_WEIGHT * semantic
            best_score += SEMANTIC_WEIGHT * MAX_SEMANTIC
        best = self._best_of_entries(scores, found, entries)
        page = _best(best, offset + limit)[offset:]
        relevance = (best[page] / best_score).clip(0.0, 1.0).tolist()
        passages = [None if size == entries else self._best_passage(n, scores, found) for n in page]
        ranked = [
            *map(
                Ranked, page, passages, relevance, _ranks(by_words, page), _ranks(by_meaning, page)
            )
        ]
        return ranked, int(np.count_nonzero(best > _NOT_FOUND))

    def _best_of_entries(self, scores: Scores, found: Mask, entries: int) -> Scores:
        """The best score that a found passage of each entry has; -inf: none is found."""
        of_found = np.where(found, scores, _NOT_FOUND)
        if len(of_found) == entries:
            return of_found
        best: Scores = np.maximum.reduceat(of_found, self._first_passages.view(entries))
        return best

    def _best_passage(self, number: int, scores: Scores, found: Mask) -> Span | None:
        first = int(self._first_passages.view()[number])
        if self._spans[first] is None:
            return None
        passages = slice(first, first + self._passage_count(number))
        best = int(np.argmax(np.where(found[passages], scores[passages], _NOT_FOUND)))
        return self._spans[first + best]

    def _passage_count(self, number: int) -> int:
        ends = self._first_passages.view()[number : number + 2]
        return int(ends[1] if len(ends) == 2 else len(self._stems)) - int(ends[0])

    def _entries_as_of(self, as_of: int | None) -> int:
        if as_of is None:
            return len(self.entries)
        return int(np.searchsorted(self._positions.view(), as_of, side="right"))

    def _passages_of_first(self, entries: int) -> int:
        if entries == len(self.entries):
            return len(self._stems)
        return int(self._first_passages.view()[entries])

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
        lengths = self._lengths.view(size)
        norms = K1 * (1 - B) + (K1 * B / (lengths.sum() / size or 1.0)) * lengths
        own = self._bm25(asked, norms)
        feedback = self._bm25(self._feedback_stems(asked, own), norms)
        smooth_own, smooth_feedback = self._smooth(np.array([own, feedback]))
        return smooth_own + FEEDBACK_WEIGHT * smooth_feedback, smooth_own > 0

    def _bm25(self, stems: Sequence[str], norms: Scores) -> Scores:
        """BM25 of the first entries, with their own statistics; `norms` of their lengths.

        Source: Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and
        Beyond", with the inverse document frequency that is never negative.
        """
        size = len(norms)
        found = self._postings.of(stems, size)
        weights = ((K1 + 1) * _idf(found.of_stems, size)).repeat(found.of_stems)
        scores = weights * found.times / (found.times + norms[found.passages])
        # Of no stems at all, the sums would be whole numbers.
        return np.bincount(found.passages, scores, size).astype(np.float64, copy=False)

    def _smooth(self, scores: Scores) -> Scores:
        """Let entries share their scores (each row) with their neighbours in the same sitting."""
        continues = self._continues.view(scores.shape[1])[1:]
        smooth = scores.copy()
        smooth[:, 1:] += FROM_PREVIOUS * scores[:, :-1] * continues
        smooth[:, :-1] += FROM_NEXT * scores[:, 1:] * continues
        return smooth

    def _feedback_stems(self, asked: Sequence[str], scores: Scores) -> list[str]:
        """What the best entries share beyond the query: stems by their sum of count times idf."""
        best = _best(np.where(scores > 0, scores, _NOT_FOUND), FEEDBACK_ENTRIES)
        offered = Counter(" ".join([self._stems[number] for number in best]).split())
        for stem in asked:
            offered.pop(stem, None)
        stems = sorted(offered)
        entries_with = self._postings.counts_of(stems, len(scores))
        weights = _idf(entries_with, len(scores)) * [offered[stem] for stem in stems]
        heaviest = (-weights).argsort(kind="stable")[:FEEDBACK_STEMS].tolist()
        return [stems[number] for number in heaviest]

    def _semantic_side(self, vector: NDArray[np.float32], size: int) -> tuple[Scores, Scores]:
        """Cosine with the length prior, and the cosine alone, of every entry."""
        # Row by row: `@` gives a row digits that depend on how many there are, so that a look back
        # would differ from what was seen then, and it divides a millisecond among all cores.
        cosines = np.vecdot(self._embeddings.view(size), vector)
        return cosines + self._priors.view(size), cosines


def _idf(entries_with: NDArray[np.int64], entries: int) -> Scores:
    weights: Scores = np.log1p((entries - entries_with + 0.5) / (entries_with + 0.5))
    return weights


def _best(scores: Scores, count: int) -> list[int]:
    """Numbers of the highest scores, best first, of equal ones the newest first."""
    candidates = scores > _NOT_FOUND
    groups = len(scores) // GROUP
    if groups >= count:
        # So many groups have a score this high that lower ones are not among the best. Ten times as
        # fast as a partition of all scores.
        highest = scores[: groups * GROUP].reshape(GROUP, groups).max(axis=0)
        candidates &= scores >= np.partition(highest, groups - count)[groups - count]
    numbers = np.flatnonzero(candidates)[::-1]
    best: list[int] = numbers[(-scores[numbers]).argsort(kind="stable")[:count]].tolist()
    return best


def _ranks(scores: Scores | None, numbers: list[int]) -> list[int | None]:
    """The places of some entries among those that are found, 1 is best; equal ones share it."""
    if scores is None or not numbers:
        return [None] * len(numbers)
    of_page = scores[numbers]
    if len(scores) <= FEW_SCORES:
        better = (scores > of_page[:, np.newaxis]).sum(axis=1).tolist()
    else:
        better = [np.count_nonzero(scores > score) for score in of_page]
    return [
        1 + int(above) if score > _NOT_FOUND else None
        for above, score in zip(better, of_page.tolist(), strict=True)
    ]


def _is_same_sitting(previous: MemoryEntry, entry: MemoryEntry) -> bool:
    is_seed = entry.role == "seed"
    if is_seed or previous.role == "seed":
        return is_seed and previous.role == "seed"
    return entry.said_at - previous.said_at <= SITTING_GAP


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND
