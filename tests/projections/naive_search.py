"""The ranking formula written down plainly, without an index: what the real one must agree with."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from projections.memory import IndexedEntry
from projections.ranking import Kind, Selection

ROUNDING = 1e-6  # the real one multiplies 32-bit numbers


@dataclass(frozen=True)
class Passage:
    """What is searched: an entry, or one part of a long one."""

    of: int  # the number of its entry
    span: tuple[int, int] | None
    text: str
    stems: list[str]
    vector: list[float] | None


def passages_of(entries: Sequence[IndexedEntry]) -> list[Passage]:
    """All passages, oldest first."""
    passages: list[Passage] = []
    for number, one in enumerate(entries):
        spans = one.passages or (None,)
        for n, (span, stems) in enumerate(zip(spans, one.stems.split("\n"), strict=True)):
            vector: list[float] | None = None
            if one.embedding is not None:
                vectors = np.frombuffer(one.embedding, "<f4").reshape(len(spans), -1)
                vector = vectors[n].tolist()
            text = one.entry.text if span is None else one.entry.text[span[0] : span[1]]
            passages.append(Passage(number, span, text, stems.split(), vector))
    return passages


@dataclass(frozen=True)
class Expected:
    """One entry that is to be found."""

    number: int
    score: float
    keyword_ranks: range | None  # several where scores are equal but for rounding
    semantic_ranks: range | None
    spans: frozenset[tuple[int, int] | None]  # of its best passages: several may be equally good


def search(
    everything: Sequence[IndexedEntry],
    stems: Sequence[str],
    vector: Sequence[float] | None,
    kind: Kind,
    selection: Selection,
) -> list[Expected]:
    """All that is found, best first."""
    as_of = selection.as_of
    entries = [one for one in everything if as_of is None or one.entry.position <= as_of]
    use_meaning = vector is not None and kind != "keyword"
    use_words = bool(stems) and (kind != "semantic" or not use_meaning)
    if not (use_words or use_meaning):
        return []
    passages = passages_of(entries)
    selected = [n for n in range(len(passages)) if is_selected(passages[n].of, entries, selection)]

    keyword, reached = keyword_scores(passages, entries, set(stems)) if use_words else ([], [])
    best_keyword = max((keyword[n] for n in selected), default=0) if use_words else 0
    cosines = {n: cosine(passages[n], vector) for n in selected} if use_meaning else {}
    semantic = {
        n: value + 0.15 * math.log(1 + min(len(passages[n].stems), 20))
        for n, value in cosines.items()
    }

    def score(n: int) -> float:
        total = 0.0
        if use_words and best_keyword:
            total += 0.5 * keyword[n] / best_keyword
        if use_meaning:
            total += 0.5 * semantic[n]
        if passages[n].text.rstrip().endswith("?"):
            total -= 0.05
        return total

    by_words = best_of({n: keyword[n] for n in selected if use_words and reached[n]}, passages)
    by_meaning = best_of({n: semantic[n] for n in selected if cosines.get(n, -1) >= 0.15}, passages)
    found = {
        n: score(n)
        for n in selected
        if (use_words and reached[n]) or (use_meaning and cosines[n] >= 0.15)
    }
    best = best_of(found, passages)
    return [
        Expected(
            entry,
            best[entry],
            ranks(by_words, entry),
            ranks(by_meaning, entry),
            frozenset(
                passages[n].span
                for n, value in found.items()
                if passages[n].of == entry and value > best[entry] - ROUNDING
            ),
        )
        for entry in sorted(best, key=lambda entry: (-best[entry], -entry))
    ]


def best_of(scores: Mapping[int, float], passages: Sequence[Passage]) -> dict[int, float]:
    """The best score of each entry that has one."""
    best: dict[int, float] = {}
    for n, score in scores.items():
        best[passages[n].of] = max(score, best.get(passages[n].of, score))
    return best


def ranks(scores: Mapping[int, float], entry: int) -> range | None:
    if entry not in scores:
        return None
    others = [score - scores[entry] for number, score in scores.items() if number != entry]
    first = 1 + sum(difference > ROUNDING for difference in others)
    return range(first, 2 + sum(difference >= -ROUNDING for difference in others))


def is_selected(n: int, entries: Sequence[IndexedEntry], selection: Selection) -> bool:
    entry = entries[n].entry
    return (
        (selection.role is None or entry.role == selection.role)
        and (selection.since is None or entry.said_at >= selection.since)
        and (selection.until is None or entry.said_at <= selection.until)
        and (selection.newest is None or n >= len(entries) - selection.newest)
    )


def keyword_scores(
    passages: Sequence[Passage], entries: Sequence[IndexedEntry], asked: set[str]
) -> tuple[list[float], list[bool]]:
    """Of every passage its score by words, and whether the query's own stems reach it."""
    documents = [one.stems for one in passages]
    own = [bm25(n, documents, asked) for n in range(len(documents))]
    best = sorted((n for n in range(len(own)) if own[n] > 0), key=lambda n: (-own[n], -n))[:5]
    counts = Counter(stem for n in best for stem in documents[n])
    weights = {stem: count * idf(stem, documents) for stem, count in counts.items()}
    offered = [stem for stem in weights if stem not in asked]
    feedback = set(sorted(offered, key=lambda stem: (-weights[stem], stem))[:8])
    more = [bm25(n, documents, feedback) for n in range(len(documents))]
    smooth_own = smooth(own, passages, entries)
    total = smooth([a + 0.2 * b for a, b in zip(own, more, strict=True)], passages, entries)
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


def smooth(
    scores: Sequence[float], passages: Sequence[Passage], entries: Sequence[IndexedEntry]
) -> list[float]:
    def continues(n: int) -> bool:
        return 0 < n < len(passages) and share_a_sitting(
            entries, passages[n - 1].of, passages[n].of
        )

    return [
        score
        + (0.5 * scores[n - 1] if continues(n) else 0)
        + (0.2 * scores[n + 1] if continues(n + 1) else 0)
        for n, score in enumerate(scores)
    ]


def share_a_sitting(entries: Sequence[IndexedEntry], first: int, second: int) -> bool:
    """Whether an entry continues another, or itself."""
    if first == second:
        return True
    one, next_one = entries[first].entry, entries[second].entry
    if "seed" in (one.role, next_one.role):
        return one.role == next_one.role
    return next_one.said_at - one.said_at <= timedelta(hours=1)


def cosine(one: Passage, vector: Sequence[float] | None) -> float:
    assert vector is not None
    if one.vector is None:
        return 0.0
    return sum(a * float(b) for a, b in zip(one.vector, vector, strict=True))
