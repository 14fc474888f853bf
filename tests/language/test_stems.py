"""Words as a search compares them."""

import pytest
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
