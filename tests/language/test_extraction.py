"""The offline extractor, on sentences whose statements were judged by hand.

The tables were written while the rules were, so they show what the rules do, not how well they do
on other texts.
"""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from language.domains import load_domains
from language.extraction import (
    MAX_STATEMENTS,
    ExtractedStatement,
    Extractor,
    load_extractor,
)
from language.plain_text import blank_markup, paragraphs


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    extractor = load_extractor("offline")
    assert extractor is not None
    return extractor


def extract(extractor: Extractor, text: str) -> list[ExtractedStatement]:
    return extractor.extract(
        text, speaker="ada", addressee="Dungeon Master", said_on=date(2026, 1, 31)
    )


Triple = tuple[str, str, str]

FACTS: dict[str, list[Triple]] = {
    "Captain Sara Holt owns the Silver Horn.": [("Captain Sara Holt", "owns", "Silver Horn")],
    "Kira lives in Rivermoor.": [("Kira", "lives_in", "Rivermoor")],
    "Kira is a half-elf ranger.": [("Kira", "is_a", "half-elf ranger")],
    "Tobin Ashford is a blacksmith.": [("Tobin Ashford", "is_a", "blacksmith")],
    "Tobin is the brother of Kira.": [("Tobin", "brother_of", "Kira")],
    "Sample B-14 was measured by Jonas.": [("Jonas", "measures", "Sample B-14")],
    "The glovebox is filled with argon.": [("glovebox", "filled_with", "argon")],
    "The amulet is hidden under the mill.": [("amulet", "hidden_under", "mill")],
    "Kira's sword is in the cellar.": [("Kira's sword", "located_in", "cellar")],
    "My sister works at Acme Corp.": [("ada's sister", "works_at", "Acme Corp")],
    "You lead the guild.": [("Dungeon Master", "leads", "guild")],
    "We bought three swords.": [("ada (group)", "buys", "three swords")],
    "Nora and Amir wrote the story.": [("Nora", "writes", "story"), ("Amir", "writes", "story")],
    "SHOP-482 depends on SHOP-481.": [("SHOP-482", "depends_on", "SHOP-481")],
    "The checkout uses PostgreSQL.": [("checkout", "uses", "PostgreSQL")],
    "Kira met Tobin in the Iron Lantern yesterday.": [("Kira", "meets", "Tobin")],
    "Mira calibrated the diffractometer.": [("Mira", "calibrates", "diffractometer")],
    "**Sara Holt** leads the *town watch*.": [("Sara Holt", "leads", "town watch")],
}

NOTHING = [
    "Is Kira a ranger?",
    "Give me the sword!",
    "There is no band.",
    "It is in the cellar.",
    "They live in Rivermoor.",
    "He left the tavern.",
    "The API uses PostgreSQL instead of MongoDB.",
    "```python\nx = Kira()\n```",
    "\U0001f409\U0001f409",
    "",
    "...",
]

NOT_PLAIN = {
    "Sample B-14 was not measured by Jonas.": ("no", "fact", None),
    "Corvin no longer leads the Grey Hand.": ("no", "fact", None),
    "Corvin never leads the Grey Hand.": ("no", "fact", None),
    "I want to visit the Temple of Waves.": ("yes", "wish", None),
    "Elara plans to rob the bank.": ("yes", "plan", None),
    "Elara will rob the bank.": ("yes", "plan", None),
    "The checkout should support guest users.": ("yes", "possible", None),
    "Kira may own the amulet.": ("yes", "possible", None),
    "I think the mayor is a vampire.": ("yes", "possible", None),
    "Tobin says that Kira stole the amulet.": ("yes", "reported", "Tobin"),
}


@pytest.mark.parametrize("text", FACTS)
def test_plain_facts_are_found(extractor: Extractor, text: str) -> None:
    found = extract(extractor, text)

    assert [(s.subject, s.predicate, s.object) for s in found] == FACTS[text]
    assert {(s.polarity, s.modality, s.said_by) for s in found} == {("yes", "fact", None)}


@pytest.mark.parametrize("text", NOTHING)
def test_what_states_nothing_gives_nothing(extractor: Extractor, text: str) -> None:
    assert extract(extractor, text) == []


@pytest.mark.parametrize("text", NOT_PLAIN)
def test_what_is_not_plainly_so_is_marked(extractor: Extractor, text: str) -> None:
    found = extract(extractor, text)

    assert [(s.polarity, s.modality, s.said_by) for s in found] == [NOT_PLAIN[text]]


def test_he_and_she_are_whoever_was_named_last(extractor: Extractor) -> None:
    found = extract(extractor, "Jonas Weber leads the laboratory. He lives in Rivermoor.")

    assert [(s.subject, s.object) for s in found] == [
        ("Jonas Weber", "laboratory"),
        ("Jonas Weber", "Rivermoor"),
    ]


def test_times_are_times_and_not_things(extractor: Extractor) -> None:
    [found] = extract(extractor, "The furnace reached 900 degrees on Monday.")

    assert (found.object, found.object_is_literal, found.valid_from) == (
        "900 degrees",
        True,
        "Monday",
    )


def test_the_quote_is_the_sentence_as_it_was_said(extractor: Extractor) -> None:
    text = "# News\n\n- Mira calibrated the *diffractometer*.\n- **Sara Holt** leads the watch."

    found = extract(extractor, text)

    assert [s.quote for s in found] == [
        "Mira calibrated the *diffractometer*.",
        "**Sara Holt** leads the watch.",
    ]


def test_a_long_list_gives_its_first_statements(extractor: Extractor) -> None:
    text = " ".join(f"Run {number} uses sample B-{number}." for number in range(10, 60))

    found = extract(extractor, text)

    assert len(found) <= MAX_STATEMENTS


def test_the_same_text_gives_the_same_statements(extractor: Extractor) -> None:
    text = " ".join(FACTS)

    assert extract(extractor, text) == extract(extractor, text)


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=300) | st.text(alphabet="Kira is a *_`-#\n>[](). if he\"'", max_size=200)
)
def test_no_text_makes_it_fail(extractor: Extractor, text: str) -> None:
    for statement in extract(extractor, text):
        assert statement.quote in text
        assert 0 <= statement.confidence <= 1


@pytest.mark.parametrize("name", ["dnd", "lab_assistant", "user_story"])
def test_the_seed_of_a_domain_becomes_a_graph(extractor: Extractor, name: str) -> None:
    seed = load_domains()[name].seed

    found = [statement for text in seed for statement in extract(extractor, text)]

    assert len(found) >= len(seed)
    assert all(s.modality == "fact" and s.polarity == "yes" for s in found)


@given(text=st.text(alphabet="ab `*_#>-\n[](1.http://", max_size=80))
def test_blanking_markup_keeps_every_place(text: str) -> None:
    plain = blank_markup(text)

    assert len(plain) == len(text)
    assert all(a in (b, " ") for a, b in zip(plain, text, strict=True))
    for start, paragraph in paragraphs(text):
        assert len(text) >= start + len(paragraph)


def test_there_may_be_no_extractor() -> None:
    assert load_extractor("none") is None
    with pytest.raises(ValueError, match="Known are offline and none"):
        load_extractor("magic")
