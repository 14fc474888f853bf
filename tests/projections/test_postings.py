"""Postings are what a scan of all passages would find."""

from collections.abc import Sequence
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from projections.postings import Postings

STEMS = ["lever", "stone", "keep", "gate", "rust"]
passages = st.lists(st.sampled_from(STEMS), max_size=8)


@given(
    st.lists(st.lists(passages, max_size=6), max_size=12),
    st.integers(0, 80),
    st.integers(1, 100),
    st.sets(st.integers(0, 12)),
)
def test_they_agree_with_a_scan_however_they_were_added(
    batches: list[list[list[str]]], before: int, max_unsorted: int, searched_after: set[int]
) -> None:
    postings = Postings()
    everything: list[Sequence[str]] = []
    with patch("projections.postings.MAX_UNSORTED", max_unsorted):
        for number, batch in enumerate(batches):
            postings.add(len(everything), batch)
            everything += batch
            if number in searched_after:
                postings.of(STEMS, len(everything))

    for asked in [*([stem] for stem in STEMS), [], ["rust", "unheard", "lever"], [*STEMS]]:
        expected = [
            [
                (number, passage.count(stem))
                for number, passage in enumerate(everything[:before])
                if stem in passage
            ]
            for stem in asked
        ]
        found = postings.of(asked, before)
        pairs = list(zip(found.passages.tolist(), found.times.tolist(), strict=True))
        assert pairs == [pair for of_stem in expected for pair in of_stem]
        assert found.of_stems.tolist() == [len(of_stem) for of_stem in expected]
        assert postings.counts_of(asked, before).tolist() == found.of_stems.tolist()


def test_many_passages_added_singly_are_found() -> None:
    postings = Postings()

    for number in range(1000):
        postings.add(number, [["lever", f"stone-{number % 7}"]])

    assert postings.of(["lever"], 1000).passages.tolist() == list(range(1000))
    assert postings.of(["stone-3"], 500).passages.tolist() == list(range(3, 500, 7))
    assert postings.counts_of(["lever", "stone-6", "gate"], 14).tolist() == [14, 2, 0]
