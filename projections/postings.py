"""Which passages have a stem, and how often: an inverted index that only grows.

It is kept in a few sorted parts, each at least twice as long as the next, and what is added is a
part of its own that is merged with those before it as this rule asks (as in a log-structured merge
tree). So ten thousand entries are taken in as quickly as one at a time, and a stem is looked up by
bisection in each part.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Counts = NDArray[np.int32]

_STEM = np.int64(32)  # where a key has its stem: above the number of the passage
_PASSAGE = np.int64(2**32 - 1)


@dataclass(frozen=True)
class _Part:
    keys: Numbers  # stem and passage in one number, ascending
    counts: Counts  # times that the passage has the stem


class Postings:
    """The inverted index of one session. Not safe for threads: one at a time."""

    def __init__(self) -> None:
        self._ids: defaultdict[str, int] = defaultdict(count().__next__)
        self._parts: list[_Part] = []  # newer passages in later ones

    def add(self, first: int, stems: Sequence[Sequence[str]]) -> None:
        """Append the stems of consecutive passages, of which `first` is the number of the first."""
        lengths = np.fromiter(map(len, stems), np.int64, len(stems))
        total = int(lengths.sum())
        ids = np.fromiter(map(self._ids.__getitem__, chain.from_iterable(stems)), np.int64, total)
        numbers = np.arange(first, first + len(stems)).repeat(lengths)
        keys, counts = np.unique((ids << _STEM) | numbers, return_counts=True)
        new = _Part(keys, counts.astype(np.int32))
        while self._parts and len(self._parts[-1].keys) < 2 * len(new.keys):
            new = _merged(self._parts.pop(), new)
        self._parts.append(new)

    def counts_of(self, stems: Iterable[str], before: int) -> list[int]:
        """How many of the passages up to a number have each stem."""
        ids = [self._ids.get(stem, -1) for stem in stems]  # no passage has the stem -1
        firsts = np.array(ids, np.int64) << _STEM
        found = np.zeros(len(ids), np.int64)
        for part in self._parts:
            found += part.keys.searchsorted(firsts + before) - part.keys.searchsorted(firsts)
        counts: list[int] = found.tolist()
        return counts

    def of(self, stem: str, before: int) -> tuple[Numbers, Counts]:
        """The passages up to a number that have a stem, ascending, and how often each has it."""
        id_ = self._ids.get(stem)
        if id_ is None:
            return np.empty(0, np.int64), np.empty(0, np.int32)
        limits = np.array([id_ << 32, (id_ << 32) + before])
        keys, counts = [], []
        for part in self._parts:
            start, end = part.keys.searchsorted(limits)
            if start < end:
                keys.append(part.keys[start:end])
                counts.append(part.counts[start:end])
        if not keys:
            return np.empty(0, np.int64), np.empty(0, np.int32)
        return np.concatenate(keys) & _PASSAGE, np.concatenate(counts)


def _merged(older: _Part, newer: _Part) -> _Part:
    keys = np.concatenate([older.keys, newer.keys])
    order = keys.argsort(kind="stable")  # two sorted runs: linear
    return _Part(keys[order], np.concatenate([older.counts, newer.counts])[order])
