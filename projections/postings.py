"""Which passages have a stem, and how often: an inverted index that only grows.

Each stem has a string of bytes, to which its passages are appended: to add some costs the same
however many there are, what a query asks for is a join, and the garbage collector, which would look
at each of a session's lists, does not look at bytes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise, repeat

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

MAX_UNSORTED = 400_000  # stems of some 10,000 passages

_PAIR = np.dtype("<u4")  # a passage's number, and how often it has the stem, are two of these
_PAIR_BYTES = 2 * _PAIR.itemsize
_STEM = np.int64(32)  # where a key has its stem: above the number of the passage
_PASSAGE = np.int64(2**32 - 1)


@dataclass(frozen=True)
class Occurrences:
    """Where some stems are: the passages of the first one, ascending, then those of the second."""

    passages: Numbers
    times: Numbers  # that the passage has the stem
    of_stems: Numbers  # how many passages each stem has


class Postings:
    """The inverted index of one session. Not safe for threads: one at a time."""

    def __init__(self) -> None:
        self._pairs: defaultdict[str, bytearray] = defaultdict(bytearray)  # of each stem
        self._size = 0  # passages
        # What is not yet in the pairs: a stem costs the same however often many passages have it.
        self._ids: defaultdict[str, int] = defaultdict(count().__next__)
        self._keys: list[Numbers] = []

    def add(self, first: int, stems: Sequence[Sequence[str]]) -> None:
        """Append the stems of consecutive passages, of which `first` is the number of the first."""
        self._size = first + len(stems)
        lengths = np.fromiter(map(len, stems), np.int64, len(stems))
        total = int(lengths.sum())
        if not total:
            return
        ids = np.fromiter(map(self._ids.__getitem__, chain.from_iterable(stems)), np.int64, total)
        numbers = np.arange(first, self._size).repeat(lengths)
        self._keys.append((ids << _STEM) | numbers)
        if sum(map(len, self._keys)) >= MAX_UNSORTED:
            self._sort_in()

    def _sort_in(self) -> None:
        if not self._keys:
            return
        keys, times = np.unique(np.concatenate(self._keys), return_counts=True)
        pairs = np.stack([keys & _PASSAGE, times], axis=1).astype(_PAIR).tobytes()
        starts = (keys >> _STEM).searchsorted(np.arange(len(self._ids))) * _PAIR_BYTES
        ends = pairwise([*starts.tolist(), len(pairs)])
        for stem, (start, end) in zip(self._ids, ends, strict=True):
            self._pairs[stem] += pairs[start:end]
        self._ids = defaultdict(count().__next__)
        self._keys = []

    def of(self, stems: Sequence[str], before: int) -> Occurrences:
        """The passages up to a number that have each of the stems."""
        self._sort_in()
        pairs = np.frombuffer(b"".join(self._pairs_of(stems)), _PAIR).reshape(-1, 2)
        passages, times = pairs.T.astype(np.int64)
        of_stems = self._counts_of(stems)
        if before >= self._size:
            return Occurrences(passages, times, of_stems)
        are_there = passages < before
        so_far = np.concatenate([[0], are_there.cumsum()])  # of the pairs up to each
        ends = of_stems.cumsum()
        return Occurrences(
            passages[are_there], times[are_there], so_far[ends] - so_far[ends - of_stems]
        )

    def counts_of(self, stems: Sequence[str], before: int) -> Numbers:
        """How many of the passages up to a number have each stem."""
        self._sort_in()
        return self._counts_of(stems) if before >= self._size else self.of(stems, before).of_stems

    def _pairs_of(self, stems: Sequence[str]) -> Iterable[bytes | bytearray]:
        return map(self._pairs.get, stems, repeat(b""))

    def _counts_of(self, stems: Sequence[str]) -> Numbers:
        lengths = map(len, self._pairs_of(stems))
        return np.fromiter(lengths, np.int64, len(stems)) // _PAIR_BYTES
