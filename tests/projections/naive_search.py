"""The ranking formula written down plainly, without an index: what the real one must agree with."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from projections.memory import IndexedEntry
from projections.ranking import Kind, Selection


def search(
    everything: Sequence[IndexedEntry],
    stems: Sequence[str],
    vector: Sequence[float] | None,
    kind: Kind,
    selection: Selection,
) -> list[tuple[int, float, int | None, int | None]]:
    """Number, score, keyword rank and semantic rank of all that is found, best first."""
    as_of = selection.as_of
    entries = [one for one in everything if as_of is None or one.entry.position <= as_of]
    use_meaning = vector is not None and kind != "keyword"
    use_words = bool(stems) and (kind != "semantic" or not use_meaning)
    if not (use_words or use_meaning):
        return []
    selected = [n for n in range(len(entries)) if is_selected(n, entries, selection)]

    keyword, reached = keyword_scores(entries, set(stems)) if use_words else ([], [])
    best_keyword = max((keyword[n] for n in selected), default=0) if use_words else 0
    cosines = {n: cosine(entries[n], vector) for n in selected} if use_meaning else {}
    semantic = {
        n: value + 0.15 * math.log(1 + min(len(entries[n].stems.split()), 20))
        for n, value in cosines.items()
    }
    by_words = [n for n in selected if use_words and reached[n]]
    by_meaning = [n for n in selected if use_meaning and cosines[n] >= 0.15]

    def score(n: int) -> float:
        total = 0.0
        if use_words and best_keyword:
            total += 0.5 * keyword[n] / best_keyword
        if use_meaning:
            total += 0.5 * semantic[n]
        if entries[n].entry.text.rstrip().endswith("?"):
            total -= 0.05
        return total

    found = sorted({*by_words, *by_meaning}, key=lambda n: (-score(n), -n))
    return [
        (
            n,
            score(n),
            1 + sum(keyword[m] > keyword[n] for m in by_words) if n in by_words else None,
            1 + sum(semantic[m] > semantic[n] for m in by_meaning) if n in by_meaning else None,
        )
        for n in found
    ]


def is_selected(n: int, entries: Sequence[IndexedEntry], selection: Selection) -> bool:
    entry = entries[n].entry
    return (
        (selection.role is None or entry.role == selection.role)
        and (selection.since is None or entry.said_at >= selection.since)
        and (selection.until is None or entry.said_at <= selection.until)
        and (selection.newest is None or n >= len(entries) - selection.newest)
    )


def keyword_scores(
    entries: Sequence[IndexedEntry], asked: set[str]
) -> tuple[list[float], list[bool]]:
    """Of every entry its score by words, and whether the query's own stems reach it."""
    documents = [one.stems.split() for one in entries]
    own = [bm25(n, documents, asked) for n in range(len(documents))]
    best = sorted((n for n in range(len(own)) if own[n] > 0), key=lambda n: (-own[n], -n))[:5]
    weights: Counter[str] = Counter()
    for n in best:
        for stem, count in Counter(documents[n]).items():
            weights[stem] += count * idf(stem, documents)  # type: ignore[assignment]
    offered = [stem for stem in weights if stem not in asked]
    feedback = set(sorted(offered, key=lambda stem: (-weights[stem], stem))[:8])
    more = [bm25(n, documents, feedback) for n in range(len(documents))]
    smooth_own = smooth(own, entries)
    total = smooth([a + 0.2 * b for a, b in zip(own, more, strict=True)], entries)
    return total, [score > 0 for score in smooth_own]


def bm25(n: int, documents: Sequence[Sequence[str]], stems: set[str]) -> float:
    average = sum(len(document) for document in documents) / len(documents)
    score = 0.0
    for stem in stems:
        count = documents[n].count(stem)
        norm = 1 - 0.4 + 0.4 * len(documents[n]) / (average or 1)
        score += idf(stem, documents) * count * 1.9 / (count + 0.9 * norm)
    return score


def idf(stem: str, documents: Sequence[Sequence[str]]) -> float:
    having = sum(stem in document for document in documents)
    return math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))


def smooth(scores: Sequence[float], entries: Sequence[IndexedEntry]) -> list[float]:
    return [
        score
        + (0.5 * scores[n - 1] if n > 0 and share_a_sitting(entries, n) else 0)
        + (0.2 * scores[n + 1] if n + 1 < len(scores) and share_a_sitting(entries, n + 1) else 0)
        for n, score in enumerate(scores)
    ]


def share_a_sitting(entries: Sequence[IndexedEntry], n: int) -> bool:
    """Whether an entry continues the one before it."""
    one, next_one = entries[n - 1].entry, entries[n].entry
    if "seed" in (one.role, next_one.role):
        return one.role == next_one.role
    return next_one.said_at - one.said_at <= timedelta(hours=1)


def cosine(one: IndexedEntry, vector: Sequence[float] | None) -> float:
    assert vector is not None
    if one.embedding is None:
        return 0.0
    stored = np.frombuffer(one.embedding, "<f4")
    return sum(float(a) * float(b) for a, b in zip(stored, vector, strict=True))
