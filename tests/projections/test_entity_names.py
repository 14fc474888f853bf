"""Names are the same by their spelling, and by nothing else."""

from uuid import UUID

import pytest

from projections.entity_names import entity_id_of, is_named_in, literal_id_of, normalised

SESSION = UUID(int=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sara", "Captain Sara"),
        ("the Rusty Keys", "Rusty Key"),
        ("Dr. Weber", "weber"),
        ("A goblin", "goblins"),
        ("the Lady of the Lake", "Lady of the lake"),
        ("Kira's", "Kira"),
        ("Kira\u2019s", "KIRA"),
        ("parties", "party"),
        ("  the   old  keep ", "Old Keep"),
        ("ＰＯＳＴＧＲＥＳ", "postgres"),
    ],
)
def test_one_thing_has_one_id(one: str, other: str) -> None:
    assert entity_id_of(SESSION, one) == entity_id_of(SESSION, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("B-14", "B-41"),
        ("#91", "#92"),
        ("run 37", "run 38"),
        ("Monday", "Tuesday"),
        ("Aldous the Elder", "Aldous the Younger"),
        ("boss", "bos"),
        ("gas", "ga"),
    ],
)
def test_different_things_have_different_ids(one: str, other: str) -> None:
    assert entity_id_of(SESSION, one) != entity_id_of(SESSION, other)


def test_an_id_holds_in_one_session_only() -> None:
    assert entity_id_of(SESSION, "Kira") != entity_id_of(UUID(int=2), "Kira")


def test_a_literal_is_no_entity_of_the_same_name() -> None:
    assert literal_id_of(SESSION, "May") != entity_id_of(SESSION, "May")


@pytest.mark.parametrize("name", ["", " ", "the", "s", "'s", "🐉", "Dr.", "'", "the the the"])
def test_any_name_has_a_spelling(name: str) -> None:
    assert normalised(normalised(name)) == normalised(name)


def test_a_name_is_found_as_words_of_its_own() -> None:
    assert is_named_in("Kira", "Where is kira?")
    assert is_named_in("B-14", "Was B-14 heated?")
    assert is_named_in("C++", "Is C++ hard?")
    assert not is_named_in("Kira", "Where is Kirara?")
    assert not is_named_in("B-1", "Was B-14 heated?")
    assert not is_named_in("", "Anything")
