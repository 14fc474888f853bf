"""Retrieval: how much of what a question needs is among the first ten that search finds.

    python -m bench.retrieval locomo10.json [--embedder wordllama] [--ts-rank] [--check]

The file is LoCoMo's (https://github.com/snap-research/locomo, data/locomo10.json), which its
licence, CC BY-NC 4.0, does not allow us to ship. Each question is asked of its own conversation.
Recall is the mean, over questions, of the share of their evidence that is found. The last column
leaves adversarial questions out, as no answer to them was ever said.
"""

import argparse
import json
import logging
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psycopg

from bench.common import postgres, table
from language.embedding import Embedder
from language.stems import STOP_WORDS, content_stems
from lorewire.embedder import load_embedder
from lorewire.settings import Settings
from projections.memory import IndexedEntry, MemoryEntry, Role, indexed_text
from projections.ranking import Kind, Selection, SessionIndex

LIMIT = 10
BETWEEN_TURNS = timedelta(seconds=30)  # the file has times of sittings only
CATEGORIES = {4: "single-hop", 1: "multi-hop", 2: "temporal", 3: "open-domain", 5: "adversarial"}
ADVERSARIAL = 5
# What the search must reach without adversarial questions, with the default embedder and without.
MIN_HYBRID, MIN_WORDS = 0.72, 0.70

_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")  # some are "D8:6; D9:17", "D:11:26", "D30:05"
_SITTING = re.compile(r"session_(\d+)")
_WORD = re.compile(r"\w+")

TurnKey = tuple[int, int]  # sitting and turn, both from 1
Search = Callable[[str], list[int]]  # the numbers of the entries that are found, best first


@dataclass(frozen=True)
class Question:
    """One question, and what answers it."""

    text: str
    category: int
    evidence: frozenset[int]  # numbers of entries


@dataclass(frozen=True)
class Conversation:
    """What two people said, oldest first, and what is asked about it."""

    entries: list[MemoryEntry]
    questions: list[Question]


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="locomo10.json")
    parser.add_argument("--embedder", choices=["wordllama", "openai", "none"], default="wordllama")
    parser.add_argument("--ts-rank", action="store_true", help="PostgreSQL's own ranking, too")
    parser.add_argument("--check", action="store_true", help="fail where search finds too little")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)  # before packages do, at INFO
    conversations = read(options.file)
    embedder = load_embedder(Settings(embedder=options.embedder))
    recalls = measure(conversations, embedder, use_ts_rank=options.ts_rank)
    questions = sum(len(one.questions) for one in conversations)
    table(
        f"Recall among the first {LIMIT}, {questions:,} questions, embedder {options.embedder}",
        ("search", *CATEGORIES.values(), "all but adversarial"),
        [(name, *(f"{100 * share:.1f}" for share in row)) for name, row in recalls.items()],
    )
    if not options.check:
        return 0
    is_enough = recalls["hybrid, without embedder"][-1] >= MIN_WORDS
    if embedder is not None:
        is_enough = is_enough and recalls["hybrid"][-1] >= MIN_HYBRID
    if not is_enough:
        print(f"Below {MIN_HYBRID} with an embedder or {MIN_WORDS} without.", file=sys.stderr)
    return 0 if is_enough else 1


def read(path: Path) -> list[Conversation]:
    """The conversations of a file; questions without evidence are left out."""
    return [_conversation(sample) for sample in json.loads(path.read_text(encoding="utf-8"))]


def measure(
    conversations: Sequence[Conversation], embedder: Embedder | None, *, use_ts_rank: bool = False
) -> dict[str, list[float]]:
    """By search, the recall in each category, and in all but the adversarial one."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for conversation in conversations:
        with searches(conversation.entries, embedder, use_ts_rank=use_ts_rank) as by_name:
            for question in conversation.questions:
                for name, search in by_name.items():
                    hits = question.evidence.intersection(search(question.text)[:LIMIT])
                    found[name][question.category].append(len(hits) / len(question.evidence))
    return {name: _by_category(shares) for name, shares in found.items()}


@contextmanager
def searches(
    entries: Sequence[MemoryEntry], embedder: Embedder | None, *, use_ts_rank: bool
) -> Iterator[dict[str, Search]]:
    """All ways to search one conversation, the plainest first."""
    by_name: dict[str, Search] = {"grep": grep(entries), "BM25 of bare texts": bm25(entries)}
    texts = [indexed_text(entry) for entry in entries]
    if embedder is not None:
        vectors = embedder.embed(texts)
        with_vectors = index_of(entries, vectors, embedder.min_cosine)
        by_name["cosine alone"] = lambda query: _order(vectors @ embedder.embed_query(query))
        by_name["semantic"] = _ranking(with_vectors, embedder, "semantic")
        by_name["hybrid"] = _ranking(with_vectors, embedder, "hybrid")
    by_name["hybrid, without embedder"] = _ranking(index_of(entries, None, 0.0), None, "hybrid")
    if use_ts_rank:
        with ts_rank(entries) as search:
            yield {**by_name, "ts_rank of bare texts": search}
    else:
        yield by_name


def grep(entries: Sequence[MemoryEntry]) -> Search:
    """By how many of the query's words a text has as they are."""
    texts = [set(_WORD.findall(entry.text.lower())) for entry in entries]

    def search(query: str) -> list[int]:
        words = set(_WORD.findall(query.lower())) - STOP_WORDS
        return _order(np.array([len(words & text) for text in texts], np.float64))

    return search


def bm25(entries: Sequence[MemoryEntry], k1: float = 1.2, b: float = 0.75) -> Search:
    """BM25 as it is in textbooks, of what was said without names and dates."""
    documents = [Counter(content_stems(entry.text)) for entry in entries]
    lengths = np.array([document.total() for document in documents])
    norms = k1 * (1 - b + b * lengths / lengths.mean())
    having = Counter(stem for document in documents for stem in document)

    def search(query: str) -> list[int]:
        scores = np.zeros(len(documents))
        for stem in set(content_stems(query)):
            idf = math.log1p((len(documents) - having[stem] + 0.5) / (having[stem] + 0.5))
            counts = np.array([document[stem] for document in documents])
            scores += idf * counts * (k1 + 1) / (counts + norms)
        return _order(scores)

    return search


@contextmanager
def ts_rank(entries: Sequence[MemoryEntry]) -> Iterator[Search]:
    """PostgreSQL's ranking by any of the query's words."""
    with postgres() as url, psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE said (number int, words tsvector)")
        for number, entry in enumerate(entries):
            conn.execute(
                "INSERT INTO said VALUES (%s, to_tsvector('english', %s))", (number, entry.text)
            )

        def search(query: str) -> list[int]:
            words = " | ".join(_WORD.findall(query))
            rows = conn.execute(
                "SELECT number FROM said, to_tsquery('english', %s) AS asked WHERE words @@ asked"
                " ORDER BY ts_rank(words, asked) DESC, number DESC LIMIT %s",
                (words, LIMIT),
            )
            return [number for (number,) in rows]

        yield search


def index_of(
    entries: Sequence[MemoryEntry], vectors: Any | None, min_cosine: float
) -> SessionIndex:
    """The index that a server has of these entries."""
    index = SessionIndex(None if vectors is None else vectors.shape[1], min_cosine=min_cosine)
    index.add(
        [
            IndexedEntry(
                entry,
                " ".join(content_stems(indexed_text(entry))),
                None if vectors is None else vectors[number].astype("<f4").tobytes(),
            )
            for number, entry in enumerate(entries)
        ]
    )
    return index


def _ranking(index: SessionIndex, embedder: Embedder | None, kind: Kind) -> Search:
    def search(query: str) -> list[int]:
        vector = None if embedder is None else embedder.embed_query(query)
        ranked, _ = index.search(
            content_stems(query), vector, kind=kind, selection=Selection(), limit=LIMIT, offset=0
        )
        return [one.number for one in ranked]

    return search


def _order(scores: Any) -> list[int]:
    """Numbers of what has a score above 0, best first, of equal ones the newest first."""
    numbers = np.flatnonzero(scores > 0)
    best: list[int] = numbers[np.lexsort((-numbers, -scores[numbers]))][:LIMIT].tolist()
    return best


def _by_category(shares: dict[int, list[float]]) -> list[float]:
    answerable = [x for category, some in shares.items() if category != ADVERSARIAL for x in some]
    return [_mean(shares.get(category, [])) for category in CATEGORIES] + [_mean(answerable)]


def _mean(shares: Sequence[float]) -> float:
    return sum(shares) / len(shares) if shares else math.nan


def _conversation(sample: dict[str, Any]) -> Conversation:
    said = sample["conversation"]
    sittings = sorted(int(m.group(1)) for key in said if (m := _SITTING.fullmatch(key)))
    entries: list[MemoryEntry] = []
    numbers: dict[TurnKey, int] = {}
    for sitting in sittings:
        started = _time(said[f"session_{sitting}_date_time"])
        for place, turn in enumerate(said[f"session_{sitting}"]):
            number = len(entries)
            numbers[_keys(turn["dia_id"])[0]] = number
            text = " ".join(filter(None, (turn["text"], turn.get("blip_caption"))))
            role: Role = "user" if turn["speaker"] == said["speaker_a"] else "agent"
            said_at = started + place * BETWEEN_TURNS
            turn_id, position = UUID(int=number), number + 1
            entry_id = f"q-{number}"
            entries.append(
                MemoryEntry(entry_id, role, turn["speaker"], text, turn_id, position, said_at)
            )
    questions: list[Question] = []
    for qa in sample["qa"]:
        keys = [key for evidence in qa.get("evidence") or [] for key in _keys(evidence)]
        evidence = frozenset(numbers[key] for key in keys if key in numbers)
        if evidence:
            questions.append(Question(qa["question"], qa["category"], evidence))
    return Conversation(entries, questions)


def _keys(text: str) -> list[TurnKey]:
    return [(int(sitting), int(turn)) for sitting, turn in _EVIDENCE.findall(text)]


def _time(text: str) -> datetime:
    """Of "1:56 pm on 8 May, 2023"."""
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
