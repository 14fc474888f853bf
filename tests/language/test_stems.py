"""Words as a search compares them."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from language.stems import STOP_WORDS, content_stems


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        ("The dragons were flying", ["dragon", "fli"]),
        ("Kira's sword, Kira\u2019s bow", ["kira", "sword", "kira", "bow"]),
        ("sample B-14 and B-41", ["sampl", "b-14", "b", "14", "b-41", "b", "41"]),
        ("SHOP-482", ["shop-482", "shop", "482"]),
        (
            "O'Brien met Drizzt Do\u2019Urden",
            ["o'brien", "o", "brien", "met", "drizzt", "do'urden", "urden"],
        ),
        ("we'll say they've", ["say"]),
        ("Mu\u0308ller", ["müller"]),
        ("I don't know", ["know"]),
        ("the of and", []),
        ("\U0001f409 !?", []),
        ("", []),
        ("Müller fährt", ["müller", "fährt"]),
    ],
)
def test_words_become_stems_in_order(text: str, stems: list[str]) -> None:
    assert content_stems(text) == stems


def test_the_stop_words_are_those_of_postgresql() -> None:
    assert len(STOP_WORDS) == 127


@given(text=st.text())
def test_the_case_of_letters_does_not_matter_for_plain_words(text: str) -> None:
    plain = "".join(c for c in text if c.isascii())

    assert content_stems(plain.upper()) == content_stems(plain.lower())


@pytest.fixture
def busy_threads() -> Iterator[None]:
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("busy_threads")
def test_searches_in_threads_do_not_get_each_others_stems() -> None:
    syllables = ("ra", "ni", "to", "mel", "gor", "ka")
    endings = ("ational", "izers", "fulness", "ing", "ably", "iveness")
    words = ["".join(parts) for parts in product(syllables, syllables, syllables, endings)]

    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(content_stems, (" ".join(words[n::4]) for n in range(4))))

    stemmer = Stemmer.Stemmer("english")
    assert shares == [[stemmer.stemWord(word) for word in words[n::4]] for n in range(4)]
