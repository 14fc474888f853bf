"""The ranking is the formula, whatever was said and asked."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.memory import IndexedEntry, MemoryEntry, Role
from projections.ranking import Kind, Selection, SessionIndex, _best
from tests.projections import naive_search

START = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
WORDS = ["kira", "ranger", "keep", "gate", "lever", "rust", "sword", "guild", "8", "may", "dragon"]
DIMENSIONS = 3


def entry(
    number: int,
    stems: str,
    *,
    role: Role = "user",
    minutes: float = 0.0,
    text: str = "Text.",
    vector: Sequence[float] | None = None,
) -> IndexedEntry:
    embedding = None if vector is None else np.array(vector, "<f4").tobytes()
    said_at = START + timedelta(minutes=minutes)
    return IndexedEntry(
        MemoryEntry(f"q-{number}", role, "ada", text, UUID(int=number), number, said_at),
        stems,
        embedding,
    )


@st.composite
def sessions(draw: st.DrawFn) -> list[IndexedEntry]:
    entries: list[IndexedEntry] = []
    minutes, position = 0.0, 0
    for number in range(draw(st.integers(1, 25))):
        minutes += draw(st.sampled_from([0, 1, 59, 60, 61, 500]))
        position += draw(st.integers(0 if entries and entries[-1].entry.role == "seed" else 1, 3))
        one = entry(
            number,
            " ".join(draw(st.lists(st.sampled_from(WORDS), max_size=30))),
            role=draw(st.sampled_from(["user", "agent", "seed"])),
            minutes=minutes,
            text=draw(st.sampled_from(["A fact.", "A question?", "A question? \n", ""])),
            vector=draw(st.none() | st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)),
        )
        made = MemoryEntry(**{**vars(one.entry), "position": max(position, 1)})
        if draw(st.integers(0, 3)):
            entries.append(IndexedEntry(made, one.stems, one.embedding))
        else:
            entries.append(draw(long_entries(made)))
    return entries


@st.composite
def long_entries(draw: st.DrawFn, entry: MemoryEntry) -> IndexedEntry:
    """One of several passages, some of which end in a question."""
    texts = draw(st.lists(st.sampled_from(["Why? ", "So. "]), min_size=2, max_size=4))
    ends = list(accumulate((len(text) for text in texts), initial=0))
    stems = [" ".join(draw(st.lists(st.sampled_from(WORDS), max_size=9))) for _ in texts]
    numbers = st.floats(-1, 1, width=32)
    size = DIMENSIONS * len(texts)
    vectors = draw(st.none() | st.lists(numbers, min_size=size, max_size=size))
    return IndexedEntry(
        MemoryEntry(**{**vars(entry), "text": "".join(texts)}),
        "\n".join(stems),
        None if vectors is None else np.array(vectors, "<f4").tobytes(),
        tuple(pairwise(ends)),
    )


selections = st.builds(
    Selection,
    as_of=st.none() | st.integers(0, 60),
    role=st.sampled_from([None, None, "user", "agent", "seed"]),
    since=st.none() | st.integers(0, 900).map(lambda minutes: START + timedelta(minutes=minutes)),
    until=st.none() | st.integers(0, 2000).map(lambda minutes: START + timedelta(minutes=minutes)),
    newest=st.none() | st.integers(0, 25),
)


@settings(max_examples=200, deadline=None)
@given(
    sessions(),
    st.lists(st.sampled_from([*WORDS, "unheard"]), max_size=6),
    st.none() | st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.sampled_from(["hybrid", "keyword", "semantic"]),
    selections,
    st.integers(1, 25),
)
def test_the_index_agrees_with_the_formula_written_plainly(
    entries: list[IndexedEntry],
    stems: list[str],
    vector: list[float] | None,
    kind: Kind,
    selection: Selection,
    cut: int,
) -> None:
    index = SessionIndex(DIMENSIONS, min_cosine=0.15)
    index.add(entries[:cut])
    index.add(entries[cut:])

    expected = naive_search.search(entries, stems, vector, kind, selection)
    asked = None if vector is None else np.array(vector, np.float32)
    ranked, total = index.search(stems, asked, kind=kind, selection=selection, limit=100, offset=0)

    # Cosines are sums of 32-bit products: one a hair from the limit may fall on either side.
    if asked is not None and kind != "keyword" and _is_near_the_limit(entries, asked):
        return
    exact = 1e-9 if asked is None or kind == "keyword" else 1e-6
    best = _best_score(stems, vector, kind)
    assert total == len(expected) == len(ranked)
    by_number = {one.number: one for one in expected}
    for one, at_this_place in zip(ranked, expected, strict=True):
        same = by_number[one.number]
        assert same.score == pytest.approx(at_this_place.score, abs=exact)  # ties change places
        assert one.relevance_score == pytest.approx(min(1, max(0, same.score / best)), abs=exact)
        assert one.keyword_rank in (same.keyword_ranks or [None])
        assert one.semantic_rank in (same.semantic_ranks or [None])
        assert one.passage in same.spans


def _is_near_the_limit(entries: Sequence[IndexedEntry], vector: np.ndarray) -> bool:
    return any(
        abs(naive_search.cosine(one, vector.tolist()) - 0.15) < 1e-5
        for one in naive_search.passages_of(entries)
    )


def _best_score(stems: Sequence[str], vector: Sequence[float] | None, kind: Kind) -> float:
    semantic = 0.5 * (1 + 0.15 * np.log(21)) if vector is not None and kind != "keyword" else 0
    keyword = 0.5 if stems and not (semantic and kind == "semantic") else 0
    return float(semantic + keyword) or 1.0


def test_an_answer_is_found_by_the_words_of_its_question() -> None:
    index = SessionIndex(None)
    index.add([entry(1, "lever hidden"), entry(2, "stone behind"), entry(3, "sword")])

    ranked, total = index.search(
        ["lever"], None, kind="hybrid", selection=Selection(), limit=10, offset=0
    )

    assert [one.number for one in ranked] == [0, 1]
    assert total == 2


def test_a_pause_ends_what_neighbours_share() -> None:
    index = SessionIndex(None)
    index.add([entry(1, "lever"), entry(2, "stone", minutes=61)])

    ranked, _ = index.search(
        ["lever"], None, kind="hybrid", selection=Selection(), limit=10, offset=0
    )

    assert [one.number for one in ranked] == [0]


def test_pages_follow_one_another_without_gap() -> None:
    index = SessionIndex(None)
    index.add([entry(n, "lever " * (n % 7) + "stone", minutes=100.0 * n) for n in range(50)])

    def page(limit: int, offset: int) -> list[int]:
        ranked, total = index.search(
            ["lever"], None, kind="hybrid", selection=Selection(), limit=limit, offset=offset
        )
        assert total == 42
        return [one.number for one in ranked]

    pages = [page(5, offset) for offset in range(0, 50, 5)]
    assert [number for numbers in pages for number in numbers] == page(100, 0)
    assert page(5, 42) == []


def test_relevance_falls_with_the_place() -> None:
    index = SessionIndex(DIMENSIONS)
    index.add(
        [
            entry(n, "lever " * (n % 5) + "stone", vector=[np.cos(n), np.sin(n), 0])
            for n in range(40)
        ]
    )

    ranked, _ = index.search(
        ["lever"],
        np.array([1, 0, 0], np.float32),
        kind="hybrid",
        selection=Selection(),
        limit=40,
        offset=0,
    )

    scores = [one.relevance_score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1


def test_an_empty_session_has_nothing_to_find() -> None:
    for dimensions, vector in ((None, None), (DIMENSIONS, np.ones(3, np.float32))):
        index = SessionIndex(dimensions)

        assert index.search(
            ["lever"], vector, kind="hybrid", selection=Selection(), limit=10, offset=0
        ) == ([], 0)


def test_a_long_entry_is_found_once_by_its_best_passage() -> None:
    index = SessionIndex(None)
    text = "The keep is old. A lever moves it."
    long = IndexedEntry(
        entry(1, "", text=text).entry, "keep old lever\nlever lever", None, ((0, 17), (17, 34))
    )
    index.add([long, entry(2, "sword", minutes=90)])

    ranked, total = index.search(
        ["lever"], None, kind="hybrid", selection=Selection(), limit=10, offset=0
    )

    assert total == 1
    assert [(one.number, one.passage, one.keyword_rank) for one in ranked] == [(0, (17, 34), 1)]


@given(
    st.lists(st.sampled_from([-np.inf, 0.0, 0.5, 1.0, 2.0, 3.5]), max_size=60),
    st.integers(1, 12),
    st.integers(0, 50),
)
def test_the_best_of_many_are_those_of_a_sort(some: list[float], count: int, repeats: int) -> None:
    scores = np.array(some * repeats, np.float64)
    everything = sorted(range(len(scores)), key=lambda number: (-scores[number], -number))

    best = _best(scores, count)

    assert best == [number for number in everything if scores[number] > -np.inf][:count]


def test_without_ranks_the_same_is_found_and_no_place_is_told() -> None:
    index = SessionIndex(DIMENSIONS)
    index.add([entry(n, WORDS[n], minutes=n, vector=[1, n / 10, 0]) for n in range(1, 9)])
    search = {"kind": "hybrid", "selection": Selection(), "limit": 5, "offset": 0}
    asked = ["ranger", "lever"], np.array([1, 0, 0], np.float32)

    with_them, total = index.search(*asked, **search)  # type: ignore[arg-type]
    without = index.search(*asked, **search, ranks=False)  # type: ignore[arg-type]

    assert with_them[0].keyword_rank == 1
    bare = [one._replace(keyword_rank=None, semantic_rank=None) for one in with_them]
    assert without == (bare, total)
